"""Who looks at this browser session: by the server's login, or by the connection itself where nobody asks.

A page without a login shows jobs to this machine alone. How it is served is not in our hands (`panel serve --address
0.0.0.0` is quickly typed), so each session is judged by its own connection and not by a setting.
"""

from __future__ import annotations

import gc
import ipaddress
from typing import Any
from urllib.parse import urlsplit

import panel as pn

from jobkit.model.people import Person, Role
from jobkit.people import person_named, stranger
from jobkit.settings import Settings

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def person_here(settings: Settings) -> Person:
    """The person of the current session; outside of any (a notebook, a script) its own user, who may everything."""
    document: Any = pn.state.curdoc
    context = document.session_context if document is not None else None
    request = context.request if context is not None else None
    if request is None:
        return Person()
    name = str(pn.state.user or "").strip('"')[:200]
    if name:
        # A guest of `--oauth-optional` has shown no name that anybody vouches for.
        return person_named(name, settings, is_listed=not pn.config.oauth_provider and name != "guest")
    return stranger(settings, is_own_machine=is_own_machine(request))


def refusal(person: Person) -> str:
    """What to tell somebody who sees nothing; "" for others."""
    if person.role is not Role.NONE:
        return ""
    if person.name:
        return (
            f"{person.name} is logged in, but has no role here. Who runs this server can give one: "
            f"JOBKIT_ROLES={person.name}=view, or operate, admin, own"
        )
    return (
        "This server asks nobody who they are, so it shows jobs to its own machine alone. To let others in, serve it "
        "with a login: jobkit dashboard --host 0.0.0.0 --login users.json"
    )


def is_own_machine(request: Any) -> bool:
    """Whether a session was asked for from this machine, under a name that this server has.

    The other end of the connection has to be this machine's; a proxy on it passes, since whoever set it up has to let
    its name in by `--allow-websocket-origin` too. The name is looked at because a page elsewhere may have its own name
    point here.
    """
    context = getattr(getattr(request, "connection", None), "context", None)
    # Of the connection itself, whatever headers say; a websocket has no stream of its own any more. A peer without an
    # address has come by a unix socket.
    address, family = getattr(context, "address", None), getattr(context, "address_family", None)
    if not (_is_loopback(str(address[0])) if isinstance(address, tuple) else getattr(family, "name", "") == "AF_UNIX"):
        return False
    host = str(request.host or "").lower()
    name = (urlsplit(f"//{host}").hostname or "") if "@" not in host else ""
    return name in _LOOPBACK or not _origins().isdisjoint((host, "*"))


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def _origins() -> frozenset[str]:
    """The names that this process's server was told to serve under. Asked for only where a name is not loopback."""
    from bokeh.server.tornado import BokehTornado

    servers = [each for each in gc.get_objects() if isinstance(each, BokehTornado)]
    return frozenset(origin.lower() for server in servers for origin in server.websocket_origins)
