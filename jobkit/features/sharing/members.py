"""Members and words of a shared home: one private file, changed under a lock by the command line and the gateway.

And the messages with which a machine becomes a member.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from jobkit.access.own_machine import write_private
from jobkit.embedded.home import Home, holding, make_private
from jobkit.embedded.server import ServerReply, ask
from jobkit.features.sharing.rights import MemberRole
from jobkit.model import JobkitError

T = TypeVar("T")

#: Used and expired words are remembered for a week, for messages.
_REMEMBERED_S = 7 * 86_400


#: Addresses at the gateway.
JOIN_PATH, LEAVE_PATH = "/join", "/leave"


class JoinRequest(msgspec.Struct, frozen=True):
    """Body of the request of a machine that wants to join. `ticket`: hex digits. `about`: user and versions there."""

    ticket: str
    machine: str
    about: str = ""


class JoinReply(msgspec.Struct, frozen=True):
    """Credentials of a new member; see `Membership`."""

    name: str
    machine: str
    user: str
    password: str
    role: str
    namespace: str
    secret: str
    version: str
    python: str
    results: str = ""


class JoinRefused(JobkitError):
    """The word does not let this machine join; the message says why and what to do."""


class Member(msgspec.Struct, frozen=True):
    """A machine, or the workers of a pool, that may use the home.

    Attributes:
        name: unique here; the machine's. user: for Redis and HTTP. password: SHA-256 of the password.
        joined: seconds since the epoch. about: the user and versions there, for people.
        workers_of: for workers of pools, the name with which `member_for` finds it; else "".
    """

    name: str
    user: str
    password: str
    role: MemberRole
    namespace: str
    joined: int
    about: str = ""
    workers_of: str = ""


class Ticket(msgspec.Struct, frozen=True):
    """A word that was given out.

    Attributes:
        ticket: SHA-256 of the ticket in it. uses: how many machines may join with it. used: names of those that did.
    """

    ticket: str
    role: MemberRole
    namespace: str
    expires: int
    uses: int = 1
    used: tuple[str, ...] = ()
    is_revoked: bool = False

    @property
    def name(self) -> str:
        """Name for people, with which it is revoked."""
        return f"word-{self.ticket[:6]}"

    @property
    def is_valid(self) -> bool:
        return not self.is_revoked and len(self.used) < self.uses and time.time() < self.expires


class Shared(msgspec.Struct, frozen=True):
    """All that is known of a shared home.

    Attributes:
        host, port: where the gateway listens. page: the same of the dashboard.
        results: the home's setting, "" for its own directory.
    """

    host: str = ""
    port: int = 0
    page: tuple[str, int] = ("", 0)
    results: str = ""
    members: tuple[Member, ...] = ()
    tickets: tuple[Ticket, ...] = ()

    @property
    def shared_results(self) -> str:
        """URL of files that members reach by themselves; "" for a directory, whose files pass through the gateway."""
        return self.results if "://" in self.results else ""

    def member(self, user: str, password: str) -> Member | None:
        """Return the member with these credentials."""
        found = next((member for member in self.members if member.user == user), None)
        return found if found is not None and hmac.compare_digest(found.password, _digest(password)) else None


def folder_in(home: Home) -> Path:
    """Return the directory of certificate, members, words and users of the dashboard."""
    return home.path / "sharing"


class Members:
    """The file of a home."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._path = folder_in(home) / "members.json"
        self._seen: tuple[object, Shared] = (None, Shared())

    def read(self) -> Shared:
        """Return what is known now; parsed once for each change. Raises JobkitError if it cannot be read."""
        try:
            facts = self._path.stat()
            mark = facts.st_ino, facts.st_mtime_ns, facts.st_size
            if mark != self._seen[0]:
                self._seen = mark, msgspec.json.decode(self._path.read_bytes(), type=Shared)
        except FileNotFoundError:
            return Shared()
        except (OSError, msgspec.MsgspecError) as error:
            raise JobkitError(
                f"{self._path} cannot be read ({error}): remove it, and let all machines join again"
            ) from None
        return self._seen[1]

    def change(self, change: Callable[[Shared], tuple[Shared, T]]) -> T:
        """Store what `change` returns first, return the second. No other process changes the file meanwhile."""
        with self._locked():
            known = self.read()
            changed, result = change(known)
            if changed != known:
                write_private(self._path, msgspec.json.format(msgspec.json.encode(changed)).decode())
        return result

    def replace_secrets(self, namespaces: Collection[str]) -> None:
        """Replace the keys of payloads of some namespaces: for what members knew that are none any more."""
        if namespaces:
            with self._locked():
                by_file = {self.home.secret_file(namespace): namespace for namespace in namespaces}
                for namespace in by_file.values():
                    self.home.replace_secret(namespace)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the home's members. Raises JobkitError if another process does not release it."""
        make_private(folder_in(self.home), "the jobkit home's directory")
        with holding(folder_in(self.home) / "lock", patience_s=10.0) as is_mine:
            if not is_mine:
                raise JobkitError(f"another process keeps {folder_in(self.home)} locked: try again")
            yield

    def set(self, **changes: Any) -> None:
        """Store addresses: fields of `Shared`."""
        self.change(lambda known: (replace(known, **changes), None))

    def new_ticket(self, role: MemberRole, namespace: str, valid_s: float, uses: int) -> tuple[bytes, Ticket]:
        """Store a new ticket; return its secret, too."""
        secret, now = secrets.token_bytes(16), time.time()
        ticket = Ticket(_digest(secret.hex()), role, namespace, int(now + valid_s), uses)
        self.change(
            lambda known: (
                replace(known, tickets=(*(t for t in known.tickets if t.expires > now - _REMEMBERED_S), ticket)),
                None,
            )
        )
        return secret, ticket

    def redeem(self, ticket: str, machine: str, about: str) -> tuple[Member, str]:
        """Make a machine a member if its ticket (hex digits) is valid; return the member and its password.

        Raises:
            JoinRefused: the ticket is unknown, used up, revoked or expired.
        """

        def use(known: Shared) -> tuple[Shared, tuple[Member, str]]:
            found = next((t for t in known.tickets if hmac.compare_digest(t.ticket, _digest(ticket))), None)
            why = "it is not known here, or was forgotten long ago"
            if found is not None and found.is_valid:
                member, password = _new_member(known, machine, found.role, found.namespace, about)
                tickets = tuple(replace(t, used=(*t.used, member.name)) if t is found else t for t in known.tickets)
                return replace(known, members=(*known.members, member), tickets=tickets), (member, password)
            if found is not None and found.is_revoked:
                why = "it was revoked"
            elif found is not None and len(found.used) >= found.uses:
                why = f"it was already used, by {', '.join(found.used)}"
            elif found is not None:
                why = f"it expired at {time.strftime('%H:%M on %Y-%m-%d', time.localtime(found.expires))}, by its clock"
            raise JoinRefused(
                f"the sharing machine does not accept this word: {why}; `jobkit share` there prints a new one"
            )

        return self.change(use)

    def member_for(self, name: str, namespace: str) -> tuple[Member, str]:
        """Return the worker of this name and its password, made if there is none: one for all workers of a pool.

        The password follows from the user's name and a secret of the home, so it is the same until it is revoked.
        """

        def make(known: Shared) -> tuple[Shared, tuple[Member, str]]:
            found = next((m for m in known.members if m.workers_of == name and m.namespace == namespace), None)
            if found is None:
                found, _ = _new_member(known, name, MemberRole.WORKER, namespace, "workers of a pool")
                found = replace(found, workers_of=name)
            password = hmac.new(self.home.login_command().encode(), found.user.encode(), "sha256").hexdigest()
            found = replace(found, password=_digest(password))
            others = (m for m in known.members if m.user != found.user)
            return replace(known, members=(*others, found)), (found, password)

        return self.change(make)

    def names_for(self, name: str, namespace: str) -> tuple[str, ...]:
        """Return the names of the workers that `member_for` has made."""
        members = self.read().members
        return tuple(member.name for member in members if (member.workers_of, member.namespace) == (name, namespace))

    def revoke(self, names: tuple[str, ...], *, and_their_words: bool = True) -> list[Member]:
        """Remove members and invalidate words by their names; return the members, whose connections must be cut.

        Args:
            and_their_words: invalidate words with which the members have joined, if more machines may use them.

        Raises:
            JobkitError: there is none of that name; nothing was changed.
        """

        def remove(known: Shared) -> tuple[Shared, list[Member]]:
            given = {member.name for member in known.members} | {t.name for t in known.tickets if t.is_valid}
            if unknown := [name for name in names if name not in given]:
                others = f"there are {', '.join(sorted(given))}" if given else "nothing is shared"
                raise JobkitError(f"there is no member or valid word {unknown[0]!r}; {others}")
            gone = [member for member in known.members if member.name in names]
            refused = {member.name for member in gone} if and_their_words else set()
            tickets = tuple(
                replace(
                    t, is_revoked=t.is_revoked or t.name in names or (t.is_valid and not refused.isdisjoint(t.used))
                )
                for t in known.tickets
            )
            kept = tuple(member for member in known.members if member not in gone)
            return replace(known, members=kept, tickets=tickets), gone

        return self.change(remove)


def remove_members(home: Home, members: Members, names: tuple[str, ...], *, has_left: bool = False) -> list[Member]:
    """Remove members and invalidate words by their names, and cut the members' connections; return the members.

    The keys that they know are replaced, and the words with which they have joined refused, unless they `has_left` by
    themselves. Raises JobkitError if there is none of a name.
    """
    gone = members.revoke(names, and_their_words=not has_left)
    if not has_left:
        members.replace_secrets({member.namespace for member in gone if member.role is MemberRole.WORKER})
    for member in gone:
        with suppress(OSError, ServerReply):  # not running: the gateway refuses it later
            ask(str(home.socket), "ACL", "DELUSER", member.user)
    if any(member.role is MemberRole.WORKER for member in gone):
        renew_functions(home)
    return gone


def renew_functions(home: Home) -> None:
    """Replace the functions of the server by ours: a worker may have loaded others under their names.

    A server that does not run now loads them when it starts.
    """
    from jobkit.store.library import current  # takes 0.1 s, and the gateway seldom needs it

    with suppress(OSError, ServerReply):
        ask(str(home.socket), "FUNCTION", "FLUSH")
        ask(str(home.socket), "FUNCTION", "LOAD", current.text)


def _new_member(known: Shared, machine: str, role: MemberRole, namespace: str, about: str) -> tuple[Member, str]:
    taken = {member.name for member in known.members}
    name = free_name(plain_name(machine)[:40] or "machine", taken.__contains__)
    password = secrets.token_hex(32)
    user = f"{role}-{secrets.token_hex(6)}"
    return Member(name, user, _digest(password), role, namespace, int(time.time()), about[:200]), password


def plain_name(text: str) -> str:
    """Return a text with "-" for characters that a name must not have."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text).strip("-.")


def free_name(base: str, is_taken: Callable[[str], bool]) -> str:
    """Return `base`, or `base-2`, `base-3`, ... if that is taken."""
    names = chain([base], (f"{base}-{number}" for number in count(2)))
    return next(name for name in names if not is_taken(name))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
