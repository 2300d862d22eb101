"""Rights of members on the server, as rules of Redis's access control lists. `docs/reliability.md` shows them, too."""

from __future__ import annotations

from enum import StrEnum


class MemberRole(StrEnum):
    """Role of a member: a worker submits and runs jobs, a viewer only reads."""

    WORKER = "worker"
    VIEWER = "viewer"


#: Commands of both roles. None of them names or shows what belongs to another namespace or user.
_READS = (
    "-@all", "+@read", "+@pubsub", "+@connection", "+@transaction", "+fcall", "+fcall_ro", "+time", "+info",
    "+function|list", "-scan", "-randomkey", "-dbsize", "-select", "-keys", "-sort_ro",
    "-publish", "-spublish", "-pubsub", "+pubsub|numsub",
    "-client", "+client|setname", "+client|setinfo", "+client|id", "+client|tracking",
)  # fmt: skip

#: Further commands of workers. Their functions are loaded by the first worker of a version.
_WRITES = ("+@write", "-@dangerous", "-move", "-copy", "+publish", "+info", "+function|load")


def rights_of(role: MemberRole, namespace: str) -> tuple[str, ...]:
    """Return the rules of a role in one namespace.

    A viewer's functions fail at their first write, because Redis checks the commands in them with the rights of their
    caller.
    """
    channels = f"&jk:{namespace}:*"
    if role is MemberRole.VIEWER:
        return *_READS, f"%R~jk:{namespace}:*", channels
    return *_READS, *_WRITES, f"~jk:{namespace}:*", "~jk:libraries", channels


def mark_key(namespace: str) -> str:
    """Return the key of a namespace's mark, which is the name of its folder for files."""
    return f"jk:{namespace}:place"
