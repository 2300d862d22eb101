"""Logins by cookie: the user of a request, flags of cookies, fixes of Panel's own login handlers."""

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
    """Return the options of a login's cookie: for this site only, and for TLS only if the browser uses it."""
    is_tls = handler.request.protocol == "https" or _public_url().startswith("https://")  # of a proxy
    return {"samesite": "Lax", "secure": is_tls}


@cache
def _public_url() -> str:
    """Read once per server."""
    return Settings.load().public_url


def prefix_of(handler: tornado.web.RequestHandler) -> str:
    """Return the path under which Panel serves (`--prefix`), or ""."""
    return str(getattr(handler.application, "prefix", "") or "")


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


def is_listed(provider: Any) -> bool:
    """Return whether users who may log in are listed by name: so with passwords, not with OAuth."""
    return not any(kind.__name__ == "OAuthProvider" for kind in type(provider).__mro__)


def user_of(handler: Any) -> str:
    """Return the name in the login's cookie: of jobkit's login, which reads its file again, or of Panel's; or ""."""
    if (found := _of_auth_module(handler, "get_user")) is not None:
        return str(found(handler) or "")
    user = kept_by_panel(handler, "user")
    return "" if not user else user.decode("utf-8", "replace").strip('"')[:200]


def login_id_of(handler: Any) -> str:
    """Return the id of the login, see `people.end_login`; "" for logins other than jobkit's."""
    found = _of_auth_module(handler, "login_id")
    return "" if found is None else str(found(handler))


def _of_auth_module(handler: Any, name: str) -> Callable[[Any], Any] | None:
    return getattr(getattr(handler.application.auth_provider, "_module", None), name, None)
