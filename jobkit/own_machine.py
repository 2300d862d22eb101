"""The one decision whether a request comes from the person who runs this server, on this machine.

A server without a login is open to that person alone. Pages, websockets, the HTTP API and streams all ask `decide`,
with a `Visitor`: the facts of the connection (`Connection`) and of the server (`Server`). Nothing that a client writes
can open it: headers and names only close it. This module knows no web server; `of_tornado` reads Tornado's objects
by their names.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import html
import ipaddress
import os
import secrets
import socket
import stat
import struct
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jobkit.model import JobkitError
from jobkit.settings import Settings

#: Headers that a proxy adds.
PROXY_HEADERS = frozenset(
    {"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "x-forwarded-context"}
)

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

#: Name of the token in the address that is printed and opened if the system does not say whose a connection is.
TOKEN_FIELD = "token"

#: Where Linux lists TCP connections, with the uid of each local end.
TABLES = ("/proc/net/tcp", "/proc/net/tcp6")

#: State of an open connection there, and in what netlink replies.
_ESTABLISHED = 1

#: Of `linux/netlink.h` and `linux/sock_diag.h`.
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, _NLMSG_ERROR = 4, 20, 1, 2

#: Uid that Linux shows for a user whom this user namespace does not have.
_UNKNOWN_UID = 65534

Address = tuple[str, int]
_IP = ipaddress.IPv4Address | ipaddress.IPv6Address


# -- names and addresses -----------------------------------------------------------------------------------------------


def host_name(host: str) -> str:
    """Return the name in a Host header, without its port, in lower case; "" if it is not a valid host."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return ""
    if (
        parts.path
        or parts.query
        or parts.fragment
        or "@" in host
        or any(c.isspace() or not c.isprintable() for c in host)
    ):
        return ""
    return (parts.hostname or "").lower()


def without_default_port(host: str) -> str:
    """Return `host` in lower case, without `:80` or `:443`: browsers leave them out, Bokeh and some proxies do not."""
    host = host.lower()
    for port in (":80", ":443"):
        if host.endswith(port) and (host.count(":") == 1 or host.endswith(f"]{port}")):
            return host.removesuffix(port)
    return host


def is_host_among(host: str, allowed: Collection[str]) -> bool:
    """Return whether a Host header is one of `allowed`: names, `name:port`, or patterns like `*.example.org` and `*`.

    A `*` stands for one label of a name, as in Bokeh's `--allow-websocket-origin`; alone it stands for any host. A name
    without a port allows every port.
    """
    name, host = host_name(host), without_default_port(host)
    return bool(name) and any(
        pattern in ("*", name, host) or ("*" in pattern and _matches(name, host_name(pattern) or pattern))
        for pattern in map(without_default_port, allowed)
    )


def _matches(name: str, pattern: str) -> bool:
    labels, wanted = name.split("."), pattern.partition(":")[0].split(".")
    return len(labels) == len(wanted) and all(want in ("*", label) for label, want in zip(labels, wanted, strict=True))


def is_loopback(address: str) -> bool:
    """Return whether an IP address is a loopback one, also as an IPv4 address inside of an IPv6 one."""
    return (found := _parsed(address)) is not None and found.is_loopback


def _parsed(address: str) -> _IP | None:
    try:
        found = ipaddress.ip_address(address.partition("%")[0].strip("[]"))
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


# -- whose connection it is --------------------------------------------------------------------------------------------


class Connection:
    """Both ends of one connection, as the system tells them. Kept as long as the connection: `uid` is looked up once.

    Args:
        peer: address and port of the client; None if unknown or a unix socket.
        local: address and port of this end.
        unix_uid: uid of the client of a unix socket.
        is_unix: whether it is a unix socket.
    """

    def __init__(
        self,
        peer: Address | None = None,
        local: Address | None = None,
        *,
        unix_uid: int | None = None,
        is_unix: bool = False,
    ) -> None:
        self.peer, self.local, self.is_unix, self._unix_uid = peer, local, is_unix, unix_uid

    @classmethod
    def of_socket(cls, stream: Any) -> Connection:
        """Read the ends of an accepted socket; one that is closed gives a connection of nobody."""
        try:
            if stream.family == getattr(socket, "AF_UNIX", None):
                return cls(is_unix=True, unix_uid=unix_peer_uid(stream))
            peer, local = stream.getpeername(), stream.getsockname()
            return cls((str(peer[0]), int(peer[1])), (str(local[0]), int(local[1])))
        except (OSError, AttributeError, IndexError):
            return cls()

    @property
    def is_local(self) -> bool:
        """Whether both ends are on this machine's loopback, or it is a unix socket."""
        return self.is_unix or all(end is not None and is_loopback(end[0]) for end in (self.peer, self.local))

    @cached_property
    def uid(self) -> int | None:
        """Uid of the process at the other end; None if the system does not say."""
        if self.is_unix or self.peer is None or self.local is None:
            return self._unix_uid
        return tcp_peer_uid(self.peer, self.local)


def unix_peer_uid(stream: socket.socket) -> int | None:
    """Return the uid of the process at the other end of a unix socket; None if the system does not say."""
    try:
        if hasattr(socket, "SO_PEERCRED"):
            return int(struct.unpack("3i", stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1])
        if sys.platform == "darwin":  # struct xucred of LOCAL_PEERCRED: version, uid, groups
            return int(struct.unpack_from("Ii", stream.getsockopt(0, 1, 76))[1])
    except (OSError, struct.error):
        pass
    return None


def tcp_peer_uid(peer: Address, local: Address) -> int | None:
    """Return the uid of the process that has the other end of a TCP connection on this machine.

    Args:
        peer: the other end, as `getpeername` gives it.
        local: this end, as `getsockname` gives it.

    Returns:
        None if the system does not say: not Linux, another network namespace, a socket that is closed on that side, or
        a user whom this user namespace does not have.
    """
    found = _uid_now(peer, local)
    # A socket that is closed between the reading of its state and of its uid shows uid 0. Next time it is not found.
    found = found if found != 0 else _uid_now(peer, local)
    return None if found == _UNKNOWN_UID and not _sees_all_users() else found


def _uid_now(peer: Address, local: Address) -> int | None:
    """Ask netlink for this one connection, which takes 0.05 ms. The table is the way without it (gVisor, a filter of
    system calls): to read it takes 30 ms, however few connections there are, since Linux walks through all buckets."""
    if sys.platform != "linux":
        return None
    ends = [(address, port) for text, port in (peer, local) if (address := _parsed(text)) is not None]
    if len(ends) != 2 or ends[0][0].version != ends[1][0].version:
        return None
    try:
        return _uid_of_netlink(*ends)
    except (OSError, struct.error):
        return _uid_in_table(*ends)


def _uid_of_netlink(peer: tuple[_IP, int], local: tuple[_IP, int]) -> int | None:
    """Ask the kernel's socket diagnostics (`man 7 sock_diag`) for the socket whose own end is `peer`.

    Raises:
        OSError: this kernel, or this process, has none.
    """
    found = _diagnosed(peer, local)
    if found is None and not _has_diagnostics():
        raise OSError(errno.ENOENT, "no diagnostics of TCP sockets")
    return found


@cache
def _has_diagnostics() -> bool:
    """Return whether this kernel finds TCP sockets at all: without its module it says "not found" of each."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        ends = [(ipaddress.ip_address("127.0.0.1"), end[1]) for end in (client.getsockname(), client.getpeername())]
        return _diagnosed(*ends) is not None


def _diagnosed(peer: tuple[_IP, int], local: tuple[_IP, int]) -> int | None:
    """Return the uid of an open socket that a process holds, else None. Raises OSError."""
    family = socket.AF_INET if peer[0].version == 4 else socket.AF_INET6
    ends = [end[0].packed.ljust(16, b"\0") for end in (peer, local)]
    request = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
    request += struct.pack("!HH", peer[1], local[1]) + ends[0] + ends[1] + struct.pack("=III", 0, *[0xFFFFFFFF] * 2)
    header = struct.pack("=IHHII", 16 + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(1.0)
        netlink.sendto(header + request, (0, 0))
        reply = netlink.recv(8192)
    if struct.unpack_from("=H", reply, 4)[0] == _NLMSG_ERROR:
        code = -struct.unpack_from("=i", reply, 16)[0]
        if code == errno.ENOENT:
            return None
        raise OSError(code, os.strerror(code))
    state, (uid, inode) = reply[17], struct.unpack_from("=II", reply, 80)
    # A socket that nobody holds any more (another state, no inode) shows uid 0 whoever it was.
    return uid if state == _ESTABLISHED and inode else None


def _uid_in_table(peer: tuple[_IP, int], local: tuple[_IP, int]) -> int | None:
    port = f":{peer[1]:04X}"
    for table in TABLES:
        try:
            lines = Path(table).read_text("ascii").splitlines()
        except (OSError, ValueError):
            continue
        for line in lines:
            fields = line.split(None, 10)
            if len(fields) < 10 or not fields[1].endswith(port) or int(fields[3], 16) != _ESTABLISHED:
                continue
            if fields[9] != "0" and (_end(fields[1]), _end(fields[2])) == (peer, local):
                return int(fields[7])
    return None


def _end(text: str) -> tuple[_IP | None, int]:
    """Parse `0100007F:138E`: words of four bytes in the machine's order."""
    address, _, port = text.partition(":")
    raw = bytes.fromhex(address)
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    return _parsed(str(ipaddress.ip_address(raw))), int(port, 16)


def _sees_all_users() -> bool:
    """Return whether this process is in the first user namespace, where 65534 is a user and not "somebody else"."""
    try:
        return Path("/proc/self/uid_map").read_text("ascii").split() == ["0", "0", "4294967295"]
    except (OSError, ValueError):
        return False


def system_tells() -> bool:
    """Return whether this system says whose a TCP connection is, by trying it with a connection of our own."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
            return tcp_peer_uid(client.getsockname(), client.getpeername()) == os.geteuid()
    except (OSError, AttributeError):  # no loopback, or no uids at all
        return False


# -- the decision ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Server:
    """What is configured of the server that a request came to.

    Attributes:
        names: under which it may be reached beside loopback names: websocket origins, hosts; with or without port.
        public_url: under which others reach it.
        address: that it listens on; "" if nobody named one.
        has_login: it asks for a login.
    """

    names: frozenset[str] = frozenset()
    public_url: str = ""
    address: str = ""
    has_login: bool = False

    def configured(self, settings: Settings, *, names: Collection[str] = (), public_url: str = "") -> Server:
        """Return this server with what the settings say, and further names."""
        return replace(
            self,
            names=frozenset({*self.names, *names}),
            public_url=public_url or settings.public_url,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request comes from this server's own person.

    Attributes:
        is_own: it does.
        why: one sentence if it does not.
        needs_token: the token of the printed address would show that it does.
    """

    is_own: bool
    why: str = ""
    needs_token: bool = False


OWN = Decision(True)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sent a request, as far as that can be told without a login.

    Attributes:
        connection: its two ends, as the system tells them.
        server: that it came to.
        host: the Host header.
        headers: names of all headers, in any case.
        cookies: the token's is looked at if the system does not say whose the connection is.
    """

    connection: Connection
    server: Server
    host: str
    headers: Collection[str]
    cookies: Mapping[str, str]


def why_closed(server: Server) -> str:
    """Return why a server is open to nobody without a login, in one sentence; "" if it is open to its own person."""
    if server.has_login:
        return "this server asks for a login"
    others = [server.public_url, *sorted(name for name in server.names if host_name(name) not in LOOPBACK_NAMES)]
    if name := next(filter(None, others), ""):
        return f"others reach this server as {name}, and it asks nobody who they are"
    if server.address and server.address not in LOOPBACK_NAMES and not is_loopback(server.address):
        return f"this server listens on {server.address} for others, and it asks nobody who they are"
    return ""


def decide(visitor: Visitor) -> Decision:
    """Decide whether a request comes from the person who runs the server, on this machine."""
    connection = visitor.connection
    if why := why_closed(visitor.server):
        return Decision(False, why)
    if not connection.is_local:
        return Decision(False, "this server asks nobody who they are, so it is open to its own machine alone")
    if any(name.lower() in PROXY_HEADERS for name in visitor.headers):
        return Decision(False, "this request came through a proxy, and the server asks nobody who they are")
    if host_name(visitor.host) not in LOOPBACK_NAMES:
        return Decision(False, "this server asks nobody who they are, so it is open as localhost alone")
    if connection.uid is not None:
        if connection.uid in (os.geteuid(), 0):
            return OWN
        return Decision(False, "this server belongs to another user of this machine")
    if is_access_cookie(visitor.cookies.get(cookie_name(connection), "")):
        return OWN
    return Decision(
        False, "this system does not say who opened this connection: use the address that the server printed", True
    )


def of_tornado(request: Any) -> Connection:
    """Return the connection of a request of Tornado's; the same object for all requests on it."""
    holder = getattr(request, "connection", None)
    context = getattr(holder, "context", None)
    known = getattr(context, "jobkit_connection", None)
    if isinstance(known, Connection):
        return known
    stream = getattr(holder, "stream", None)  # a websocket has none any more: its request came through here before
    found = Connection() if stream is None else Connection.of_socket(getattr(stream, "socket", None))
    if context is not None and stream is not None:
        context.jobkit_connection = found
    return found


def server_of_tornado(application: Any) -> Server:
    """Return what a server of Tornado's says of itself; Bokeh's knows its names, its address and its login."""
    provider = getattr(application, "auth_provider", None)
    url = str(getattr(application, "_absolute_url", None) or "")  # Bokeh's own, the only trace of `--address`
    return Server(
        names=frozenset({*getattr(application, "websocket_origins", ()), *_origins_in_environment()}),
        address=url.partition("://")[2].rstrip("/").rpartition(":")[0].strip("[]"),
        has_login=provider is not None and (provider.get_user is not None or provider.get_user_async is not None),
    )


def visitor_of_tornado(request: Any, application: Any) -> Visitor:
    """Return who sent a request of Tornado's."""
    cookies = {name: morsel.value for name, morsel in request.cookies.items()}
    server = server_of_tornado(application)
    return Visitor(of_tornado(request), server, str(request.host or ""), tuple(request.headers), cookies)


def _origins_in_environment() -> list[str]:
    """Return the names that Bokeh takes from the environment in place of `--allow-websocket-origin`."""
    return [name for name in os.environ.get("BOKEH_ALLOW_WS_ORIGIN", "").split(",") if name]


# -- the token of the printed address ----------------------------------------------------------------------------------


@cache
def _home() -> Path:
    """Return the home of this process's user; a server reads its settings once."""
    return Settings.load().home.expanduser().absolute()


def access_token() -> str:
    """Return the token that opens this user's dashboards if the system does not say whose a connection is.

    It is made at the first call and kept in the home, in a file of mode 0600, so that all processes of a server, and
    the next one, have the same. Who removes the file gets a new one, and ends the cookies of the old.

    Raises:
        JobkitError: the file cannot be made, belongs to another user, or others can read it.
    """
    path = _home() / "dashboard-token"
    try:
        if not path.exists():
            path.parent.mkdir(0o700, parents=True, exist_ok=True)
            _write_private(path, secrets.token_urlsafe(32), replaces=False)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
            found, text = os.fstat(descriptor), file.read(200).strip()
    except OSError as error:
        raise JobkitError(f"the token of the dashboard {path} cannot be used: {error.strerror or error}") from None
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077 or len(text) < 32:
        raise JobkitError(f"the token of the dashboard {path} is damaged, or not yours alone: remove it")
    return text


def _write_private(path: Path, text: str, *, replaces: bool) -> None:
    """Write a file of mode 0600, whole or not at all. If it may not replace one, the first of two writers wins."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, text.encode())
        os.fchmod(descriptor, 0o600)
        if replaces:
            os.replace(aside, path)
        else:
            os.link(aside, path)
    except FileExistsError:
        pass
    finally:
        os.close(descriptor)
        aside.unlink(missing_ok=True)


def is_access_token(text: str) -> bool:
    """Return whether `text` is this user's token; False if that cannot be read."""
    return _is_same(text, access_token)


def cookie_name(connection: Connection) -> str:
    """Return the name of the cookie for the server at this connection: browsers give cookies to all ports of a name."""
    return f"jobkit-access-{connection.local[1] if connection.local else 'unix'}"


def access_cookie() -> str:
    """Return the value of the cookie that a browser gets for the token, and that does not tell the token.

    Raises:
        JobkitError: see `access_token`.
    """
    return hmac.new(access_token().encode(), b"jobkit-access-cookie", hashlib.sha256).hexdigest()


def is_access_cookie(text: str) -> bool:
    """Return whether `text` is that value; False if the token cannot be read."""
    return _is_same(text, access_cookie)


def _is_same(text: str, wanted: Callable[[], str]) -> bool:
    try:
        return bool(text) and hmac.compare_digest(text.encode("utf-8", "replace"), wanted().encode())
    except JobkitError:
        return False


def to_print(url: str) -> str:
    """Return the address of a server without a login as it is printed: with the token if `system_tells` is False.

    Raises:
        JobkitError: see `access_token`.
    """
    return url if system_tells() else f"{url}{'&' if '?' in url else '?'}{TOKEN_FIELD}={access_token()}"


def to_open(url: str) -> str:
    """Return what a browser is started with: `url`, or a file of mode 0600 that leads to it and its token.

    A command line is open to all users of a machine, so a token must not stand in it.

    Raises:
        JobkitError: see `access_token`.
    """
    target = to_print(url)
    if target == url:
        return url
    path = _home() / "open-dashboard.html"
    page = f'<!doctype html><meta http-equiv="refresh" content="0; url={html.escape(target, quote=True)}">'
    try:
        _write_private(path, page, replaces=True)
    except OSError as error:
        raise JobkitError(f"{path} cannot be written: {error.strerror or error}") from None
    return path.as_uri()
