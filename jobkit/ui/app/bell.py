"""`BellFeed`: the browser's notifications of ended jobs of the session's own person, subscribed to with a click."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobkit.model import EventType, JobEvent, JobSnapshot
from jobkit.model.format import duration
from jobkit.ui.live.shared_feed import SharedFeed, Subscriber

if TYPE_CHECKING:
    from jobkit.client import Kit

#: Jobs that get a notification each; of more, one with their number.
_MOST = 3

_ENDS = frozenset({EventType.SUCCEEDED, EventType.FAILED, EventType.CANCELLED})


def words(ended: Sequence[JobSnapshot]) -> list[dict[str, str]]:
    """Return notifications: `title`, `body` and the `id` of the job ("" for several at once)."""
    if len(ended) > _MOST:
        failed = sum(job.state == "failed" for job in ended)
        body = f"{failed} failed" if failed else "none failed"
        return [{"id": "", "title": f"{len(ended)} of your jobs have ended", "body": body}]
    return [_word(job) for job in ended]


def _word(job: JobSnapshot) -> dict[str, str]:
    how = {"succeeded": "is done", "failed": "has failed", "cancelled": "was cancelled"}[str(job.state)]
    took = job.elapsed_s(job.finished_at) if job.finished_at is not None else None
    reason = str(job.error) if job.error is not None else job.summary
    parts = [f"after {duration(took)}" if took else "", reason]
    title = f"{(job.spec.title or job.spec.task)[:150]} {how}"
    return {"id": job.id, "title": title, "body": " · ".join(filter(None, parts))[:300]}


@dataclass(eq=False, slots=True)
class BellSubscriber(Subscriber):
    """One session that wants notifications of its owner's jobs."""

    owner: str = ""


class BellFeed(SharedFeed[BellSubscriber]):
    """Delivers `ended`, a JSON text of `words`, soon after jobs have ended. Missed ones are not repeated."""

    WINDOW_S = 1.0

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._ended: dict[str, None] = {}

    def take(self, event: JobEvent) -> None:
        if event.type in _ENDS:
            self._ended[event.job_id] = None
            self.poke()

    def flush(self) -> None:
        ended, self._ended = list(self._ended), {}
        if ended:
            self.runners.run(self._notify(ended))

    async def _notify(self, ended: Sequence[str]) -> None:
        found = await self.kit.verbs.store.snapshots(ended[-500:])
        jobs = [job for job in found if job is not None and job.is_terminal]
        for subscriber in list(self.subscribers):
            if mine := [job for job in jobs if job.spec.owner == subscriber.owner]:
                told = {"ended": words(mine), "n": f"{mine[-1].id} {mine[-1].seq} {len(mine)}"}
                subscriber.deliver({"ended": json.dumps(told)}, {})
