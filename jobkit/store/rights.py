"""Rights on the server that jobkit's user needs."""

from __future__ import annotations

import re

from jobkit.store import library

#: As ACL SETUSER takes them; docs/reliability.md says why.
RIGHTS = "~jk:* ~arq:* &jk:* +@all -@dangerous -@admin +info"

#: Commands that clients send themselves. Those of the verbs are found in the library's text.
_SENT = (
    "FUNCTION LOAD",
    "GET",
    "HGETALL",
    "MULTI",
    "PING",
    "SET",
    "SISMEMBER",
    "SMISMEMBER",
    "SUBSCRIBE",
    "TIME",
    "UNSUBSCRIBE",
    "XREAD",
    "XREVRANGE",
    "ZRANGE",
    "ZREVRANGEBYSCORE",
)

_CALLED = re.compile(r"\b(?:call|try)\('([A-Z]+)'(?:, '([A-Z]+)')?")


def needed() -> list[str]:
    """Return the commands that jobkit uses: "HSET", "FUNCTION LOAD"."""
    called = {" ".join(filter(None, names)) for names in _CALLED.findall(library.current.text)}
    return sorted(called.union(_SENT))
