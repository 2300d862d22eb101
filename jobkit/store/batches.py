"""Batches in the store; see `lua/lib/batches.lua`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from jobkit.model import StoreUnavailable
from jobkit.model.batch import BatchInfo
from jobkit.store import wire
from jobkit.store.namespace import RedisNamespace

#: Number of batches that are read at a time.
_CHUNK = 200

#: Number of jobs that are looked at at a time while batches are folded, and the most inside of a large batch.
_FOLDED, _FOLDED_MOST = 200, 10_000


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

    async def folded(self, limit: int, below_us: int = 0) -> tuple[list[str | BatchInfo], str]:
        """Return jobs (ids) and batches below a time of submit (us; 0: all), newest first, and the next cursor.

        A batch stands where its newest job does, in place of all of its jobs. Of a large one that no other submits
        interrupt, one step passes all jobs.
        """
        found: list[str | BatchInfo] = []
        passed: dict[str, int] = {}  # numbers of jobs by their batch
        infos: dict[str, BatchInfo | None] = {}
        high = cursor = below_us
        size = _FOLDED
        while len(found) < limit:
            start = f"({high}" if high else "+inf"
            page = await self._ns.ask("ZREVRANGEBYSCORE", "jobs", start, "-inf", "WITHSCORES", "LIMIT", 0, size)
            if not page:
                return found, ""
            ids = [wire.text(raw) for raw, _ in page]
            homes = [wire.text(raw[1]) if raw else None for raw in await self._ns.fields(("state", "batch"), ids)]
            new = sorted({home for home in homes if home and home not in infos})
            infos |= dict(zip(new, await self.infos(new), strict=True))
            for job_id, home, (_, us) in zip(ids, homes, page, strict=True):
                if len(found) == limit:
                    return found, str(cursor)
                high = cursor = int(us)
                info = infos.get(home or "")
                if info is None:
                    found += [job_id] if home is not None else []
                else:
                    if info.id not in passed and not (below_us and info.last_us >= below_us):  # else of a page before
                        found.append(info)
                    passed[info.id] = passed.get(info.id, 0) + 1
            is_inside = len(set(homes)) == 1 and infos.get(homes[0] or "") is not None
            size = min(2 * size, _FOLDED_MOST) if is_inside else _FOLDED
            if is_inside and (info := infos[homes[0] or ""]) is not None:
                between, kept = await self._ns.many(
                    [("ZCOUNT", "jobs", info.us, f"({high}"), ("ZCARD", f"batch-jobs:{info.id}")]
                )
                shares_none = kept == info.made - info.deleted
                if shares_none and between == kept - passed[info.id]:
                    high = cursor = info.us
        return found, str(cursor)

    async def members(self, batch_id: str, limit: int = 0) -> list[tuple[str, int]]:
        """Return ids of its jobs, or of the first so many, with their places. A deleted job leaves its place empty."""
        found = await self._ns.ask("ZRANGE", f"batch-jobs:{batch_id}", 0, limit - 1, "WITHSCORES")
        return [(wire.text(job_id), int(place)) for job_id, place in found]

    async def set_rule(self, batch_id: str, words: str, stop: str) -> bool:
        """Give a batch a rule; False if it is not kept.

        Args:
            words: for people. stop: "failed 3" cancels the rest when three jobs have failed; "" if `stop` will.
        """
        return await self._ruled(batch_id, words, stop)

    async def stop(self, batch_id: str, job_id: str) -> bool:
        """Cancel the rest of a batch because its rule held for a job; False if the batch is not kept."""
        return await self._ruled(batch_id, job_id)

    async def _ruled(self, *args: str) -> bool:
        is_kept, left = await self._ns.run("batch_rule", args)
        with contextlib.suppress(StoreUnavailable):  # the next heartbeat goes on
            while left:
                left = await self._ns.run("settle", [self._ns.ttl_ms])
        return bool(is_kept)


def subscription(batch_id: str) -> str:
    """Return the key for `EventHub.listen`: events of its jobs, and an event of this key when it has further jobs."""
    return f"batch {batch_id}"


def _info(batch_id: str, record: Mapping[bytes, bytes]) -> BatchInfo:
    return BatchInfo.from_wire(batch_id, wire.texts(record))
