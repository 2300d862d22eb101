"""How the dashboard is served: on which address, under which names, behind which login."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
from pathlib import Path

from jobkit.cli.group import BadInput
from jobkit.people import read_login
from jobkit.settings import Settings

#: Where Panel and Bokeh look for the keys of cookies and sessions.
SEALING = {"PANEL_COOKIE_SECRET": "cookie", "BOKEH_SECRET_KEY": "session"}


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


def guard(settings: Settings, login: str | None = None) -> tuple[list[str], dict[str, str]]:
    """Panel's options, and what has to stand in its environment: sessions and cookies are signed, forms of other sites
    refused, and with a login file (`login`, or the settings') people are asked who they are.

    The keys are derived from the secret, so that all processes of a server, and the next one, know them; they go by
    the environment, where other users of this machine do not see them.

    Raises:
        InvalidParams: the login file cannot be used.
    """
    options, environ = ["--session-ids", "signed", "--enable-xsrf-cookies"], {}
    secret = settings.secret.partition(",")[0].strip().encode() or secrets.token_bytes(32)
    for name, use in SEALING.items():
        text = f"jobkit-{use}\x00{settings.namespace}".encode()
        environ[name] = hmac.new(secret, text, hashlib.sha256).hexdigest()
    if path := login or settings.login:
        read_login(path)
        environ["JOBKIT_LOGIN"] = str(Path(path).resolve())
        options += ["--auth-module", str(Path(__file__).parent.parent / "http" / "login.py")]
    return options, environ
