"""The verbs of the store in memory that find jobs."""

from __future__ import annotations

from collections.abc import Sequence

from jobkit.store.memory_part import MemoryPart
from jobkit.store.query import Brief, Page, Query, in_order, matches, sort_value, write_cursor


class MemoryList(MemoryPart):
    async def versions(self, below: str, limit: int) -> tuple[list[tuple[str, int, int]], str]:
        found, last = [], ""
        with self._moving():
            for n, (job_id, us) in enumerate(self._jobs.by_age.below(float(below or "inf"))):
                if n == limit:
                    break
                last = str(int(us))
                if record := self._jobs.find(job_id):
                    found.append((job_id, int(us), record.snapshot.seq))
        return found, last

    async def briefs(self, job_ids: Sequence[str]) -> list[Brief | None]:
        with self._moving():
            found = [self._jobs.find(job_id) for job_id in job_ids]
            return [Brief.of(record.snapshot, int(record.us)) if record else None for record in found]

    async def now_ms(self) -> int:
        with self._moving():
            return self._jobs.now

    # Last, since `list` in an annotation below it would mean this verb.
    async def list(self, query: Query) -> Page:
        query.checked()
        found: list[Brief] = []
        expired: list[str] = []
        is_newest_first = query.is_newest_first  # as `by_age` is: the rest need not be looked at
        below = float(query.cursor or "inf") if is_newest_first else float("inf")
        with self._moving():
            for job_id, us in self._jobs.by_age.below(below):
                if is_newest_first and len(found) > query.limit:
                    break
                record = self._jobs.find(job_id)
                if record is None:
                    expired.append(job_id)
                elif not query.states or record.snapshot.state in query.states:
                    brief = Brief.of(record.snapshot, int(us))
                    if matches(brief, query, self._jobs.now):
                        found.append(brief)
            for job_id in expired:
                self._jobs.forget(job_id)
            ordered = in_order(found, query)
            page = ordered[: max(0, query.limit)]
            cursor = ""
            if page and len(ordered) > len(page):
                cursor = write_cursor(query, sort_value(page[-1], query.order), page[-1].us)
            return Page(tuple(self._jobs.records[brief.id].snapshot for brief in page), cursor)
