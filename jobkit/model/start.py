"""`Start`: what is known of the start of a waiting job, and its words; features find it out."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from jobkit.model.format import ahead_text
from jobkit.model.plain import Record, iso, to_json
from jobkit.model.result import cancellation_of
from jobkit.model.snapshot import JobSnapshot


class Start(Record, frozen=True):
    """The expected start of a waiting job, as far as it is known.

    Attributes:
        at: when it will start; None if unknown. is_exact: the time is fixed (a delay, a retry), no estimate.
        ahead: jobs before it in its line; None if it stands in none.
        why: what holds it back, apart from slots; "" if nothing does.
        usual_s: usual run time of its task, None if unknown.
    """

    at: datetime | None = None
    is_exact: bool = False
    ahead: int | None = None
    why: str = ""
    usual_s: float | None = None

    def sentence(self, now: datetime) -> str:
        """Return `about 14:20, 3 ahead` in local time, or what is known of it; "" for nothing."""
        parts = [clock_text(self.at, now, is_exact=self.is_exact)] if self.at is not None else []
        if self.ahead:
            parts.append(f"{self.ahead:,} ahead" if parts else ahead_text(self.ahead))
        return ", ".join(parts)


def clock_text(at: datetime, now: datetime, *, is_exact: bool = False) -> str:
    """Return `about 14:20` in local time, with the day if that is another one, or `in about 40 s`."""
    about = "" if is_exact else "about "
    left_s = (at - now).total_seconds()
    if left_s < 5:
        return "now" if is_exact else "soon"
    if left_s <= 90:
        return f"in {about}{round(left_s) if is_exact else 5 * max(1, round(left_s / 5))} s"
    local, today = at.astimezone(), now.astimezone().date()
    day = "" if local.date() == today else f"{local:%b} {local.day}, "
    return f"{about}{day}{local:%H:%M}"


def outlook(job: JobSnapshot, start: Start | None) -> dict[str, Any]:
    """Return what a reader of a job asks first, beside its snapshot, as JSON: when it starts, and who cancelled it."""
    at, ahead = (start.at, start.ahead) if start is not None else (None, None)
    return {"starts_at": iso(at), "ahead": ahead, "cancelled": to_json(cancellation_of(job))}
