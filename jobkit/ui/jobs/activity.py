"""`ActivityFeed`: when the jobs that a search finds changed last, for the strip above the table (`strip.js`)."""

from __future__ import annotations

import time
from typing import Any

from msgspec.structs import replace

from jobkit.client.kit import Kit
from jobkit.model import TERMINAL, JobState
from jobkit.store.query import STATES, Query, is_pattern, narrowed
from jobkit.ui.live.shared_feed import TextFeed

#: The count takes at most one in so many seconds of the index's thread.
_SHARE = 20

#: Jobs of which an index is filled for the strip alone, at most; a search fills one of any size.
_FILL_MOST = 200_000

#: States that one colour shows, from the bottom of a bar to its top.
_PARTS = (("failed",), ("running",), ("scheduled", "queued"), tuple(TERMINAL - {JobState.FAILED}))


class ActivityFeed(TextFeed):
    """Delivers `store.activity.Activity` with the parts of each column: `[start_ms, end_ms, failed, running, waiting,
    other]`, `[start_ms, end_ms]` for a folded one.

    Args:
        only: the owner whose jobs alone are counted; None for everybody's.
    """

    NAME = "activity"
    LOOK_S = 15.0
    WINDOW_S = 2.0

    def __init__(self, kit: Kit, query: Query, only: str | None = None) -> None:
        super().__init__(kit)
        self._query = narrowed(query, only)
        # The archive is not counted by time; an owner is a name, and no pattern: others' jobs are not to be counted.
        self._is_counted = not query.archived and not is_pattern(only or "")
        self._last: dict[str, Any] = {}
        self._is_part = False

    async def data(self) -> dict[str, Any]:
        if not self._is_counted:
            return {"columns": [], "total": 0}
        self.kit.verbs.use_index()
        began = time.monotonic()
        is_alone = self._query.is_plain and not self._query.is_aging  # the page itself needs no index
        found = await self.kit.verbs.activity(self._query, fill_most=_FILL_MOST if is_alone else None)
        self.pacer.window_s = max(self.WINDOW_S, _SHARE * (time.monotonic() - began))
        if found is not None:
            self._is_part = found.searched is not None
            columns = [[start, end, *_parts(counts)] for start, end, counts in found.columns]
            facts = {"first": found.first_ms, "last": found.last_ms, "total": found.total, "searched": found.searched}
            self._last = {"columns": columns, **facts}
        return dict(self._last or {"columns": [], "total": 0})

    def loaded(self) -> None:
        super().loaded()
        if self._is_part:
            self.poke()


def activity_feed(query: Query, only: str | None) -> tuple[Any, ...]:
    """Return the feed of a query and its key: pages and orders of a search share one."""
    return ActivityFeed, replace(query, limit=0, cursor="", order=""), only


def _parts(counts: tuple[int, ...]) -> list[int]:
    return [sum(counts[STATES.index(state)] for state in states) for states in _PARTS] if counts else []
