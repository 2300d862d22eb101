"""Numbers and times as people read them: `3 m 29 s`, `12 s ago`, `about 5 min left`.

Pages, command line, messages and notebooks all write them with these functions. `common.js` has twins of `duration`,
`ago` and `time_left`, because a card ticks in the browser; `tests/test_format.py` has the table for both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from numbers import Real
from typing import Any

import msgspec

#: Longest text of one argument in `params_brief`.
_VALUE_CHARS = 32


def duration(seconds: float | None) -> str:
    """Return a length of time in two units at most: `910 ms`, `4.9 s`, `42 s`, `3 m 29 s`, `1 h 02 m`, `2 d 4 h`.

    Args:
        seconds: from 0; None and what is not finite give "", negative counts as 0.
    """
    if seconds is None or not math.isfinite(seconds):
        return ""
    seconds = max(0.0, seconds)
    if _half_up(seconds * 1000) < 1000:
        return f"{_half_up(seconds * 1000)} ms"
    if _half_up(seconds * 10) < 100:
        return f"{_half_up(seconds * 10) / 10:.1f} s"
    whole = _half_up(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    minutes = whole // 60
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} m"
    hours = minutes // 60
    return f"{hours // 24} d {hours % 24} h"


_DURATION = re.compile(r"\s*(\d{1,12}(?:\.\d{1,9})?)\s*([a-z]*)\s*", re.ASCII)
_UNIT_S = {
    "": 1,
    "ms": 0.001,
    "s": 1,
    "sec": 1,
    "m": 60,
    "min": 60,
    "h": 3600,
    "d": 86_400,
    "w": 604_800,
    "y": 31_536_000,
}

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def seconds_in(value: object) -> float | None:
    """Return the seconds in a number, a timedelta or a text like "90", "1.5h", "500 ms", "7d" or "1y" (365 days).

    None if it is not a length of time.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.lower())
        return float(match[1]) * _UNIT_S[match[2]] if match and match[2] in _UNIT_S else None
    if isinstance(value, Real) and not isinstance(value, bool) and value == value:  # not NaN
        return value if isinstance(value, (int, float)) else float(value)  # NumPy's
    return None


def bytes_in(value: object) -> float | None:
    """Return the bytes in a whole number, or in a text like "512MB", "2GB" (powers of 1000) or "2GiB" (of 1024).

    None if it is not a size.
    """
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        amount, unit, binary = match.groups()
        return float(amount) * float((1024 if binary else 1000) ** _POWER[unit.lower()])
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def ago(at: datetime | None, now: datetime) -> str:
    """Return a time relative to `now`: `just now`, `12 s ago`, `3 min ago`, `5 d ago`, `in 40 s`; "" for None."""
    if at is None:
        return ""
    delta = (now - at).total_seconds()
    size = abs(delta)
    if size < 1.5:
        return "just now" if delta >= 0 else "now"
    if size < 60:
        text = f"{int(size)} s"
    elif size < 3600:
        text = f"{int(size // 60)} min"
    elif size < 48 * 3600:
        text = f"{int(size // 3600)} h"
    else:
        text = f"{int(size // 86400)} d"
    return f"{text} ago" if delta > 0 else f"in {text}"


def local_time(at: datetime, *, seconds: bool = False) -> str:
    """Return `2026-11-24 15:00`, or with seconds, in the time zone of this process."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")


def time_left(eta_s: float | None) -> str:
    """Return the time left, as coarse as it is uncertain: `a few seconds left`, `about 35 s left`."""
    if eta_s is None or not math.isfinite(eta_s) or eta_s < 0:
        return ""
    if eta_s < 5:
        return "a few seconds left"
    if eta_s <= 55:
        return f"about {math.ceil(eta_s / 5) * 5} s left"
    minutes = max(1, _half_up(eta_s / 60))
    if minutes < 60:
        return f"about {minutes} min left"
    minutes = _half_up(minutes / 5) * 5
    if minutes < 24 * 60:
        return (
            f"about {minutes // 60} h {minutes % 60:02d} min left" if minutes % 60 else f"about {minutes // 60} h left"
        )
    return f"about {_half_up(minutes / 1440)} d left"


def number(value: float | None) -> str:
    """Return a count or an amount: `1,234,567`, `0.125`, `12.5`; at most 4 significant digits after a decimal point."""
    if value is None:
        return ""
    if isinstance(value, int) or (math.isfinite(value) and value == int(value) and abs(value) < 1e15):
        return f"{int(value):,}"
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def percent(fraction: float | None) -> str:
    """`37 %`; rounds down, so that 100 % means done."""
    return "" if fraction is None else f"{math.floor(fraction * 100 + 1e-9)} %"


def size(count: float | None) -> str:
    """Return bytes in decimal units: `910 B`, `4.9 kB`, `12 MB`, `3.2 GB`."""
    if count is None:
        return ""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if _half_up(amount) < 1000:
            return f"{_half_up(amount)} {unit}" if unit == "B" or amount >= 9.95 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{_half_up(amount)} TB" if amount >= 9.95 else f"{amount:.1f} TB"


def shortened(text: str, limit: int) -> str:
    """Return a text of at most `limit` characters (> 0); a longer one ends in "…"."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def cut_inside(text: str, limit: int) -> str:
    """Return a text of at most `limit` characters (> 0); a longer one has "…" for its middle, and more of its end.

    Paths and addresses often differ in their ends alone.
    """
    start = (limit - 1) // 3
    return text if len(text) <= limit else f"{text[:start]}…{text[len(text) - (limit - 1 - start) :]}"


def many(count: int, noun: str) -> str:
    """Return `1 job`, `2,000 jobs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def ahead_text(count: int) -> str:
    """Return `1 job ahead`, `2,000 jobs ahead`."""
    return f"{many(count, 'job')} ahead"


def binary_size(count: float) -> str:
    """Return bytes in binary units, as memory is measured: `191 MiB`, `1.5 GiB`."""
    amount = count / 2**20
    return f"{_half_up(amount)} MiB" if amount < 1000 else f"{amount / 1024:.1f} GiB"


def limit_text(count: float) -> str:
    """Return a limit of memory in both units, unless it is a whole number of MiB: `191 MiB (200 MB)`."""
    return binary_size(count) + ("" if count % 2**20 == 0 else f" ({size(count)})")


def value_brief(value: Any, limit: int = _VALUE_CHARS) -> str:
    """Return one argument on one line, at most `limit` characters: text without quotes if it is a plain word."""
    if isinstance(value, str):
        if value and not any(c.isspace() or c in ",='\"" for c in value):
            return value if len(value) <= limit else cut_inside(value, limit * 3 // 4)  # narrow tables cut ends
        text = repr(value)
    elif isinstance(value, float):
        text = f"{value:.6g}"
    elif isinstance(value, Mapping):
        text = "{" + ", ".join(f"{k}: {value_brief(v, limit)}" for k, v in value.items()) + "}"
    elif isinstance(value, (list, tuple)):
        text = "[" + ", ".join(value_brief(v, limit) for v in value) + "]"
    else:
        text = str(value)
    return shortened(" ".join(text.split()), limit)


def params_brief(params: Mapping[str, Any], defaults: Mapping[str, Any] | None = None, limit: int = 160) -> str:
    """Return arguments in brief: `n=1000, method=rk4`.

    Args:
        params: as in `JobSpec.params`.
        defaults: where known, arguments that equal their default are left out.
        limit: most characters; the rest becomes "…".
    """
    parts = [
        f"{name}={value_brief(value)}"
        for name, value in params.items()
        if defaults is None or name not in defaults or defaults[name] != value
    ]
    return shortened(", ".join(parts), limit)


#: Word for each face of a job; see `JobSnapshot.face`.
FACES: Mapping[str, str] = {
    "queued": "Queued",
    "scheduled": "Scheduled",
    "running": "Running",
    "retrying": "Retrying",
    "succeeded": "Succeeded",
    "failed": "Failed",
    "cancelled": "Cancelled",
    "pruned": "Pruned",
}

#: Sign for each face on saved cards, in terminals and in tables, which have no icons.
GLYPHS: Mapping[str, str] = {
    "queued": "○", "scheduled": "◷", "running": "◔", "retrying": "↻",
    "succeeded": "✓", "failed": "✗", "cancelled": "⊘", "pruned": "▽",
}  # fmt: skip

#: What a sentence says of a job that has ended; its subject precedes.
END_WORDS: Mapping[str, str] = {"succeeded": "has succeeded", "failed": "has failed", "cancelled": "was cancelled"}


def progress_line(
    completed: float | None, total: float | None, elapsed_s: float | None = None, passed: float | None = None
) -> str:
    """`148 / 400 · 1.3 s each`, or the known part of it; `passed` of those were completed before the elapsed time."""
    if completed is None or not (completed or total):
        return ""
    text = f"{number(completed)} / {number(total)}" if total else number(completed)
    own = completed - (passed or 0)
    if elapsed_s and own >= 1 and elapsed_s / own >= 0.1:
        text += f" · {duration(elapsed_s / own)} each"
    return text


def _half_up(value: float) -> int:
    """Return the nearest whole number, halves up, as JavaScript's `Math.round`: Python rounds halves to even."""
    return math.floor(value + 0.5)


class Eta(msgspec.Struct):
    """Time left, from the recent rate, smoothed so that one update moves it by a fifth at most.

    Nothing is said before the third update or the fifth second: an early guess is worse than none.
    """

    left_s: float | None = None
    _completed: float = 0.0
    _at_s: float = 0.0
    _units: float = 0.0
    _seconds: float = 0.0
    _updates: int = 0

    @property
    def is_begun(self) -> bool:
        """True after the first update."""
        return self._updates > 0

    def update(self, completed: float | None, total: float | None, elapsed_s: float) -> None:
        """Take the job's numbers at `elapsed_s` seconds after the start of its attempt."""
        if completed is None or not total or elapsed_s < self._at_s:
            self.left_s = None
            return
        if completed < self._completed:  # it counts from the start again: a second loop
            self.left_s, self._completed, self._units, self._seconds, self._updates = None, 0.0, 0.0, 0.0, 0
        passed = elapsed_s - self._at_s
        fade = 0.5 ** (passed / max(5.0, 0.2 * elapsed_s)) if passed else 1.0
        self._units = self._units * fade + completed - self._completed
        self._seconds = self._seconds * fade + passed
        self._completed, self._at_s = completed, elapsed_s
        self._updates += 1
        if not self._units or not self._seconds or (self._updates < 3 and elapsed_s < 5):
            return
        fresh = max(0.0, total - self._completed) * self._seconds / self._units
        if self.left_s is None:
            self.left_s = fresh
        else:
            expected = max(0.0, self.left_s - passed)
            self.left_s = min(max(fresh, 0.8 * expected), max(1.2 * expected, 1.0))
