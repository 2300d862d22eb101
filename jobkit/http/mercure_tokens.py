"""Tokens of Mercure's publishers and subscribers, in both forms, signed with the hub's own key.

`jobkit token --mercure-key` prints that key for an app that makes its tokens itself (`MERCURE_JWT_SECRET`). It is
derived from the secret, as the key of API tokens is, and neither opens what the other does.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from typing import Any

import jwt

from jobkit.http.tokens import LEEWAY_S, Grant, InvalidToken
from jobkit.http.topics import BadSelector, Selector, new, old, together

DETAIL = "https://mercure.rocks/authorization-detail"
_NAMESPACED = "https://mercure.rocks/"


def hub_keys(secret: str, namespace: str) -> list[str]:
    """The hub's keys, as text; the first is for those who sign."""
    keys = [key.strip().encode() for key in secret.split(",") if key.strip()]
    return [hmac.new(key, b"jobkit-mercure\x00" + namespace.encode(), hashlib.sha256).hexdigest() for key in keys]


def read(text: str, keys: list[str], hub: str) -> Grant:
    """What a token grants at the hub with this URL.

    Raises:
        InvalidToken: it is not signed with one of the keys, its time is over, or it cannot be understood.
    """
    if len(text) > 8192:
        raise InvalidToken("the token is too long")
    try:
        head = jwt.get_unverified_header(text)
    except jwt.PyJWTError:
        raise InvalidToken("the token is not a JWT") from None
    if head.get("alg") != "HS256":
        raise InvalidToken("the token is not signed with HS256")
    is_new = str(head.get("typ", "")).lower() in ("at+jwt", "application/at+jwt")
    options: Any = {"require": ["exp", "iss", "aud"]} if is_new else {"verify_aud": False}
    for key in keys:
        try:
            claims = jwt.decode(
                text, key, algorithms=["HS256"], leeway=LEEWAY_S, options=options, audience=hub if is_new else None
            )
        except jwt.InvalidSignatureError:
            continue
        except jwt.ExpiredSignatureError:
            raise InvalidToken("the token has expired") from None
        except jwt.PyJWTError:
            raise InvalidToken("the token is not valid for this hub") from None
        return _new_grant(claims, hub) if is_new else _old_grant(claims)
    raise InvalidToken("the token does not carry a signature of this hub's key")


def _old_grant(claims: dict[str, Any]) -> Grant:
    found = claims.get("mercure", claims.get(_NAMESPACED))
    if not isinstance(found, dict):
        raise InvalidToken("the token has no claim mercure")
    try:
        return _grant(
            claims,
            together(map(old, found.get("publish") or ())),
            together(map(old, found.get("subscribe") or ())),
            found.get("payload"),
            is_old=True,
        )
    except (BadSelector, TypeError):
        raise InvalidToken("the token's topics cannot be understood") from None


def _new_grant(claims: dict[str, Any], hub: str) -> Grant:
    publish: list[Selector] = []
    subscribe: list[Selector] = []
    details = claims.get("authorization_details")
    payload = None
    try:
        for detail in details or ():
            if detail.get("type") != DETAIL:
                continue
            topics = together(new(each.get("match_type", "exact"), each["match"], hub) for each in detail["topics"])
            actions = detail["actions"]
            publish += topics if "publish" in actions else ()
            subscribe += topics if "subscribe" in actions else ()
            payload = detail.get("payload", payload)
    except (BadSelector, AttributeError, KeyError, TypeError):
        raise InvalidToken("the token's authorization_details cannot be understood") from None
    return _grant(claims, tuple(publish), tuple(subscribe), payload, is_old=False)


def _grant(
    claims: dict[str, Any],
    publish: tuple[Selector, ...],
    subscribe: tuple[Selector, ...],
    payload: Any,
    *,
    is_old: bool,
) -> Grant:
    ends = claims.get("exp")
    return Grant(
        subject=str(claims.get("sub", ""))[:200],
        token_id=str(claims.get("jti", ""))[:200],
        expires_at=float(ends) if isinstance(ends, (int, float)) else math.inf,
        publish=publish,
        subscribe=subscribe,
        payload=payload,
        is_old=is_old,
    )
