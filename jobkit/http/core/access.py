"""Who is asking, and may they: tokens, the dashboard's login, and the open server on one's own machine.

A server without a login is open to the person who runs it, on this machine: `jobkit.own_machine` decides. Everybody
else needs a token or a login.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from urllib.parse import urlsplit

from jobkit.http.auth.tokens import SCOPES, Grant, InvalidToken, Tokens
from jobkit.http.core.messages import Problem, Request, printable
from jobkit.model.people import Person, Role
from jobkit.own_machine import LOOPBACK_NAMES, Decision, is_host_among, without_default_port
from jobkit.people import Standing, stranger
from jobkit.settings import Settings

_ALL = frozenset(SCOPES)

#: The scopes of each role; to which jobs they reach says `Person.only_owner`.
SCOPES_OF = {
    Role.NONE: frozenset[str](),
    Role.OWN: _ALL,
    Role.VIEW: frozenset({"view"}),
    Role.OPERATE: _ALL,
    Role.ADMIN: _ALL,
}


def check_host(request: Request, hosts: Collection[str]) -> None:
    """Refuse a Host that this server does not have: links are made from it, and a page elsewhere could be given it by
    DNS.

    Args:
        hosts: names or `name:port` beside the loopback ones, or patterns; see `is_host_among`.

    Raises:
        Problem: it is none of them.
    """
    if is_host_among(request.host, LOOPBACK_NAMES) or is_host_among(request.host, hosts):
        return
    raise Problem(
        421,
        "unknown_host",
        f"this server is not {printable(request.host) or 'without a name'}; who runs it can allow the name "
        "(--allow-websocket-origin, or hosts= of the app)",
        "host",
    )


def is_own_origin(request: Request, origin: str) -> bool:
    """Whether a page came from this server. By host alone: who ends TLS before us hides the scheme."""
    return without_default_port(urlsplit(origin).netloc) == without_default_port(request.host) != ""


def check_origin(request: Request, origins: Collection[str], *, reads_only: bool) -> None:
    """Refuse a request that a page of somebody else made a browser send.

    Raises:
        Problem: it comes from an origin that is not allowed.
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
    """The token in the Authorization header, or None.

    Raises:
        Problem: there is such a header, but no token in it.
    """
    given = request.headers.get("authorization")
    if given is None:
        return None
    scheme, _, text = given.strip().partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise unauthorized("invalid_request", "the Authorization header must be: Bearer TOKEN", status=400)
    return text.strip()


def unauthorized(error: str, message: str, *, status: int = 401) -> Problem:
    """A refusal with the `WWW-Authenticate` that belongs to it; bare where nothing was shown."""
    told = "" if not error else f' error="{error}", error_description="{message}"'.replace("`", "'")
    return Problem(
        status,
        error or "unauthorized",
        message,
        "authorization",
        headers={"WWW-Authenticate": f'Bearer realm="jobkit"{"," + told if told else ""}'},
    )


def insufficient(message: str, scope: str = "") -> Problem:
    """403 for a token that does not reach."""
    told = f', scope="{scope}"' if scope else ""
    return Problem(
        403,
        "insufficient_scope",
        message,
        "authorization",
        headers={"WWW-Authenticate": f'Bearer realm="jobkit", error="insufficient_scope"{told}'},
    )


def grant_of(
    request: Request, tokens: Tokens, settings: Settings, *, own: Decision | None, text: str | None = None
) -> Grant | None:
    """What the one who asks may do; None for nobody. Whether a token was revoked is not asked here.

    Args:
        settings: say which role a login has.
        own: whether the server is open to this request; None if it is open to nobody.
        text: a token that came in another way than by the header.

    Raises:
        Problem: a token was shown that is not accepted, or the login came without its XSRF token.
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
        standing = Standing(
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
    """What a role means here."""
    return Grant(person.name, SCOPES_OF[person.role], owner=person.only_owner, role=person.role)
