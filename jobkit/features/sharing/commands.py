"""`jobkit share` and `jobkit join`: a machine runs jobs of another one's embedded server."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from jobkit import __version__
from jobkit.access.login_links import LINK_FIELD, invite
from jobkit.cli import BadInput, age, out
from jobkit.cli.worker import queues_of
from jobkit.embedded.home import Home
from jobkit.features.sharing import hosting
from jobkit.features.sharing.dashboard import fingerprint_text, login_file, people_of, remove_people, share_dashboard
from jobkit.features.sharing.joining import join as redeem
from jobkit.features.sharing.joining import leave
from jobkit.features.sharing.members import JoinReply, Members
from jobkit.features.sharing.rights import MemberRole
from jobkit.features.sharing.service import install, uninstall
from jobkit.features.sharing.words import read_word
from jobkit.joined import checked_place, joined_places, membership_of
from jobkit.model.format import duration
from jobkit.model.person import Role
from jobkit.model.plain import iso
from jobkit.settings import Settings
from jobkit.store.binary import check_system
from jobkit.system.hardware import gpus
from jobkit.tasks import option_values

# -- the machine that shares -------------------------------------------------------------------------------------------


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


# -- the machine that joins --------------------------------------------------------------------------------------------


@click.command()
@click.argument("word", required=False, metavar="[WORD]")
@click.option("--as", "name", metavar="NAME", help="Name of the place on this machine. [that of the sharing machine]")
@click.option("--no-worker", is_flag=True, help="Only join; start no worker.")
@click.option("--service", "is_service", is_flag=True, help="Run the worker as a service, also after a restart.")
@click.option("--leave", "left", metavar="NAME", help="Leave this place: end its service and delete its credentials.")
@click.option("--task-module", "-t", "modules", multiple=True, metavar="MODULE", help="Module with tasks to import.")
@click.option("--queue", "-q", "queues", multiple=True, metavar="QUEUE", help="Serve this queue; may be repeated.")
@click.option("--slots", "-c", type=click.IntRange(1, 10_000), help="Maximum number of running jobs. [CPUs, 2 or more]")
@click.option("--processes", "-n", type=click.IntRange(1, 512), help="Number of worker processes. [1]")
@click.option("--resources", metavar="NAME=N,...", help="Resources for jobs that need them. [gpu=N for N GPUs]")
def join(
    word: str | None,
    name: str | None,
    no_worker: bool,
    is_service: bool,
    left: str | None,
    modules: tuple[str, ...],
    queues: tuple[str, ...],
    slots: int | None,
    processes: int | None,
    resources: str | None,
) -> None:
    """Join the machine that printed WORD, and run its jobs here until Ctrl-C.

    WORD is what `jobkit share` prints there, or the name of a place that was joined before. With -, or without WORD at
    a terminal, it is read from the input, where other users of this machine do not see it.
    """
    check_system()
    home = Settings.load(url="local://").home
    if left is not None:
        if word is not None:
            raise BadInput("--leave NAME takes no WORD")
        _leave(left, home)
        return
    options = worker_options(modules, queues, slots, processes, resources)  # checked before the word is used up
    if word is None or word == "-":
        word = _asked(is_stdin=word == "-")
    if word in joined_places(home):
        membership = membership_of(f"joined://{word}", home)
    else:
        membership, reply = redeem(read_word(word), home, name)
        out.say(f"joined {membership.machine} at {membership.address} as {reply.name} ({membership.role})")
        _warn_of_versions(reply)
    if no_worker or membership.role == MemberRole.VIEWER:
        out.say(f"use it with JOBKIT_URL={membership.url}, for instance `JOBKIT_URL={membership.url} jobkit jobs`")
        return
    environ = {"JOBKIT_URL": membership.url, "JOBKIT_HOME": str(home)}
    argv = [sys.executable, "-m", "jobkit", "worker", *options]
    if resources is None and (processes or 1) == 1 and (found := len(gpus())):
        argv += ["--resources", f"gpu={found}"]
        out.say(f"{out.count(found, 'GPU')} found, so the worker takes jobs that need gpu; --resources changes that")
    if is_service:
        stop = install(membership.name, argv, environ)
        out.say(f"the worker runs as a service of yours; `{stop}` ends it")
        if sys.platform != "darwin":
            out.say("it ends when you log out, unless you have run `loginctl enable-linger`")
        return
    out.say(f"a worker starts; scripts on this machine use JOBKIT_URL={membership.url}")
    inherited = {key: value for key, value in os.environ.items() if key not in _OF_ANOTHER_PLACE}
    sys.stdout.flush()
    # The word does not stay in the list of processes, and would be of no use: it is valid once.
    os.execve(sys.executable, argv, {**inherited, **environ})


def _leave(name: str, home: Path) -> None:
    checked_place(name)
    if uninstall(name):
        out.say("its service has ended")
    if why := leave(name, home):
        out.say(f"left {name}; the sharing machine does not know yet ({why}): run `jobkit share --revoke` there")
    else:
        out.say(f"left {name}: its workers on this machine end, and the sharing machine refuses them from now on")


#: Settings that a joined place has itself.
_OF_ANOTHER_PLACE = ("JOBKIT_NAMESPACE", "JOBKIT_SECRET", "JOBKIT_SECRET_FILE", "JOBKIT_TOKEN_SECRET")


def worker_options(
    modules: Sequence[str], queues: Sequence[str], slots: int | None, processes: int | None, resources: str | None
) -> list[str]:
    """Return these options for `jobkit worker`. Raises BadInput or InvalidParams."""
    queues_of(queues)
    if resources is not None:
        option_values.resources("--resources", resources)
    given = [("-t", module) for module in modules] + [("-q", queue) for queue in queues]
    given += [(option, str(value)) for option, value in (("-c", slots), ("-n", processes)) if value is not None]
    given += [] if resources is None else [("--resources", resources)]
    return [part for pair in given for part in pair]


def _asked(*, is_stdin: bool) -> str:
    if is_stdin:
        return sys.stdin.readline(10_000)
    if not sys.stdin.isatty():
        raise BadInput("`jobkit join` needs the word that `jobkit share` prints, or - to read it from the input")
    return str(click.prompt("Word", hide_input=True))


def _warn_of_versions(reply: JoinReply) -> None:
    here = ".".join(platform.python_version_tuple()[:2])
    if reply.python != here:
        out.say(
            f"this machine has Python {here} and {reply.machine} {reply.python}: functions that are sent with their "
            f"code from there run on workers with Python {reply.python} only; those of modules run here, too"
        )
    if reply.version != __version__:
        out.say(f"this machine has jobkit {__version__} and {reply.machine} {reply.version}: install the same one soon")
