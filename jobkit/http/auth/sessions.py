"""Cookies of logins: their flags, fixes of Panel's own login handlers, an OAuth provider's claims; and rate limits."""

from __future__ import annotations

import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, wraps
from typing import Any

import tornado.web

from jobkit.settings import Settings

logger = logging.getLogger("jobkit.http")


def marks(handler: tornado.web.RequestHandler) -> dict[str, Any]:
    """Return the options of a login's cookie: for this site only, and for TLS only if the browser uses it."""
    return {"samesite": "Lax", "secure": is_tls(handler)}


def is_tls(handler: tornado.web.RequestHandler) -> bool:
    """Return whether the browser uses TLS, to this server or to a proxy before it."""
    return handler.request.protocol == "https" or _public_url().startswith("https://")


@cache
def _public_url() -> str:
    """Read once per server."""
    return Settings.load().public_url


def fix_panels_logins() -> None:
    """Fix two faults of Panel's own logins, which have no hook for it.

    Panel sets the cookies of its logins without the flags of `marks`. Its login by PKCE answers a provider that refuses
    a user by asking the provider again, for ever. Does nothing to handlers that are not loaded.
    """
    for module, name in _SETTERS:
        kind: Any = getattr(sys.modules.get(module), name, None)
        if kind is not None:
            kind.set_cookie = _set_cookie
    pkce: Any = getattr(sys.modules.get("panel.auth"), "CodeChallengeLoginHandler", None)
    if pkce is not None and not hasattr(pkce.get, "__wrapped__"):
        pkce.get = _refusing(pkce.get)


#: Panel's and Bokeh's handlers that set cookies of a login.
_SETTERS = (
    ("panel.auth", "BasicLoginHandler"),
    ("panel.auth", "OAuthLoginHandler"),
    ("bokeh.server.views.auth_request_handler", "AuthRequestHandler"),
)


def _set_cookie(self: tornado.web.RequestHandler, *given: Any, **options: Any) -> None:
    tornado.web.RequestHandler.set_cookie(self, *given, **{**marks(self), **options})


def _refusing(get: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    @wraps(get)
    async def fixed(self: Any) -> None:
        error = self.get_argument("error", "")
        if error:
            raise tornado.web.HTTPError(401, self.get_argument("error_description", error), reason=error)
        await get(self)

    return fixed


def claims_of(handler: tornado.web.RequestHandler) -> Mapping[str, Any]:
    """Return the OAuth provider's claims about the logged-in user, from Panel's cookie."""
    if not (kept := kept_by_panel(handler, "id_token")):
        return {}
    panel: Any = sys.modules["panel.auth"]
    try:
        told = panel.decode_token(panel.state._decrypt_cookie(kept))
    except Exception as error:  # signed with another key, or not a token
        logger.info("the claims of the OAuth provider cannot be read: %s", error)
        return {}
    return told if isinstance(told, dict) else {}


def kept_by_panel(handler: tornado.web.RequestHandler, name: str) -> bytes | None:
    """Return a cookie of Panel's login, if Panel's pages would still accept it."""
    panel: Any = sys.modules.get("panel.auth")
    return None if panel is None else handler.get_signed_cookie(name, max_age_days=panel.config.oauth_expiry)


class Rate:
    """Rate limit per caller: `burst` requests at once, `per_s` in the long run.

    Args:
        most: number of callers that are counted; the least recent are dropped.
    """

    def __init__(
        self, per_s: float, burst: float, *, most: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s, self._burst, self._most, self._clock = per_s, burst, most, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, caller: str, cost: float = 1.0) -> float:
        """Return 0 and count the request if it is allowed, else the seconds until it is."""
        now = self._clock()
        left, at = self._left.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_s)
        wait = 0.0 if left >= cost else (cost - left) / self._per_s
        self._left[caller] = (left if wait else left - cost, now)
        if len(self._left) > self._most:
            self._left.popitem(last=False)
        return wait

    def forgive(self, caller: str) -> None:
        """Reset the count of a caller."""
        self._left.pop(caller, None)
