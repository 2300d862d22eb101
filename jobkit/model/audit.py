"""The audit trail: who did what to what, when, by which way, and what came of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jobkit.model.snapshot import iso

#: Targets that an entry names; of more it has the number.
NAMED = 20

OUTCOMES = ("done", "partly", "failed", "refused")


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act.

    Attributes:
        who: name of the person, "" for somebody who was not asked.
        role: what they might do then.
        via: "page", "http" or "cli".
        action: "cancel", "retry", "submit", "drain_worker", ...
        on: what was acted on: "job", "queue", "worker", ...
        targets: ids or names, at most `NAMED`. count: of all.
        outcome: "done", "partly", "failed" (it could not be done) or "refused" (they might not do it).
        note: one sentence: what was done, or why not.
        id, at: given by the store, whose clock it is.
    """

    who: str
    role: str
    via: str
    action: str
    on: str = "job"
    targets: tuple[str, ...] = ()
    count: int = 0
    outcome: str = "done"
    note: str = ""
    id: str = ""
    at: datetime | None = None

    @classmethod
    def of(
        cls, who: str, role: str, via: str, action: str, on: str, targets: Sequence[str], outcome: str, note: str
    ) -> AuditEntry:
        """An entry that may be stored: of many targets the first, of long texts the beginning."""
        named = tuple(_cut(target, 200) for target in targets[:NAMED])
        return cls(_cut(who, 200), role, via, _cut(action, 60), on, named, len(targets), outcome, _cut(note, 500))

    def to_wire(self) -> dict[str, Any]:
        wire = {
            "who": self.who,
            "role": self.role,
            "via": self.via,
            "action": self.action,
            "on": self.on,
            "targets": list(self.targets),
            "count": self.count,
            "outcome": self.outcome,
            "note": self.note,
        }
        return {name: value for name, value in wire.items() if value not in ("", [], 0)}

    @classmethod
    def from_wire(cls, id: str, wire: Mapping[str, Any]) -> AuditEntry:
        """Raises TypeError, ValueError or KeyError where it is none."""
        targets = wire.get("targets", ())
        if not isinstance(targets, (list, tuple)):
            raise TypeError(f"targets must be a list, not {targets!r:.80}")
        return cls(
            who=str(wire.get("who", "")),
            role=str(wire.get("role", "")),
            via=str(wire.get("via", "")),
            action=str(wire["action"]),
            on=str(wire.get("on", "job")),
            targets=tuple(str(target) for target in targets),
            count=int(wire.get("count", len(targets))),
            outcome=str(wire.get("outcome", "done")),
            note=str(wire.get("note", "")),
            id=id,
            at=datetime.fromtimestamp(int(id.partition("-")[0]) / 1000, UTC),
        )

    def to_json(self) -> dict[str, Any]:
        """As the command line and HTTP show it."""
        whole: dict[str, Any] = {
            "id": self.id,
            "at": iso(self.at),
            "who": "",
            "role": "",
            "on": "job",
            "targets": [],
            "count": 0,
        }
        return {**whole, "note": "", **self.to_wire()}


def _cut(text: str, most: int) -> str:
    """Of a text the beginning, without halves of characters that no store would take."""
    return text[:most].encode("utf-8", "replace").decode()
