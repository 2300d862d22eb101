"""Pools in the store: sealed definitions, wishes of users, state as the autoscaler has reported it, and demand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec
from msgspec.structs import replace

from jobkit.store import wire
from jobkit.store.namespace import StorePart
from jobkit.store.redis import RedisStore

#: Key of the leader lock of autoscalers, whose owner is "HOST TOKEN PROCESS"; see `jobkit.system.processes.mark`.
LOCK = "autoscaler"


class PoolUnit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One unit of a pool: a worker that was ordered from the engine. Times are of the store's clock (ms), 0 for never.

    Attributes:
        unit, id, host, reason, expected_ms, error: see `jobkit.features.pools.launcher.Unit`.
        phase: "ordered" (the engine has not answered yet), "pending", "starting" (runs, but its worker is not known
            yet), "up", "ending" (its worker was asked to end) or "ended".
        slots, resources: of its worker.
        worker: id of its worker. running, done: that worker's jobs.
        made_ms: of the order. started_ms: it runs since. up_ms: its worker is known since. seen_ms: last heartbeat of
            its worker. idle_ms: its worker has no job since. stopped_ms: the engine was asked to stop it.
        ended_ms: end. counted_ms: worker-hours are counted until then.
    """

    unit: str
    id: str = ""
    phase: str = "ordered"
    reason: str = ""
    host: str = ""
    error: str = ""
    expected_ms: int = 0
    slots: int = 1
    resources: Mapping[str, float] = {}
    worker: str = ""
    running: int = 0
    done: int = 0
    made_ms: int = 0
    started_ms: int = 0
    up_ms: int = 0
    seen_ms: int = 0
    idle_ms: int = 0
    stopped_ms: int = 0
    ended_ms: int = 0
    counted_ms: int = 0

    @property
    def is_pending(self) -> bool:
        return self.phase in ("ordered", "pending")

    @property
    def is_running(self) -> bool:
        return self.phase in ("starting", "up", "ending")


class PoolStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """State of a pool, as the autoscaler last reported it. Times are of the store's clock (ms).

    Attributes:
        wanted: number of workers that it should have. units: those that live, and some that ended lately.
        worker_ms: time that all its workers have run.
        error: what went wrong last, "" if it works again. error_ms: since when.
        failures: starts in a row that have failed. retry_ms: no further start before.
        short_ms, over_ms: it has had too few workers, or pending ones that are not needed, since then; 0 if not.
    """

    wanted: int = 0
    units: tuple[PoolUnit, ...] = ()
    worker_ms: int = 0
    error: str = ""
    error_ms: int = 0
    failures: int = 0
    retry_ms: int = 0
    short_ms: int = 0
    over_ms: int = 0


class PoolPause(msgspec.Struct, frozen=True):
    """Pause of a pool: `by` a user ("" for the autoscaler or an unknown user), at a time (ms), with a reason."""

    by: str = ""
    at_ms: int = 0
    reason: str = ""

    def text(self) -> str:
        """Return the JSON for the store."""
        return msgspec.json.encode(self).decode()


class PoolRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the store has about a pool.

    Attributes:
        sealed: the definition, see `jobkit.features.pools.spec`.
        pause: None if it may start workers. fixed: number of workers that a user has set, None for as many as needed.
        is_removed: it ends with its last unit.
        beat_ms: time of the last report (store's clock).
    """

    name: str
    sealed: bytes
    pause: PoolPause | None = None
    fixed: int | None = None
    is_removed: bool = False
    status: PoolStatus = PoolStatus()
    beat_ms: int = 0


class Demand(msgspec.Struct, frozen=True):
    """Number of waiting jobs of a queue that could start now, of those that use the same resources."""

    queue: str
    use: Mapping[str, float]
    jobs: int


_status = msgspec.json.Decoder(PoolStatus).decode
_pause = msgspec.json.Decoder(PoolPause).decode
_rows = msgspec.json.Decoder(list[tuple[msgspec.Raw, int]]).decode
_use = msgspec.json.Decoder(dict[str, float]).decode


class PoolStore(StorePart):
    """Verbs for pools."""

    async def put(self, name: str, sealed: bytes) -> None:
        """Store a definition; the rest of a pool with this name stays, except that it is not removed."""
        await self._ns.run("pool", [name, "", _fields(removed=None), "", sealed])

    async def records(self) -> dict[str, PoolRecord]:
        """Return all pools by name."""
        definitions = await self._ns.ask("HGETALL", "pools")
        names = sorted(self._ns.names("pools", definitions))
        found = await self._ns.many([("HGETALL", f"pool:{name}") for name in names])
        read = {name: PoolRecord(name=name, sealed=definitions[name.encode()]) for name in names}
        for name, fields in zip(names, found, strict=True):
            read[name] = self._ns.readable(f"pool:{name}", partial(_with_fields, read[name]), fields) or read[name]
        return read

    async def change(self, name: str, **fields: str | None) -> bool:
        """Change what users set: `paused`, `fixed`, `removed`; None deletes. False if there is no such pool."""
        return bool(await self._ns.run("pool", [name, "", _fields(**fields)]) == 1)

    async def report(
        self, owner: str, name: str, status: PoolStatus, now_ms: int, *, is_news: bool = True, **fields: str
    ) -> bool:
        """Store the state of a pool, if `owner` has the leader lock; False if not, or the pool does not exist.

        Args:
            is_news: subscribers read it again. fields: those that users set, too.
        """
        text = msgspec.json.encode(status).decode()
        stored = _fields(status=text, beat=str(now_ms), **fields)
        return bool(await self._ns.run("pool", [name, owner, stored, "" if is_news else "1"]) == 1)

    async def drop(self, owner: str, name: str) -> bool:
        """Delete a pool that is marked as removed, see `report` for `owner`; "" is a user."""
        return bool(await self._ns.run("pool", [name, owner, ""]) == 1)

    async def demand(self, queues: Sequence[str]) -> list[Demand]:
        """Return the waiting jobs that could start now if workers had room for them; an estimate for long queues."""
        if not queues:
            return []
        found = []
        for queue, reply in zip(queues, await self._ns.run("demand", list(queues)), strict=True):
            for use, jobs in _rows(reply):
                with contextlib.suppress(msgspec.MsgspecError):  # of a damaged record: no worker could run it
                    found.append(Demand(queue, _use(use), jobs))
        return [each for each in found if each.jobs > 0]

    async def release_dead(self, host: str, has_died: Callable[[str], bool]) -> None:
        """Release the leader lock of an autoscaler of this machine that has died."""
        owner = wire.text(await self._ns.ask("GET", LOCK))
        if owner.startswith(f"{host} ") and has_died(owner.split(" ", 2)[-1]):
            await self._ns.ask("DEL", LOCK)

    async def manager(self) -> str:
        """Return the machine of the autoscaler that leads, "" if none runs."""
        return wire.text(await self._ns.ask("GET", LOCK)).partition(" ")[0]


def _fields(**fields: str | None) -> bytes:
    return msgspec.json.encode(fields)


def _with_fields(record: PoolRecord, raw: Mapping[bytes, bytes]) -> PoolRecord:
    """Return the record with what its hash says. Raises ValueError, MsgspecError: the hash is damaged."""
    fields = wire.texts(raw)
    return replace(
        record,
        pause=_pause(fields["paused"]) if "paused" in fields else None,
        fixed=int(fields["fixed"]) if "fixed" in fields else None,
        is_removed="removed" in fields,
        status=_status(fields.get("status") or "{}"),
        beat_ms=int(fields.get("beat") or 0),
    )


async def read_newest(store: RedisStore) -> None:
    """Read all pools, which finds damaged ones."""
    await store.part(PoolStore).records()
