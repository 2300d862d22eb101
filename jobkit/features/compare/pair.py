"""`PairView`: two jobs side by side, live; `PairFeed` reads them, `pair_model` compares."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from jobkit.client.checks import unknown_job
from jobkit.client.kit import Kit
from jobkit.codec import MSGPACK, Subject
from jobkit.features.batches.batch_curves import BatchCurves, charts_data
from jobkit.features.compare.pair_model import Side, pair
from jobkit.model import JobSnapshot, SignatureError
from jobkit.tasks.call import read_head
from jobkit.tasks.masking import masked
from jobkit.tasks.sources import Source
from jobkit.ui.live.component import FeedPage
from jobkit.ui.live.shared_feed import TextFeed


class PairFeed(TextFeed):
    """The comparison of two jobs, read again when one of them has changed."""

    LOOK_S = 3.0
    WINDOW_S = 1.0

    def __init__(self, kit: Kit, one: str, other: str) -> None:
        super().__init__(kit)
        self._ids = one, other
        self.CHANNELS = (one, other)  # type: ignore[misc]
        self._curves = BatchCurves()
        self._seen: list[tuple[int, int]] = []
        self._data: dict[str, Any] = {}

    async def data(self) -> dict[str, Any]:
        found = await self.kit.verbs.store.snapshots(self._ids)
        jobs = [job for job in found if job is not None]
        if len(jobs) < 2:
            gone = next(job_id for job_id, job in zip(self._ids, found, strict=True) if job is None)
            return {"problem": str(unknown_job(gone))}
        seen = [(job.seq, job.rev) for job in jobs]
        if seen != self._seen or not all(job.is_terminal for job in jobs):
            jobs.sort(key=lambda job: (job.submitted_at is None, job.submitted_at))
            self._data, self._seen = await self._compare(jobs), seen
        return dict(self._data)

    async def _compare(self, jobs: Sequence[JobSnapshot]) -> dict[str, Any]:
        verbs = self.kit.verbs
        wanted = self._curves.wanting(jobs)
        made, previews, sources, lines = await asyncio.gather(
            verbs.made_all(jobs),
            asyncio.gather(*(self.kit.aio.preview(job.id) for job in jobs)),
            self._sources(jobs),
            self.kit.aio.metric_lines(list(wanted)),
        )
        facts = zip(jobs, made, previews, sources, strict=True)
        one, other = (Side(job, by, preview or {}, code) for job, by, preview, code in facts)
        self._curves.learn(wanted, lines)
        charts = self._curves.charts(jobs, lambda i: jobs[i].id[:8])
        compared = await asyncio.to_thread(pair, one, other, datetime.now(UTC))
        return {**compared, "charts": charts_data(charts)}

    async def _sources(self, jobs: Sequence[JobSnapshot]) -> list[list[Source]]:
        """Return the lines of functions that were sent by value, secrets masked; none is run or unpickled."""
        verbs = self.kit.verbs
        if verbs.settings.made_by in ("off", "no-diff"):
            return [[] for _ in jobs]
        found: list[list[Source]] = []
        for job, payload in zip(jobs, await verbs.store.payloads([job.id for job in jobs]), strict=True):
            sources: list[Source] = []
            try:
                form, body = verbs.codec.verify(payload or b"", Subject("args", job.id, job.spec.task))
                sources = list(read_head(body).sources.values()) if form == MSGPACK else []
            except (SignatureError, msgspec.MsgspecError):  # of another key, or damaged
                pass
            found.append([Source(each.label, each.first, masked(each.text)) for each in sources])
        return found


class PairView(FeedPage):
    """Two jobs side by side. The caller checks that the person of `access` may see both."""

    MODULE = "pair"

    def __init__(self, kit: Kit, job_ids: Sequence[str], **options: Any) -> None:
        self._job_ids = job_ids
        super().__init__(kit, **options)

    def _feeds(self) -> list[tuple[Any, ...]]:
        return [(PairFeed, *self._job_ids)]
