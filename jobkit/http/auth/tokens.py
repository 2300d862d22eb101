"""API tokens: JWTs that jobkit makes for itself, signed with a key derived from the secret.

Nobody can make one who does not know the secret, and a token of one namespace opens no other. Several secrets,
comma-separated, are a rotation: the first signs, all verify. What a token was made for is in it; what is kept of it in
the store is only whether it was revoked.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import jwt

from jobkit.model import InvalidParams, JobSpec
from jobkit.people import Standing

#: What a token may allow: see jobs; submit jobs; cancel, retry and remove them.
SCOPES = ("view", "submit", "operate")

ISSUER = AUDIENCE = "jobkit"
_ALGORITHM = "HS256"
_TYPE = "at+jwt"

#: Subject of a token that was made without a name.
NAMELESS = "token"

#: Seconds that the clocks of two machines may differ.
LEEWAY_S = 10

#: Longer ones are not looked at.
_MAX_TOKEN_BYTES = 8192

_LIFETIME = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST_S = 10 * 365 * 86_400


class InvalidToken(Exception):
    """The token is not one that is accepted; the message says why, and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What somebody may do.

    Attributes:
        subject: who, for the owner of jobs and the log.
        scopes: some of `SCOPES`.
        tasks: patterns of task names (`"train_*"`) that it is about; empty for all.
        token_id: of the token, "" where there is none.
        expires_at: seconds since the epoch, or infinity.
        publish, subscribe: Mercure's topic selectors, see `jobkit.http.mercure.hub`.
        is_open: nobody was asked: the server is open on this machine.
        is_old: by a token of Mercure's protocol 0.x.
        owner: whose jobs it is about; None for everybody's.
        role: of a login, for the audit trail. standing: of a login, to see whether it still holds.
    """

    subject: str = ""
    scopes: frozenset[str] = frozenset()
    tasks: tuple[str, ...] = ()
    token_id: str = ""
    expires_at: float = math.inf
    publish: tuple[Any, ...] = ()
    subscribe: tuple[Any, ...] = ()
    payload: Any = None
    is_open: bool = False
    is_old: bool = False
    owner: str | None = None
    role: str = ""
    standing: Standing | None = field(default=None, repr=False, compare=False)

    def may(self, scope: str) -> bool:
        return scope in self.scopes

    def covers(self, task: str) -> bool:
        """Whether it is about this task."""
        return not self.tasks or any(fnmatchcase(task, pattern) for pattern in self.tasks)

    def sees(self, spec: JobSpec) -> bool:
        """Whether it is about this job."""
        return self.owner in (None, spec.owner) and self.covers(spec.task)

    def may_subscribe(self, *topics: str) -> bool:
        """Whether the token's selectors let a publisher's private update of one of these topics be seen.

        A token about some jobs alone (`--own`, `--tasks`) has to name the topic: its `*`, templates and patterns select
        among its jobs, since nothing tells whose the updates of publishers are.
        """
        selectors = self.subscribe if self.sees_all else [s for s in self.subscribe if s.kind == "exact"]
        return any(selector.matches(topic) for selector in selectors for topic in topics)

    @property
    def sees_all(self) -> bool:
        return self.owner is None and not self.tasks


class Tokens:
    """Makes and reads the tokens of one namespace.

    Args:
        secret: one or more keys, comma-separated, as in `Settings.secret`.
        namespace: the namespace.
    """

    def __init__(self, secret: str, namespace: str) -> None:
        keys = [key.strip().encode() for key in secret.split(",") if key.strip()]
        derived = [hmac.new(key, b"jobkit-token\x00" + namespace.encode(), hashlib.sha256).digest() for key in keys]
        self._keys = {_key_id(key): key for key in derived}

    @property
    def has_key(self) -> bool:
        return bool(self._keys)

    def make(
        self,
        scopes: Sequence[str],
        *,
        lifetime_s: float,
        tasks: Sequence[str] = (),
        subject: str = "",
        publish: Sequence[Any] = (),
        subscribe: Sequence[Any] = (),
        only_own: bool = False,
        now: float | None = None,
    ) -> tuple[str, Grant]:
        """A new token, and what it grants.

        Args:
            scopes: some of `SCOPES`; may be empty where topics are given.
            lifetime_s: seconds until it ends, at most ten years.
            tasks: patterns of the task names that it is about; none for all.
            subject: who will use it; shown as the owner of the jobs.
            publish, subscribe: Mercure's topic selectors.
            only_own: about the jobs of `subject` alone.

        Raises:
            InvalidParams: one of them is not allowed, or there is no secret to sign with.
        """
        if not self._keys:
            raise InvalidParams("tokens are signed with JOBKIT_SECRET, and none is set: set it here and for the server")
        for scope in scopes:
            if scope not in SCOPES:
                raise InvalidParams(f"scope must be some of {', '.join(SCOPES)}, not {scope!r}", "scope")
        if not scopes and not publish and not subscribe:
            raise InvalidParams(f"a token needs a scope: some of {', '.join(SCOPES)}", "scope")
        if not 0 < lifetime_s <= _LONGEST_S:
            raise InvalidParams(
                f"expires must be more than 0 seconds and at most 10 years, not {lifetime_s:g}", "expires"
            )
        for pattern in tasks:
            if not pattern or len(pattern) > 200:
                raise InvalidParams(f"tasks must be patterns of 1 to 200 characters, not {pattern!r}", "tasks")
        issued = time.time() if now is None else now
        claims: dict[str, Any] = {
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
                raise InvalidParams("a token for one's own jobs needs a name, which owns them: --name", "name")
            claims["own"] = True
        if publish or subscribe:
            claims["mercure"] = {"publish": list(publish), "subscribe": list(subscribe)}
        key_id, key = next(iter(self._keys.items()))
        text = jwt.encode(claims, key, algorithm=_ALGORITHM, headers={"typ": _TYPE, "kid": key_id})
        return text, _grant(claims)

    def read(self, text: str) -> Grant:
        """What a token grants. Whether it was revoked is for the store to say.

        Raises:
            InvalidToken: it is not ours, altered, of another namespace, not yet or no longer valid.
        """
        if not self._keys:
            raise InvalidToken("this server has no JOBKIT_SECRET, so it accepts no token")
        if len(text) > _MAX_TOKEN_BYTES:
            raise InvalidToken("the token is too long")
        try:
            head = jwt.get_unverified_header(text)
        except jwt.PyJWTError:
            raise InvalidToken("the token is not a JWT") from None
        if head.get("alg") != _ALGORITHM or str(head.get("typ", "")).lower() not in (_TYPE, f"application/{_TYPE}"):
            raise InvalidToken("the token was not made by `jobkit token`")
        key = self._keys.get(str(head.get("kid")))
        if key is None:
            raise InvalidToken("the token was signed with a key that this server does not have")
        try:
            claims = jwt.decode(
                text,
                key,
                algorithms=[_ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iat", "aud", "iss", "sub", "jti"]},
            )
        except jwt.ExpiredSignatureError:
            raise InvalidToken("the token has expired") from None
        except (jwt.ImmatureSignatureError, jwt.InvalidIssuedAtError):
            raise InvalidToken("the token is not yet valid") from None
        except jwt.PyJWTError:
            raise InvalidToken(
                "the token does not carry a valid signature of this server, or is not meant for it"
            ) from None
        return _grant(claims)


def seconds_of(text: str) -> float:
    """Seconds in "90", "15m", "12h", "30d" or "4w".

    Raises:
        InvalidParams: it is none of these.
    """
    match = _LIFETIME.fullmatch(text.strip().lower())
    if match is None:
        raise InvalidParams(f"expires must be a time like 90, 15m, 12h, 30d or 4w, not {text!r}", "expires")
    return float(match[1]) * _UNITS[match[2]]


def _grant(claims: dict[str, Any]) -> Grant:
    tasks, topics = claims.get("tasks"), claims.get("mercure")
    topics = topics if isinstance(topics, dict) else {}
    return Grant(
        subject=str(claims["sub"])[:200],
        scopes=frozenset(str(claims.get("scope", "")).split()) & frozenset(SCOPES),
        # A list of patterns that cannot be understood must not come to mean "all".
        tasks=tuple(map(str, tasks)) if isinstance(tasks, list) else () if tasks is None else ("\x00",),
        token_id=str(claims["jti"]),
        expires_at=float(claims["exp"]),
        publish=_selectors(topics.get("publish")),
        subscribe=_selectors(topics.get("subscribe")),
        payload=topics.get("payload"),
        owner=str(claims["sub"])[:200] if claims.get("own") else None,
    )


def _selectors(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else ()


def _key_id(key: bytes) -> str:
    """Names a key without telling it."""
    return hashlib.sha256(b"jobkit-token-id\x00" + key).hexdigest()[:12]
