"""Questions that were answered, or not in time, as the history of a job tells of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from jobkit.model import EventType, JobEvent, JobSnapshot
from jobkit.model.format import duration

NOUN = "question"


class ClosedQuestion(msgspec.Struct, frozen=True):
    """A question that was answered, or not in time.

    Attributes:
        text: at most 200 characters of it.
        said: the answer in brief; "" if there is none. by: who gave it, "" without a login.
        at: answered or late. waited_s: seconds since it was asked.
        is_late: it was not answered in time.
    """

    text: str
    said: str
    by: str
    at: datetime
    waited_s: float
    is_late: bool

    @property
    def sentence(self) -> str:
        """One line: "Which one is noise? noise=3, answered by ada after 3 min"."""
        after = f"after {duration(self.waited_s)}"
        if self.is_late:
            return f"{self.text} not answered {after}"
        return f"{self.text} {self.said}, answered{f' by {self.by}' if self.by else ''} {after}"


def closed_questions(history: Iterable[JobEvent]) -> list[ClosedQuestion]:
    """Return the closed questions of a job, computed from its events, oldest first."""
    return [
        ClosedQuestion(
            text=str(event.data.get("text", "")),
            said=str(event.data.get("said", "")),
            by=str(event.data.get("by", "")),
            at=event.at,
            waited_s=max(0.0, (event.at_ms - int(event.data.get("asked_at") or event.at_ms)) / 1000),
            is_late=event.type is EventType.UNANSWERED,
        )
        for event in history
        if event.type in (EventType.ANSWERED, EventType.UNANSWERED)
    ]


def lines(snapshot: JobSnapshot) -> list[str]:
    """Return a sentence for each of them, oldest first."""
    return [one.sentence for one in closed_questions(snapshot.history)]
