"""`jobkit share`: other machines run jobs of this one's embedded server."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar

import click
import msgspec

from jobkit.cli import BadInput, age, out
from jobkit.embedded.home import Home
from jobkit.login_links import LINK_FIELD, invite
from jobkit.model.format import duration
from jobkit.model.people import Role
from jobkit.model.plain import iso
from jobkit.settings import Settings
from jobkit.sharing import hosting
from jobkit.sharing.dashboard import fingerprint_text, login_file, people_of, remove_people, share_dashboard
from jobkit.sharing.members import Members
from jobkit.sharing.rights import MemberRole
from jobkit.store.binary import check_system


@click.command()
@click.option("--host", metavar="ADDRESS", help="Address or name of this machine to listen on. [its private address]")
@click.option("--port", type=click.IntRange(1, 65535), help=f"Port. [{hosting.DEFAULT_PORT}, or the next free port]")
@click.option(
    "--role",
    metavar="ROLE",
    help="worker: may submit and run jobs; viewer: only reads. [worker] With --dashboard: view, own, operate or admin. "
    "[view]",
)
@click.option("--expires", callback=age, default="1h", metavar="TIME", help="How long the word is valid: 10m, 2h. [1h]")
@click.option("--machines", type=click.IntRange(1, 10_000), default=1, help="How many machines may use the word. [1]")
@click.option("--dashboard", "is_page", is_flag=True, help="Share the dashboard, and print a link for a colleague.")
@click.option("--for", "person", metavar="NAME", help="With --dashboard: name of the colleague. [guest]")
@click.option("--list", "is_list", is_flag=True, help="List the machines that have joined, and valid words.")
@click.option(
    "--revoke", "revoked", multiple=True, metavar="NAME", help="Refuse machines, words and colleagues of this name."
)
@click.option("--stop", "is_stop", is_flag=True, help="Stop sharing. `jobkit share` goes on with the same machines.")
@click.option("--json", "as_json", is_flag=True, help="With --list: print JSON; times in UTC.")
def share(
    host: str | None,
    port: int | None,
    role: str | None,
    expires: float,
    machines: int,
    is_page: bool,
    person: str | None,
    is_list: bool,
    revoked: tuple[str, ...],
    is_stop: bool,
    as_json: bool,
) -> None:
    """Share the embedded server with other machines, and print the line to run there.

    The port is open on one address, with TLS and a certificate that the word names. Each machine that joins gets
    separate credentials, which --revoke ends.
    """
    settings = Settings.load()
    if not settings.is_embedded:
        raise BadInput(
            f"`jobkit share` shares an embedded server, and JOBKIT_URL is {settings.masked_url}; other machines use "
            "that URL themselves"
        )
    check_system()
    if is_list + bool(revoked) + is_stop + is_page > 1:
        raise BadInput("--dashboard, --list, --revoke and --stop cannot be used together")
    if person is not None and not is_page:
        raise BadInput("--for NAME needs --dashboard")
    if not expires:
        raise BadInput("--expires must be above 0")
    if is_list:
        _list(settings, as_json=as_json)
    elif revoked:
        home = Home.at(settings.home)
        before = Members(home).read()
        joined = {member.name for member in before.members}
        people = remove_people(home, revoked)
        for name in people:
            out.say(f"{name} is logged out of the dashboard, and refused from now on")
        others = [name for name in revoked if name not in people or name in joined]
        gone = hosting.revoke(settings, others) if others else []
        for member in gone:
            out.say(f"{member.name} is refused from now on; jobs that run there run again on other workers")
        for namespace in sorted({member.namespace for member in gone if member.role is MemberRole.WORKER}):
            out.say(
                f"the key of the namespace {namespace} was replaced; the other machines get the new key by themselves. "
                "Jobs, schedules and pools of a revoked machine stay: remove what you do not trust"
            )
        known = {ticket.name for ticket in Members(home).read().tickets if ticket.is_valid}
        for word in before.tickets:
            if word.is_valid and word.name not in {*known, *others}:
                which = "it was given to several machines, one of which is revoked"
                out.say(f"{word.name} is refused, too ({which}): `jobkit share` prints a new one")
    elif is_stop:
        out.say("stopped" if hosting.stop_sharing(settings) else f"{settings.home} is not shared")
    elif is_page:
        _share_dashboard(settings, host, port, person, _role(role, Role, Role.VIEW), expires)
    else:
        _share_server(settings, host, port, _role(role, MemberRole, MemberRole.WORKER), expires, machines)


R = TypeVar("R", bound=StrEnum)


def _role(given: str | None, roles: type[R], default: R) -> R:
    """Return the role of this name. Raises BadInput."""
    known = [role for role in roles if role != Role.NONE]
    found = default if given is None else next((role for role in known if role == given), None)
    if found is None:
        raise BadInput(f"--role must be one of {', '.join(known)} here, not {given!r}")
    return found


def _share_server(
    settings: Settings, host: str | None, port: int | None, role: MemberRole, valid_s: float, machines: int
) -> None:
    hosting.share(settings, host, port)
    word = hosting.new_word(settings, role, valid_s=valid_s, uses=machines)
    which = "another machine" if machines == 1 else f"up to {machines} other machines"
    out.say(f"sharing {settings.home} at {word.address}; `jobkit share --stop` ends that")
    out.say(f"run this on {which} within {duration(valid_s)}:")
    click.echo(f"jobkit join {word.text()}")


#: Default name of a colleague.
_GUEST = "guest"


def _share_dashboard(
    settings: Settings, host: str | None, port: int | None, named: str | None, role: Role, valid_s: float
) -> None:
    home, person = Home.open(settings.home), named or _GUEST
    known = people_of(home).get(_GUEST)
    if named is None and known is not None and known.role is not role:
        raise BadInput(
            f"{_GUEST} has the role {known.role} here, and so have all with a link for {_GUEST}: add --for NAME for a "
            f"colleague with the role {role}, or --for {_GUEST} to change the role of all of them"
        )
    token = invite(login_file(home), person, role, valid_s)
    url = share_dashboard(settings, host, port)
    out.say(f"the dashboard of {home.path} is at {url}; `jobkit share --stop` ends that")
    out.say("browsers warn of its certificate, because no authority signed it; its SHA-256 fingerprint is")
    out.say(fingerprint_text(home))
    out.say(f"this link logs {person} in as {role}, once, within {duration(valid_s)}:")
    click.echo(f"{url}login?{LINK_FIELD}={token}")


class SharingRow(msgspec.Struct, frozen=True):
    """One line of `jobkit share --list`. `at`: when it joined, or when the word expires, in seconds since the epoch."""

    name: str
    kind: str
    role: str
    namespace: str
    at: int
    connections: int
    about: str

    def to_json(self) -> dict[str, object]:
        """Return the line for --json."""
        at = iso(datetime.fromtimestamp(self.at, UTC)) if self.at else None
        return {**msgspec.structs.asdict(self), "at": at}

    def time_text(self) -> str:
        """Return the time in words."""
        if self.kind == "word":
            return f"valid for {duration(self.at - time.time())}"
        if self.kind == "user":
            return ""
        return f"joined {out.ago(datetime.fromtimestamp(self.at, UTC))}"


COLUMNS: dict[str, Callable[[SharingRow], str]] = {
    "NAME": lambda listed: listed.name,
    "ROLE": lambda listed: listed.role,
    "NAMESPACE": lambda listed: listed.namespace,
    "SINCE": SharingRow.time_text,
    "CONNECTIONS": lambda listed: str(listed.connections) if listed.kind == "machine" else "",
    "ABOUT": lambda listed: listed.about,
}


def _list(settings: Settings, *, as_json: bool) -> None:
    home = Home.at(settings.home)
    shared, connected = Members(home).read(), hosting.connections(settings)
    if not hosting.is_shared(home):
        out.echo(f"{home.path} is not shared; `jobkit share` starts that.", err=True)
    machines = [
        SharingRow(m.name, "machine", str(m.role), m.namespace, m.joined, connected.get(m.user, 0), m.about)
        for m in shared.members
    ]
    words = [
        SharingRow(t.name, "word", str(t.role), t.namespace, t.expires, 0, f"machines left: {t.uses - len(t.used)}")
        for t in shared.tickets
        if t.is_valid
    ]
    people = [
        SharingRow(name, "user", str(account.role or ""), "", 0, 0, "of the dashboard")
        for name, account in people_of(home).items()
    ]
    out.listing(as_json, [*machines, *words, *people], COLUMNS, empty="No machine has joined.")
