"""Rights on the server that jobkit's user needs, and which of them it lacks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jobkit.store import library

if TYPE_CHECKING:
    from jobkit.store.namespace import RedisNamespace

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


async def lacking(store: RedisNamespace) -> list[str]:
    """Return the rights that this user lacks, each as a phrase: "the command HSET", "writing the keys jk:default:*".

    Raises:
        StoreUnavailable: it may not even call functions, or the server does not answer.
    """
    return [lack.decode() for lack in await store.run("rights", needed())]
