"""Rights of members on the server, as rules of Redis's access control lists. `docs/reliability.md` shows them, too."""

from __future__ import annotations

from enum import StrEnum


class MemberRole(StrEnum):
    """Role of a member: a worker submits and runs jobs, a viewer only reads."""

    WORKER = "worker"
    VIEWER = "viewer"


#: Commands of both roles: what jobkit sends and its functions call, and no more. Of a viewer each takes a time that is
#: bounded by what it reads; so it has none of those that compare or sample (`LCS`, `SINTER`, `SORT`, `ZINTERCARD`).
_BOTH = (
    "+exists", "+type", "+ttl", "+pttl", "+pexpiretime", "+get", "+getrange", "+strlen", "+hexists", "+hget",
    "+hgetall", "+hkeys", "+hlen", "+hmget", "+hscan", "+hvals", "+lindex", "+llen", "+lrange", "+scard",
    "+sismember", "+smembers", "+smismember", "+xinfo|stream", "+xlen", "+xrange", "+xread", "+xrevrange", "+zcard",
    "+zcount", "+zmscore", "+zrange", "+zrangebyscore", "+zrank", "+zrevrange", "+zrevrangebyscore", "+zscan",
    "+zscore", "+multi", "+exec", "+discard", "+subscribe", "+unsubscribe", "+pubsub|numsub", "+fcall", "+fcall_ro",
    "+function|list", "+time", "+info", "+ping", "+echo", "+quit", "+client|id", "+client|setname",
    "+client|setinfo",
)  # fmt: skip

#: Further commands of workers. The first worker of a version loads its functions.
_OF_WORKERS = (
    "+set", "+del", "+unlink", "+rename", "+persist", "+expire", "+pexpire", "+pexpireat", "+hset", "+hsetnx",
    "+hdel", "+hincrby", "+hrandfield", "+lpush", "+rpush", "+lset", "+ltrim", "+sadd", "+srandmember", "+srem",
    "+xadd", "+xdel", "+xtrim", "+zadd", "+zincrby", "+zintercard", "+zpopmin", "+zrandmember", "+zrem",
    "+zremrangebyrank", "+zremrangebyscore", "+publish", "+function|load",
)  # fmt: skip


def rights_of(role: MemberRole, namespace: str) -> tuple[str, ...]:
    """Return the rules of a role in one namespace.

    A viewer's functions fail at their first write, because Redis checks the commands in them with the rights of their
    caller.
    """
    keys, channels = f"~jk:{namespace}:*", f"&jk:{namespace}:*"
    if role is MemberRole.VIEWER:
        # The last key is the prefix, which each call of a function names.
        return "-@all", *_BOTH, f"%R{keys}", f"~jk:{namespace}:", channels
    return "-@all", *_BOTH, *_OF_WORKERS, keys, "~jk:libraries", channels


def mark_key(namespace: str) -> str:
    """Return the key of a namespace's mark, which is the name of its folder for files."""
    return f"jk:{namespace}:place"
