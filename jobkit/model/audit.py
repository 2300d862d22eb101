"""Entries of the audit log: who did what to which targets, when, through which interface, with which outcome. Pure.

The log is bounded, so its bounds decide what an attacker can push out of it: see `AuditBounds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jobkit.model.snapshot import iso

#: Maximum number of targets that an entry names. `count` has the number of all.
NAMED = 20

OUTCOMES = ("done", "partly", "failed", "refused")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditBounds:
    """Bounds of the audit log: how many entries the store keeps, and when it folds several into one.

    Entries of one kind (same person, role, interface, action and outcome) within `fold_s` are folded if there are more
    than `alone` of them: a loop that fails 10,000 times costs one entry with its count. The rest is bounded per person
    and role, so no user can push out the entries of another.

    Attributes:
        kept: maximum number of entries. Above it, the oldest entry of the person with the most entries is deleted.
        per_person: maximum number of entries of one person. Above it, their own oldest entry is deleted.
        alone_done: maximum number of unfolded entries of one kind if the action succeeded, at least in part.
        alone_failed: the same for actions that failed or were refused.
        fold_s: seconds from the first entry of a kind until counting restarts.
    """

    kept: int = 10_000
    per_person: int = 2_000
    alone_done: int = 100
    alone_failed: int = 1
    fold_s: float = 3_600.0

    def alone(self, entry: AuditEntry) -> int:
        """Return the number of entries of this kind that are not folded."""
        return self.alone_done if entry.outcome in ("done", "partly") else self.alone_failed


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One audited action.

    Attributes:
        who: name of the user, "" without a login.
        role: their role at that time.
        via: "page", "http" or "cli".
        action: "cancel", "retry", "submit", "drain_worker", ...
        on: type of the targets: "job", "queue", "worker", ...
        targets: ids or names, at most `NAMED`. count: number of all; unnamed ones may be counted twice.
        outcome: "done", "partly", "failed" (an error) or "refused" (no permission).
        note: one sentence about the newest action: what was done, or why not.
        times: number of actions in this entry, see `AuditBounds`. since: time of the first one.
        id, at: of the newest action, by the store's clock.
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
    times: int = 1
    since: datetime | None = None
    id: str = ""
    at: datetime | None = None

    @classmethod
    def of(
        cls, who: str, role: str, via: str, action: str, on: str, targets: Sequence[str], outcome: str, note: str
    ) -> AuditEntry:
        """Return an entry that may be stored: at most `NAMED` targets, long texts cut."""
        named = tuple(_cut(target, 200) for target in targets[:NAMED])
        return cls(_cut(who, 200), role, via, _cut(action, 60), on, named, len(targets), outcome, _cut(note, 500))

    @property
    def person(self) -> str:
        """Key of the per-person bound: name and role."""
        return f"{self.who}\x1f{self.role}"

    @property
    def kind(self) -> str:
        """Key of entries that may be folded into one."""
        return "\x1f".join((self.who, self.role, self.via, self.action, self.on, self.outcome))

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
        kept = {name: value for name, value in wire.items() if value not in ("", [], 0)}
        if self.since is not None:
            kept |= {"times": self.times, "since": int(self.since.timestamp() * 1000)}
        return kept

    @classmethod
    def from_wire(cls, id: str, wire: Mapping[str, Any]) -> AuditEntry:
        """Return the entry in a record. Raises TypeError, ValueError or KeyError if it is not valid."""
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
            times=int(wire.get("times", 1)),
            since=_at(wire["since"]) if "since" in wire else None,
            id=id,
            at=_at(id.partition("-")[0]),
        )

    def to_json(self) -> dict[str, Any]:
        """Return JSON-compatible data for the CLI and HTTP."""
        whole: dict[str, Any] = {
            "id": self.id,
            "at": iso(self.at),
            "who": "",
            "role": "",
            "on": "job",
            "targets": [],
            "count": 0,
            "note": "",
        }
        return {**whole, **self.to_wire(), "times": self.times, "since": iso(self.since or self.at)}


def _at(ms: Any) -> datetime:
    return datetime.fromtimestamp(int(ms) / 1000, UTC)


def _cut(text: str, most: int) -> str:
    """Return at most `most` characters, without surrogates, which the store cannot encode."""
    return text[:most].encode("utf-8", "replace").decode()
