"""Who looks and acts: a person, and the role that says what they may. Pure.

Dashboard and HTTP decide by these alone, at the server; what a page shows or hides is a courtesy.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What somebody may do."""

    NONE = "none"
    """Nothing: logged in, but no role names them. They see one sentence, and no job."""
    OWN = "own"
    """Sees their own jobs alone, submits, and acts on their own: the others do not exist for them."""
    VIEW = "view"
    """Sees everything, does nothing."""
    OPERATE = "operate"
    """Sees everything; submits, cancels, retries, deletes any job; queues, groups and schedules too."""
    ADMIN = "admin"
    """All of that; also what concerns the machines (workers), and sees the audit trail."""


#: Each of these roles may what those before it may. `own` stands beside them: more in its own garden, nothing outside.
_LADDER = (Role.NONE, Role.VIEW, Role.OPERATE, Role.ADMIN)


@dataclass(frozen=True, slots=True)
class Person:
    """Who looks.

    Attributes:
        name: as the login knows them; owner of the jobs that they submit. "" where nobody was asked.
        role: what they may.
        only_looks: on a page where nothing can be done, whatever the role.
    """

    name: str = ""
    role: Role = Role.ADMIN
    only_looks: bool = False

    def may(self, least: Role) -> bool:
        """Whether the role reaches `least`, on everything there is."""
        if self.only_looks and least is not Role.VIEW:
            return False
        return self.role is not Role.OWN and _LADDER.index(self.role) >= _LADDER.index(least)

    @property
    def may_with_own(self) -> bool:
        """Whether they may do things with their own jobs, and with no others. Without a name no job is theirs."""
        return self.role is Role.OWN and bool(self.name) and not self.only_looks

    @property
    def only_owner(self) -> str | None:
        """The owner whose jobs are all that they see; None for those who see everybody's.

        Somebody who sees nothing gets a name that no job can have, so that a filter made of it finds nothing.
        """
        if self.role is Role.OWN and self.name:
            return self.name
        return None if self.role in (Role.VIEW, Role.OPERATE, Role.ADMIN) else "\x00nobody"

    def sees(self, owner: str) -> bool:
        """Whether they see the jobs of `owner`, and what comes of them."""
        return self.only_owner in (None, owner)

    @property
    def sees_all(self) -> bool:
        return self.only_owner is None

    def looking(self) -> Person:
        """The same person on a page where nothing can be done."""
        return Person(self.name, self.role, only_looks=True)
