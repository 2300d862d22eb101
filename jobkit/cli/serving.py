"""How the dashboard is served: on which address, under which names, behind which login."""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib.util
import ipaddress
import os
import secrets
import socket
import ssl
from pathlib import Path

from jobkit.cli.group import BadInput
from jobkit.people import read_login
from jobkit.settings import Settings

#: Where Panel and Bokeh look for the keys of cookies and sessions.
SEALING = {"PANEL_COOKIE_SECRET": "cookie", "BOKEH_SECRET_KEY": "session"}

#: Where Panel looks for the name of an OAuth provider, and what each of them needs to be told.
PROVIDER = "PANEL_OAUTH_PROVIDER"
_KEYS = ("PANEL_OAUTH_KEY", "PANEL_OAUTH_SECRET")
_NEEDED = {
    **dict.fromkeys(("auth0", "bitbucket", "github", "gitlab", "google", "okta"), _KEYS),
    **dict.fromkeys(("azure", "azurev2"), (*_KEYS, "AAD_TENANT_ID")),  # without it, whoever has an account there
    "generic": (*_KEYS, "PANEL_OAUTH_AUTHORIZE_URL", "PANEL_OAUTH_TOKEN_URL"),
    "auth_code": (_KEYS[0], "PANEL_OAUTH_AUTHORIZE_URL", "PANEL_OAUTH_TOKEN_URL"),
}
PROVIDERS = tuple(_NEEDED)


def check_host(host: str | None, has_login: bool) -> str:
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
    if not address.is_loopback and not has_login:
        raise BadInput(
            f"--host {host} lets others in, so it needs --login FILE with their names and passwords, as JSON: "
            '{"ada": "a long password"}, or --oauth PROVIDER'
        )
    return str(address)


def names_of(host: str) -> list[str]:
    """Names under which a server on this address is reached."""
    if host == "127.0.0.1":
        return ["localhost", host]
    own = socket.gethostname()
    return list(dict.fromkeys(["localhost", "127.0.0.1", *([own, socket.getfqdn()] if host == "0.0.0.0" else [host])]))


def tls(cert: str | None, key: str | None) -> list[str]:
    """Panel's options for TLS.

    Raises:
        BadInput: certificate and key cannot be read, or do not belong together.
    """
    if cert is None:
        if key is not None:
            raise BadInput("--key is of a certificate: give that, too, with --cert FILE")
        return []
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ValueError) as error:  # of which `ssl.SSLError` is one
        raise BadInput(f"--cert {cert}{f' and --key {key}' if key else ''} cannot be used: {error}") from None
    return ["--ssl-certfile", str(Path(cert).resolve()), *(["--ssl-keyfile", str(Path(key).resolve())] if key else [])]


def guard(settings: Settings, login: str | None = None, oauth: str | None = None) -> tuple[list[str], dict[str, str]]:
    """Panel's options, and what has to stand in its environment: sessions and cookies are signed, forms of other sites
    refused. With a login file (`login`, or the settings') or an OAuth provider (`oauth`, or the environment's) people
    are asked who they are; with both, those whom the provider knows need a line in the file.

    The keys are derived from the secret, so that all processes of a server, and the next one, know them; they go by
    the environment, where other users of this machine do not see them.

    Raises:
        InvalidParams: the login file cannot be used.
        BadInput: what the provider needs is not there.
    """
    options, environ = ["--session-ids", "signed", "--enable-xsrf-cookies"], {}
    secret = settings.secret.partition(",")[0].strip().encode() or secrets.token_bytes(32)
    for name, use in SEALING.items():
        environ[name] = _key(secret, use, settings).hex()
    path, provider = login or settings.login, oauth or os.environ.get(PROVIDER, "")
    if path:
        read_login(path)
        environ["JOBKIT_LOGIN"] = str(Path(path).resolve())
    web = Path(__file__).parent.parent / "http"
    if provider:
        check_provider(provider, settings, has_file=bool(path))
        environ[PROVIDER] = provider
        sealing = base64.urlsafe_b64encode(_key(secret, "oauth", settings)).decode()
        environ["PANEL_OAUTH_ENCRYPTION"] = os.environ.get("PANEL_OAUTH_ENCRYPTION") or sealing
        if settings.public_url and not os.environ.get("PANEL_OAUTH_REDIRECT_URI"):
            environ["PANEL_OAUTH_REDIRECT_URI"] = f"{settings.public_url.rstrip('/')}/login"
        options += ["--oauth-error-template", str(web / "oauth.html"), "--logout-template", str(web / "oauth.html")]
    elif path:
        options += ["--auth-module", str(web / "login.py")]
    return options, environ


def _key(secret: bytes, use: str, settings: Settings) -> bytes:
    return hmac.new(secret, f"jobkit-{use}\x00{settings.namespace}".encode(), hashlib.sha256).digest()


def check_provider(provider: str, settings: Settings, *, has_file: bool) -> None:
    """See to it that a login at an OAuth provider can work, and that somebody could do something then.

    Raises:
        BadInput: it could not, and what is missing.
    """
    if provider not in _NEEDED:
        raise BadInput(f"{PROVIDER} must be one of {', '.join(PROVIDERS)}, not {provider!r}")
    needed = _KEYS if "PANEL_OAUTH_EXTRA_PARAMS" in os.environ else _NEEDED[provider]
    if missing := [name for name in needed if not os.environ.get(name) and name in _NEEDED[provider]]:
        raise BadInput(f"a login by {provider} needs {' and '.join(missing)} in the environment")
    if importlib.util.find_spec("cryptography") is None:
        raise BadInput("OAuth needs the package that encrypts its cookies: pip install cryptography")
    if provider == "auth_code" and not (settings.public_url or os.environ.get("PANEL_OAUTH_REDIRECT_URI")):
        raise BadInput(
            "a login by auth_code comes back to one address: say which it is, as people type it, like "
            "JOBKIT_PUBLIC_URL=https://jobs.example"
        )
    if not settings.roles and not has_file:
        raise BadInput(
            f"whom {provider} knows is not yet whom you mean, so nobody would have a role here: say who may what, like "
            "JOBKIT_ROLES='you@lab.example=admin,*@lab.example=own'"
        )
