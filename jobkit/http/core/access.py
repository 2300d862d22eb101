"""Authentication of a request: by token, by the dashboard's login, or as the user who runs the server.

A server without a login is open to the user who runs it, on this machine: `jobkit.own_machine` decides. Everyone else
needs a token or a login.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from urllib.parse import urlsplit

from jobkit.http.auth.tokens import SCOPES, Grant, InvalidToken, Tokens
from jobkit.http.core.messages import Problem, Request, printable
from jobkit.model.people import Person, Role
from jobkit.own_machine import LOOPBACK_NAMES, AccessDecision, is_host_among, without_default_port
from jobkit.people import LoginState, stranger
from jobkit.settings import Settings

_ALL = frozenset(SCOPES)

#: The scopes of each role. `Person.only_owner` limits them to some jobs.
SCOPES_OF = {
    Role.NONE: frozenset[str](),
    Role.OWN: _ALL,
    Role.VIEW: frozenset({"view"}),
    Role.OPERATE: _ALL,
    Role.ADMIN: _ALL,
}


def check_host(request: Request, hosts: Collection[str]) -> None:
    """Refuse a Host header that is not a name of this server.

    Links are made from it, and another site's page could reach this server under a name of its site, by DNS.

    Args:
        hosts: names, `name:port` or patterns besides the loopback names; see `is_host_among`.

    Raises:
        Problem: 421.
    """
    if is_host_among(request.host, LOOPBACK_NAMES) or is_host_among(request.host, hosts):
        return
    raise Problem(
        421,
        "unknown_host",
        f"this server is not {printable(request.host) or 'without a name'}; its operator can allow the name "
        "(--allow-websocket-origin, or hosts= of the app)",
        "host",
    )


def is_own_origin(request: Request, origin: str) -> bool:
    """Return whether a page is of this server. Compares hosts only: a proxy that ends TLS hides the scheme."""
    return without_default_port(urlsplit(origin).netloc) == without_default_port(request.host) != ""


def check_origin(request: Request, origins: Collection[str], *, reads_only: bool) -> None:
    """Refuse a request that a page of another site made a browser send.

    Raises:
        Problem: 403, its origin is not allowed.
    """
    origin = request.headers.get("origin")
    if origin is not None:
        if is_own_origin(request, origin) or origin in origins:
            return
        if not reads_only:
            raise Problem(403, "forbidden_origin", f"pages of {printable(origin)} may not do this", "origin")
    elif not reads_only and request.headers.get("sec-fetch-site", "none") == "cross-site":
        raise Problem(403, "forbidden_origin", "pages of other sites may not do this", "origin")


def bearer(request: Request) -> str | None:
    """Return the token in the Authorization header, or None if there is no such header.

    Raises:
        Problem: 400, the header has no token.
    """
    given = request.headers.get("authorization")
    if given is None:
        return None
    scheme, _, text = given.strip().partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise unauthorized("invalid_request", "the Authorization header must be: Bearer TOKEN", status=400)
    return text.strip()


def unauthorized(error: str, message: str, *, status: int = 401) -> Problem:
    """Return a 401 with its `WWW-Authenticate`, which has no details if the request had no token."""
    told = "" if not error else f' error="{error}", error_description="{message}"'.replace("`", "'")
    return Problem(
        status,
        error or "unauthorized",
        message,
        "authorization",
        headers={"WWW-Authenticate": f'Bearer realm="jobkit"{"," + told if told else ""}'},
    )


def insufficient(message: str, scope: str = "") -> Problem:
    """Return a 403 for a token that does not grant this."""
    told = f', scope="{scope}"' if scope else ""
    return Problem(
        403,
        "insufficient_scope",
        message,
        "authorization",
        headers={"WWW-Authenticate": f'Bearer realm="jobkit", error="insufficient_scope"{told}'},
    )


def grant_of(
    request: Request, tokens: Tokens, settings: Settings, *, own: AccessDecision | None, text: str | None = None
) -> Grant | None:
    """Return what the caller may do, or None without a token or login. Does not check for revoked tokens.

    Args:
        settings: decide the role of a login.
        own: whether the server is open to this request; None if it is open to no request.
        text: a token from elsewhere than the header.

    Raises:
        Problem: the token is not accepted, or the login came without its XSRF token.
    """
    text = bearer(request) or text
    if text is not None:
        try:
            return tokens.read(text)
        except InvalidToken as error:
            raise unauthorized("invalid_token", str(error)) from None
    if request.login:
        if request.login_is_forged:
            raise Problem(
                403, "xsrf", "a login by cookie needs the cookie _xsrf also as header X-XSRFToken", "x-xsrftoken"
            )
        standing = LoginState(
            request.login,
            settings,
            is_listed=request.login_is_listed,
            claims=request.login_claims,
            login_id=request.login_id,
        )
        return replace(grant_for(standing.person), standing=standing)
    if own is not None and own.is_own:
        return Grant("", _ALL, is_open=True)
    if own is not None and not request.server.has_login:
        person = stranger(settings, is_own_machine=False)
        return grant_for(person) if person.role is not Role.NONE else None
    return None


def grant_for(person: Person) -> Grant:
    """Return what a person may do by their role."""
    return Grant(person.name, SCOPES_OF[person.role], owner=person.only_owner, role=person.role)
