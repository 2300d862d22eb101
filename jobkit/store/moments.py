"""Points in time as a person writes them, in the person's time zone: `22:00`, `yesterday`, `2026-11-26`, `2h`. Pure.

A point is a number: seconds since the epoch, or, of a length of time like `2h`, the negative number of seconds before
now, so that a live page can move it on.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, tzinfo

from jobkit.model.format import seconds_in

#: What a point in time may look like, for the sentence that refuses another one.
ALLOWED = "22:00, today, yesterday, monday, 2026-11-26, 'yesterday 22:00' or 2h"

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_POINT = re.compile(r"(?P<day>[a-z]+?|\d{4}-\d\d-\d\d)?(?:[t ]*(?P<clock>\d?\d:\d\d|\d\d:\d\d:\d\d))?", re.ASCII)

#: The shortest length of time, so that "0s" is also a negative number.
_SHORTEST_S = 0.001


def point(text: str, now: datetime) -> float | None:
    """Return the point in time that a text names, or None. A time without a day is the last one that has passed.

    Args:
        now: in the zone of the person; without a zone, in that of this process.
    """
    text = text.strip().lower()
    if text and not text[-1].isdigit() and (length := seconds_in(text)) is not None:
        return -max(length, _SHORTEST_S)
    match = _POINT.fullmatch(text)
    if match is None or not text:
        return None
    try:
        clock = time.fromisoformat(match["clock"].rjust(5, "0")) if match["clock"] else time()
        day = _date(match["day"], now.date()) if match["day"] else now.date()
        if day is None:
            return None
        found = _seconds(day, clock, now.tzinfo)
        is_ahead = not match["day"] and found > now.timestamp()
        return _seconds(day - timedelta(days=1), clock, now.tzinfo) if is_ahead else found
    except (ValueError, OverflowError, OSError):  # 25:00, 2026-02-30, the year 1
        return None


def day(text: str, now: datetime) -> tuple[float, float] | None:
    """Return the begin and the end of a day: `today`, `monday`, `2026-11-26`; None for other texts."""
    try:
        found = _date(text.strip().lower(), now.date())
        if found is None:
            return None
        return _seconds(found, time(), now.tzinfo), _seconds(found + timedelta(days=1), time(), now.tzinfo)
    except (ValueError, OverflowError, OSError):
        return None


def _date(text: str, today: date) -> date | None:
    if text in ("today", "yesterday"):
        return today - timedelta(days=text == "yesterday")
    named = [n for n, name in enumerate(_DAYS) if text in (name, name[:3])]
    if named:
        return today - timedelta(days=(today.weekday() - named[0]) % 7)
    return date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII) else None


def _seconds(day: date, clock: time, zone: tzinfo | None) -> float:
    return datetime.combine(day, clock, zone).timestamp()
