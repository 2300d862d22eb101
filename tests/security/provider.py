"""A minimal OpenID Connect provider: code flow with a secret or PKCE, ID tokens, user information."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import secrets
import threading
import time
from typing import Any
from urllib.parse import urlencode

import jwt
import tornado.web

from tests.support import wait_until

CLIENT, SECRET = "jobkit-tests", "a secret of the provider, long enough for its signatures"


class Provider:
    """Provider on 127.0.0.1 until `close`.

    Attributes:
        people: claims of each user by `sub`; `/authorize` shows a button for each.
        returns: prefixes of the redirect URIs that it accepts.
        tells: source of the claims: "id_token", or "userinfo" alone.
        said: how the last token request authenticated: "secret" or "pkce".
    """

    def __init__(self, people: dict[str, dict[str, Any]]) -> None:
        self.people, self.returns, self.tells, self.said = people, [], "id_token", ""
        self.codes: dict[str, dict[str, str]] = {}
        self.tokens: dict[str, str] = {}
        self._running: Any = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="provider")
        self._thread.start()
        wait_until(lambda: self._running is not None, what="the provider")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._running[0]}"

    @property
    def environ(self) -> dict[str, str]:
        """Return the settings of `docs/how-to/people.md` for a provider that Panel does not know."""
        return {
            "PANEL_OAUTH_KEY": CLIENT,
            "PANEL_OAUTH_SECRET": SECRET,
            "PANEL_OAUTH_AUTHORIZE_URL": f"{self.url}/authorize",
            "PANEL_OAUTH_TOKEN_URL": f"{self.url}/token",
            "PANEL_OAUTH_USER_URL": f"{self.url}/userinfo",
        }

    async def _run(self) -> None:
        handlers = {"authorize": _Authorize, "token": _Token, "userinfo": _UserInfo, "favicon.ico": _Nothing}
        application = tornado.web.Application(
            [(f"/{path}", handler, {"provider": self}) for path, handler in handlers.items()],
            log_function=lambda _: None,
        )
        server = application.listen(0, "127.0.0.1")
        end = asyncio.Event()
        [listening] = server._sockets.values()
        self._running = listening.getsockname()[1], asyncio.get_running_loop(), end
        await end.wait()
        server.stop()
        await server.close_all_connections()

    def close(self) -> None:
        _, loop, end = self._running
        loop.call_soon_threadsafe(end.set)
        self._thread.join(60)
        assert not self._thread.is_alive()


class _Handler(tornado.web.RequestHandler):
    def initialize(self, provider: Provider) -> None:
        self.provider = provider


class _Authorize(_Handler):
    """Login page: a button for each user, and one to refuse."""

    def get(self) -> None:
        asked = {name: self.get_argument(name, "") for name in self.request.arguments}
        known = any(asked.get("redirect_uri", "").startswith(each) for each in self.provider.returns)
        if asked.get("client_id") != CLIENT or asked.get("response_type") != "code" or not known:
            raise tornado.web.HTTPError(400, "not a client of mine: %s", asked)
        who = asked.pop("who", None)
        if who is None:
            hidden = "".join(
                f'<input type=hidden name="{html.escape(name)}" value="{html.escape(value)}">'
                for name, value in asked.items()
            )
            buttons = "".join(
                f'<button name=who value="{each}">{each}</button>' for each in (*self.provider.people, "no")
            )
            self.finish(f"<!doctype html><title>Provider</title><form>{hidden}{buttons}</form>")
            return
        back = {"state": asked.get("state", "")}
        if who == "no":
            back |= {"error": "access_denied", "error_description": "ada <b>said</b> no"}
        else:
            back["code"] = secrets.token_urlsafe(16)
            self.provider.codes[back["code"]] = {**asked, "who": who}
        self.redirect(f"{asked['redirect_uri']}?{urlencode(back)}")


class _Nothing(_Handler):
    def get(self) -> None:
        self.set_status(204)


class _Token(_Handler):
    """Token endpoint: accepts a code once, from the authenticated client."""

    def post(self) -> None:
        given = {name: self.get_body_argument(name) for name in self.request.body_arguments}
        asked = self.provider.codes.pop(given.get("code", ""), None)
        if asked is None or given.get("redirect_uri") != asked["redirect_uri"] or given.get("client_id") != CLIENT:
            self._refuse("invalid_grant", "this code is not of mine")
            return
        if challenge := asked.get("code_challenge"):
            digest = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
            is_client, said = base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == challenge, "pkce"
        else:
            is_client, said = given.get("client_secret") == SECRET, "secret"
        if not is_client:
            self._refuse("invalid_client", "not the client that asked for it")
            return
        self.provider.said = said
        access = secrets.token_urlsafe(16)
        self.provider.tokens[access] = asked["who"]
        told: dict[str, Any] = {"access_token": access, "token_type": "Bearer", "expires_in": 3600}
        if self.provider.tells == "id_token":
            now = int(time.time())
            claims = {"iss": self.provider.url, "aud": CLIENT, "sub": asked["who"], "iat": now, "exp": now + 3600}
            told["id_token"] = jwt.encode({**claims, **self.provider.people[asked["who"]]}, SECRET, "HS256")
        self.finish(told)

    def _refuse(self, error: str, sentence: str) -> None:
        self.set_status(400)
        self.finish({"error": error, "error_description": sentence})


class _UserInfo(_Handler):
    def get(self) -> None:
        who = self.provider.tokens.get(self.request.headers.get("Authorization", "").removeprefix("Bearer "))
        if who is None:
            raise tornado.web.HTTPError(401)
        self.finish({"sub": who, **self.provider.people[who]})
