"""Who looks at this browser session: by the server's login, or by the connection itself where nobody asks.

A page without a login shows jobs to this machine alone. How it is served is not in our hands (`panel serve --address
0.0.0.0` is quickly typed), so each session is judged by its own connection and not by a setting.
"""

from __future__ import annotations

import gc
import ipaddress
import logging
import weakref
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import panel as pn

from jobkit.model.people import Person
from jobkit.people import Standing, stranger
from jobkit.settings import Settings

logger = logging.getLogger("jobkit.ui")

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

#: As in `http.access`: what came through a proxy did not come from this machine.
_PROXIED = frozenset(
    {"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "x-forwarded-context"}
)


def person_here(settings: Settings) -> Person:
    """The person of the current session; outside of any (a notebook, a script) its own user, who may everything."""
    return judge_here(settings)()


def judge_here(settings: Settings) -> Callable[[], Person]:
    """Says who it is that looks, in the current session: now, and whenever it is asked later, from anywhere."""
    document: Any = pn.state.curdoc
    context = document.session_context if document is not None else None
    request = context.request if context is not None else None
    if request is None:
        return Person
    name = str(pn.state.user or "").strip('"')[:200]
    if name:
        # A guest of `--oauth-optional` has shown no name that anybody vouches for.
        is_listed = not pn.config.oauth_provider and name != "guest"
        return Standing(name, settings, is_listed=is_listed, claims=_claims()).now
    person = stranger(settings, is_own_machine=is_own_machine(request))
    return lambda: person


def _claims() -> Mapping[str, Any]:
    """What an OAuth provider has said of who is logged in; nothing of other logins."""
    try:
        told = pn.state.user_info if pn.config.oauth_provider else None
    except Exception as error:  # a cookie of another key, or no token at all
        logger.info("what the OAuth provider said cannot be read: %s", error)
        return {}
    return told if isinstance(told, dict) else {}


def refusal(person: Person, settings: Settings) -> tuple[str, str, list[str]]:
    """What to tell somebody who sees nothing: in a few words, in a sentence, and what may be set."""
    if person.name:
        return (
            "No access",
            f"{person.name} is logged in, but has no role here. Who runs this server can give one, by name or by group "
            "(view, operate, admin, or own for their own jobs):",
            [f"JOBKIT_ROLES={person.name}=view"],
        )
    why = "This server asks nobody who they are, so it shows jobs to its own machine alone."
    if url := settings.public_url:
        why = f"This server asks nobody who they are, and as {url} others reach it, so it shows jobs to nobody."
    return (
        "No access",
        f"{why} To let people in, serve it with a login; or, where a proxy asks them, say what they may:",
        ["jobkit dashboard --host 0.0.0.0 --login users.json", "JOBKIT_ROLES=anonymous=view"],
    )


def is_own_machine(request: Any) -> bool:
    """Whether a session was asked for from this machine, and not through a proxy on it.

    The name is looked at because a page elsewhere may have its own name point here. A proxy need not leave a trace, but
    it serves under a name of its own, which this server then has to know.
    """
    context = getattr(getattr(request, "connection", None), "context", None)
    # Of the connection itself, whatever headers say; a websocket has no stream of its own any more. A peer without an
    # address has come by a unix socket.
    address, family = getattr(context, "address", None), getattr(context, "address_family", None)
    if not (_is_loopback(str(address[0])) if isinstance(address, tuple) else getattr(family, "name", "") == "AF_UNIX"):
        return False
    names = [str(request.host or ""), *(name for server in _servers_here() for name in server.websocket_origins)]
    is_proxied = any(header.lower() in _PROXIED for header in request.headers)
    return not is_proxied and all(_name(name) in _LOOPBACK for name in names)


def _name(host: str) -> str:
    """The name in `name:port`; "" where it is none."""
    try:
        return (urlsplit(f"//{host.lower()}").hostname or "") if "@" not in host else ""
    except ValueError:
        return ""


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


_servers: weakref.WeakSet[Any] = weakref.WeakSet()


def _servers_here() -> list[Any]:
    """This process's servers, which nobody hands to a session."""
    from bokeh.server.tornado import BokehTornado

    if not _servers:
        _servers.update(each for each in gc.get_objects() if isinstance(each, BokehTornado))
    return list(_servers)
