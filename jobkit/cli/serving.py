"""How the dashboard is served: on which address, under which names, behind which login."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import os
import secrets
import socket
from pathlib import Path

from jobkit.cli.group import BadInput
from jobkit.settings import Settings


def check_host(host: str | None, login: str | None) -> str:
    """The address to listen on.

    Raises:
        BadInput: it is no address, or others could reach it and nobody would ask who they are.
    """
    if host is None:
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise BadInput(f"--host must be an address of this machine, like 0.0.0.0 or 192.0.2.7, not {host!r}") from None
    if not address.is_loopback and login is None:
        raise BadInput(
            f"--host {host} lets others in, so it needs --login FILE with their names and passwords, as JSON: "
            '{"ada": "a long password"}'
        )
    return str(address)


def names_of(host: str) -> list[str]:
    """Names under which a server on this address is reached."""
    if host == "127.0.0.1":
        return ["localhost", host]
    own = socket.gethostname()
    return list(dict.fromkeys(["localhost", "127.0.0.1", *([own, socket.getfqdn()] if host == "0.0.0.0" else [host])]))


def login_options(path: str, settings: Settings) -> list[str]:
    """Panel's options for a login. The key of its cookies is derived from the secret and goes by the environment, where
    other users of this machine do not see it.

    Raises:
        BadInput: the file cannot be used.
    """
    file = Path(path)
    try:
        users = json.loads(file.read_text("utf-8"))
        mode = file.stat().st_mode
    except (OSError, ValueError) as error:
        raise BadInput(f"--login {path} cannot be read: {error}") from None
    if not isinstance(users, dict) or not users or not all(isinstance(word, str) and word for word in users.values()):
        raise BadInput(f'--login {path} must be JSON of names and passwords: {{"ada": "a long password"}}')
    if os.name == "posix" and mode & 0o077:
        raise BadInput(f"--login {path} can be read by others: chmod 600 {path}")
    key = settings.secret.partition(",")[0].strip().encode() or secrets.token_bytes(32)
    cookie = hmac.new(key, b"jobkit-cookie\x00" + settings.namespace.encode(), hashlib.sha256).hexdigest()
    os.environ["PANEL_COOKIE_SECRET"] = cookie
    return ["--basic-auth", str(file.resolve())]
