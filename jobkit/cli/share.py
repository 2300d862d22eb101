"""`jobkit share`: other machines run jobs of this one's embedded server."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import click
import msgspec

from jobkit.cli import BadInput, age, out
from jobkit.embedded.home import Home
from jobkit.model.format import duration
from jobkit.model.plain import iso
from jobkit.settings import Settings
from jobkit.sharing import hosting
from jobkit.sharing.members import Members
from jobkit.sharing.rights import MemberRole
from jobkit.store.binary import check_system


@click.command()
@click.option("--host", metavar="ADDRESS", help="Address or name of this machine to listen on. [its private address]")
@click.option("--port", type=click.IntRange(1, 65535), help=f"Port. [{hosting.DEFAULT_PORT}, or the next free port]")
@click.option(
    "--role",
    type=click.Choice([*map(str, MemberRole)]),
    default=str(MemberRole.WORKER),
    help="worker: may submit and run jobs; viewer: only reads. [worker]",
)
@click.option("--expires", callback=age, default="1h", metavar="TIME", help="How long the word is valid: 10m, 2h. [1h]")
@click.option("--machines", type=click.IntRange(1, 10_000), default=1, help="How many machines may use the word. [1]")
@click.option("--list", "is_list", is_flag=True, help="List the machines that have joined, and valid words.")
@click.option("--revoke", "revoked", multiple=True, metavar="NAME", help="Refuse a machine or word from now on.")
@click.option("--stop", "is_stop", is_flag=True, help="Stop sharing. `jobkit share` goes on with the same machines.")
@click.option("--json", "as_json", is_flag=True, help="With --list: print JSON; times in UTC.")
def share(
    host: str | None,
    port: int | None,
    role: str,
    expires: float,
    machines: int,
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
    if is_list + bool(revoked) + is_stop > 1:
        raise BadInput("--list, --revoke and --stop cannot be used together")
    if is_list:
        _list(settings, as_json=as_json)
    elif revoked:
        for member in hosting.revoke(settings, revoked):
            out.say(f"{member.name} is refused from now on; workers there end their jobs without effect")
    elif is_stop:
        out.say("stopped" if hosting.stop_sharing(settings) else f"{settings.home} is not shared")
    else:
        if not expires:
            raise BadInput("--expires must be above 0")
        at = hosting.share(settings, host, port)
        word = hosting.new_word(settings, MemberRole(role), valid_s=expires, uses=machines)
        which = "another machine" if machines == 1 else f"up to {machines} other machines"
        out.say(f"sharing {settings.home} at {word.address}; `jobkit share --stop` ends that")
        out.say(f"run this on {which} within {duration(expires)}:")
        assert at == (word.host, word.port)
        click.echo(f"jobkit join {word.text()}")


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
        at = datetime.fromtimestamp(self.at, UTC)
        return {**msgspec.structs.asdict(self), "at": iso(at)}

    def time_text(self) -> str:
        """Return the time in words."""
        if self.kind == "word":
            return f"valid for {duration(self.at - time.time())}"
        return f"joined {out.ago(datetime.fromtimestamp(self.at, UTC))}"


COLUMNS: dict[str, Callable[[SharingRow], str]] = {
    "NAME": lambda listed: listed.name,
    "ROLE": lambda listed: listed.role,
    "NAMESPACE": lambda listed: listed.namespace,
    "SINCE": SharingRow.time_text,
    "CONNECTIONS": lambda listed: "" if listed.kind == "word" else str(listed.connections),
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
        SharingRow(t.name, "word", str(t.role), t.namespace, t.expires, 0, f"for {t.uses - len(t.used)} more machines")
        for t in shared.tickets
        if t.is_valid
    ]
    out.listing(as_json, [*machines, *words], COLUMNS, empty="No machine has joined.")
