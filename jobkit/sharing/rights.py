"""Rights of members on the server, as rules of Redis's access control lists. `docs/reliability.md` shows them, too."""

from __future__ import annotations

from enum import StrEnum


class MemberRole(StrEnum):
    """Role of a member: a worker submits and runs jobs, a viewer only reads."""

    WORKER = "worker"
    VIEWER = "viewer"


#: Never allowed: what shows keys of other namespaces, or changes or shows the server and other connections.
_NEVER = ("-@keyspace", "-@dangerous", "-publish", "-spublish", "-pubsub", "-function")

#: Commands of both roles, in order.
_READS = (
    "-@all", "+@read", "+@pubsub", "+@transaction", *_NEVER, "+exists", "+type", "+ttl", "+pttl", "+pubsub|numsub",
    "+fcall", "+fcall_ro", "+function|list", "+time", "+info", "+ping", "+echo", "+quit", "+client|id",
    "+client|setname", "+client|setinfo",
)  # fmt: skip

#: Further commands of workers. The first worker of a version loads its functions.
_WRITES = (
    "+@write", *_NEVER, "+exists", "+type", "+ttl", "+pttl", "+pexpiretime", "+pubsub|numsub", "+function|list",
    "+function|load", "+info", "+publish", "+del", "+unlink", "+expire", "+pexpire", "+pexpireat", "+persist",
    "+rename",
)  # fmt: skip


def rights_of(role: MemberRole, namespace: str) -> tuple[str, ...]:
    """Return the rules of a role in one namespace.

    A viewer's functions fail at their first write, because Redis checks the commands in them with the rights of their
    caller.
    """
    channels = f"&jk:{namespace}:*"
    if role is MemberRole.VIEWER:
        # The second is no key, but the prefix, which each call of a function names.
        return *_READS, f"%R~jk:{namespace}:*", f"~jk:{namespace}:", channels
    return *_READS, *_WRITES, f"~jk:{namespace}:*", "~jk:libraries", channels


def mark_key(namespace: str) -> str:
    """Return the key of a namespace's mark, which is the name of its folder for files."""
    return f"jk:{namespace}:place"
