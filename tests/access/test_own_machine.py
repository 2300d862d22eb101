"""Own machine: the facts that make a server refuse other users, and how it finds the user of a connection."""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobkit.access import own_machine
from jobkit.access.own_machine import (
    ClientConnection,
    RequestSender,
    ServerConfig,
    decide,
    is_host_among,
    tcp_peer_uid,
    visitor_of_asgi,
)
from jobkit.model import JobkitError
from jobkit.settings import Settings

#: Another user, the one without rights on most systems.
STRANGER = 65534

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says whose a TCP connection is")
needs_root = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can be another user")


@contextmanager
def as_stranger() -> Iterator[None]:
    """Create this thread's sockets as another user.

    Only sockets: reading the files of the tests may need our user.
    """
    libc, thread, made = ctypes.CDLL(None), threading.get_ident(), socket.socket

    class Socket(made):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **options: Any) -> None:
            is_mine = threading.get_ident() == thread
            if is_mine:
                libc.setfsuid(STRANGER)
            try:
                super().__init__(*args, **options)
            finally:
                if is_mine:
                    libc.setfsuid(os.geteuid())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", Socket)
        yield


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("JOBKIT_HOME", str(tmp_path / "home"))
    own_machine._home.cache_clear()
    yield
    own_machine._home.cache_clear()


def a_connection(uid: int | None, peer: str = "127.0.0.1", local: str = "127.0.0.1") -> ClientConnection:
    made = ClientConnection((peer, 50_000), (local, 5006))
    made.__dict__["uid"] = uid
    return made


OWNER = RequestSender(
    a_connection(os.geteuid()), ServerConfig(names=frozenset({"localhost:5006"})), "localhost:5006", ("Host",), {}
)


@pytest.mark.parametrize(
    "changed",
    [
        {"server": ServerConfig(public_url="https://jobs.example")},
        {"server": ServerConfig(names=frozenset({"localhost:5006", "jobs.example:80"}))},
        {"server": ServerConfig(names=frozenset({"*"}))},
        {"server": ServerConfig(address="0.0.0.0")},
        {"server": ServerConfig(address="192.0.2.7")},
        {"server": ServerConfig(has_login=True)},
        {"connection": a_connection(os.geteuid(), peer="192.0.2.7")},
        {"connection": a_connection(os.geteuid(), local="192.0.2.7")},
        {"connection": ClientConnection()},
        {"connection": a_connection(STRANGER)},
        {"connection": a_connection(None)},
        {"connection": ClientConnection(is_unix=True, unix_uid=STRANGER)},
        {"connection": ClientConnection(is_unix=True)},
        {"headers": ("Host", "X-Forwarded-For")},
        {"headers": ("Host", "X-Forwarded-Context")},
        {"headers": ("Host", "VIA")},
        {"host": "jobs.example"},
        {"host": "localhost.example"},
        {"host": "localhost@jobs.example"},
        {"host": ""},
    ],
)
def test_each_of_these_facts_alone_closes_a_server(changed: dict[str, Any]) -> None:
    assert decide(OWNER).is_own

    answer = decide(replace(OWNER, **changed))

    assert not answer.is_own
    assert answer.why.isprintable()
    assert answer.why


@pytest.mark.parametrize(
    "changed",
    [
        {"connection": a_connection(0)},
        {"connection": a_connection(os.geteuid(), "::ffff:127.0.0.1", "::ffff:127.0.0.1")},
        {"connection": a_connection(os.geteuid(), "::1", "::1"), "host": "[::1]:5006"},
        {"connection": ClientConnection(is_unix=True, unix_uid=os.geteuid())},
        {"host": "127.0.0.1:5006"},
        {"server": ServerConfig(address="127.0.0.1", names=frozenset({"127.0.0.1:5006", "LOCALHOST:80"}))},
    ],
)
def test_a_server_is_open_to_its_own_user_and_root(changed: dict[str, Any]) -> None:
    assert decide(replace(OWNER, **changed)) == own_machine.OWN


def test_behind_the_proxy_of_jupyter_only_its_own_user_may_connect_to_the_socket() -> None:
    forwarded = replace(OWNER, server=ServerConfig(names=frozenset({"*"}), is_proxied=True), host="hub.example")
    forwarded = replace(forwarded, headers=("Host", "X-Forwarded-For"))

    assert decide(replace(forwarded, connection=ClientConnection(is_unix=True, unix_uid=os.geteuid()))).is_own
    for connection in (
        ClientConnection(is_unix=True, unix_uid=STRANGER),
        ClientConnection(is_unix=True),
        a_connection(os.geteuid()),
        ClientConnection(),
    ):
        assert not decide(replace(forwarded, connection=connection)).is_own


def test_if_the_system_does_not_know_only_the_cookie_of_the_token_opens_it() -> None:
    untold = replace(OWNER, connection=a_connection(None))
    name, right = "jobkit-access-5006", own_machine.access_cookie()

    assert decide(untold).needs_token
    assert decide(replace(untold, cookies={name: right})).is_own
    for cookies in ({name: right[:-1]}, {name: own_machine.access_token()}, {"jobkit-access-5007": right}, {name: "é"}):
        assert not decide(replace(untold, cookies=cookies)).is_own
    assert not decide(replace(untold, cookies={name: right}, host="jobs.example")).is_own
    other = replace(untold, connection=a_connection(STRANGER), cookies={name: right})
    assert not decide(other).is_own  # the system says that it is another user's


def test_the_token_is_created_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        token = own_machine.access_token()
    finally:
        os.umask(before)
    file = tmp_path / "home" / "dashboard-token"

    assert own_machine.access_token() == token == file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in file.parent.iterdir()] == ["dashboard-token"]
    assert token not in own_machine.access_cookie()
    file.chmod(0o644)
    with pytest.raises(JobkitError, match="not yours alone"):
        own_machine.access_token()
    assert not own_machine.is_access_token(token)


def test_a_browser_is_started_without_the_token_on_its_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_machine, "tcp_peer_uid", lambda peer, local: None)

    opened = own_machine.to_open("http://localhost:5006/?page=jobs")

    assert opened.startswith("file:///")
    assert own_machine.access_token() not in opened
    page = Path(opened.removeprefix("file://"))
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert f"url=http://localhost:5006/?page=jobs&amp;token={own_machine.access_token()}" in page.read_text()


@needs_linux
def test_no_token_is_needed_if_the_system_knows_the_user() -> None:
    assert own_machine.system_tells()
    assert own_machine.to_print("http://localhost:5006/") == own_machine.to_open("http://localhost:5006/")


# -- what the system knows --------------------------------------------------------------------------------------------


@pytest.fixture(
    params=[("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "::"), ("::1", "::"), ("::ffff:127.0.0.1", "127.0.0.1")]
)
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Client socket (of another user if we are root) and accepted socket: IPv4, IPv6, and IPv4 mapped to IPv6."""
    host, listening = request.param
    is_both = listening == "::"
    family = socket.AF_INET6 if is_both else socket.AF_INET
    try:
        server = socket.create_server((listening, 0), family=family, dualstack_ipv6=is_both)
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        address = host, server.getsockname()[1]
        if os.geteuid() == 0:
            with as_stranger():
                client = socket.create_connection(address)
        else:
            client = socket.create_connection(address)
        accepted, _ = server.accept()
        with client, accepted:
            yield client, accepted


@needs_linux
def test_the_uid_of_the_other_end_of_a_connection_is_found(ends: tuple[socket.socket, socket.socket]) -> None:
    _, accepted = ends
    connection = ClientConnection.of_socket(accepted)

    assert connection.is_local
    assert connection.uid == (STRANGER if os.geteuid() == 0 else os.geteuid())


@needs_linux
def test_a_socket_that_its_process_has_closed_is_nobodys_and_not_roots(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    client, accepted = ends
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    client.close()

    assert accepted.recv(100)
    assert ClientConnection.of_socket(accepted).uid is None


@needs_linux
def test_without_the_tables_the_uid_is_unknown(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ClientConnection.of_socket(ends[1]).uid is not None
    monkeypatch.setattr(own_machine, "TABLES", ("/nowhere",))
    assert ClientConnection.of_socket(ends[1]).uid is None


@needs_linux
def test_a_user_of_another_namespace_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_machine, "_uid_now", lambda peer, local: 65534)
    ends = ("127.0.0.1", 1), ("127.0.0.1", 2)

    assert tcp_peer_uid(*ends) == 65534
    monkeypatch.setattr(own_machine, "_sees_all_users", lambda: False)
    assert tcp_peer_uid(*ends) is None


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no unix sockets")
def test_a_unix_socket_knows_the_user_of_its_other_end(tmp_path: Path) -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        connection = ClientConnection.of_socket(one)

    assert (connection.is_local, connection.uid) == (True, os.geteuid())


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "allowed", "expected"),
    [
        ("jobs.example.org", "jobs.example.org:80", True),  # as Bokeh keeps `--allow-websocket-origin jobs.example.org`
        ("JOBS.example.org:443", "jobs.example.org:80", True),
        ("jobs.example.org:8443", "jobs.example.org", True),
        ("jobs.example.org:8443", "jobs.example.org:8444", False),
        ("a.example.org", "*.example.org:80", True),
        ("a.b.example.org", "*.example.org", False),
        ("example.org", "*.example.org", False),
        ("evil.example", "jobs.example.org", False),
        ("anything", "*", True),
        ("", "*", False),
        ("a b", "*", False),
        ("[::1]:80", "::1", True),
    ],
)
def test_default_ports_are_ignored_when_a_host_is_compared(host: str, allowed: str, expected: bool) -> None:
    assert is_host_among(host, [allowed]) is expected


def test_names_in_bokehs_environment_close_a_server_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Application:
        websocket_origins = frozenset({"localhost:5006"})
        _absolute_url = "http://localhost:5006/"

    monkeypatch.setenv("BOKEH_ALLOW_WS_ORIGIN", "jobs.example")
    server = own_machine.server_of_tornado(Application()).configured(Settings(url="sync://"))

    assert server.address == "localhost"
    assert not decide(replace(OWNER, server=server)).is_own


@pytest.mark.parametrize(
    ("headers", "is_own"),
    [
        ({}, True),
        ({"origin": "http://localhost:8000"}, True),
        ({"sec-fetch-site": "cross-site", "sec-fetch-dest": "document"}, True),
        ({"sec-fetch-site": "cross-site", "sec-fetch-dest": "iframe"}, False),
        ({"origin": "https://other.example"}, False),
        ({"origin": "http://localhost:9000"}, False),
        ({"x-forwarded-for": "127.0.0.1"}, False),
        ({"host": "other.example:8000"}, False),
    ],
)
def test_an_asgi_request_of_another_site_is_not_our_own(
    headers: dict[str, str], is_own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_machine, "tcp_peer_uid", lambda peer, local: os.geteuid())
    sent = {"host": "localhost:8000", **headers}
    scope = {
        "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8000),
    }

    assert decide(visitor_of_asgi(scope)).is_own == is_own
    assert not decide(visitor_of_asgi({**scope, "client": ("192.0.2.7", 50_000)})).is_own


def test_a_machine_without_a_default_route_has_its_address_in_the_network_it_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes = tmp_path / "route"
    routes.write_text("Iface\tDestination\tGateway\tFlags\neth0\t0001A8C0\t00000000\t0001\n")
    assert own_machine._neighbours(routes) == ["192.168.1.1"]
    assert own_machine._neighbours(tmp_path / "none") == []

    class Probe(socket.socket):
        def connect(self, there: Any) -> None:
            if there[0] != "192.168.1.1":
                raise OSError("Network is unreachable")

        def getsockname(self) -> Any:
            return "192.168.1.7", 9

    monkeypatch.setattr(socket, "socket", Probe)
    monkeypatch.setattr(own_machine, "_neighbours", lambda: ["10.0.0.1", "192.168.1.1"])
    assert own_machine.own_address() == "192.168.1.7"
