"""The request to stop a job, from its events: by which user, when and why."""

from __future__ import annotations

from datetime import datetime

from jobkit.model.events import EventType, JobState
from jobkit.model.format import ago
from jobkit.model.plain import Record
from jobkit.model.snapshot import JobSnapshot


class Cancellation(Record, frozen=True):
    """A request to stop a job. `by` is "" if unknown (an earlier version, a rule), `reason` if none was given."""

    at: datetime
    by: str = ""
    reason: str = ""

    def sentence(self, now: datetime, word: str = "Cancelled") -> str:
        """Return `Cancelled by ada, 2 min ago: wrong data`, or what is known of it."""
        return f"{word}{f' by {self.by},' if self.by else ''} {ago(self.at, now)}" + self._because

    @property
    def brief(self) -> str:
        """`Cancelled by ada: wrong data`, or what is known of it."""
        return f"Cancelled{f' by {self.by}' if self.by else ''}{self._because}"

    @property
    def _because(self) -> str:
        return f": {self.reason}" if self.reason else ""


def cancellation_of(job: JobSnapshot) -> Cancellation | None:
    """Return the request to which a job was cancelled, or is being cancelled; None for other jobs."""
    if job.state is not JobState.CANCELLED and not job.is_cancelling:
        return None
    asked = [event for event in job.history if event.type in (EventType.CANCEL_REQUESTED, EventType.CANCELLED)]
    if not asked:
        return None
    first = asked[0]
    return Cancellation(first.at, str(first.data.get("by") or ""), str(first.data.get("reason") or ""))
