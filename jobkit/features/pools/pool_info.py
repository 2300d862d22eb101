"""`PoolInfo`: everything about one pool, for people and programs."""

from __future__ import annotations

from typing import Any

import msgspec

from jobkit.codec import Codec
from jobkit.features.pools.spec import PoolSpec, read_pool
from jobkit.features.pools.store import PoolPause, PoolRecord, PoolStore, PoolUnit
from jobkit.model import SignatureError
from jobkit.model.format import duration
from jobkit.model.plain import to_json
from jobkit.store.redis import RedisStore


class PoolInfo(msgspec.Struct, frozen=True, kw_only=True):
    """State of one pool. Times are of the store's clock (Unix, ms).

    Attributes:
        spec: its definition; None if it cannot be read here, as `error` says.
        paused: None, or who paused it, when and why.
        fixed: number of workers that a user has set; None for as many as needed.
        is_removed: it ends with its last worker.
        wanted: number of workers that it should have. pending, running: number of units that wait at the engine, and
            that run.
        units: those that live, and the last ones that have ended.
        worker_s: time that its workers have run in all.
        error: what is wrong now, as a sentence; "" if nothing is. error_ms: since when.
        manager: machine of the autoscaler, "" if none runs. beat_s: seconds since its last report; None before that.
        now_ms: time of this state.
    """

    name: str
    spec: PoolSpec | None = None
    paused: PoolPause | None = None
    fixed: int | None = None
    is_removed: bool = False
    wanted: int = 0
    pending: int = 0
    running: int = 0
    units: tuple[PoolUnit, ...] = ()
    worker_s: float = 0.0
    error: str = ""
    error_ms: int = 0
    retry_ms: int = 0
    manager: str = ""
    beat_s: float | None = None
    now_ms: int = 0

    @classmethod
    def of(cls, record: PoolRecord, codec: Codec, manager: str, now_ms: int) -> PoolInfo:
        """Return the state in a record of the store."""
        spec, status, error = None, record.status, record.status.error
        try:
            spec = read_pool(record.name, record.sealed, codec)
        except SignatureError as refused:
            error = str(refused)
        return cls(
            name=record.name,
            spec=spec,
            paused=record.pause,
            fixed=record.fixed,
            is_removed=record.is_removed,
            wanted=status.wanted,
            pending=sum(unit.is_pending for unit in status.units),
            running=sum(unit.is_running for unit in status.units),
            units=status.units,
            worker_s=status.worker_ms / 1000,
            error=error,
            error_ms=status.error_ms,
            retry_ms=status.retry_ms,
            manager=manager,
            beat_s=(now_ms - record.beat_ms) / 1000 if record.beat_ms else None,
            now_ms=now_ms,
        )

    @property
    def engine(self) -> str:
        return self.spec.engine if self.spec else ""

    @property
    def worker_hours(self) -> float:
        return round(self.worker_s / 3600, 3)

    @property
    def state(self) -> str:
        """Return "removed", "paused", "no autoscaler", "failing" or "active"."""
        if self.is_removed:
            return "removed"
        if self.paused is not None:
            return "paused"
        if not self.manager:
            return "no autoscaler"
        return "failing" if self.error else "active"

    @property
    def sentence(self) -> str:
        """Return what people should know of it in one sentence; "" if all is well."""
        if self.is_removed:
            return "it is removed when its last worker has ended"
        if self.paused is not None:
            by = f" by {self.paused.by}" if self.paused.by else ""
            why = f": {self.paused.reason}" if self.paused.reason else ""
            since = duration((self.now_ms - self.paused.at_ms) / 1000)
            return f"paused{by} since {since}{why}; `jobkit pools resume {self.name}`"
        if not self.manager:
            return "no autoscaler runs, so no workers are started: `jobkit pools run`"
        if self.error and self.retry_ms > self.now_ms:
            return f"{self.error}; next try in {duration((self.retry_ms - self.now_ms) / 1000)}"
        return self.error

    def to_json(self) -> dict[str, Any]:
        """Return JSON-compatible data, without what only the engine needs."""
        spec = self.spec
        about: dict[str, Any] = {} if spec is None else to_json(spec)
        for name in ("name", "options", "setup", "python"):
            about.pop(name, None)
        return {
            "name": self.name,
            **about,
            "state": self.state,
            "sentence": self.sentence,
            "paused": None if self.paused is None else to_json(self.paused),
            "fixed": self.fixed,
            "wanted": self.wanted,
            "pending": self.pending,
            "running": self.running,
            "worker_hours": self.worker_hours,
            "error": self.error,
            "manager": self.manager,
            "units": [to_json(unit) for unit in self.units],
        }


async def pool_infos(store: RedisStore, codec: Codec) -> list[PoolInfo]:
    """Return the state of all pools, by name."""
    pools = store.part(PoolStore)
    if not (records := await pools.records()):
        return []
    manager, now_ms = await pools.manager(), await store.now_ms()
    return [PoolInfo.of(record, codec, manager, now_ms) for record in records.values()]
