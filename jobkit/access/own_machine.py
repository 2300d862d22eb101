"""Decides whether a request comes from the user who runs this server, on this machine.

A server without a login is open to that user alone. Pages, websockets, the HTTP API and streams call `decide`. No
client input can grant access: headers and names only deny it. This module depends on no web server; `of_tornado` reads
Tornado's objects by attribute names.
"""

from __future__ import annotations

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
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from http.cookies import SimpleCookie
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

#: Variable of a server for the proxy of its user's Jupyter server, which has checked that the visitor is this user:
#: role and name of the user, `admin:ada`.
PROXIED_VARIABLE = "_JOBKIT_PROXIED"

#: Variable of such a server: process id of the Jupyter server, with which it ends.
JUPYTER_PID_VARIABLE = "_JOBKIT_JUPYTER_PID"

#: Variable in which `jobkit dashboard` passes the address that its server prints when it listens.
ADDRESS_VARIABLE = "_JOBKIT_ADDRESS"

#: Name of the token parameter in the printed URL. Needed if the system does not report the owner of a connection.
TOKEN_FIELD = "token"

#: Files in which Linux lists TCP connections, with the uid of each local end.
TABLES = ("/proc/net/tcp", "/proc/net/tcp6")

#: State of an open connection in these files.
_ESTABLISHED = "01"

#: Uid that Linux shows for a user that does not exist in this user namespace.
_UNKNOWN_UID = 65534

Address = tuple[str, int]
_IP = ipaddress.IPv4Address | ipaddress.IPv6Address


# -- names and addresses -----------------------------------------------------------------------------------------------


def host_name(host: str) -> str:
    """Return the name in a Host header, without its port, in lower case; "" if it is not a valid host."""
    if any(c in "@/?#\\" or c.isspace() or not c.isprintable() for c in host):
        return ""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
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


def is_own_host(host: str, names: Collection[str]) -> bool:
    """Return whether a Host header is a name of a server: a loopback name, an IP address, or one of `names`.

    Another site could have its name lead here, by DNS, so that its pages reach this server; but not an address.
    """
    return _parsed(host_name(host)) is not None or is_host_among(host, [*LOOPBACK_NAMES, *names])


def unknown_host(host: str) -> str:
    """Return why a request to a host that is not `is_own_host` is refused, in one sentence."""
    return (
        f"{host[:200]!a} is not a name of this server; its operator can allow one: JOBKIT_PUBLIC_URL=https://NAME, "
        "--allow-websocket-origin of `panel serve`, or hosts= of an app"
    )


def own_address() -> str:
    """Return the address of this machine in its network; "" if there is none.

    Without a default route it is that in the first network to which the machine is connected.
    """
    for there in ("192.0.2.1", *_neighbours()):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
            probe.connect((there, 9))  # sends nothing; the kernel chooses the address
            return str(probe.getsockname()[0])
    return ""


def _neighbours(routes: Path = Path("/proc/net/route")) -> list[str]:
    """Return an address in each network to which this machine is connected, as far as the system says."""
    with suppress(OSError):
        rows = [line.split() for line in routes.read_text("ascii").splitlines()[1:]]
        return [str(ipaddress.IPv4Address(int(row[1], 16).to_bytes(4, "little")) + 1) for row in rows]
    return []


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


@dataclass(eq=False)
class ClientConnection:
    """Both ends of one connection, as the system reports them. Lives as long as that: `uid` is looked up once."""

    peer: Address | None = None  #: address and port of the client; None if unknown or a unix socket
    local: Address | None = None  #: the same of this end
    unix_uid: int | None = None  #: uid of the client of a unix socket
    is_unix: bool = False

    @classmethod
    def of_socket(cls, stream: Any) -> ClientConnection:
        """Return the connection of an accepted socket; if it is closed, one with unknown ends."""
        try:
            if stream.family == getattr(socket, "AF_UNIX", None):
                return cls(is_unix=True, unix_uid=unix_peer_uid(stream))
            peer, local = stream.getpeername(), stream.getsockname()
            return cls((str(peer[0]), int(peer[1])), (str(local[0]), int(local[1])))
        except (OSError, AttributeError, IndexError):
            return cls()

    @property
    def is_local(self) -> bool:
        """True if both ends are on this machine's loopback, or it is a unix socket."""
        return self.is_unix or all(end is not None and is_loopback(end[0]) for end in (self.peer, self.local))

    @cached_property
    def uid(self) -> int | None:
        """Uid of the process at the other end; None if the system does not report it."""
        if self.is_unix or self.peer is None or self.local is None:
            return self.unix_uid
        return tcp_peer_uid(self.peer, self.local)


def own_uid() -> int | None:
    """Return the effective uid of this process; None on Windows, which has none."""
    return os.geteuid() if hasattr(os, "geteuid") else None


def unix_peer_uid(stream: socket.socket) -> int | None:
    """Return the uid of the process at the other end of a unix socket; None if the system does not report it."""
    try:
        if hasattr(socket, "SO_PEERCRED"):
            return int(struct.unpack("3i", stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1])
        if sys.platform == "darwin":  # struct xucred of LOCAL_PEERCRED: version, uid, groups
            return int(struct.unpack_from("Ii", stream.getsockopt(0, 1, 76))[1])
    except (OSError, struct.error):
        pass
    return None


def tcp_peer_uid(peer: Address, local: Address) -> int | None:
    """Return the uid of the process at the other end (`peer`) of a TCP connection on this machine.

    None if unknown: not Linux, another network namespace, the socket is closed on that side, or a user that does not
    exist in this user namespace.
    """
    found = _uid_now(peer, local)
    # A socket that closes between the reads of its state and its uid shows uid 0. A second lookup does not find it.
    found = found if found != 0 else _uid_now(peer, local)
    return None if found == _UNKNOWN_UID and not _sees_all_users() else found


def _uid_now(peer: Address, local: Address) -> int | None:
    """Look the connection up in the system's tables.

    Takes 2 ms, or 30 ms on a machine with much memory, however few connections there are: Linux walks through all hash
    buckets. Netlink (`man 7 sock_diag`) would take 0.05 ms, but not each kernel and sandbox has it.
    """
    ends = [(address, port) for text, port in (peer, local) if (address := _parsed(text)) is not None]
    if sys.platform != "linux" or len(ends) != 2:
        return None
    peers, locals_ = (_as_in_table(*end) for end in ends)
    for table in TABLES:
        try:
            lines = Path(table).read_text("ascii").splitlines()
        except (OSError, ValueError):
            continue
        for fields in (line.split(None, 10) for line in lines):
            is_found = len(fields) > 9 and fields[1] in peers and fields[2] in locals_
            # A socket that no process holds (another state, no inode) shows uid 0 whatever its owner was.
            if is_found and fields[3] == _ESTABLISHED and fields[9] != "0":
                return int(fields[7])
    return None


def _as_in_table(address: _IP, port: int) -> list[str]:
    """Return an end as the tables write it, `0100007F:138E`: words of four bytes in native byte order."""
    packed = [address.packed] + ([bytes(10) + b"\xff\xff" + address.packed] if address.version == 4 else [])
    words = [struct.unpack(f"={len(each) // 4}I", each) for each in packed]
    return [f"{''.join(f'{word:08X}' for word in each)}:{port:04X}" for each in words]


def _sees_all_users() -> bool:
    """Return whether this process is in the initial user namespace, in which 65534 is a normal user."""
    try:
        return Path("/proc/self/uid_map").read_text("ascii").split() == ["0", "0", "4294967295"]
    except (OSError, ValueError):
        return False


def system_tells() -> bool:
    """Return whether this system reports the owner of a TCP connection; tries it with a loopback connection."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
            return tcp_peer_uid(client.getsockname(), client.getpeername()) == (own_uid() or 0)
    except OSError:  # no loopback
        return False


# -- the decision ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Configuration of the server that a request came to."""

    names: frozenset[str] = frozenset()  #: allowed host names besides loopback names, with or without port
    public_url: str = ""
    address: str = ""  #: that it listens on; "" if not configured
    has_login: bool = False
    is_proxied: bool = False  #: see `PROXIED_VARIABLE`

    @property
    def hosts(self) -> frozenset[str]:
        """Names as `is_own_host` takes them: also that of the public URL."""
        return self.names | {urlsplit(self.public_url).netloc}

    def configured(self, settings: Settings, *, names: Collection[str] = (), public_url: str = "") -> ServerConfig:
        """Return this server with the settings' public URL and further names."""
        return replace(self, names=self.names | frozenset(names), public_url=public_url or settings.public_url)


@dataclass(frozen=True, slots=True)
class AccessDecision:
    """Result of `decide`."""

    is_own: bool
    why: str = ""  #: one sentence, if it is not
    needs_token: bool = False  #: the token of the printed URL grants access


OWN = AccessDecision(True)


@dataclass(frozen=True, slots=True)
class RequestSender:
    """Facts about the sender of a request, without a login."""

    connection: ClientConnection
    server: ServerConfig
    host: str  #: the Host header
    headers: Collection[str]  #: names of all headers, in any case
    cookies: Mapping[str, str]


def why_closed(server: ServerConfig) -> str:
    """Return why a server without a login is closed to its own user, too, in one sentence; "" if it is open to them."""
    if server.has_login:
        return "this server asks for a login"
    others = [server.public_url, *sorted(name for name in server.names if host_name(name) not in LOOPBACK_NAMES)]
    if name := next(filter(None, others), ""):
        return f"others reach this server as {name}, and it has no login"
    if server.address and server.address not in LOOPBACK_NAMES and not is_loopback(server.address):
        return f"this server listens on {server.address} for others, and it has no login"
    return ""


def decide(visitor: RequestSender) -> AccessDecision:
    """Decide whether a request comes from the user who runs the server, on this machine."""
    connection = visitor.connection
    if visitor.server.is_proxied:
        is_own = connection.is_unix and connection.uid == os.geteuid()
        return OWN if is_own else AccessDecision(False, "this server is for the Jupyter server of its own user")
    if why := why_closed(visitor.server):
        return AccessDecision(False, why)
    if not connection.is_local:
        return AccessDecision(False, "this server has no login, so it accepts requests from its own machine only")
    if any(name.lower() in PROXY_HEADERS for name in visitor.headers):
        return AccessDecision(False, "this request came through a proxy, and the server has no login")
    if host_name(visitor.host) not in LOOPBACK_NAMES:
        return AccessDecision(False, "this server has no login, so it accepts requests to localhost only")
    if connection.uid is not None:
        if connection.uid in (own_uid(), 0):
            return OWN
        return AccessDecision(False, "this server belongs to another user of this machine")
    if _is_same(visitor.cookies.get(cookie_name(connection), ""), access_cookie):
        return OWN
    return AccessDecision(
        False, "this system does not say who opened this connection: use the address that the server printed", True
    )


def of_tornado(request: Any) -> ClientConnection:
    """Return the connection of a Tornado request; the same object for all requests on it."""
    holder = getattr(request, "connection", None)
    context = getattr(holder, "context", None)
    known = getattr(context, "jobkit_connection", None)
    if isinstance(known, ClientConnection):
        return known
    stream = getattr(holder, "stream", None)  # a websocket has lost its stream; its HTTP request passed here before
    found = ClientConnection() if stream is None else ClientConnection.of_socket(getattr(stream, "socket", None))
    if context is not None and stream is not None:
        context.jobkit_connection = found
    return found


def server_of_tornado(application: Any) -> ServerConfig:
    """Return the configuration of a Tornado server: names, address and login of Bokeh's application."""
    provider = getattr(application, "auth_provider", None)
    others = os.environ.get("BOKEH_ALLOW_WS_ORIGIN", "").split(",")  # Bokeh's, instead of --allow-websocket-origin
    # private attribute of Bokeh, the only trace of `--address`
    url = str(getattr(application, "_absolute_url", None) or "")
    return ServerConfig(
        names=frozenset({*getattr(application, "websocket_origins", ()), *filter(None, others)}),
        address=url.partition("://")[2].rstrip("/").rpartition(":")[0].strip("[]"),
        has_login=provider is not None and (provider.get_user is not None or provider.get_user_async is not None),
        is_proxied=PROXIED_VARIABLE in os.environ,
    )


def visitor_of_tornado(request: Any, application: Any) -> RequestSender:
    """Return the facts about the sender of a Tornado request."""
    cookies = {name: morsel.value for name, morsel in request.cookies.items()}
    server = server_of_tornado(application)
    return RequestSender(of_tornado(request), server, str(request.host or ""), tuple(request.headers), cookies)


def visitor_of_asgi(scope: Mapping[str, Any]) -> RequestSender:
    """Return the facts about the sender of an ASGI request. If a page of another site sent it, the connection is
    unknown: FastAPI servers accept websockets from everywhere, and let every site frame their pages."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get("host", "")
    origin = urlsplit(headers.get("origin", f"//{host}")).netloc.lower()
    is_foreign = origin != host.lower() or (
        headers.get("sec-fetch-site", "") in ("cross-site", "same-site") and headers.get("sec-fetch-dest") != "document"
    )
    client, server = scope.get("client"), scope.get("server")
    connection = ClientConnection()
    if client and server and server[1] and not is_foreign:
        connection = ClientConnection(tuple(client), tuple(server))
    names = frozenset(filter(None, os.environ.get("BOKEH_ALLOW_WS_ORIGIN", "").split(",")))
    config = ServerConfig(names=names, is_proxied=PROXIED_VARIABLE in os.environ)
    cookies = {name: morsel.value for name, morsel in SimpleCookie(headers.get("cookie", "")).items()}
    return RequestSender(connection, config, host, tuple(headers), cookies)


# -- the token of the printed address ----------------------------------------------------------------------------------


@cache
def _home() -> Path:
    """Return the home of this process's user, cached: a server reads its settings once."""
    return Settings.load().home.expanduser().absolute()


def access_token() -> str:
    """Return the token that opens this user's dashboards if the system does not report the owner of a connection.

    The first call creates it in the home, in a file of mode 0600, so that all processes and later runs of a server
    share it. Deleting the file makes a new token and invalidates the old cookies.

    Raises:
        JobkitError: the file cannot be created, belongs to another user, or other users can read it.
    """
    path = _home() / "dashboard-token"
    try:
        if not path.exists():
            path.parent.mkdir(0o700, parents=True, exist_ok=True)
            write_private(path, secrets.token_urlsafe(32), replaces=False)
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
            found, text = os.fstat(descriptor), file.read(200).strip()
    except OSError as error:
        raise JobkitError(f"the token of the dashboard {path} cannot be used: {error.strerror or error}") from None
    # Windows has no modes; there a file in the user's profile is private.
    is_open = own_uid() is not None and (found.st_uid != own_uid() or stat.S_IMODE(found.st_mode) & 0o077)
    if is_open or len(text) < 32:
        raise JobkitError(f"the token of the dashboard {path} is damaged, or not yours alone: remove it")
    return text


def write_private(path: Path, text: str, *, replaces: bool = True) -> None:
    """Write a file of mode 0600 atomically, under any umask. Without `replaces`, the first of two writers wins.

    A replaced file keeps its owner and group if this process may set them. If it belongs to root and its group can read
    it (a mounted secret), this stays so, too.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        if hasattr(os, "fchmod"):  # not on Windows before Python 3.13
            os.fchmod(descriptor, 0o600)
        if replaces:
            _keep_owner(path, descriptor)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        if replaces:
            os.replace(aside, path)
        else:
            with suppress(FileExistsError):
                os.link(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _keep_owner(path: Path, descriptor: int) -> None:
    """Give a new file the owner and the group of the file that it will replace; no-op if that is not permitted."""
    if not hasattr(os, "fchown"):  # Windows
        return
    with suppress(FileNotFoundError, PermissionError):
        before = path.lstat()
        if stat.S_ISREG(before.st_mode):
            os.fchown(descriptor, before.st_uid, before.st_gid)
            if before.st_uid == 0:
                os.fchmod(descriptor, 0o600 | before.st_mode & stat.S_IRGRP)


def is_access_token(text: str) -> bool:
    """Return whether `text` is this user's token; False if the token cannot be read."""
    return _is_same(text, access_token)


def cookie_name(connection: ClientConnection) -> str:
    """Return the name of the cookie for the server at this connection; browsers send cookies to all ports of a host."""
    return f"jobkit-access-{connection.local[1] if connection.local else 'unix'}"


def access_cookie() -> str:
    """Return the value of the cookie that a browser gets for `access_token`, which it does not reveal."""
    return hmac.new(access_token().encode(), b"jobkit-access-cookie", hashlib.sha256).hexdigest()


def _is_same(text: str, wanted: Callable[[], str]) -> bool:
    try:
        return bool(text) and hmac.compare_digest(text.encode("utf-8", "replace"), wanted().encode())
    except JobkitError:
        return False


def to_print(url: str) -> str:
    """Return the URL to print for a server without a login: with `access_token` if `system_tells` is False."""
    return url if system_tells() else f"{url}{'&' if '?' in url else '?'}{TOKEN_FIELD}={access_token()}"


def to_open(url: str) -> str:
    """Return the URL to open in a browser: `url`, or a file of mode 0600 that redirects to it with its token.

    Other users can read a process's command line, so it must not contain the token.
    Raises JobkitError if the file cannot be written; see also `access_token`.
    """
    target = to_print(url)
    if target == url:
        return url
    path = _home() / "open-dashboard.html"
    page = f'<!doctype html><meta http-equiv="refresh" content="0; url={html.escape(target, quote=True)}">'
    try:
        write_private(path, page)
    except OSError as error:
        raise JobkitError(f"{path} cannot be written: {error.strerror or error}") from None
    return path.as_uri()
