"""The login by name and password, as Bokeh's hooks for one: `panel serve ... --auth-module .../jobkit/http/login.py`.

`jobkit dashboard --login FILE` serves with it. `jobkit.access.people` reads the file; removing a user or changing a
password ends the login at the next request. The name is in the signed cookie `user`, which Panel reads for
`pn.state.user`.
"""

from __future__ import annotations

import asyncio
import hashlib
import html
import logging
import re
import secrets
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import tornado.web
from tornado.httputil import parse_body_arguments

from jobkit.access.login_links import LINK_FIELD, name_of_link, use_link
from jobkit.access.own_machine import is_own_host, server_of_tornado, unknown_host
from jobkit.access.people import LOGIN_DAYS, Account, end_login, has_ended, is_password, read_login, split_seal
from jobkit.http.auth.access import Rate
from jobkit.http.auth.sessions import marks, prefix_of
from jobkit.http.bodies import BoundedBody
from jobkit.model import InvalidParams
from jobkit.settings import Settings

logger = logging.getLogger("jobkit.http")

#: Names that Bokeh reads.
login_url, logout_url = "/login", "/logout"

#: Wrong passwords from one address: 10 at once, then one in ten seconds.
_wrong = Rate(0.1, 10)

#: The fields of the page for name and password.
_FIELDS = re.compile(r"<label>.*</label>", re.DOTALL)

_BAD_LINK = "This link has expired or was used already: ask for a new one."

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def get_user(handler: Any) -> str | None:
    """Return the name of the logged-in user, or None. Bokeh reads this name."""
    name = handler.get_signed_cookie("user", max_age_days=LOGIN_DAYS)
    seal, login = _sealed(handler)
    if not name or not login or has_ended(login, _settings()):
        return None
    text: str = name.decode("utf-8", "replace")
    account = _accounts().get(text)
    return text if account is not None and seal == _seal(account) else None


def login_id(handler: Any) -> str:
    """Return the id of the request's login, or ""."""
    return _sealed(handler)[1]


def _sealed(handler: Any) -> tuple[str, str]:
    """Return seal and id of the login in the cookie beside the name's; see `split_seal`."""
    return split_seal(handler.get_signed_cookie("user_seal", max_age_days=LOGIN_DAYS))


def _accounts() -> Mapping[str, Account]:
    try:
        return read_login(_settings().login)
    except InvalidParams as error:
        logger.error("no user can log in: %s", error)
        return {}


@cache
def _settings() -> Settings:
    return Settings.load()


def _seal(account: Account) -> str:
    """Return a text that changes with the password and does not reveal it. The cookie with it is signed."""
    return hashlib.sha256(b"jobkit-seal\x00" + account.password.encode()).hexdigest()[:16]


class LoginHandler(BoundedBody):
    """A form for name and password. Limits the body before reading it, since the caller is not authenticated yet."""

    most_bytes = 64 * 1024

    def set_default_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.set_header(name, value)

    def initialize(self) -> None:
        self.settings.setdefault("xsrf_cookie_kwargs", marks(self))

    async def prepare(self) -> None:
        server = server_of_tornado(self.application).configured(_settings())
        if is_own_host(self.request.host, server.hosts):
            await super().prepare()
        else:
            self._show(unknown_host(self.request.host), 421)

    async def _refusal(self) -> bytes:
        self.set_status(413)
        return self._page(f"The form is larger than {self.most_bytes:,} bytes.").encode()

    def check_xsrf_cookie(self) -> None:
        """Do nothing: Tornado calls this before the body with the token is read; see `post`."""

    def _request_summary(self) -> str:
        """Return the request for logs, without the query, which may have a link."""
        return f"{self.request.method} {self.request.path} ({self.request.remote_ip})"

    async def get(self) -> None:
        if self._is_refused:
            await self.finish()
            return
        is_link = bool(self.get_query_argument(LINK_FIELD, ""))
        self._show(_BAD_LINK if is_link and not self._linked() else "")

    head = get

    async def post(self) -> None:
        if self._is_refused:
            await self.finish()
            return
        given = self.request.body_arguments
        parse_body_arguments(self.request.headers.get("Content-Type", ""), bytes(self._body), given, {})
        for field, values in given.items():
            self.request.arguments.setdefault(field, []).extend(values)
        super().check_xsrf_cookie()
        peer = str(self.request.remote_ip or "")
        link = self.get_body_argument(LINK_FIELD, "")[:200]
        name, password = self.get_body_argument("username", "")[:200], self.get_body_argument("password", "") or link
        if wait := _wrong.wait_s(peer, 0.0 if not password else 1.0):
            self.set_header("Retry-After", str(int(wait) + 1))
            self._show(f"Too many attempts. Try again in {int(wait) + 1} s.", 429)
            return
        if link:
            name = use_link(Path(_settings().login), link)
        account = _accounts().get(name)
        is_right = bool(link) or await asyncio.get_running_loop().run_in_executor(None, is_password, password, account)
        if account is None or not is_right:
            logger.warning("a login as %.60r from %s was refused", name, peer)
            self._show(_BAD_LINK if link else "Wrong name or password.", 403)
            return
        _wrong.forgive(peer)
        how = {"expires_days": LOGIN_DAYS, "httponly": True, "path": prefix_of(self) or "/", **marks(self)}
        self.set_signed_cookie("user", name, **how)
        self.set_signed_cookie("user_seal", f"{_seal(account)}.{secrets.token_hex(16)}", **how)
        self.redirect(_next(self))

    def _show(self, problem: str = "", status: int = 200) -> None:
        self.set_status(status)
        self.finish(self._page(problem))

    def _linked(self) -> str:
        """Return the user of the link that was opened, if it is valid, or ""."""
        link = self.get_query_argument(LINK_FIELD, "")[:200]
        return name_of_link(Path(_settings().login), link) if link else ""

    def _page(self, problem: str) -> str:
        page = (Path(__file__).parent / "login.html").read_text("utf-8")
        if not problem and (name := self._linked()):
            link = html.escape(self.get_query_argument(LINK_FIELD))
            hidden = f'<input type="hidden" name="{LINK_FIELD}" value="{link}">'
            page = _FIELDS.sub(f"{hidden}<p>This link logs you in as <b>{{{{name}}}}</b>.</p>", page)
        else:
            name = self.get_body_argument("username", "")[:200]
        marks = {
            "{{xsrf}}": self.xsrf_form_html(),
            "{{next}}": html.escape(self.get_argument("next", "")[:500]),
            "{{problem}}": f'<p class="problem" role="alert">{html.escape(problem)}</p>' if problem else "",
            "{{name}}": html.escape(name),
        }
        for mark, text in marks.items():
            page = page.replace(mark, text)
        return page


class LogoutHandler(tornado.web.RequestHandler):
    """Ends the login for all copies of its cookie, and removes the cookie from the browser."""

    def get(self) -> None:
        if get_user(self) is not None:
            try:
                end_login(login_id(self), _settings())
            except OSError as error:
                logger.error("a login could not be ended, but its cookies are removed: %s", error)
        for name in ("user", "user_seal", "is_guest", "id_token"):
            self.clear_cookie(name, path=prefix_of(self) or "/")
        self.redirect(f"{prefix_of(self)}{login_url}")


def _next(handler: tornado.web.RequestHandler) -> str:
    """Return the path to continue at: that of the parameter `next` if it is one of this server."""
    wanted = handler.get_argument("next", "")
    is_ours = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    return wanted if is_ours and "\\" not in wanted and login_url not in wanted else f"{prefix_of(handler)}/"
