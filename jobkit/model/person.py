"""Users: their roles, and the audit log of their actions.

The dashboard and HTTP check permissions with these types on the server. Hiding a button in a page is not a check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from jobkit.model.plain import Record, instant, to_json


class Role(StrEnum):
    """Permissions of a user."""

    NONE = "none"
    """No access: logged in, but without a role. Sees an error page and no job."""
    OWN = "own"
    """Sees only own jobs; submits, and acts on own jobs."""
    VIEW = "view"
    """Sees everything, changes nothing."""
    OPERATE = "operate"
    """Sees everything; submits; cancels, retries and deletes any job; manages queues, failure groups and schedules."""
    ADMIN = "admin"
    """`operate`, plus workers and the audit log."""


#: Each role includes the ones before it. `own` is not on this ladder.
_LADDER = (Role.NONE, Role.VIEW, Role.OPERATE, Role.ADMIN)


class Person(msgspec.Struct, frozen=True):
    """A user of a page or of the API.

    Attributes:
        name: login name; owner of the jobs that they submit. "" if there is no login.
        role: their permissions.
        only_looks: the page is read-only, whatever the role.
    """

    name: str = ""
    role: Role = Role.ADMIN
    only_looks: bool = False

    def may(self, least: Role) -> bool:
        """Return True if the role includes `least`, for all jobs."""
        if self.only_looks and least is not Role.VIEW:
            return False
        return self.role is not Role.OWN and _LADDER.index(self.role) >= _LADDER.index(least)

    @property
    def may_with_own(self) -> bool:
        """True if the user may act on own jobs only. Without a name no job is theirs."""
        return self.role is Role.OWN and bool(self.name) and not self.only_looks

    @property
    def only_owner(self) -> str | None:
        """The owner whose jobs the user may see; None for all owners.

        For a user who may see nothing it is a name that no job can have, so a filter made of it matches nothing.
        """
        if self.role is Role.OWN and self.name:
            return self.name
        return None if self.role in (Role.VIEW, Role.OPERATE, Role.ADMIN) else "\x00none"

    def sees(self, owner: str) -> bool:
        """Return True if the user may see the jobs of `owner`."""
        return self.only_owner in (None, owner)

    @property
    def sees_all(self) -> bool:
        return self.only_owner is None

    def looking(self) -> Person:
        """Return the same user for a read-only page."""
        return Person(self.name, self.role, only_looks=True)


# -- audit log -------------------------------------------------------------------------------------------------------

#: Maximum number of targets that an entry names. `count` has the number of all.
NAMED = 20


class AuditBounds(msgspec.Struct, frozen=True, kw_only=True):
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


class AuditEntry(Record, frozen=True):
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
        """Return the JSON for the store, without the fields that the store sets."""
        wire = Record.to_wire(self)
        for name in ("id", "at", "times", "since"):
            wire.pop(name, None)
        return wire

    @classmethod
    def read(cls, id: str, wire: Mapping[str, Any]) -> AuditEntry:
        """Return the entry with this id in the store. Raises ValueError if it is not valid."""
        defaults = {"who": "", "role": "", "via": "", "count": len(wire.get("targets", ()))}
        since, at = instant(wire.get("since")), instant(id.partition("-")[0])
        return cls.from_wire({**defaults, **wire, "since": since, "id": id, "at": at})

    def to_json(self) -> dict[str, Any]:
        """Return JSON-compatible data for the CLI and HTTP."""
        return {**to_json(self), "since": to_json(self.since or self.at)}


def _cut(text: str, most: int) -> str:
    """Return at most `most` characters, without surrogates, which the store cannot encode."""
    return text[:most].encode("utf-8", "replace").decode()
