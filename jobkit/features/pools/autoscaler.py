"""The autoscaler of a namespace: keeps each pool at the number of workers that its waiting jobs need.

One process leads (leader lock in the store). All that it must not forget is in the store: an order is stored before the
engine is asked, so the next autoscaler finds each unit again, in the store, at its engine or by its worker. If the
store, an engine or this process fails, workers go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from jobkit.features.pools.decide import PoolPlan, PoolView, Tempo, decide
from jobkit.features.pools.launcher import (
    EngineUnavailable,
    Launcher,
    LaunchRefused,
    Unit,
    WorkerOrder,
    checked_options,
    label_of,
    launcher_class,
    slug,
    worker_settings,
)
from jobkit.features.pools.spec import PoolSpec, read_pool
from jobkit.features.pools.store import LOCK, PoolPause, PoolRecord, PoolStatus, PoolStore, PoolUnit
from jobkit.features.pools.units import has_failed, is_stuck, is_well, merged, worked_ms
from jobkit.keys import codec_of
from jobkit.model import JobkitError
from jobkit.settings import Settings
from jobkit.store.leader import Leader
from jobkit.store.redis import RedisStore
from jobkit.store.values import WorkerInfo
from jobkit.system import processes

logger = logging.getLogger("jobkit.pools")

#: Seconds that one tick waits for engines; a call that takes longer goes on beside the next ticks.
_PATIENCE_S = 2.0

#: Seconds after which a call of an engine has failed.
_CALL_S = 300.0

#: Seconds for closing the connection to an engine.
_CLOSE_S = 5.0

#: Seconds between two looks at workers that end, and for those that give back their jobs.
_POLL_S, _AT_ONCE_S = 0.25, 4.0

#: After a gap of so many seconds between two ticks (the store was away, the machine slept), silent workers get their
#: whole time again.
_GAP_S = 20.0

#: After so many failed starts in a row, one worker at a time is tried.
_DOUBTFUL = 3

#: Seconds between two reports of a pool in which nothing has changed but the time of its workers.
_REPORT_S = 5.0


class PoolKeeper:
    """One pool at its engine. At most one call of the engine runs at a time."""

    def __init__(self, spec: PoolSpec, place: str, tempo: Tempo) -> None:
        self.spec, self._tempo = spec, tempo
        self.launcher: Launcher = launcher_class(spec.engine)(
            label_of(place, spec.name), checked_options(spec.engine, spec.options)
        )
        self.every_s = min(tempo.list, self.launcher.LIST_S)
        self.listed: list[Unit] = []
        self.is_whole = False
        self.problem: JobkitError | None = None
        self.is_refused = self.is_accepted = False  # the last start; and after a refusal, the next one
        self._call: asyncio.Task[None] | None = None
        self._listed_at = float("-inf")

    @property
    def is_busy(self) -> bool:
        return self._call is not None and not self._call.done()

    async def call(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a call of the engine; return when it has ended, or after a while, when it goes on by itself."""
        self._call = asyncio.create_task(self._guarded(work))
        await asyncio.wait([self._call], timeout=_PATIENCE_S)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(_CALL_S):
                await work
        except TimeoutError:
            self.problem = EngineUnavailable(f"{self.spec.engine} did not answer within {_CALL_S:g} s")
        except JobkitError as error:
            self.problem = error
        except Exception as error:  # of a library of the engine
            logger.debug("engine of pool %s", self.spec.name, exc_info=True)
            self.problem = EngineUnavailable(f"{self.spec.engine}: {type(error).__name__}: {error}")

    async def look(self) -> None:
        """List the units at the engine, if that is due; the result is in `taken`, once."""
        if self.is_busy or time.monotonic() - self._listed_at < self.every_s:
            return

        async def read() -> None:
            self.listed, self.is_whole = await self.launcher.list(), True
            self._listed_at = time.monotonic()
            if not isinstance(self.problem, LaunchRefused):
                self.problem = None

        self._listed_at = time.monotonic()
        await self.call(read())

    def taken(self) -> tuple[list[Unit], bool]:
        """Return what the engine has said since the last call, and whether it has listed all units."""
        found, (self.listed, self.is_whole) = (self.listed, self.is_whole), ([], False)
        return found

    def look_soon(self) -> None:
        self._listed_at = float("-inf")

    async def close(self) -> None:
        if self._call is not None and not self._call.done():
            await asyncio.wait([self._call], timeout=_PATIENCE_S)
            self._call.cancel()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.launcher.close(), _CLOSE_S)


class Autoscaler:
    """The autoscaler of the namespace of a store; several may run, of which one leads.

    Args:
        settings: of the store, with the signing key.
        environment: returns the variables of workers on an engine, see `worker_settings`.
        ends_after_s: `run` returns after so many seconds without a pool; None: never.
    """

    def __init__(
        self,
        settings: Settings,
        store: RedisStore,
        *,
        environment: Callable[[str], Mapping[str, str]] | None = None,
        tempo: Tempo | None = None,
        ends_after_s: float | None = None,
    ) -> None:
        self._store, self._pools, self._tempo = store, store.part(PoolStore), tempo or Tempo()
        self._environment = environment or partial(worker_settings, settings)
        self._codec = codec_of(settings)
        self._owner = f"{socket.gethostname()} {secrets.token_hex(6)} {processes.mark(os.getpid())}"
        self._leader = Leader(store, LOCK, self._owner)
        self._ends_after_s, self._unneeded_at = ends_after_s, float("inf")
        self._ended_here: set[str] = set()  # units of this machine whose end is known
        self._ticked_ms, self._watches_ms = 0, 0
        self._keepers: dict[str, tuple[bytes, PoolKeeper]] = {}
        self._reported: dict[str, tuple[PoolStatus, float]] = {}
        self._refused: dict[str, str] = {}
        self._place = ""

    async def run(self) -> None:
        """Lead, or wait to lead, until cancelled or no longer needed. Units go on when it ends."""
        with contextlib.suppress(JobkitError):
            await self._pools.release_dead(socket.gethostname(), processes.has_died)
        work = asyncio.create_task(self._leader.run(self._work, logger, "the pools of this namespace wait"))
        try:
            while not work.done() and not self._is_unneeded():
                await asyncio.wait([work], timeout=1.0)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def close(self) -> None:
        """Release connections to engines. Units go on."""
        for _, keeper in self._keepers.values():
            await keeper.close()

    def _is_unneeded(self) -> bool:
        return self._ends_after_s is not None and time.monotonic() - self._unneeded_at > self._ends_after_s

    async def _work(self) -> None:
        began = time.monotonic()
        await self.tick()
        await asyncio.sleep(max(0.05, began + self._tempo.tick - time.monotonic()))

    async def leads(self) -> bool:
        """Return whether this is the autoscaler that decides; it becomes that if there is none."""
        return await self._leader.is_leader()

    async def end_workers(self, within_s: float) -> None:
        """Let the workers of all pools finish, as the server is about to stop; return when they have, or in time."""
        for name, record in (await self._pools.records()).items():
            pending = [unit.unit for unit in record.status.units if unit.is_pending]
            if pending and name in self._keepers:
                with contextlib.suppress(JobkitError):
                    await self._keepers[name][1].launcher.stop(pending)
        for how, patience_s in (("drain", within_s), ("now", _AT_ONCE_S)):
            with contextlib.suppress(asyncio.CancelledError):  # a second signal: jobs are given back
                if await self._ended(how, patience_s):
                    return

    async def _ended(self, how: str, within_s: float) -> bool:
        """Ask the workers of all pools to end; return True when they have, False if they have not in time."""
        deadline = time.monotonic() + within_s
        while ids := [w.id for w in await self._store.workers() if w.pool and w.is_alive]:
            if time.monotonic() > deadline:
                return False
            await self._store.stop_workers(ids, how)
            await asyncio.sleep(_POLL_S)
        return True

    # -- one decision -------------------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Look, decide and act once."""
        records = await self._pools.records()
        self._unneeded_at = float("inf") if records else min(self._unneeded_at, time.monotonic())
        self._place = self._place or await self._store.place()
        keepers = await self._opened(records)
        if not keepers:
            return
        await asyncio.gather(*(keeper.look() for keeper in keepers.values()))
        await self._report_dead([*keepers.values()])
        queues = sorted({queue for keeper in keepers.values() for queue in keeper.spec.queues})
        demand, workers = await self._pools.demand(queues), await self._store.workers()
        now_ms = await self._store.now_ms()
        if not 0 <= now_ms - self._ticked_ms <= _GAP_S * 1000:  # workers may just not have come back yet
            self._watches_ms = now_ms
        self._ticked_ms = now_ms
        states: dict[str, PoolStatus] = {}
        views = []
        for name, keeper in keepers.items():
            states[name] = self._observed(keeper, records[name], workers, now_ms)
            views.append(self._view(keeper, records[name], states[name], now_ms))
        plans = decide(views, demand, workers, now_ms, self._tempo)
        await asyncio.gather(
            *(self._carry_out(each, records[name], states[name], plans[name], now_ms) for name, each in keepers.items())
        )

    async def _report_dead(self, keepers: Sequence[PoolKeeper]) -> None:
        """End the leases of workers on this machine that were killed: no other worker may be there to see it."""
        listed = [unit for keeper in keepers if keeper.spec.engine == "local" for unit in keeper.listed]
        ended = {unit.unit for unit in listed if unit.state == "ended"} - self._ended_here
        if ended:
            await self._store.report_dead(processes.has_died)
            self._ended_here |= ended

    async def _opened(self, records: Mapping[str, PoolRecord]) -> dict[str, PoolKeeper]:
        """Return the keepers of all pools that can be read; those of changed definitions are made anew."""
        for name in [name for name in self._keepers if name not in records]:
            keeper = self._keepers.pop(name)[1]
            status = self._reported.pop(name, (PoolStatus(), 0.0))[0]
            left = [unit.unit for unit in status.units if unit.phase != "ended"]  # the pool was removed at once
            if left and not keeper.is_busy:
                await keeper.call(keeper.launcher.stop(left))
            await keeper.close()
        for name, record in records.items():
            known = self._keepers.get(name)
            if known is not None and known[0] == record.sealed:
                continue
            if known is not None:
                await known[1].close()
                del self._keepers[name]
            try:
                keeper = PoolKeeper(read_pool(name, record.sealed, self._codec), self._place, self._tempo)
            except Exception as error:  # a library of the engine may be missing or broken
                why = str(error) if isinstance(error, JobkitError) else f"{type(error).__name__}: {error}"
                await self._say(name, record, why)
                continue
            self._refused.pop(name, None)
            self._keepers[name] = record.sealed, keeper
        return {name: keeper for name, (_, keeper) in self._keepers.items()}

    async def _say(self, name: str, record: PoolRecord, why: str) -> None:
        """Report why a pool cannot be kept."""
        if self._refused.get(name) != why:
            self._refused[name] = why
            logger.warning("pool %s: %s", name, why)
            now_ms = await self._store.now_ms()
            await self._pools.report(self._owner, name, replace(record.status, error=why, error_ms=now_ms), now_ms)

    def _observed(
        self, keeper: PoolKeeper, record: PoolRecord, workers: Sequence[WorkerInfo], now_ms: int
    ) -> PoolStatus:
        """Return the state of a pool before the decision."""
        status, tempo, spec = record.status, self._tempo, keeper.spec
        own = [worker for worker in workers if worker.pool == spec.name]
        units = merged(spec, status.units, *keeper.taken(), own, now_ms)
        before = {unit.unit: unit for unit in status.units}
        status = replace(status, units=tuple(units), worker_ms=status.worker_ms + worked_ms(status.units, units))
        ended = [unit for unit in units if unit.phase == "ended" and before.get(unit.unit, unit).phase != "ended"]
        worked = {worker.unit for worker in own if worker.running or worker.lost_jobs}  # it was started successfully
        failed = [unit for unit in ended if has_failed(unit, tempo) and unit.unit not in worked]
        if record.pause is None and status.failures >= tempo.failures:  # a user has resumed it
            status = replace(status, failures=0, retry_ms=0)
        if any(is_well(unit, now_ms, tempo) and unit.made_ms >= status.error_ms for unit in units):
            is_new = status.failures or (status.error not in ("", keeper.launcher.problem) and not keeper.problem)
            status = replace(status, failures=0, retry_ms=0, error="", error_ms=0) if is_new else status
        for unit in failed:
            why = unit.error or "it ended without a word"
            status = self._failed(status, f"worker {unit.unit} ended at once: {why}", now_ms)
        if keeper.is_accepted:
            status, keeper.is_accepted = replace(status, failures=0, retry_ms=0, error="", error_ms=0), False
        if isinstance(keeper.problem, LaunchRefused):
            keeper.is_refused = True
            status = replace(status, units=tuple(unit for unit in status.units if unit.phase != "ordered"))
            status, keeper.problem = self._failed(status, str(keeper.problem), now_ms), None
        elif keeper.problem is not None and status.error != str(keeper.problem):
            status = replace(status, error=str(keeper.problem), error_ms=now_ms)
        elif keeper.problem is None and not status.failures and status.error != keeper.launcher.problem:
            status = replace(status, error=keeper.launcher.problem, error_ms=now_ms if keeper.launcher.problem else 0)
        return status

    def _failed(self, status: PoolStatus, why: str, now_ms: int) -> PoolStatus:
        tempo, failures = self._tempo, status.failures + 1
        pause_s = min(tempo.backoff_most, tempo.backoff * 2 ** min(failures - 1, 20))
        if why != status.error:
            logger.warning("%s", why)
        retry_ms = now_ms + int(pause_s * 1000)
        return replace(status, failures=failures, error=why, error_ms=now_ms, retry_ms=retry_ms)

    def _view(self, keeper: PoolKeeper, record: PoolRecord, status: PoolStatus, now_ms: int) -> PoolView:
        is_doubtful = status.failures >= _DOUBTFUL
        coming = [unit for unit in status.units if unit.is_pending or unit.phase == "starting"]
        has_probe = any(now_ms - unit.made_ms < self._tempo.backoff_most * 1000 for unit in coming)  # not long ago
        may_start = not keeper.is_busy and keeper.problem is None and now_ms >= status.retry_ms
        return PoolView(
            spec=keeper.spec,
            units=status.units,
            may_start=may_start and not (is_doubtful and has_probe),
            is_paused=record.pause is not None or record.is_removed,
            most_starts=1 if is_doubtful else 1_000,
            fixed=record.fixed,
            short_ms=status.short_ms,
            over_ms=status.over_ms,
        )

    async def _carry_out(
        self, keeper: PoolKeeper, record: PoolRecord, status: PoolStatus, plan: PoolPlan, now_ms: int
    ) -> None:
        name, extra = keeper.spec.name, {}
        status = replace(status, wanted=plan.wanted, short_ms=plan.short_ms, over_ms=plan.over_ms)
        if status.failures >= self._tempo.failures and record.pause is None:
            reason = f"{status.failures} starts in a row have failed; the last: {status.error}"
            extra["paused"] = PoolPause("", now_ms, reason).text()
            logger.error("pool %s is paused: %s", name, reason)
            plan = replace(plan, start=0)
        if record.is_removed:
            if not any(unit.phase != "ended" for unit in status.units):
                await self._pools.drop(self._owner, name)
                return
            await self._retire(unit.worker for unit in status.units if unit.phase == "up")
        await self._retire(unit.worker for unit in status.units if unit.unit in plan.drain)
        ending = {*plan.drain, *await self._retired(status, plan)}
        cancelled = {*plan.cancel} if not keeper.is_busy else set()
        watches_ms = self._watches_ms
        stuck = {u.unit: why for u in status.units if (why := is_stuck(u, now_ms, self._tempo, watches_ms))}
        stopping = cancelled | stuck.keys() if not keeper.is_busy else set()
        units = [
            replace(
                unit,
                phase="ending" if unit.unit in ending | cancelled else unit.phase,
                stopped_ms=now_ms if unit.unit in ending | stopping else unit.stopped_ms,
                error=stuck.get(unit.unit, unit.error),
            )
            for unit in status.units
        ]
        for unit in status.units:
            if unit.unit in stuck and not unit.up_ms and not unit.stopped_ms:
                status = self._failed(status, f"worker {unit.unit}: {stuck[unit.unit]}", now_ms)
        try:
            orders = [self._order(keeper.spec) for _ in range(plan.start)]
        except JobkitError as error:
            status, orders = self._failed(status, str(error), now_ms), []
        units += [PoolUnit(unit=o.unit, made_ms=now_ms, slots=o.slots, resources=o.resources) for o in orders]
        status = replace(status, units=tuple(units))
        if not await self._report(name, status, now_ms, extra, is_due=bool(orders or stopping)):
            return  # another one leads, or the pool is gone
        if orders or stopping:
            keeper.look_soon()
            now = frozenset(unit.unit for unit in units if unit.unit in stuck)
            await keeper.call(self._changed(keeper, orders, sorted(stopping - now), sorted(stopping & now)))

    async def _changed(
        self, keeper: PoolKeeper, orders: Sequence[WorkerOrder], gently: Sequence[str], now: Sequence[str]
    ) -> None:
        """Stop units and start others."""
        for units, is_now in ((gently, False), (now, True)):
            if units:
                logger.info("pool %s: stopping %s", keeper.spec.name, ", ".join(units))
                await keeper.launcher.stop(units, now=is_now)
        if orders:
            logger.info("pool %s: starting %s", keeper.spec.name, ", ".join(order.unit for order in orders))
            keeper.listed = await keeper.launcher.start(orders)
            keeper.is_whole = False
            keeper.is_accepted, keeper.is_refused = keeper.is_refused, False

    def _order(self, spec: PoolSpec) -> WorkerOrder:
        """Return the order of a worker. Raises JobkitError if no worker there could reach the store."""
        return WorkerOrder(
            pool=spec.name,
            unit=f"{slug(spec.name)}-{secrets.token_hex(3)}",
            queues=spec.queues,
            slots=spec.slots,
            resources=spec.resources,
            tasks=spec.tasks,
            walltime_s=spec.walltime_s,
            idle_s=spec.idle_s,
            environment=self._environment(spec.engine),
            setup=spec.setup,
            python=spec.python,
        )

    async def _retired(self, status: PoolStatus, plan: PoolPlan) -> list[str]:
        """Ask idle workers to end; return the units of those that get no job any more."""
        workers = {unit.worker: unit for unit in status.units if unit.unit in plan.retire and unit.worker}
        asked = await self._store.stop_idle(list(workers))
        ending = [unit.unit for unit, is_asked in zip(workers.values(), asked, strict=True) if is_asked]
        for unit in status.units:
            if unit.unit in ending:
                logger.info("worker %s has had no job for a while; it ends", unit.unit)
        return ending

    async def _retire(self, workers: Iterable[str]) -> None:
        """Let workers finish their jobs and end."""
        if ids := [*workers]:
            await self._store.stop_workers(ids, "retire")

    async def _report(
        self, name: str, status: PoolStatus, now_ms: int, extra: Mapping[str, str], *, is_due: bool
    ) -> bool:
        """Store the state, at once if a reader would see a change; False if another autoscaler leads."""
        before, at = self._reported.get(name, (None, float("-inf")))
        is_news = bool(extra) or before is None or _visible(before) != _visible(status)
        if not (is_news or is_due) and time.monotonic() - at < min(_REPORT_S, 2 * self._tempo.tick):
            return True
        self._reported[name] = status, time.monotonic()
        return await self._pools.report(self._owner, name, status, now_ms, is_news=is_news, **extra)


def _visible(status: PoolStatus) -> Any:
    """Return the parts of a state that pages show, without those that change with each tick."""
    units = [(unit.unit, unit.phase, unit.reason, unit.expected_ms, unit.running, unit.error) for unit in status.units]
    return units, status.wanted, status.error, status.failures
