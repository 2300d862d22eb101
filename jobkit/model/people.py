"""Users and their roles. Pure.

The dashboard and HTTP check permissions with these types on the server. Hiding a button in a page is not a check.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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


@dataclass(frozen=True, slots=True)
class Person:
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
