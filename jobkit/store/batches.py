"""Batches in the store; see `lua/lib/batches.lua`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobkit.model.batch import BatchInfo
from jobkit.store import wire
from jobkit.store.namespace import RedisNamespace

#: Number of batches that are read at a time.
_CHUNK = 200


class BatchStore:
    """Verbs for batches."""

    def __init__(self, namespace: RedisNamespace) -> None:
        self._ns = namespace

    async def infos(self, batch_ids: Sequence[str]) -> list[BatchInfo | None]:
        """Return each batch; None if it is not kept."""
        return await self._ns.records("batch", batch_ids, _info)

    async def newest(
        self, limit: int = 50, before_us: int = 0, *, name: str | None = None, owner: str | None = None
    ) -> list[BatchInfo]:
        """Return batches, newest first: submitted before a time (0: any), with a name, of an owner (None: any)."""
        found: list[BatchInfo] = []
        start = f"({before_us}" if before_us else "+inf"
        while len(found) < limit:
            ids = await self._ns.ask("ZREVRANGEBYSCORE", "batches", start, "-inf", "WITHSCORES", "LIMIT", 0, _CHUNK)
            if not ids:
                break
            start = f"({ids[-1][1]:.0f}"
            infos = await self.infos([wire.text(id) for id, _ in ids])
            found += [
                info
                for info in infos
                if info is not None and name in (None, info.spec.name) and owner in (None, info.spec.owner)
            ]
        return found[:limit]

    async def members(self, batch_id: str) -> list[tuple[str, int]]:
        """Return the ids of its jobs with their places, in their order. A deleted job leaves its place empty."""
        found = await self._ns.ask("ZRANGE", f"batch-jobs:{batch_id}", 0, -1, "WITHSCORES")
        return [(wire.text(job_id), int(place)) for job_id, place in found]


def subscription(batch_id: str) -> str:
    """Return the key for `EventHub.listen`: events of its jobs, and an event of this key when it has further jobs."""
    return f"batch {batch_id}"


def _info(batch_id: str, record: Mapping[bytes, bytes]) -> BatchInfo:
    return BatchInfo.from_wire(batch_id, wire.texts(record))
