"""Descriptions of schedules: `Every day at 03:00 UTC`, `in 4 min · Tue 24 Nov 23:05`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from jobkit.features.schedules.model import ScheduleSnapshot
from jobkit.features.schedules.timing import Timing
from jobkit.model import JobState
from jobkit.store.values import WorkerInfo

#: Seconds from which a run counts as late.
LATE_S = 1.5

_AT = re.compile(r"At (\d\d:\d\d) (every day|on .+)")

_UNITS = ((86_400_000, "day", "days"), (3_600_000, "h", "h"), (60_000, "min", "min"), (1_000, "s", "s"))


def sentence(timing: Timing) -> str:
    """Return the timing as a sentence without a full stop; a time of day always names its time zone.

    The sentence says so if the cron line is damaged.
    """
    if timing.every_ms:
        return f"Every {interval(timing.every_ms)}"
    if timing.at_ms:
        at = datetime.fromtimestamp(timing.at_ms / 1000, timing.shown_zone)
        return f"Once, on {at:%a %d %b %Y} at {at:%H:%M:%S} {timing.tz}".replace(":00 ", " ", 1)
    try:
        text = CronSim(timing.cron, datetime(2000, 1, 1)).explain()
    except (CronSimError, ValueError, TypeError):
        return f"By a line that cannot be read here: {timing.cron[:80]}"
    if found := _AT.fullmatch(text):
        day = found[2]
        return f"{day[0].upper()}{day[1:]} at {found[1]} {timing.tz}"
    is_same_everywhere = timing.tz == "UTC" and timing.cron.split()[1:] == ["*"] * 4
    return text if is_same_everywhere else f"{text}, {timing.tz}"


def interval(ms: int) -> str:
    """Return `30 s`, `5 min`, `2 h`, `day`, `1 h 30 min` or `250 ms`, without rounding."""
    if ms < 1000:
        return f"{ms} ms"
    if ms % 1000:
        return f"{ms / 1000:g} s"
    parts = []
    for size, one, many in _UNITS:
        n, ms = divmod(ms, size)
        if n:
            parts.append(f"{n} {one if n == 1 else many}")
    if parts == ["1 day"]:
        return "day"
    return " ".join(parts)


def moments(snapshot: ScheduleSnapshot, n: int = 5) -> list[datetime]:
    """Return the next `n` slots as aware datetimes in the schedule's time zone; fewer if it ends before."""
    spec = snapshot.spec
    timing = Timing.of(spec)
    if spec.count:
        n = min(n, max(0, spec.count - snapshot.fired))
    if not snapshot.next_ms and not snapshot.is_paused:
        return []
    found = [snapshot.next_ms] if snapshot.next_ms else []
    try:
        for slot_ms in timing.slots(snapshot.next_ms or snapshot.now_ms, snapshot.anchor_ms):
            if len(found) >= n:
                break
            found.append(slot_ms)
    except Exception:  # unknown cron syntax or time zone: `sentence` reports it
        found = []
    return [datetime.fromtimestamp(ms / 1000, timing.shown_zone) for ms in found[:n]]


def lateness(snapshot: ScheduleSnapshot, workers: Sequence[WorkerInfo]) -> tuple[float, str]:
    """Return `(seconds, reason)` if the schedule is late by more than `LATE_S`, else `(0, "")`.

    It is late if a due slot has not been fired, or if the last run waits for a worker.
    """
    alive = [worker for worker in workers if worker.takes_jobs]
    if snapshot.overdue_s > LATE_S:
        return snapshot.overdue_s, "" if alive else "no worker"
    last = next((run for run in snapshot.runs if run.job_id), None)
    if last is None or last.state != JobState.QUEUED:
        return 0.0, ""
    late_s = (snapshot.now_ms - (last.slot_ms or last.at_ms)) / 1000
    if late_s <= LATE_S:
        return 0.0, ""
    queue = snapshot.spec.job.queue
    serves = any(queue in worker.queues for worker in alive)
    return late_s, "no worker free" if serves else f"no worker serves queue {queue}"


def moment_text(at: datetime, now: datetime) -> str:
    """Return `Tue 24 Nov 23:05`, with seconds unless they are 0, and with the year unless it is the current one."""
    year = f" {at.year}" if at.year != now.astimezone(at.tzinfo).year else ""
    seconds = "" if at.second == 0 and at.microsecond == 0 else f":{at:%S}"
    return f"{at:%a} {at.day} {at:%b}{year} {at:%H:%M}{seconds}"


def utc(ms: int) -> datetime:
    """Return a time of the store as an aware datetime."""
    return datetime.fromtimestamp(ms / 1000, UTC)
