"""How cookies of a login are marked: for this site alone, and for TLS alone where the browser speaks it.

Those of Panel's own logins as well, which are mended here in one more thing: see `fix_panels_logins`.
"""

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
    """Options of a cookie, beside whether scripts may read it."""
    return {"samesite": "Lax", "secure": is_tls(handler)}


def is_tls(handler: tornado.web.RequestHandler) -> bool:
    """Whether the browser speaks TLS, to us or to the proxy in front of us."""
    return handler.request.protocol == "https" or _public_url().startswith("https://")


@cache
def _public_url() -> str:
    """A server reads its settings once."""
    return Settings.load().public_url


def fix_panels_logins() -> None:
    """Panel sets the cookies of its own logins, and sets them anew on pages, without these marks; and its login by PKCE
    answers a provider that refuses somebody by asking it again, for ever. It has no hook for either; this room does
    not know Panel, and is its plugin only where it is there already."""
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
    async def mended(self: Any) -> None:
        error = self.get_argument("error", "")
        if error:
            raise tornado.web.HTTPError(401, self.get_argument("error_description", error), reason=error)
        await get(self)

    return mended


def claims_of(handler: tornado.web.RequestHandler) -> Mapping[str, Any]:
    """What an OAuth provider has told Panel of who is logged in, from its cookie."""
    if not (kept := kept_by_panel(handler, "id_token")):
        return {}
    panel: Any = sys.modules["panel.auth"]
    try:
        told = panel.decode_token(panel.state._decrypt_cookie(kept))
    except Exception as error:  # of another key, or no token at all
        logger.info("what the OAuth provider said cannot be read: %s", error)
        return {}
    return told if isinstance(told, dict) else {}


def kept_by_panel(handler: tornado.web.RequestHandler, name: str) -> bytes | None:
    """A cookie of Panel's login, for as long as its pages take it."""
    panel: Any = sys.modules.get("panel.auth")
    return None if panel is None else handler.get_signed_cookie(name, max_age_days=panel.config.oauth_expiry)


class Rate:
    """How often somebody may ask: `burst` at once, `per_s` in the long run.

    Args:
        most: callers that are remembered; the ones that were silent for longest are forgotten.
    """

    def __init__(
        self, per_s: float, burst: float, *, most: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s, self._burst, self._most, self._clock = per_s, burst, most, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, caller: str, cost: float = 1.0) -> float:
        """0 where it may, and then it is counted; else the seconds until it may."""
        now = self._clock()
        left, at = self._left.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_s)
        wait = 0.0 if left >= cost else (cost - left) / self._per_s
        self._left[caller] = (left if wait else left - cost, now)
        if len(self._left) > self._most:
            self._left.popitem(last=False)
        return wait

    def forgive(self, caller: str) -> None:
        """Forget what was counted of a caller."""
        self._left.pop(caller, None)
