"""Messages between a joining machine and the gateway."""

from __future__ import annotations

import msgspec

JOIN_PATH, LEAVE_PATH = "/join", "/leave"


class JoinRequest(msgspec.Struct, frozen=True):
    """Body of the request of a machine that wants to join. `ticket`: hex digits. `about`: user and versions there."""

    ticket: str
    machine: str
    about: str = ""


class JoinReply(msgspec.Struct, frozen=True):
    """Credentials of a new member; see `Membership`."""

    name: str
    machine: str
    user: str
    password: str
    role: str
    namespace: str
    secret: str
    version: str
    python: str
    results: str = ""
