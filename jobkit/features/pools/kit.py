"""`Pool`: a live handle to one pool; `kit.pools`: the verbs about pools."""

from __future__ import annotations

import asyncio
import builtins
import html
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from msgspec.structs import replace

from jobkit.client.connection import Connection
from jobkit.client.forms import Deed, Noun, on_loop
from jobkit.client.handle import NamedHandle, NamedHandles, from_snapshot, named_by_id
from jobkit.client.tables import Table
from jobkit.client.workers import WorkerVerbs
from jobkit.features.pools.pool_info import PoolInfo, pool_infos
from jobkit.features.pools.spec import PoolSpec, checked_pool_name, pool_spec
from jobkit.features.pools.store import PoolPause, PoolStore, PoolUnit
from jobkit.model import InvalidParams, JobkitError
from jobkit.model.cells import Columns
from jobkit.settings import Settings
from jobkit.store.values import CONTROL

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
        self._connection.call(self._verbs.pause, self.id, reason)

    def resume(self) -> None:
        """Start workers again for jobs that wait; also after the autoscaler has paused it."""
        self._connection.call(self._verbs.resume, self.id)

    def scale(self, n: int | None) -> None:
        """Keep exactly `n` workers, at most `max`; None: as many as jobs need. Busy workers finish their jobs first."""
        self._connection.call(self._verbs.scale, self.id, n)

    def drain(self, *, wait: bool = False, timeout: float | None = None) -> None:
        """Let all workers that it has now finish their jobs and end. Jobs that wait get new ones, unless it is paused.

        Args:
            wait: return when they have ended. timeout: seconds until TimeoutError.
        """
        self._connection.call(self._verbs.drain, self.id, wait=wait, within_s=timeout)

    def remove(self, *, now: bool = False) -> None:
        """Remove it when its workers have finished their jobs; they take no further ones.

        Args:
            now: remove it at once, also if its engine does not answer. Workers give back their jobs; what the engine
                does not end then must be ended there.
        """
        self._connection.call(self._verbs.remove, self.id, now=now)

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


class PoolList(Table, list[Pool]):
    """Pools by name: a list that prints and shows itself as a table."""

    COLUMNS: ClassVar[Columns] = {
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
    EMPTY = "No pools. `jobkit pools add NAME --on ENGINE --max N` adds one."

    def _items(self) -> Sequence[Any]:
        return [pool.snapshot for pool in self]


class PoolVerbs:
    """Verbs about pools; coroutines for the background loop. Each may raise `StoreUnavailable`.

    Attributes:
        handles: live handles.
    """

    def __init__(self, kit: Any) -> None:
        self._connection: Connection = kit.connection
        self._asked: Settings | None = kit.asked
        self._worker_verbs: WorkerVerbs = kit.workers.verbs
        self.handles: NamedHandles[Pool] = NamedHandles(
            self._connection, CONTROL, partial(Pool, self, self._connection), lambda _: self.infos()
        )

    @property
    def _pools(self) -> PoolStore:
        return self._connection.store.part(PoolStore)  # another one after a fork

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
        return await self.get(spec.name)

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
        await self._pools.put(spec.name, sealed)

    async def _have_kept(self) -> None:
        """Have an autoscaler started unless one runs; return when it leads, or after a few seconds."""
        if self._asked is None:  # a kit that starts no processes
            return
        await asyncio.to_thread(keep, self._asked)
        for _ in range(_START_POLLS):
            if await self._pools.manager():
                return
            await asyncio.sleep(_START_POLL_S)

    async def register(self) -> None:
        """Put the pools of `[tool.jobkit.pools]`."""
        for name, table in self._connection.settings.pools.items():
            await self._store(pool_spec(name, **table))

    async def list(self) -> PoolList:
        """Return all pools, by name."""
        return PoolList([self.handles.of(info) for info in await self.infos()])

    async def infos(self) -> builtins.list[PoolInfo]:
        """Return the state of all pools, by name."""
        return await pool_infos(self._connection.store, self._connection.codec)

    async def _info(self, name: str) -> PoolInfo | None:
        return next((info for info in await self.infos() if info.name == name), None)

    async def _known(self, name: str) -> PoolInfo:
        if (info := await self._info(name)) is None:
            names = ", ".join(each.name for each in await self.infos())
            raise InvalidParams(
                f"there is no pool {name!r}; {f'pools are {names}' if names else 'there are none'}", "pool"
            )
        return info

    async def get(self, name: str) -> Pool:
        """Return a pool. Raises InvalidParams if there is none of that name."""
        return self.handles.of(await self._known(name))

    # -- acting -------------------------------------------------------------------------------------------------------

    async def pause(self, name: str, reason: str = "", *, by: str = "") -> bool:
        """Start no workers of a pool, and cancel waiting ones. Workers with jobs go on.

        False if it was paused already. `by`: the acting user; default that of this process.
        """
        if (await self._known(name)).paused is not None:
            return False
        at_ms = await self._connection.store.now_ms()
        pause = PoolPause(by or self._connection.owner, at_ms, reason[:500])
        return await self._change(name, paused=pause.text())

    async def resume(self, name: str) -> bool:
        """Start workers of a paused pool again for jobs that wait. False if it was not paused."""
        if (await self._known(name)).paused is None:
            return False
        await self._change(name, paused=None)
        await self._have_kept()
        return True

    async def scale(self, name: str, n: int | None) -> None:
        """See `Pool.scale`. Raises InvalidParams if `n` is not a whole number from 0 to its `max`."""
        spec = (await self._known(name)).spec
        most = spec.max if spec else 0
        if n is not None and (not isinstance(n, int) or isinstance(n, bool) or not 0 <= n <= most):
            raise InvalidParams(f"n must be a whole number from 0 to {most}, the max of pool {name}, not {n!r}", "n")
        await self._change(name, fixed=None if n is None else str(n))
        await self._have_kept()

    async def drain(self, name: str, *, wait: bool = False, within_s: float | None = None) -> builtins.list[str]:
        """See `Pool.drain`; return the ids of the workers."""
        await self._known(name)
        return await self._drain(name, wait=wait, within_s=within_s)

    async def _drain(self, name: str, **how: Any) -> builtins.list[str]:
        found = await self._workers(name)
        return await self._worker_verbs.drain(found, **how) if found else []

    async def _workers(self, name: str) -> builtins.list[str]:
        return [each.id for each in await self._connection.store.workers() if each.is_alive and each.pool == name]

    async def remove(self, name: str, *, now: bool = False) -> None:
        """See `Pool.remove`."""
        info = await self._known(name)
        await self._change(name, removed="1")
        if now:
            await self._connection.store.stop_workers(await self._workers(name), "now")
        if now or all(unit.phase == "ended" for unit in info.units):
            await self._pools.drop("", name)
        else:
            await self._drain(name)
            await self._have_kept()

    async def _change(self, name: str, **fields: str | None) -> bool:
        if not await self._pools.change(name, **fields):
            raise JobkitError(f"pool {name} was removed meanwhile")
        self.handles.read_again(name)
        return True


class KitPools:
    """The verbs about pools that the kit itself has."""

    pool = on_loop("pools.verbs", PoolVerbs.pool)


class Pools(Noun):
    """`kit.pools()` lists the pools; `kit.pools.scale("gpu", 4)` and others act on one. `kit.pool(...)` makes one.

    Example:
        >>> for pool in kit.pools():
        ...     kit.pools.drain(pool.id)
    """

    ON = "pool"
    DEEDS = (Deed("pause", "paused", "paused already"), Deed("resume", "resumed", "not paused"))
    _SERVICE = PoolVerbs
    _internal = frozenset({"infos", "register"})

    __call__ = on_loop("verbs", PoolVerbs.list)
    get = on_loop("verbs", PoolVerbs.get)
    pause = on_loop("verbs", PoolVerbs.pause)
    resume = on_loop("verbs", PoolVerbs.resume)
    scale = on_loop("verbs", PoolVerbs.scale)
    drain = on_loop("verbs", PoolVerbs.drain)
    remove = on_loop("verbs", PoolVerbs.remove)
    infos = on_loop("verbs", PoolVerbs.infos)
    register = on_loop("verbs", PoolVerbs.register)


def keep(settings: Settings) -> None:
    """Have an autoscaler started for the pools of a kit, unless one runs."""
    from jobkit.features.pools.process import ensure_autoscaler  # takes 0.1 s

    ensure_autoscaler(settings)
