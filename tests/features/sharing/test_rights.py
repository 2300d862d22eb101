"""Rights of members: a viewer only reads, a worker stays in its namespace, and a stranger gets nothing."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hiredis
import msgspec
import pytest
import redis
from msgspec.structs import replace

import jobkit
from jobkit.client.loop import background
from jobkit.embedded.home import Home
from jobkit.embedded.server import ask
from jobkit.features.sharing import hosting
from jobkit.features.sharing.certificate import own_certificate, server_tls
from jobkit.features.sharing.gateway import CONNECTIONS, bind
from jobkit.features.sharing.members import Members
from jobkit.features.sharing.rights import MemberRole, rights_of
from jobkit.joined import Membership
from jobkit.settings import Settings
from jobkit.store.binary import find_server
from jobkit.store.connect import open_blocking, open_redis
from jobkit.store.library import call, current, needed
from jobkit.store.redis import RedisStore
from tests.features.sharing.conftest import member_of, run
from tests.store.server import Server
from tests.support import ROOT, wait_until

#: Commands that no member may send, or that are of no use to it. The server has a key `jk:other:x`.
FORBIDDEN: tuple[tuple[str, ...], ...] = (
    # Becoming another user
    ("AUTH", "default", "x"),
    ("AUTH", "x"),
    ("HELLO", "3", "AUTH", "default", "x"),
    ("HELLO", "3"),
    ("RESET",),
    ("ACL", "SETUSER", "default", "on"),
    ("ACL", "LIST"),
    ("ACL", "DELUSER", "default"),
    ("ACL", "WHOAMI"),
    # The server
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "dir", "/tmp"),
    ("CONFIG", "REWRITE"),
    ("DEBUG", "SLEEP", "0"),
    ("SHUTDOWN",),
    ("REPLICAOF", "NO", "ONE"),
    ("BGREWRITEAOF",),
    ("SAVE",),
    ("MODULE", "LIST"),
    ("FAILOVER",),
    ("PSYNC", "?", "-1"),
    ("SLOWLOG", "GET"),
    ("LATENCY", "LATEST"),
    ("MEMORY", "DOCTOR"),
    ("CLUSTER", "INFO"),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("SWAPDB", "0", "1"),
    ("SELECT", "1"),
    # Other connections
    ("MONITOR",),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("CLIENT", "PAUSE", "1"),
    ("CLIENT", "NO-EVICT", "on"),
    ("CLIENT", "TRACKING", "on", "BCAST"),
    ("CLIENT", "UNBLOCK", "1"),
    # Code of the server
    ("EVAL", "return 1", "0"),
    ("EVAL_RO", "return 1", "0"),
    ("SCRIPT", "LOAD", "return 1"),
    ("SCRIPT", "FLUSH"),
    ("SCRIPT", "KILL"),
    ("FUNCTION", "DELETE", current.name),
    ("FUNCTION", "FLUSH"),
    ("FUNCTION", "DUMP"),
    ("FUNCTION", "KILL"),
    # Keys and channels of others
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("RANDOMKEY",),
    ("DBSIZE",),
    ("GET", "jk:other:x"),
    ("SET", "jk:other:x", "1"),
    ("DUMP", "jk:other:x"),
    ("OBJECT", "ENCODING", "jk:other:x"),
    ("MEMORY", "USAGE", "jk:other:x"),
    ("COPY", "jk:other:x", "jk:default:x"),
    ("PFMERGE", "jk:other:new"),
    ("RENAME", "jk:other:x", "jk:default:x"),
    ("MOVE", "jk:default:x", "1"),
    ("MIGRATE", "127.0.0.1", "1", "jk:default:x", "0", "1"),
    ("RESTORE", "jk:default:x", "0", "x"),
    ("SORT", "jk:default:x", "GET", "jk:other:*"),
    ("SORT_RO", "jk:default:x", "GET", "jk:other:*"),
    ("XREAD", "STREAMS", "jk:other:events", "0"),
    ("SUBSCRIBE", "jk:other:all"),
    ("SUBSCRIBE", "__redis__:invalidate"),
    ("PSUBSCRIBE", "*"),
    ("PSUBSCRIBE", "jk:*"),
    ("PUBLISH", "jk:other:all", "x"),
    ("PUBSUB", "CHANNELS"),
    ("GETDEL", "jk:default:x"),
    # Work or memory without a bound
    ("LCS", "jk:default:x", "jk:default:x"),
    ("SINTER", "jk:default:x", "jk:default:y"),
    ("SUNION", "jk:default:x", "jk:default:y"),
    ("ZUNION", "2", "jk:default:x", "jk:default:y"),
    ("BITCOUNT", "jk:default:x"),
    ("SETRANGE", "jk:default:x", "1000000", "x"),
    ("WATCH", "jk:default:x"),
    ("BLPOP", "jk:default:x", "1"),
)

#: Commands that a viewer may not send, either.
OF_WORKERS: tuple[tuple[str, ...], ...] = (
    ("SET", "jk:default:x", "1"),
    ("HSET", "jk:default:h", "state", "failed"),
    ("EXPIRE", "jk:default:x", "1"),
    ("DEL", "jk:default:x"),
    ("PUBLISH", "jk:default:none", "x"),
    ("ZINTERCARD", "1", "jk:default:none"),
    ("SRANDMEMBER", "jk:default:none", "-1000000"),
    ("ZRANDMEMBER", "jk:default:none", "-1000000"),
    ("FUNCTION", "LOAD", "REPLACE", "#!lua name=x\nredis.register_function('x', function() return 1 end)"),
    tuple(map(str, call("jk:default:", "rule", ["queue:none", '{"paused":true}']))),
)


@pytest.fixture(params=list(MemberRole))
def place(request: pytest.FixtureRequest, shared: Settings, tmp_path: Path) -> Membership:
    """A member of each role."""
    ask(str(Home.at(shared.home).socket), "SET", "jk:other:x", "secret")
    with jobkit.connect(home=shared.home) as kit:
        kit.submit(len, "abc").result(60)
    return member_of(shared, tmp_path, request.param)


def test_a_member_stays_in_its_namespace_and_cannot_become_another_user(place: Membership, tmp_path: Path) -> None:
    assert _allowed(place, tmp_path, FORBIDDEN) == {}
    rights = _allowed(place, tmp_path, OF_WORKERS)
    assert rights.keys() == (set() if place.role == MemberRole.VIEWER else {*OF_WORKERS})


def test_a_worker_has_the_rights_that_jobkit_needs_except_those_for_arqs_queues(
    shared: Settings, tmp_path: Path
) -> None:
    place = member_of(shared, tmp_path)

    async def lacks() -> list[str]:
        store = RedisStore(Settings.load(url=place.url, home=tmp_path))
        try:
            return await store.lacks()
        finally:
            await store.close()

    assert [lack for lack in asyncio.run(lacks()) if "arq:" not in lack] == []


def test_a_viewer_reads_jobs_and_cannot_change_them(shared: Settings, tmp_path: Path) -> None:
    place = member_of(shared, tmp_path, MemberRole.VIEWER)
    assert place.secret == "", "the signing key is for workers only"
    with jobkit.connect(home=shared.home) as kit:
        job = kit.submit(print, "hello")
        job.wait(60)
    for command in (["jobs"], ["show", job.id], ["stats"]):
        shown = run(*command, home=tmp_path, JOBKIT_URL=place.url)
        assert shown.returncode == 0, (command, shown.stderr)
    for command in (["rm", job.id], ["queues", "pause", "default"]):
        refused = run(*command, home=tmp_path, JOBKIT_URL=place.url)
        assert refused.returncode, command
        assert re.search(r" run [A-Z]+: a viewer may only read\n$", refused.stderr), refused.stderr
        assert "Lua" not in refused.stderr
        assert "user_function" not in refused.stderr


def test_a_viewer_is_told_once_that_it_submits_nothing(shared: Settings, tmp_path: Path) -> None:
    place = member_of(shared, tmp_path, MemberRole.VIEWER)
    with jobkit.connect(home=shared.home) as kit:
        # Not `kit.tasks()`, which also has the tasks of other tests in this process.
        wait_until(lambda: "estimate_pi" in background.call(kit.verbs.store.tasks()), what="the tasks of the demo")
    said = f"{place.url} lets this machine only read: a viewer submits no jobs"
    listed = run("tasks", home=tmp_path, JOBKIT_URL=place.url)
    assert (listed.returncode, listed.stderr.count(said), listed.stderr.count("JOBKIT_SECRET")) == (0, 1, 0)
    refused = run("submit", "estimate_pi", home=tmp_path, JOBKIT_URL=place.url)
    assert refused.returncode
    assert said in refused.stderr.splitlines()[-1]
    assert "JOBKIT_SECRET" not in refused.stderr
    with (
        jobkit.connect(place.url, home=tmp_path) as kit,
        pytest.raises(jobkit.StoreUnavailable, match="a viewer submits no jobs"),
    ):
        kit.submit(len, "abc")


def test_a_viewer_of_a_place_without_tasks_is_told_once_too(
    shared: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = member_of(shared, tmp_path, MemberRole.VIEWER)

    async def none() -> dict[str, bytes]:
        return {}

    with jobkit.connect(place.url, home=tmp_path) as kit:
        monkeypatch.setattr(kit.verbs.store, "tasks", none)
        for _ in range(2):
            kit.tasks()

    assert [record.getMessage().endswith("a viewer submits no jobs") for record in caplog.records].count(True) == 1


def _connected(place: Membership, context: ssl.SSLContext | None = None) -> socket.socket:
    plain = socket.create_connection((place.host, place.port), timeout=30)
    return plain if context is None else context.wrap_socket(plain)


def _unpinned(*protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols([*protocols])
    return context


def test_a_member_logs_in_at_no_other_machine_even_if_an_authority_vouches_for_it(
    shared: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = member_of(shared, tmp_path)
    (tmp_path / "impostor").mkdir()
    certificate = own_certificate(tmp_path / "impostor", "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))  # as if the system trusted it
    got = []

    def listen(port: socket.socket) -> None:
        for _ in range(2):
            with (
                contextlib.suppress(OSError),
                port.accept()[0] as plain,
                server_tls(certificate).wrap_socket(plain, server_side=True) as connection,
            ):
                got.append(connection.recv(1000))

    with bind("127.0.0.1", 0) as port:
        address = replace(place, port=port.getsockname()[1])
        (tmp_path / "joined" / f"{place.name}.json").write_bytes(msgspec.json.encode(address))
        settings = Settings.load(url=place.url, home=tmp_path)
        impostor = threading.Thread(target=listen, args=(port,))
        impostor.start()
        with open_blocking(settings, 10.0) as client, pytest.raises(redis.ConnectionError, match="CERTIFICATE"):
            client.ping()

        async def ping() -> None:
            async with open_redis(settings) as store:
                await store.ping()

        with pytest.raises(redis.ConnectionError, match="CERTIFICATE"):
            asyncio.run(ping())
        impostor.join(10)
    assert got == []


@pytest.mark.parametrize(
    "sent",
    [
        b"PING\r\n",
        b"*1\r\n$4\r\nINFO\r\n" * 50,
        b"*3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$1\r\nx\r\n*1\r\n$4\r\nPING\r\n",
        b"PING\r\n*3\r\n$4\r\nAUTH\r\n$8\r\nworker-0\r\n$1\r\n0\r\n",
        b"*3\r\n$4\r\nAUTH\r\n$8\r\nworker-0\r\n$1\r\n0\r\n*2\r\n$4\r\nKEYS\r\n$1\r\n*\r\n",
        b"x" * 5_000_000,
        b"\x00" * 400,
    ],
    ids=["no login", "commands", "default user", "login later", "unknown user", "huge", "zeros"],
)
def test_without_a_login_the_gateway_forwards_nothing(sent: bytes, shared: Settings, tmp_path: Path) -> None:
    place = member_of(shared, tmp_path)
    with _connected(place, _unpinned()) as stranger:
        answer = b""
        try:
            stranger.sendall(sent)
            while data := stranger.recv(65_536):
                answer += data
        except OSError:
            pass
    assert answer.partition(b" ")[0] in (b"", b"-NOAUTH", b"-WRONGPASS"), answer


def test_http_is_for_members_only(shared: Settings, tmp_path: Path) -> None:
    place = member_of(shared, tmp_path)
    for authorization, status in (("", b"401"), ("Basic !!!", b"401"), ("Basic d29ya2VyLTA6eA==", b"401")):
        assert status in _http(place, authorization)
    assert b"200 OK" in _http(place, place.authorization())
    Members(Home.at(shared.home)).revoke((_name_of(shared, place),))
    assert b"401" in _http(place, place.authorization())


def test_revoking_a_machine_cuts_what_it_has_open_and_nothing_of_others(shared: Settings, tmp_path: Path) -> None:
    places = [member_of(shared, tmp_path / name) for name in ("goes", "stays")]
    with contextlib.ExitStack() as opened:
        goes, stays = (
            opened.enter_context(open_blocking(Settings.load(url=place.url, home=tmp_path / name)))
            for name, place in zip(("goes", "stays"), places, strict=True)
        )
        listener = opened.enter_context(stays.pubsub())
        listener.subscribe("jk:default:none")
        assert listener.get_message(timeout=30) is not None
        cut = [opened.enter_context(_connected(places[0], places[0].tls())) for _ in range(3)]
        for connection, command in zip(cut, (("PING",), ("SUBSCRIBE", "jk:default:none"), _WAITING), strict=True):
            assert _logged_in(places[0], connection) == b"+OK\r\n"
            connection.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]
        assert _answers(goes)
        hosting.revoke(shared, [_name_of(shared, places[0])])

        for connection in cut:
            wait_until(lambda connection=connection: _is_closed(connection), what="the connection to be cut")
        assert not _answers(goes)
        assert _answers(stays)
        assert stays.publish("jk:default:none", "x") == 1
        assert listener.get_message(timeout=30) is not None


#: A command that waits for 10 minutes.
_WAITING = ("XREAD", "BLOCK", "600000", "STREAMS", "jk:default:none", "$")


def test_half_open_and_silent_connections_do_not_end_the_gateway(shared: Settings, tmp_path: Path) -> None:
    place = member_of(shared, tmp_path)
    silent = [_connected(place) for _ in range(230)]
    slow = [_connected(place, _unpinned("http/1.1")) for _ in range(10)]
    try:
        for each in slow:
            each.sendall(b"GET /about HTTP/1.1\r\nX-Slow: ")
        assert b"200 OK" in _http(place, place.authorization())
        with open_blocking(Settings.load(url=place.url, home=tmp_path)) as client:
            assert client.ping()
        wait_until(lambda: _is_closed(silent[0]), what="the oldest connection to be closed")
    finally:
        for each in (*silent, *slow):
            each.close()


def test_a_viewer_has_a_bounded_number_of_connections(shared: Settings, tmp_path: Path) -> None:
    place = member_of(shared, tmp_path, MemberRole.VIEWER)
    with contextlib.ExitStack() as opened:
        for _ in range(CONNECTIONS[MemberRole.VIEWER]):
            connection = opened.enter_context(_connected(place, place.tls()))
            assert _logged_in(place, connection) == b"+OK\r\n"
        assert b"max number of clients" in _logged_in(place, opened.enter_context(_connected(place, place.tls())))
    with open_blocking(Settings.load(url=place.url, home=tmp_path)) as client:
        wait_until(lambda: _answers(client), what="the connections to be counted no more")


@pytest.mark.nightly
def test_the_server_ends_a_viewer_that_asks_for_much_and_reads_nothing(shared: Settings, tmp_path: Path) -> None:
    place = member_of(shared, tmp_path, MemberRole.VIEWER)
    socket_path = str(Home.at(shared.home).socket)
    ask(socket_path, "SET", "jk:default:large", "x" * 2_000_000, timeout_s=30)
    with _connected(place, place.tls()) as connection:
        assert _logged_in(place, connection) == b"+OK\r\n"
        connection.sendall(hiredis.pack_command(("GET", "jk:default:large")) * 400)  # type: ignore[arg-type]
        wait_until(lambda: place.user not in ask(socket_path, "CLIENT", "LIST", timeout_s=30), what="it to be ended")
    assert ask(socket_path, "DEL", "jk:default:large", timeout_s=30) == 1


def test_memory_for_replies_that_no_client_reads_is_bounded(shared: Settings) -> None:
    socket_path = str(Home.at(shared.home).socket)
    assert int(ask(socket_path, "CONFIG", "GET", "maxmemory-clients")[1]) == 512 * 2**20
    assert "normal 0 " not in ask(socket_path, "CONFIG", "GET", "client-output-buffer-limit")[1]


def _logged_in(place: Membership, connection: socket.socket) -> bytes:
    connection.sendall(hiredis.pack_command(("AUTH", place.user, place.password)))  # type: ignore[arg-type]
    answer = b""
    while not answer.endswith(b"\r\n"):
        if not (data := connection.recv(1000)):
            break
        answer += data
    return answer


def _answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def _is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.1)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def _http(place: Membership, authorization: str) -> bytes:
    with _connected(place, place.tls("http/1.1")) as connection:
        head = f"GET /about HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {authorization}\r\n\r\n"
        connection.sendall(head.encode())
        answer = b""
        while data := connection.recv(65_536):
            answer += data
    return answer


def _name_of(shared: Settings, place: Membership) -> str:
    return next(m.name for m in Members(Home.at(shared.home)).read().members if m.user == place.user)


def _allowed(place: Membership, home: Path, commands: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], Any]:
    """Return the commands that the server executes, with their replies."""
    found = {}
    with open_blocking(Settings.load(url=place.url, home=home), 10.0) as client:
        connection = client.connection_pool.make_connection()
        for command in commands:
            try:
                connection.send_command(*command)
                found[command] = connection.read_response()
            except redis.RedisError:
                pass
            else:
                connection.disconnect()  # it may be a subscriber now
        connection.disconnect()
    return found


@pytest.mark.parametrize("role", list(MemberRole))
def test_the_documentation_has_the_rights_of_each_role(role: MemberRole) -> None:
    assert " ".join(rights_of(role, "team")) in (ROOT / "docs/reliability.md").read_text("utf-8")


def test_every_command_in_the_code_of_the_store_is_among_those_that_it_needs() -> None:
    sent = {
        command
        for file in (ROOT / "jobkit" / "store").glob("*.py")
        for command in re.findall(r'(?:\.ask|[\[( ])\(\s*"([A-Z]{3,}(?: [A-Z]+)?)",', file.read_text("utf-8"))
    }
    assert len(sent) > 20
    assert sent - {*needed()} <= {"EXPIRE", "FCALL", "FUNCTION"}


@pytest.mark.parametrize("flavour", ["redis", "valkey"])
async def test_a_worker_may_run_every_command_that_jobkit_uses(flavour: str) -> None:
    server = Server(str(find_server(flavour).path))
    server.start()
    store = RedisStore(Settings(url=server.url).checked())
    other = RedisStore(Settings(url=f"redis://member:x@127.0.0.1:{server.listen()}").checked())
    try:
        await store.refused()  # the functions are loaded
        rules = rights_of(MemberRole.WORKER, "default")
        await store.redis.execute_command("ACL", "SETUSER", "member", "on", "nopass", *rules)

        assert await other.lacks() == []
    finally:
        await other.close()
        await store.close()
        server.stop()
