"""Lines of `jobkit doctor`, for those that find something."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `level` is "ok", "warn" or "fail"; `fix` says what to do, "" for ok."""

    level: str
    check: str
    text: str
    fix: str = ""


ok, warn, fail = (partial(Finding, level) for level in ("ok", "warn", "fail"))
