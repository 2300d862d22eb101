"""The side of the sharing machine: start and stop the gateway, give out words, revoke members."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import jobkit.access.own_machine as own_machine
from jobkit.embedded import ensure_running
from jobkit.embedded.demand import (
    GATEWAY,
    Service,
    end_service,
    keep_service,
    read_requests,
    read_services,
    service_log,
)
from jobkit.embedded.home import Home, signal_to
from jobkit.embedded.server import ServerReply, ask
from jobkit.features.sharing.certificate import certificate_in, fingerprint_of, own_certificate
from jobkit.features.sharing.gateway import bind, read_status
from jobkit.features.sharing.members import Member, Members, folder_in, remove_members, renew_functions
from jobkit.features.sharing.rights import MemberRole
from jobkit.features.sharing.words import Word
from jobkit.joined import Membership
from jobkit.model import InvalidParams, JobkitError
from jobkit.settings import Settings

#: Name of the dashboard for colleagues among the services of a home.
DASHBOARD = "shared-dashboard"

#: Port of a gateway, if it is free.
DEFAULT_PORT = 7379
_PORTS_TRIED = 20

_START_S = 30.0


def own_address() -> str:
    """Return the address of this machine in its private network: that of the default route.

    Raises InvalidParams if there is none, or it is public: then it must be named.
    """
    found = own_machine.own_address()
    if not found:
        raise InvalidParams("this machine has no network: name its address with --host", "host")
    if not ipaddress.ip_address(found).is_private:
        raise InvalidParams(f"{found} is a public address: name it with --host {found} if you mean that", "host")
    return found


def share(settings: Settings, host: str | None, port: int | None) -> tuple[str, int]:
    """Start the gateway of the home of `settings`, or leave it as it is; return its host and port.

    Raises:
        InvalidParams: the address is not of this machine, the port is taken, or the namespace cannot be shared alone.
        JobkitError: the gateway does not come up; the message says why.
    """
    _check_alone(Home.at(settings.home), settings.namespace)
    home = Home.at(ensure_running(settings, only_looks=True).home)
    renew_functions(home)
    members = Members(home)
    members.set(results=settings.results)
    known, status = members.read(), read_status(home)
    runs = is_shared(home) and status.get("state") == "ready" and signal_to(status, 0)
    at = (host or known.host or own_address(), port or known.port)
    if not runs or at != (known.host, known.port):
        at = at[0], free_port(*at, DEFAULT_PORT, is_given=port is not None)
        members.set(host=at[0], port=at[1])
        own_certificate(folder_in(home), at[0])
        stamp = secrets.token_hex(8)
        keep_service(home, GATEWAY, Service("jobkit.features.sharing.gateway", ("--stamp", stamp)))
        _wait_until_ready(settings, home, stamp)
    return at


def new_word(
    settings: Settings, role: MemberRole = MemberRole.WORKER, *, valid_s: float = 3600.0, uses: int = 1
) -> Word:
    """Return a word with which `uses` machines may join within `valid_s` seconds; the home must be shared.

    Raises:
        InvalidParams: the namespace cannot be shared alone.
        JobkitError: the home is not shared.
    """
    home = _shared_home(settings)
    _check_alone(home, settings.namespace)
    members = Members(home)
    secret, ticket = members.new_ticket(role, settings.namespace, valid_s, uses)
    known = members.read()
    fingerprint = fingerprint_of(certificate_in(own_certificate(folder_in(home), known.host)))
    return Word(known.host, known.port, fingerprint, secret, ticket.expires)


def environment_for(settings: Settings, name: str) -> Mapping[str, str]:
    """Return the environment with which workers on other machines reach this home, as the member `name`. Secret.

    For workers of a pool, which cannot join: they share one membership, which is made by the first call and stays the
    same until it is revoked. Raises JobkitError if the home is not shared.
    """
    home = _shared_home(settings)
    members = Members(home)
    member, password = members.member_for(name, settings.namespace)
    known = members.read()
    membership = Membership(
        name=name,
        machine=socket.gethostname(),
        host=known.host,
        port=known.port,
        certificate=certificate_in(own_certificate(folder_in(home), known.host)),
        user=member.user,
        password=password,
        namespace=member.namespace,
        role=str(member.role),
        secret=home.secret(member.namespace),
        results=known.shared_results,
    )
    return {"JOBKIT_URL": membership.inline_url}


def end_environment(settings: Settings, name: str) -> None:
    """End the membership that `environment_for` has given out in the namespace of `settings`, if there is one."""
    if names := Members(Home.at(settings.home)).names_for(name, settings.namespace):
        home = Home.at(settings.home)
        remove_members(home, Members(home), names, has_left=True)


def revoke(settings: Settings, names: Sequence[str]) -> list[Member]:
    """Refuse members and words from now on, and cut the members' connections; return the members.

    Raises JobkitError if there is none of a name.
    """
    home = Home.at(settings.home)
    return remove_members(home, Members(home), tuple(names))


def stop_sharing(settings: Settings) -> bool:
    """Stop gateway and dashboard; members are kept, so that `share` goes on with them. Return True if any ran."""
    home = Home.at(settings.home)
    status = read_status(home)
    did_run = [end_service(home, name) for name in (GATEWAY, DASHBOARD)]
    deadline = time.monotonic() + _START_S
    while did_run[0] and signal_to(status, 0) and time.monotonic() < deadline:
        time.sleep(0.02)
    return any(did_run)


def connections(settings: Settings) -> Mapping[str, int]:
    """Return the number of connections of each member's user; {} if the server does not run."""
    found: dict[str, int] = {}
    with suppress(OSError, ServerReply):
        for line in str(ask(str(Home.at(settings.home).socket), "CLIENT", "LIST")).splitlines():
            user = line.partition(" user=")[2].partition(" ")[0]
            found[user] = found.get(user, 0) + 1
    return found


def is_shared(home: Home) -> bool:
    """Return True if the supervisor keeps a gateway for this home."""
    return GATEWAY in read_services(home)


def _shared_home(settings: Settings) -> Home:
    home = Home.at(settings.home)
    if not is_shared(home):
        raise JobkitError(f"the home {home.path} is not shared: run `jobkit share`")
    return home


def _check_alone(home: Home, namespace: str) -> None:
    """Raise InvalidParams if the keys of another namespace of the home begin like those of this one, or the reverse."""
    for other in read_requests(home):
        if other.startswith(f"{namespace}:") or namespace.startswith(f"{other}:"):
            raise InvalidParams(
                f"the namespace {namespace!r} cannot be shared without {other!r}, because one name begins with the "
                "other: use a namespace with another name, or another JOBKIT_HOME",
                "namespace",
            )


def free_port(host: str, wanted: int, first: int, *, is_given: bool) -> int:
    """Return a port to listen on: `wanted`, or the first that is free from `first` on unless it `is_given`.

    Raises InvalidParams if there is none.
    """
    error = ""
    for port in [wanted] if is_given else [*filter(None, [wanted]), *range(first, first + _PORTS_TRIED)]:
        try:
            bind(host, port).close()
            return port
        except JobkitError as found:
            error = error or str(found)
    raise InvalidParams(error, "port")


def _wait_until_ready(settings: Settings, home: Home, stamp: str) -> None:
    deadline = time.monotonic() + _START_S
    while (status := read_status(home)).get("stamp") != stamp or "state" not in status:
        if time.monotonic() > deadline:
            raise JobkitError(f"the gateway did not start within {_START_S:.0f} s; see {service_log(home, GATEWAY)}")
        if not home.is_supervised():  # it stopped because it was idle, before it knew of the gateway
            ensure_running(settings, only_looks=True)
        time.sleep(0.02)
    if status["state"] != "ready":
        raise JobkitError(str(status.get("error")))
