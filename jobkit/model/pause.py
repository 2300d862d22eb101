"""Pauses of queues and tasks. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jobkit.model.limits import Rule
from jobkit.model.snapshot import iso


@dataclass(frozen=True, slots=True)
class Pause:
    """A paused queue or task: none of its jobs starts until it is resumed.

    Attributes:
        kind: "queue" or "task". name: its name.
        by: who paused it, "" if unknown. at: when (aware, UTC), or None if unknown.
    """

    kind: str
    name: str
    by: str = ""
    at: datetime | None = None

    @classmethod
    def of(cls, rule: Rule) -> Pause | None:
        """Return the pause in a rule, or None if it has none."""
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
