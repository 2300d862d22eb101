"""How cookies of a login are marked: for this site alone, and for TLS alone where the browser speaks it.

Those of Panel's own logins as well, which are mended here in one more thing: see `mend_panels_logins`.
"""

from __future__ import annotations

import logging
import sys
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


def mend_panels_logins() -> None:
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
