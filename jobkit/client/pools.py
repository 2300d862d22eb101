"""`Pool`: a live handle to one pool; `PoolVerbs`: the verbs of a kit about pools."""

from __future__ import annotations

import asyncio
import html
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

from msgspec.structs import replace

from jobkit.client.connection import Connection
from jobkit.client.handle import NamedHandle, NamedHandles, from_snapshot, named_by_id
from jobkit.client.tables import Table
from jobkit.client.waits import pool_infos
from jobkit.model import InvalidParams, JobkitError
from jobkit.model.format import duration
from jobkit.model.table import Columns
from jobkit.pools.info import PoolInfo
from jobkit.pools.spec import PoolSpec, checked_pool_name, pool_spec
from jobkit.store.pools import PoolPause, PoolUnit
from jobkit.store.values import CONTROL

#: Seconds between two reads of a pool that ends.
_POLL_S = 0.5

#: Seconds between two looks for an autoscaler that was started, and most of them.
_START_POLL_S, _START_POLLS = 0.1, 50


@named_by_id
class Pool(NamedHandle[PoolInfo]):
    """Workers that are started on an engine while jobs wait. Get one from `kit.pool(...)` or `kit.pools()`.

    Its parameters move by themselves while workers come and go.

    Example:
        >>> pool = kit.pool("gpu", on="slurm", max=20, idle="10m")  # doctest: +SKIP
        >>> pool.drain(wait=True)  # doctest: +SKIP
    """

    id: str = from_snapshot("name", "The same as its name.")
    engine: str = from_snapshot("engine", "Engine that runs its workers: slurm, ssh, ...")
    queues: tuple[str, ...] = from_snapshot(lambda s: s.spec.queues if s.spec else (), "Queues that they serve.")
    min: int = from_snapshot(lambda s: s.spec.min if s.spec else 0, "Smallest number of workers.")
    max: int = from_snapshot(lambda s: s.spec.max if s.spec else 0, "Largest number of workers.")
    state: str = from_snapshot("state", "active, paused, failing, removed or no autoscaler.")
    paused: bool = from_snapshot(lambda s: s.paused is not None, "True while it starts no workers.")
    fixed: int | None = from_snapshot("fixed", "Number of workers set by `scale`; None for as many as needed.")
    wanted: int = from_snapshot("wanted", "Number of workers that it should have now.")
    pending: int = from_snapshot("pending", "Number of workers that wait at the engine.")
    running: int = from_snapshot("running", "Number of workers that run.")
    worker_hours: float = from_snapshot("worker_hours", "Hours that its workers have run in all.")
    error: str = from_snapshot("error", "The problem that it has now, as a sentence; empty without one.")
    units: list[PoolUnit] = from_snapshot(
        lambda s: list(s.units), "Its workers at the engine, with the engine's words."
    )

    @property
    def spec(self) -> PoolSpec | None:
        """Its definition; None if it was not signed with a key that this process has."""
        return self.snapshot.spec

    @property
    def sentence(self) -> str:
        """Sentence about its state for people; "" if all is well."""
        return self.snapshot.sentence

    def pause(self, reason: str = "") -> None:
        """Start no workers until `resume`, and cancel those that wait at the engine. Workers with jobs go on."""
        self._connection.call(self._verbs.pause_pool, self.id, reason)

    def resume(self) -> None:
        """Start workers again for jobs that wait; also after the autoscaler has paused it."""
        self._connection.call(self._verbs.resume_pool, self.id)

    def scale(self, n: int | None) -> None:
        """Keep exactly `n` workers, at most `max`; None: as many as jobs need. Busy workers finish their jobs first."""
        self._connection.call(self._verbs.scale_pool, self.id, n)

    def drain(self, *, wait: bool = False, timeout: float | None = None) -> None:
        """Let all workers that it has now finish their jobs and end. Jobs that wait get new ones, unless it is paused.

        Args:
            wait: return when they have ended. timeout: seconds until TimeoutError.
        """
        self._connection.call(self._verbs.drain_pool, self.id, wait=wait, within_s=timeout)

    def remove(self, *, now: bool = False) -> None:
        """Remove it when its workers have finished their jobs; they take no further ones.

        Args:
            now: remove it at once, also if its engine does not answer. Workers give back their jobs; what the engine
                does not end then must be ended there.
        """
        self._connection.call(self._verbs.remove_pool, self.id, now=now)

    def to_json(self) -> dict[str, Any]:
        """Its state as plain data."""
        return self.snapshot.to_json()

    def __repr__(self) -> str:
        info = self.snapshot
        numbers = f"wanted={info.wanted} pending={info.pending} running={info.running}"
        why = f": {info.sentence}" if info.sentence else ""
        return f"<Pool {info.name} on {info.engine} {info.state} {numbers}{why}>"

    def _repr_html_(self) -> str:
        info = self.snapshot
        about = f"{info.spec.sentence}. " if info.spec else ""
        numbers = (
            f"{info.wanted} wanted, {info.pending} pending, {info.running} running; {info.worker_hours:g} worker-hours"
        )
        rows = "".join(
            f"<tr><td>{html.escape(unit.unit)}</td><td>{html.escape(unit.phase)}</td><td>{html.escape(unit.host)}</td>"
            f"<td>{html.escape(unit.error or unit.reason)}</td></tr>"
            for unit in info.units
        )
        said = f"<br>{html.escape(info.sentence)}" if info.sentence else ""
        return f"<b>{html.escape(info.name)}</b>: {html.escape(about)}{numbers}{said}<table>{rows}</table>"


class Pools(Table, list[Pool]):
    """Pools by name: a list that prints and shows itself as a table."""

    _columns: ClassVar[Columns] = {
        "Pool": lambda info: info.name,
        "Engine": lambda info: info.engine,
        "Queues": lambda info: ", ".join(info.spec.queues) if info.spec else "",
        "State": lambda info: info.state,
        "Wanted": lambda info: f"{info.wanted}{'' if info.fixed is None else ' (fixed)'}",
        "Pending": lambda info: info.pending,
        "Running": lambda info: info.running,
        "Max": lambda info: info.spec.max if info.spec else None,
        "Hours": lambda info: f"{info.worker_hours:.1f}",
    }
    _empty = "No pools. `jobkit pool add NAME --on ENGINE --max N` adds one."

    def _items(self) -> Sequence[Any]:
        return [pool.snapshot for pool in self]


class PoolVerbs:
    """Verbs about pools; coroutines for the background loop. Each may raise `StoreUnavailable`.

    Args:
        keep: has an autoscaler started, unless one runs; False if it cannot.

    Attributes:
        handles: live handles.
    """

    def __init__(self, connection: Connection, keep: Callable[[], bool]) -> None:
        self._connection, self._keep = connection, keep
        self.handles: NamedHandles[Pool] = NamedHandles(
            connection, CONTROL, partial(Pool, self, connection), lambda _: self.pool_infos()
        )

    async def pool(self, name: str, /, *, on: str | None = None, **options: Any) -> Pool:
        """Make a pool: workers that an engine runs while jobs wait. One with this name is changed.

            kit.pool("gpu", on="slurm", max=20, idle="10m", walltime="4h", resources={"gpu": 1}, partition="a100")

        Args:
            name: of the pool, and of its queue unless `queues` is given.
            on: "ssh", "slurm", "dask", "ray", "kubernetes" or "local" (this machine). Without it, the pool of that
                name, or that of `[tool.jobkit.pools]`.
            options: `max` (needed), `min`, `queues`, `slots` (jobs at a time of each worker), `resources`, `idle`
                (time after which an idle worker ends), `walltime` (time after which the engine ends a worker),
                `tasks`, `setup` (shell lines before the worker), `python`, and those of the engine.

        Raises:
            InvalidParams: a value is not allowed, or there is no such pool.
        """
        checked_pool_name(name)
        if on is None:
            if options:
                raise InvalidParams(f"pool {name} needs on=: the engine that runs its workers", "on")
            if (known := await self._info(name)) is not None:
                return self.handles.of(known)
            table = self._connection.settings.pools.get(name)
            if table is None:
                raise InvalidParams(f"there is no pool {name}: kit.pool({name!r}, on=..., max=...) makes one", "pool")
            options = dict(table)
        else:
            options["on"] = on
        spec = pool_spec(name, **options)
        if self._connection.settings.scheme == "sync":
            raise InvalidParams("sync:// runs jobs in the calling process: pools need another JOBKIT_URL", "url")
        await self._store(spec)
        await self._have_kept()
        return await self.get_pool(spec.name)

    async def _store(self, spec: PoolSpec) -> None:
        """Store a definition, with the kit's modules of tasks unless it has its own."""
        spec = replace(spec, tasks=spec.tasks or self._connection.settings.tasks)
        sealed = spec.sealed(self._connection.codec)
        known = await self._info(spec.name)
        units = [] if known is None else [unit for unit in known.units if unit.phase != "ended"]
        if known is not None and units and known.engine != spec.engine:
            raise InvalidParams(
                f"pool {spec.name} has {len(units)} workers on {known.engine}: remove it before you make it on "
                f"{spec.engine}",
                "on",
            )
        await self._connection.store.pools.put(spec.name, sealed)

    async def _have_kept(self) -> None:
        """Have an autoscaler started unless one runs; return when it leads, or after a few seconds."""
        is_kept = await asyncio.to_thread(self._keep)
        for _ in range(_START_POLLS if is_kept else 0):
            if await self._connection.store.pools.manager():
                return
            await asyncio.sleep(_START_POLL_S)

    async def register_pools(self) -> None:
        """Put the pools of `[tool.jobkit.pools]`."""
        for name, table in self._connection.settings.pools.items():
            await self._store(pool_spec(name, **table))

    async def pools(self) -> Pools:
        """Return all pools, by name."""
        return Pools([self.handles.of(info) for info in await self.pool_infos()])

    async def pool_infos(self) -> list[PoolInfo]:
        """Return the state of all pools, by name."""
        return await pool_infos(self._connection.store, self._connection.codec)

    async def _info(self, name: str) -> PoolInfo | None:
        return next((info for info in await self.pool_infos() if info.name == name), None)

    async def _known(self, name: str) -> PoolInfo:
        if (info := await self._info(name)) is None:
            names = ", ".join(each.name for each in await self.pool_infos())
            raise InvalidParams(
                f"there is no pool {name!r}; {f'pools are {names}' if names else 'there are none'}", "pool"
            )
        return info

    async def get_pool(self, name: str) -> Pool:
        """Return a pool. Raises InvalidParams if there is none of that name."""
        return self.handles.of(await self._known(name))

    # -- acting -------------------------------------------------------------------------------------------------------

    async def pause_pool(self, name: str, reason: str = "", *, by: str = "") -> bool:
        """See `Pool.pause`; False if it was paused already. `by`: the acting user; default that of this process."""
        if (await self._known(name)).paused is not None:
            return False
        at_ms = await self._connection.store.now_ms()
        pause = PoolPause(by or self._connection.owner, at_ms, reason[:500])
        return await self._change(name, paused=pause.text())

    async def resume_pool(self, name: str) -> bool:
        """See `Pool.resume`; False if it was not paused."""
        if (await self._known(name)).paused is None:
            return False
        await self._change(name, paused=None)
        await self._have_kept()
        return True

    async def scale_pool(self, name: str, n: int | None) -> None:
        """See `Pool.scale`. Raises InvalidParams if `n` is not a whole number from 0 to its `max`."""
        spec = (await self._known(name)).spec
        most = spec.max if spec else 0
        if n is not None and (not isinstance(n, int) or isinstance(n, bool) or not 0 <= n <= most):
            raise InvalidParams(f"n must be a whole number from 0 to {most}, the max of pool {name}, not {n!r}", "n")
        await self._change(name, fixed=None if n is None else str(n))
        await self._have_kept()

    async def drain_pool(self, name: str, *, wait: bool = False, within_s: float | None = None) -> list[str]:
        """See `Pool.drain`; return the ids of the workers."""
        await self._known(name)
        return await self.drain_workers(pool=name, wait=wait, within_s=within_s)

    async def drain_workers(
        self,
        ids: Sequence[str] = (),
        *,
        pool: str | None = None,
        queue: str | None = None,
        host: str | None = None,
        wait: bool = False,
        within_s: float | None = None,
    ) -> list[str]:
        """Let workers finish their jobs, however long they take, and end; return their ids.

        Args:
            ids: of workers, or all that match the rest. pool, queue, host: only those of it.
            wait: return when they have ended. within_s: seconds until TimeoutError.

        Raises:
            InvalidParams: no live worker has such an id.
        """
        store = self._connection.store
        alive = [worker for worker in await store.workers() if worker.is_alive]
        if unknown := [id for id in ids if id not in {worker.id for worker in alive}]:
            raise InvalidParams(f"there is no live worker {unknown[0]!r}; `jobkit workers` lists them", "worker")
        found = [
            worker.id
            for worker in alive
            if (not ids or worker.id in ids)
            and pool in (None, worker.pool)
            and host in (None, worker.host)
            and (queue is None or queue in worker.queues)
        ]
        if found:
            await store.stop_workers(found, "retire")
        if wait:
            await self.await_end(found, within_s)
        return found

    async def await_end(self, ids: Sequence[str], within_s: float | None = None) -> None:
        """Return when none of these workers lives any more. Raises TimeoutError after `within_s` seconds."""
        deadline = None if within_s is None else time.monotonic() + within_s
        while left := [w for w in await self._connection.store.workers() if w.is_alive and w.id in ids]:
            if deadline is not None and time.monotonic() > deadline:
                jobs = sum(worker.running for worker in left)
                still = f"{len(left)} of {len(ids)} workers have not ended within {duration(within_s)}"
                raise TimeoutError(f"{still}; they run {jobs} jobs")
            await asyncio.sleep(_POLL_S)

    async def remove_pool(self, name: str, *, now: bool = False) -> None:
        """See `Pool.remove`."""
        info, store = await self._known(name), self._connection.store
        await self._change(name, removed="1")
        if now:
            workers = [worker.id for worker in await store.workers() if worker.is_alive and worker.pool == name]
            await store.stop_workers(workers, "now")
        if now or all(unit.phase == "ended" for unit in info.units):
            await store.pools.drop("", name)
        else:
            await self.drain_workers(pool=name)
            await self._have_kept()

    async def _change(self, name: str, **fields: str | None) -> bool:
        if not await self._connection.store.pools.change(name, **fields):
            raise JobkitError(f"pool {name} was removed meanwhile")
        self.handles.read_again(name)
        return True
