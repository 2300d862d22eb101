"""What is paused: a queue that hands out nothing, a task of which nothing starts. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jobkit.model.limits import Rule
from jobkit.model.snapshot import iso


@dataclass(frozen=True, slots=True)
class Pause:
    """A queue that hands out nothing, or a task of which nothing starts, until somebody resumes it.

    Attributes:
        kind: "queue" or "task". name: which.
        by: who paused it, "" where nobody said. at: when (aware, UTC).
    """

    kind: str
    name: str
    by: str = ""
    at: datetime | None = None

    @classmethod
    def of(cls, rule: Rule) -> Pause | None:
        """The pause in a rule, or None."""
        if not rule.paused:
            return None
        kind, _, name = rule.gate.partition(":")
        at_ms = rule.paused.get("at")
        at = None
        if isinstance(at_ms, (int, float)) and 0 < at_ms < 10**14:
            at = datetime.fromtimestamp(at_ms / 1000, UTC)
        return cls(kind, name, str(rule.paused.get("by", "")), at)

    def to_json(self) -> dict[str, Any]:
        return {self.kind: self.name, "by": self.by, "at": iso(self.at)}
