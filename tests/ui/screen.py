"""A page of jobs as a browser keeps it: what `table.js` makes of pages and deltas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jobkit.store.query import Query
from jobkit.ui.jobs.board import BoardFeed
from jobkit.ui.live.shared_feed import Subscriber
from tests.ui.stage import Stage


class Screen:
    """A page of jobs that is fed until `close`.

    Attributes:
        rows: the newest row of each job by id. order: ids from top to bottom.
        changed: rows of deltas as they came. left: ids of jobs that do not match any more.
        told: the newest of all else: "counts", "total", "more", "fresh", "away", ...; {} until the page has been read.
    """

    def __init__(self, stage: Stage, query: Query, own: str | None = None, feed: type[BoardFeed] = BoardFeed) -> None:
        self.rows: dict[str, Any] = {}
        self.order: list[str] = []
        self.changed: list[dict[str, Any]] = []
        self.left: list[str] = []
        self.told: dict[str, Any] = {}
        self._subscriber = Subscriber(self._take).start(stage.kit, feed, query, own)

    def _take(self, whole: Mapping[str, str], parts: Mapping[str, str]) -> None:
        told = json.loads(whole.get("page") or parts["delta"])
        rows, new = told.pop("rows", []), told.pop("new", [])
        if whole:
            self.rows, self.order = {}, [row["id"] for row in rows]
        else:
            self.changed += rows
            for row in reversed(new):
                below = row.get("below")
                self.order.insert(self.order.index(below) + 1 if below in self.order else 0, row["id"])
            self.order = told.get("order") or self.order
        self.rows |= {row["id"]: row for row in (*rows, *new)}
        self.left += told.get("left", [])
        for job_id in told.get("gone", ()):
            self.rows.pop(job_id, None)
        self.told |= told

    def faces(self) -> dict[str, str]:
        return {job_id: row["face"] for job_id, row in self.rows.items()}

    def close(self) -> None:
        self._subscriber.stop()
