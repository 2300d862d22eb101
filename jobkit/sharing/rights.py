"""Rights of members on the server, as rules of Redis's access control lists. `docs/reliability.md` shows them, too."""

from __future__ import annotations

from enum import StrEnum


class MemberRole(StrEnum):
    """Role of a member: a worker submits and runs jobs, a viewer only reads."""

    WORKER = "worker"
    VIEWER = "viewer"


#: Never allowed: what shows keys of other namespaces, or changes or shows the server and other connections. PFMERGE
#: without a source creates a key that the server does not check.
_NEVER = ("-@keyspace", "-@dangerous", "-@hyperloglog", "-publish", "-spublish", "-pubsub", "-function")

#: Commands of both roles, beside those of their categories.
_BOTH = (
    "+exists", "+type", "+ttl", "+pttl", "+pexpiretime", "+pubsub|numsub", "+fcall", "+fcall_ro", "+function|list",
    "+time", "+info", "+ping", "+echo", "+quit", "+client|id", "+client|setname", "+client|setinfo",
)  # fmt: skip

#: Further commands of workers. The first worker of a version loads its functions.
_OF_WORKERS = (
    "+publish", "+del", "+unlink", "+expire", "+pexpire", "+pexpireat", "+persist", "+rename", "+function|load",
)  # fmt: skip


def rights_of(role: MemberRole, namespace: str) -> tuple[str, ...]:
    """Return the rules of a role in one namespace.

    A viewer's functions fail at their first write, because Redis checks the commands in them with the rights of their
    caller.
    """
    keys, channels = f"~jk:{namespace}:*", f"&jk:{namespace}:*"
    categories = ("-@all", "+@read", "+@pubsub", "+@transaction")
    if role is MemberRole.VIEWER:
        # The last key is the prefix, which each call of a function names.
        return *categories, *_NEVER, *_BOTH, f"%R{keys}", f"~jk:{namespace}:", channels
    return *categories, "+@write", *_NEVER, *_BOTH, *_OF_WORKERS, keys, "~jk:libraries", channels


def mark_key(namespace: str) -> str:
    """Return the key of a namespace's mark, which is the name of its folder for files."""
    return f"jk:{namespace}:place"
