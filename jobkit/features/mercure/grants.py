"""Authentication at the hub: tokens of Mercure's publishers and subscribers, of both protocols, and API tokens.

`jobkit token --mercure-key` prints the hub's key for an app that makes its tokens itself (`MERCURE_JWT_SECRET`). It is
the setting `mercure_key`, else derived from the secret, as the key of API tokens is; tokens signed with one are not
valid for the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlsplit

from jobkit.access.own_machine import LOOPBACK_NAMES, is_host_among
from jobkit.features.mercure.topics import ALL, BadSelector, Selector, new, old, together
from jobkit.http.auth import access
from jobkit.http.auth.access import Grant, InvalidToken, derived_keys, header_of, is_access_token
from jobkit.http.core.handling import ApiCall
from jobkit.http.messages import Problem, printable
from jobkit.settings import Settings

#: Address of the hub, from the API's root.
PATH = "/.well-known/mercure"

#: Claim of tokens of protocol 0.x, and of API tokens: {"publish": [...], "subscribe": [...]}.
CLAIM = "mercure"

DETAIL = "https://mercure.rocks/authorization-detail"
_NAMESPACED = "https://mercure.rocks/"


@dataclass(frozen=True, slots=True)
class HubGrant(Grant):
    """Rights of a caller at the hub."""

    publish: tuple[Selector, ...] = ()
    subscribe: tuple[Selector, ...] = ()
    payload: Any = None  #: of its token, for the list of subscriptions
    is_old: bool = False  #: granted by a token of protocol 0.x

    @classmethod
    def of(cls, grant: Grant, **more: Any) -> HubGrant:
        """Return a grant of the API with rights at the hub."""
        return cls(**{each.name: getattr(grant, each.name) for each in fields(grant)}, **more)

    def may_subscribe(self, *topics: str) -> bool:
        """Return whether the token's selectors cover a publisher's private update to any of these topics.

        A token that covers only some jobs (`--own`, `--tasks`) must name the topic exactly: its `*`, templates and
        patterns select among its jobs, since updates of publishers have no owner.
        """
        selectors = self.subscribe if self.sees_all else [s for s in self.subscribe if s.kind == "exact"]
        return any(selector.matches(topic) for selector in selectors for topic in topics)


def hub_url(call: ApiCall) -> str:
    """Return the URL of the hub."""
    return f"{call.base}{PATH}"


def hub_keys(settings: Settings) -> list[str]:
    """Return the hub's keys as text. The first one signs."""
    if settings.mercure_key:
        return [settings.mercure_key]
    return [key.hex() for key in derived_keys(settings.login_secret, "mercure", settings.namespace)]


def read(text: str, keys: list[str], hub: str) -> HubGrant:
    """Return what a token grants at the hub with this URL. Raises InvalidToken: forged, expired or not understood."""
    if not is_access_token(header_of(text)):
        return _old_grant(access.verified_claims(text, keys, [], audience=None))
    return _new_grant(access.verified_claims(text, keys, ["exp", "iss", "aud"], audience=_audiences(hub)), hub)


def _audiences(hub: str) -> list[str]:
    """Return the resources that tokens for the hub with this URL name: on loopback, localhost without a port, too."""
    parts = urlsplit(hub)
    return [hub, f"https://localhost{parts.path}"] if is_host_among(parts.netloc, LOOPBACK_NAMES) else [hub]


def _old_grant(claims: dict[str, Any]) -> HubGrant:
    found = claims.get(CLAIM, claims.get(_NAMESPACED))
    if not isinstance(found, dict):
        raise InvalidToken("the token has no claim mercure")
    try:
        publish, subscribe = (together(map(old, found.get(action) or ())) for action in ("publish", "subscribe"))
    except (BadSelector, TypeError):
        raise InvalidToken("the topics of the token are not understood") from None
    return replace(_grant(claims, publish, subscribe, found.get("payload")), is_old=True)


def _new_grant(claims: dict[str, Any], hub: str) -> HubGrant:
    publish: list[Selector] = []
    subscribe: list[Selector] = []
    payload = None
    try:
        for detail in claims.get("authorization_details") or ():
            if detail.get("type") != DETAIL:
                continue
            topics = together(new(each.get("match_type", "exact"), each["match"], hub) for each in detail["topics"])
            publish += topics if "publish" in detail["actions"] else ()
            subscribe += topics if "subscribe" in detail["actions"] else ()
            payload = detail.get("payload", payload)
    except (BadSelector, AttributeError, KeyError, TypeError):
        raise InvalidToken("the token's authorization_details are not understood") from None
    return _grant(claims, tuple(publish), tuple(subscribe), payload)


def _grant(
    claims: dict[str, Any], publish: tuple[Selector, ...], subscribe: tuple[Selector, ...], payload: Any
) -> HubGrant:
    ends = claims.get("exp")
    return HubGrant(
        subject=str(claims.get("sub", ""))[:200],
        token_id=str(claims.get("jti", ""))[:200],
        expires_at=float(ends) if isinstance(ends, (int, float)) else math.inf,
        publish=publish,
        subscribe=subscribe,
        payload=payload,
    )


async def identify(call: ApiCall, refusal: str, *, in_query: str | None = None, is_old: bool = True) -> HubGrant:
    """Set and return the rights of the caller: by the header, the query (0.x only), the cookie, or the open server.

    Raises Problem (401) if the token is not accepted, or with `refusal` if there is none.
    """
    grant = await _identified(call, in_query, is_old)
    if grant is None:
        raise access.unauthorized("", refusal)
    call.grant = grant
    return grant


async def _identified(call: ApiCall, in_query: str | None, is_old: bool) -> HubGrant | None:
    request = call.request
    text = access.bearer(request) or in_query
    if text is None:
        cookies = request.cookies()
        text = cookies.get("__Secure-mercure_access_token") or (cookies.get("mercureAuthorization") if is_old else None)
    if text is None:
        own = await call.api.grant(request)
        # The server's own user publishes and sees all jobs; seeing private updates of publishers takes a token.
        return HubGrant.of(own, publish=(Selector(ALL, "*"),) if own.is_open else ()) if own else None
    settings = call.kit.settings
    try:
        grant = read(text, hub_keys(settings), hub_url(call))
    except InvalidToken as refused:
        try:  # a token of `jobkit token`, whose topics are written as in 0.x
            known = await call.api.grant(request, text)
            assert known is not None  # there is a token
            topics = known.claims.get(CLAIM, {})
            publish, subscribe = (together(map(old, topics.get(action, ()))) for action in ("publish", "subscribe"))
            return HubGrant.of(known, publish=publish, subscribe=subscribe)
        except (Problem, BadSelector):
            call.api.count_failure(request)
            raise access.unauthorized("invalid_token", str(refused)) from None
    if await call.api.is_revoked(grant):
        raise access.unauthorized("invalid_token", "the token was revoked")
    return grant


def sees_subscriptions(grant: HubGrant, *addresses: str) -> bool:
    """Return whether a caller may see subscriptions, which are about all users."""
    return grant.is_open or (grant.sees_all and grant.may_subscribe(*addresses))


def bad(message: str, field: str) -> Problem:
    return Problem(400, "invalid_request", message, printable(field))
