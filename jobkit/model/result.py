"""The end of a job in one line: its result's scalars, its error, or the request that cancelled it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from jobkit.model.events import EventType, JobState
from jobkit.model.format import ago, number
from jobkit.model.plain import Record
from jobkit.model.snapshot import JobSnapshot


class Cancellation(Record, frozen=True):
    """A request to stop a job. `by` is "" if it was a rule, `reason` if none was given."""

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


def ended_text(job: JobSnapshot) -> str:
    """Return one line about the end of a job: its result, its error, or who cancelled it; "" if there is nothing."""
    if job.state is JobState.CANCELLED:
        asked = cancellation_of(job)
        return asked.brief if asked is not None else ""
    if job.state is JobState.FAILED:
        tries = f"{job.attempt} attempts · " if job.attempt > 1 else ""
        return f"{tries}{job.error}" if job.error is not None else ""
    return result_text(job.summary) if job.state is JobState.SUCCEEDED else ""


def result_text(summary: str) -> str:
    """Return the line of a result for lists of jobs: `score 0.921 · loss 0.079`; "" for None."""
    if summary == "None":
        return ""
    values = told(summary) if summary.startswith("{") else None
    if not values or values.get("value") is summary:
        return summary
    return " · ".join(f"{name} {_shown(value)}" for name, value in values.items())


def _shown(value: Any) -> str:
    return number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def told(summary: str) -> dict[str, Any] | None:
    """Return the scalars of a result's line; None if only its preview has them all."""
    text = summary.strip()
    if text.startswith("{"):
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
        return (scalars(found) or {"value": summary}) if isinstance(found, dict) else {"value": summary}
    if text.startswith("dict of"):
        return None
    if text in ("True", "False"):
        return {"value": text == "True"}
    try:
        value = float(text)
    except ValueError:
        return {"value": summary}
    return {"value": int(value) if value.is_integer() and text.lstrip("-").isdigit() else value}


def scalars(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the numbers, truths and short texts of a dict by name."""
    return {
        name: value
        for name, value in values.items()
        if isinstance(name, str)
        and (isinstance(value, (int, float, bool)) or (isinstance(value, str) and len(value) <= 100))
    }
