"""The dashboard of a shared home for browsers of colleagues: TLS by the certificate of the gateway, login by a link."""

from __future__ import annotations

import socket
import time
from collections.abc import Collection
from pathlib import Path

from jobkit.access.login_links import drop_links
from jobkit.access.people import Account, read_login, write_login
from jobkit.embedded import ensure_running
from jobkit.embedded.demand import Service, end_service, keep_service, read_services, service_log
from jobkit.embedded.home import Home, lines_of, make_private
from jobkit.features.sharing.certificate import certificate_in, fingerprint_of, own_certificate
from jobkit.features.sharing.gateway import why_not
from jobkit.features.sharing.hosting import DASHBOARD, free_port, own_address
from jobkit.features.sharing.members import Members, folder_in
from jobkit.joined import address_of
from jobkit.model import InvalidParams, JobkitError
from jobkit.settings import Settings

#: Port of the dashboard, if it is free.
_PORT = 5006

#: Seconds until the dashboard must answer: it imports Panel first.
_START_S = 90.0


def share_dashboard(settings: Settings, host: str | None, port: int | None) -> str:
    """Serve the dashboard of a home on an address of this machine; return its URL.

    There must be a user in `login_file`.

    Raises:
        InvalidParams: the address is not of this machine, or the port is taken.
        JobkitError: the dashboard does not come up; the message says why.
    """
    home = Home.at(ensure_running(settings, only_looks=True).home)
    members = Members(home)
    known = members.read()
    named = host or known.page[0] or known.host or own_address()
    try:
        address = str(socket.getaddrinfo(named, None, type=socket.SOCK_STREAM)[0][4][0])
    except socket.gaierror as error:
        raise InvalidParams(why_not(error, named, 0), "host") from None
    at = address, port or known.page[1]
    if at != known.page or DASHBOARD not in read_services(home) or not _is_open(*at):
        at = address, free_port(*at, _PORT, is_given=port is not None)
        members.set(page=at)
        certificate = own_certificate(folder_in(home), address)
        options = (
            "--host",
            address,
            "--port",
            str(at[1]),
            "--login",
            str(login_file(home)),
            "--cert",
            str(certificate),
        )
        keep_service(home, DASHBOARD, Service("jobkit", ("--namespace", settings.namespace, "dashboard", *options)))
        _wait_until_open(home, *at)
    return f"https://{address_of(*at)}/"


def login_file(home: Home) -> Path:
    """Return the login file of the shared dashboard."""
    make_private(folder_in(home), "the jobkit home's directory")
    return folder_in(home) / "people.json"


def people_of(home: Home) -> dict[str, Account]:
    """Return the colleagues who may log in, by name."""
    path = login_file(home)
    return dict(read_login(path)) if path.exists() else {}


def remove_people(home: Home, names: Collection[str]) -> list[str]:
    """Remove these colleagues and return their names; without any left, the dashboard stops."""
    people = people_of(home)
    gone = [name for name in names if people.pop(name, None) is not None]
    if gone:
        drop_links(login_file(home), gone)  # or an old link would work for a later user of that name
    if gone and people:
        write_login(login_file(home), people)
    elif gone:
        end_service(home, DASHBOARD)
        login_file(home).unlink()
    return gone


def fingerprint_text(home: Home) -> str:
    """Return the fingerprint of the certificate as browsers show it: `5F:0C:...`."""
    return fingerprint_of(certificate_in(folder_in(home) / "certificate.pem")).hex(":").upper()


def _wait_until_open(home: Home, host: str, port: int) -> None:
    deadline = time.monotonic() + _START_S
    while not _is_open(host, port):
        if time.monotonic() > deadline:
            log = service_log(home, DASHBOARD)
            why = (lines_of(log) or ["it says nothing"])[-1]
            raise JobkitError(f"the dashboard did not start within {_START_S:.0f} s ({why}); see {log}")
        time.sleep(0.05)


def _is_open(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False
