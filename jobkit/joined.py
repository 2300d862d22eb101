"""Places that this machine has joined: the address, certificate and credentials behind a URL `joined://NAME`.

`jobkit join` writes a file in the home for each. Workers of a pool have no such file: their URL contains all of it, as
`joined://jkm1.…`, and is as secret as a password.
"""

from __future__ import annotations

import base64
import binascii
import re
import ssl
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from jobkit.model import InvalidParams

SCHEME = "joined"

#: First characters of a URL's name that contains a membership itself.
INLINE = "jkm1."

#: Address at the gateway that tells a member the keys of its namespace.
KEYS_PATH = "/keys"

#: Exit status of a worker whose machine is no longer a member: its service does not start it again.
REVOKED = 4

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Membership(msgspec.Struct, frozen=True):
    """Address and certificate of a joined place, and the credentials of this machine there.

    Attributes:
        name: of the place on this machine. machine: name of the sharing machine.
        host, port: of its gateway. certificate: that of the gateway (PEM), the only one that is accepted.
        user, password: credentials of this machine alone.
        namespace, role: what it may use, and how: "worker" or "viewer".
        secret: the keys of payloads, as in `JOBKIT_SECRET`; "" for a viewer.
        results: URL of files that all machines reach; "" if they pass through the gateway.
    """

    name: str
    machine: str
    host: str
    port: int
    certificate: str
    user: str
    password: str
    namespace: str
    role: str
    secret: str = ""
    results: str = ""

    def __repr__(self) -> str:
        return f"Membership({self.name!r}, {self.address!r}, {self.role!r})"

    @property
    def address(self) -> str:
        return address_of(self.host, self.port)

    @property
    def url(self) -> str:
        """URL for settings on this machine."""
        return f"{SCHEME}://{self.name}"

    @property
    def inline_url(self) -> str:
        """URL for settings on any machine. Secret."""
        return f"{SCHEME}://{INLINE}{base64.urlsafe_b64encode(msgspec.msgpack.encode(self)).decode().rstrip('=')}"

    @property
    def files_url(self) -> str:
        """URL for the setting `results`. It does not contain the key that signs, since jobs see it."""
        return self.results or replace(self, secret="").inline_url

    @property
    def redis_url(self) -> str:
        """URL for redis-py, whose class of connections brings the TLS."""
        return f"redis://{self.address}/0"

    def redis_options(self) -> dict[str, Any]:
        """Return options for redis-py, beside the URL and those of TLS."""
        return {"username": self.user, "password": self.password}

    def tls(self, *protocols: str) -> ssl.SSLContext:
        """Return the TLS of connections to the gateway: of HTTP with the protocol `http/1.1`, of Redis without one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts no authority of the system
        context.check_hostname = False  # only the gateway has the key of this very certificate
        context.load_verify_locations(cadata=self.certificate)
        if protocols:
            context.set_alpn_protocols([*protocols])
        return context

    def authorization(self) -> str:
        """Return the header `Authorization` of HTTP requests to the gateway."""
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"


def address_of(host: str, port: int) -> str:
    """Return `host:port` as URLs write it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def folder_of(home: Path) -> Path:
    """Return the directory of the memberships of a home."""
    return home / "joined"


def checked_place(name: object) -> str:
    """Return `name` if it is a valid name of a joined place. Raises InvalidParams if not."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.startswith(INLINE):
        raise InvalidParams(
            f"the name of a joined place must be 1 to 64 characters of A-Z a-z 0-9 _ . -, not {name!r}", "name"
        )
    return name


def joined_places(home: Path) -> list[str]:
    """Return the names of the places that this machine has joined."""
    return sorted(path.stem for path in folder_of(home).glob("*.json"))


def membership_of(url: str, home: Path) -> Membership:
    """Return what is behind a URL `joined://...`.

    Raises:
        InvalidParams: there is no such place, its file cannot be read, or others can read it.
    """
    name = url.partition("://")[2].rstrip("/")
    if name.startswith(INLINE):
        try:
            return _read(base64.urlsafe_b64decode(f"{name.removeprefix(INLINE)}==="), "msgpack")
        except (msgspec.MsgspecError, binascii.Error, ValueError):
            raise InvalidParams("url joined://jkm1.… is damaged: it must be copied whole", "url") from None
    path = folder_of(home) / f"{checked_place(name)}.json"
    try:
        if path.stat().st_mode & 0o077:
            raise InvalidParams(f"{path} can be read by others: run `chmod 600 {path}`", "url")
        return _read(path.read_bytes(), "json")
    except FileNotFoundError:
        known = ", ".join(joined_places(home))
        others = f"; joined are {known}" if known else ""
        raise InvalidParams(
            f"this machine has not joined {name!r}: paste the line that `jobkit share` prints there{others}", "url"
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidParams(f"{path} cannot be read ({error}): join again with a new word", "url") from None


def _read(raw: bytes, form: str) -> Membership:
    decode = msgspec.json.decode if form == "json" else msgspec.msgpack.decode
    return decode(raw, type=Membership)
