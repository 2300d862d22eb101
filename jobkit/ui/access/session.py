"""The person of a browser session: by the server's login, or without one by the connection itself.

A page without a login shows jobs to the person who serves it, on this machine: `jobkit.access.own_machine` decides.
Actions check the role each time; `role_changed` notices that it has, because an open page would still show what the old
role was allowed to see.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import panel as pn
from tornado.web import decode_signed_value

import jobkit.ui.panel_server as panel_server
from jobkit.access.own_machine import AccessDecision
from jobkit.access.people import LOGIN_DAYS, LoginState, split_seal, stranger
from jobkit.model.person import Person
from jobkit.settings import Settings

logger = logging.getLogger("jobkit.ui")

#: Seconds between two checks of a role. Two of them must agree: a file may be read while it is being written.
_LOOK_S = 1.0


def judge_here(settings: Settings) -> Callable[[], Person]:
    """Return a function that returns the person of the current session as of each call, from any thread.

    Outside a session (notebook, script) it returns the user, with all rights.
    """
    decision = panel_server.decide_here(settings)
    if decision is None:
        return Person
    name = panel_server.login_name()
    if name:
        # A guest of `--oauth-optional` has shown no name that anybody vouches for.
        is_listed = not pn.config.oauth_provider and name != "guest"
        return LoginState(name, settings, is_listed=is_listed, claims=_claims(), login_id=_login_id()).now
    person = stranger(settings, is_own_machine=decision.is_own)
    return lambda: person


def _login_id() -> str:
    """Return the id of the login in jobkit's login file that the current session came with, or ""."""
    secret, cookie = pn.config.cookie_secret, (pn.state.cookies or {}).get("user_seal")
    if not secret or not cookie:
        return ""
    return split_seal(decode_signed_value(secret, "user_seal", cookie, max_age_days=LOGIN_DAYS))[1]


def _claims() -> Mapping[str, Any]:
    """Return the claims of the OAuth provider; {} for other logins."""
    try:
        told = pn.state.user_info if pn.config.oauth_provider else None
    except Exception as error:  # a cookie of another key, or no token at all
        logger.info("what the OAuth provider said cannot be read: %s", error)
        return {}
    return told if isinstance(told, dict) else {}


def refusal(person: Person, settings: Settings) -> tuple[str, str, list[str]]:
    """Return title, sentence and example settings for a person who may see nothing."""
    if person.name:
        return (
            "No access",
            f"{person.name} is logged in, but has no role here. Who runs this server can give one, by name or by group "
            "(view, operate, admin, or own for their own jobs):",
            [f"JOBKIT_ROLES={person.name}=view"],
        )
    decision = panel_server.decide_here(settings)
    why = decision or AccessDecision(False, "this server has no login")
    if why.needs_token:
        return "No access", panel_server.sentence_of(why), []
    return (
        "No access",
        f"{panel_server.sentence_of(why)} To let people in, serve it with a login; or, where a proxy asks them, say "
        "what they may:",
        ["jobkit dashboard --host 0.0.0.0 --login users.json", "JOBKIT_ROLES=anonymous=view"],
    )


async def role_changed(came: Person, judge: Callable[[], Person]) -> None:
    """Return when `judge` no longer returns the person that `came`: it checks the login file's time each second."""
    seen = came
    while True:
        await asyncio.sleep(_LOOK_S)
        now = judge()
        if now != came and now == seen:
            return
        seen = now
