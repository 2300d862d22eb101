"""Batches in the store, see `jobkit/store/lua/lib/batches.lua`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from jobkit.model import JobState
from jobkit.model.batch import BatchInfo, BatchSpec
from jobkit.model.plain import instant
from jobkit.store import wire
from jobkit.store.namespace import StorePart
from jobkit.store.query import Names, fits

#: Number of batches that are read at a time, and the most of those whose definition is looked at.
_CHUNK, _CHUNK_MOST = 200, 2_000

#: Number of jobs of no batch that are read at a time, at most.
_SINGLES_MOST = 10_000

T = TypeVar("T")


class _Asked(msgspec.Struct):
    """The part of a batch's definition by which batches are chosen."""

    task: str
    name: str = ""
    owner: str = ""


_asked = msgspec.json.Decoder(_Asked).decode


class BatchStore(StorePart):
    """Verbs for batches."""

    async def infos(self, batch_ids: Sequence[str]) -> list[BatchInfo | None]:
        """Return each batch; None if it is not kept."""
        found = await self._ns.records("batch", batch_ids, _info)
        led = [info.id for info in found if info is not None and info.spec.kind]
        if not led:
            return found
        jobs = dict(zip(led, await self._ns.fields(("state", "started", "finished"), led), strict=True))
        return [info and _led_by(info, jobs.get(info.id)) for info in found]

    async def led_by(self, job_ids: Sequence[str]) -> list[BatchInfo]:
        """Return the batches that these jobs lead, if they have jobs."""
        found = await self.infos(job_ids)
        return [info for info in found if info is not None and info.spec.kind]

    async def newest(
        self,
        limit: int = 50,
        below_us: int = 0,
        *,
        name: str | None = None,
        owner: Names = None,
        task: Names = None,
    ) -> list[BatchInfo]:
        """Return batches, those with the newest jobs first.

        Args:
            below_us: only those whose newest job was submitted before a time (0: any).
            name: only those of this name. owner, task: only those that fit, see `Names`.
        """

        def fits_all(spec: BatchSpec | _Asked) -> bool:
            return name in (None, spec.name) and _is_asked(spec.owner, owner) and _is_asked(spec.task, task)

        found: list[BatchInfo] = []
        start, size, reads_all = f"({below_us}" if below_us else "+inf", _CHUNK, name is owner is task is None
        while len(found) < limit:
            pairs = await self._ns.ask("ZREVRANGEBYSCORE", "batches", start, "-inf", "WITHSCORES", "LIMIT", 0, size)
            if not pairs:
                break
            start, ids = f"({pairs[-1][1]:.0f}", [wire.text(id) for id, _ in pairs]
            if not reads_all:  # of the others, only what they are asked for
                specs = await self._ns.many([("HGET", f"batch:{id}", "spec") for id in ids])
                read = [self._ns.readable(f"batch:{id}", _asked, raw) for id, raw in zip(ids, specs, strict=True)]
                ids = [id for id, spec in zip(ids, read, strict=True) if spec is not None and fits_all(spec)]
                size = min(2 * size, _CHUNK_MOST)
            found += [info for info in await self.infos(ids) if info is not None and fits_all(info.spec)]
        return found[:limit]

    async def folded(self, limit: int, below_us: int = 0) -> tuple[list[str | BatchInfo], str]:
        """Return jobs (ids) and batches below a time of submit (us; 0: all), newest first, and the next cursor.

        A batch stands where its newest job does, in place of all of its jobs, and of its leader.
        """
        infos = {info.id: info for info in await self.newest(limit + 1, below_us)}
        alone: list[tuple[int, str]] = []
        cursor, size = str(below_us or ""), limit + 1
        while True:
            jobs, cursor = await self.singles(size, cursor)
            size = min(2 * size, _SINGLES_MOST)
            homes = await self.homes([job_id for _, job_id in jobs])
            unlisted = sorted({home for home in homes if home} - infos.keys())  # led ones
            infos |= {info.id: info for info in await self.infos(unlisted) if info is not None}
            alone += [job for job, home in zip(jobs, homes, strict=True) if home is not None and home not in infos]
            rows, next_cursor = merged(alone, infos.values(), limit, below_us, cursor)
            if len(rows) == limit or not cursor:
                return rows, next_cursor

    async def singles(self, limit: int, below: str = "") -> tuple[list[tuple[int, str]], str]:
        """Return times of submit (us) and ids of jobs of no batch below a time, newest first, and the next cursor.

        At least `limit`, if there are so many. Jobs of batches are passed over without being read.
        """
        pairs, end = await self._ns.run("singles", [below, limit])
        jobs = [(int(float(us)), wire.job_id(id)) for id, us in zip(pairs[::2], pairs[1::2], strict=True)]
        return jobs, wire.text(end)

    async def homes(self, job_ids: Sequence[str]) -> list[str | None]:
        """Return the id of the batch that each job belongs to, or may lead.

        "" for neither, None if the job is not kept.
        """
        records = await self._ns.fields(("state", "batch", "leads"), job_ids)
        return [
            (job_id if raw[2] else wire.text(raw[1])) if raw else None
            for job_id, raw in zip(job_ids, records, strict=True)
        ]

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
        await self._ns.settle(left)
        return bool(is_kept)


def merged(
    jobs: Iterable[tuple[int, T]], batches: Iterable[BatchInfo], limit: int, below_us: int, cursor: str
) -> tuple[list[T | BatchInfo], str]:
    """Return a page of jobs (with their times of submit in us) and batches, newest first, and the next cursor.

    Args:
        jobs, batches: more than `limit` together, if there are so many.
        below_us: where the page begins; 0 for the top. cursor: where the jobs go on, "" at the end.
    """
    rows: list[tuple[int, T | BatchInfo]] = [*jobs]
    rows += [
        (info.last_us, info)
        for info in batches
        if (not below_us or info.last_us < below_us) and info.last_us >= int(cursor or 0)
    ]
    rows.sort(key=itemgetter(0), reverse=True)
    if len(rows) > limit:
        cursor = str(rows[limit - 1][0])
    return [row for _, row in rows[:limit]], cursor


def _is_asked(value: str, asked: Names) -> bool:
    return asked is None or fits((value,), (asked,) if isinstance(asked, str) else asked)


def _led_by(info: BatchInfo, raw: list[bytes] | None) -> BatchInfo:
    """Return a led batch with state and times of its leader; it has ended when its jobs and its leader have."""
    if not raw:
        return info
    state, started, finished = map(wire.text, raw)
    ended = instant(finished) if info.ended_at and JobState(state).is_terminal else None
    return replace(info, leader=JobState(state), started_at=instant(started), ended_at=ended)


def _info(batch_id: str, record: Mapping[bytes, bytes]) -> BatchInfo:
    return BatchInfo.from_wire(batch_id, wire.texts(record))
