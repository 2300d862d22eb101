"""Rights of callers: by a token, by the dashboard's login, or as the user who runs the server.

A server without a login is open to the user who runs it, on this machine: `jobkit.access.own_machine` decides. Everyone
else needs a token or a login. API tokens are JWTs that jobkit makes for itself, signed with a key derived from the
secret. A token of one namespace is not valid in another. Several secrets, comma-separated, are a rotation: the first
signs, all verify. A token contains all that it grants; the store keeps only the ids of revoked tokens.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol

import jwt

from jobkit.access.own_machine import AccessDecision
from jobkit.access.people import LoginState, stranger
from jobkit.codec import keys_in
from jobkit.http.messages import Problem, Request
from jobkit.model import InvalidParams
from jobkit.model.person import Person, Role
from jobkit.settings import Settings

#: Scopes: see jobs; submit jobs; cancel, retry and delete them.
SCOPES = ("view", "submit", "operate")

ISSUER = AUDIENCE = "jobkit"
ALGORITHM = "HS256"
_TYPE = "at+jwt"

#: Subject of a token made without a name.
NAMELESS = "token"

#: Seconds that the clocks of two machines may differ.
LEEWAY_S = 10

#: Longer tokens are rejected unread.
_MAX_TOKEN_BYTES = 8192

_LONGEST_S = 10 * 365 * 86_400

#: Callers that a rate limit counts.
_MOST_CALLERS = 10_000

#: The scopes of each role. `Person.only_owner` limits them to some jobs.
SCOPES_OF = {
    Role.NONE: frozenset[str](),
    Role.OWN: frozenset(SCOPES),
    Role.VIEW: frozenset({"view"}),
    Role.OPERATE: frozenset(SCOPES),
    Role.ADMIN: frozenset(SCOPES),
}


class InvalidToken(Exception):
    """The token is not accepted. The message says why and contains no part of it."""


class Seen(Protocol):
    """The spec of a job, or of a group of jobs."""

    @property
    def owner(self) -> str: ...
    @property
    def task(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Grant:
    """Rights of a caller."""

    subject: str = ""  #: name of the caller, for the owner of jobs and the log
    scopes: frozenset[str] = frozenset()  #: some of `SCOPES`
    tasks: tuple[str, ...] = ()  #: patterns of task names (`"train_*"`) that it covers; empty for all
    token_id: str = ""  #: "" without a token
    expires_at: float = math.inf  #: seconds since the epoch
    is_open: bool = False  #: granted without authentication: the server is open on this machine
    owner: str | None = None  #: the only owner whose jobs it covers; None for all
    role: str = ""  #: of a login, for the audit trail
    login: LoginState | None = field(default=None, repr=False, compare=False)  #: to check whether it still holds
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)  #: of a token, for features

    def may(self, scope: str) -> bool:
        return scope in self.scopes

    def covers(self, task: str) -> bool:
        """Return whether it covers this task."""
        return not self.tasks or any(fnmatchcase(task, pattern) for pattern in self.tasks)

    def sees(self, spec: Seen) -> bool:
        """Return whether it covers this job or group."""
        return self.owner in (None, spec.owner) and self.covers(spec.task)

    @property
    def sees_all(self) -> bool:
        return self.owner is None and not self.tasks


def bearer(request: Request) -> str | None:
    """Return the token in the Authorization header; None without the header. Raises Problem (400): no token in it."""
    given = request.headers.get("authorization")
    if given is None:
        return None
    scheme, _, text = given.strip().partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise unauthorized("invalid_request", "the Authorization header must be: Bearer TOKEN", status=400)
    return text.strip()


def unauthorized(error: str, message: str, *, status: int = 401) -> Problem:
    """Return a 401 with its `WWW-Authenticate`, which has no details if the request had no token (`error` is "")."""
    description = message.replace("`", "'") if error else ""
    return _challenge(status, error or "unauthorized", message, error=error, error_description=description)


def insufficient(message: str, scope: str = "") -> Problem:
    """Return a 403 for a token that does not grant this."""
    return _challenge(403, "insufficient_scope", message, error="insufficient_scope", scope=scope)


def _challenge(status: int, word: str, message: str, **details: str) -> Problem:
    told = "".join(f', {name}="{text}"' for name, text in details.items() if text)
    headers = {"WWW-Authenticate": f'Bearer realm="jobkit"{told}'}
    return Problem(status, word, message, "authorization", headers)


def grant_of(
    request: Request, settings: Settings, *, own: AccessDecision | None, text: str | None = None
) -> Grant | None:
    """Return what the caller may do, or None without a token or login. Does not check for revoked tokens.

    `own` is None if the server is open to no request; `text` is a token from elsewhere than the header. Raises Problem:
    the token is not accepted, or the login came without its XSRF token.
    """
    if not (request.server.is_proxied and own is not None and own.is_own):  # else the header has Jupyter's own token
        text = bearer(request) or text
    if text is not None:
        try:
            return Tokens(settings.login_secret, settings.namespace).read(text)
        except InvalidToken as error:
            raise unauthorized("invalid_token", str(error)) from None
    if request.login:
        if request.login_is_forged:
            raise Problem(
                403, "xsrf", "a login by cookie needs the cookie _xsrf also as header X-XSRFToken", "x-xsrftoken"
            )
        login = request.login(settings)
        return _grant_of_role(login.person, login)
    if own is None or (request.server.has_login and not own.is_own):
        return None
    person = stranger(settings, is_own_machine=own.is_own)
    if own.is_own and not person.name:
        return Grant(scopes=frozenset(SCOPES), is_open=True)
    return _grant_of_role(person) if person.role is not Role.NONE else None


def _grant_of_role(person: Person, login: LoginState | None = None) -> Grant:
    return Grant(person.name, SCOPES_OF[person.role], owner=person.only_owner, role=person.role, login=login)


class Rate:
    """Rate limit per caller: `burst` requests at once, `per_s` in the long run."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, caller: str, cost: float = 1.0) -> float:
        """Return 0 and count the request if it is allowed, else the seconds until it is."""
        now = time.monotonic()
        left, at = self._left.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_s)
        wait = 0.0 if left >= cost else (cost - left) / self._per_s
        self._left[caller] = (left if wait else left - cost, now)
        if len(self._left) > _MOST_CALLERS:  # drops the least recent one
            self._left.popitem(last=False)
        return wait

    def forgive(self, caller: str) -> None:
        """Reset the count of a caller."""
        self._left.pop(caller, None)


# -- tokens ------------------------------------------------------------------------------------------------------------


def derived_keys(secret: str, use: str, namespace: str) -> list[bytes]:
    """Return the keys for one use in one namespace, of the keys in `Settings.login_secret`. The first one signs."""
    keys, _ = keys_in(secret)
    return [hmac.new(key, f"jobkit-{use}\x00{namespace}".encode(), hashlib.sha256).digest() for key in keys]


class Tokens:
    """Signs and reads the tokens of one namespace. `secret`: as `Settings.login_secret`."""

    def __init__(self, secret: str, namespace: str) -> None:
        self._keys = {_key_id(key): key for key in derived_keys(secret, "token", namespace)}

    def make(
        self,
        scopes: Sequence[str],
        *,
        lifetime_s: float,
        tasks: Sequence[str] = (),
        subject: str = "",
        claims: Mapping[str, Any] | None = None,
        only_own: bool = False,
        now: float | None = None,
    ) -> tuple[str, Grant]:
        """Return a new token, and what it grants; see `Grant`. `only_own`: it covers only the jobs of `subject`.

        With further `claims`, of features, it needs no scope.

        Raises InvalidParams: an argument is not allowed, or there is no secret to sign with.
        """
        if not self._keys:
            raise InvalidParams("JOBKIT_SECRET is not set; set it here and for the server, since it signs tokens")
        for scope in scopes:
            if scope not in SCOPES:
                raise InvalidParams(f"scope must be some of {', '.join(SCOPES)}, not {scope!r}", "scope")
        if not scopes and not claims:
            raise InvalidParams(f"a token needs a scope: some of {', '.join(SCOPES)}", "scope")
        if not 0 < lifetime_s <= _LONGEST_S:
            raise InvalidParams(
                f"expires must be more than 0 seconds and at most 10 years, not {lifetime_s:,.0f} s", "expires"
            )
        for pattern in tasks:
            if not pattern or len(pattern) > 200:
                raise InvalidParams(f"tasks must be patterns of 1 to 200 characters, not {pattern!r}", "tasks")
        issued = time.time() if now is None else now
        claims = {
            **(claims or {}),
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject or NAMELESS,
            "client_id": subject or NAMELESS,
            "iat": int(issued),
            "nbf": int(issued),
            "exp": math.ceil(issued + lifetime_s),
            "jti": secrets.token_hex(8),
            "scope": " ".join(dict.fromkeys(scopes)),
        }
        if tasks:
            claims["tasks"] = list(tasks)
        if only_own:
            if not subject:
                raise InvalidParams("a token for only its owner's jobs needs a name: --name", "name")
            claims["own"] = True
        key_id, key = next(iter(self._keys.items()))
        text = jwt.encode(claims, key, algorithm=ALGORITHM, headers={"typ": _TYPE, "kid": key_id})
        return text, _grant(claims)

    def read(self, text: str) -> Grant:
        """Return what a token grants, whether it was revoked or not. Raises InvalidToken: see `verified_claims`."""
        if not self._keys:
            raise InvalidToken("this server has no JOBKIT_SECRET, so it accepts no token")
        head = header_of(text)
        if not is_access_token(head):
            raise InvalidToken("the token was not made by `jobkit token`")
        keys = [key for key_id, key in self._keys.items() if key_id == head.get("kid")]
        required = ["exp", "iat", "aud", "iss", "sub", "jti"]
        return _grant(verified_claims(text, keys, required, audience=AUDIENCE, issuer=ISSUER))


def verified_claims(
    text: str,
    keys: Iterable[Any],
    required: Sequence[str],
    *,
    audience: str | list[str] | None,
    issuer: str | None = None,
) -> dict[str, Any]:
    """Return the claims of a JWT, signed with one of `keys`, for this audience or one of several, and this issuer.

    None stands for any audience or issuer.

    Raises InvalidToken: it was made elsewhere, altered, is meant for another server, expired or not yet valid.
    """
    options: Any = {"require": list(required), "verify_aud": audience is not None}
    for key in keys:
        try:
            return jwt.decode(
                text, key, algorithms=[ALGORITHM], audience=audience, issuer=issuer, leeway=LEEWAY_S, options=options
            )
        except jwt.InvalidSignatureError:
            continue
        except jwt.ExpiredSignatureError:
            raise InvalidToken("the token has expired") from None
        except (jwt.ImmatureSignatureError, jwt.InvalidIssuedAtError):
            raise InvalidToken("the token is not yet valid") from None
        except jwt.PyJWTError:
            raise InvalidToken("the token is not valid for this server") from None
    raise InvalidToken("the token does not carry a valid signature of this server")


def header_of(text: str) -> dict[str, Any]:
    """Return the unverified header of a JWT. Raises InvalidToken: it is longer than 8 kB, or not a JWT."""
    if len(text) > _MAX_TOKEN_BYTES:
        raise InvalidToken("the token is too long")
    try:
        return jwt.get_unverified_header(text)
    except jwt.PyJWTError:
        raise InvalidToken("the token is not a JWT") from None


def is_access_token(header: dict[str, Any]) -> bool:
    """Return whether a header is that of an access token (RFC 9068)."""
    return str(header.get("typ", "")).lower() in (_TYPE, f"application/{_TYPE}")


def _grant(claims: dict[str, Any]) -> Grant:
    tasks = claims.get("tasks")
    return Grant(
        subject=str(claims["sub"])[:200],
        scopes=frozenset(str(claims.get("scope", "")).split()) & frozenset(SCOPES),
        # Malformed patterns must not mean "all".
        tasks=tuple(map(str, tasks)) if isinstance(tasks, list) else () if tasks is None else ("\x00",),
        token_id=str(claims["jti"]),
        expires_at=float(claims["exp"]),
        owner=str(claims["sub"])[:200] if claims.get("own") else None,
        claims=claims,
    )


def _key_id(key: bytes) -> str:
    """Return a name of a key that does not reveal it."""
    return hashlib.sha256(b"jobkit-token-id\x00" + key).hexdigest()[:12]
