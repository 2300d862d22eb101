"""The Lua transitions: loaded once, called by their hash, loaded again when a server has forgotten them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from jobkit.store import faults
from jobkit.store.line import Line

NAMES = (
    "submit",
    "claim",
    "progress",
    "keep",
    "finish",
    "renew",
    "leave",
    "stop",
    "cancel",
    "delete",
    "prune",
    "restore",
    "list",
    "versions",
    "briefs",
    "publish",
    "attend",
    "attending",
    "judge",
    "move",
    "schedule_put",
    "schedule_due",
    "schedule_change",
    "rule",
    "waiting",
    "refused",
    "note",
)
#: Of jobs that come by arq's own client; see `redis_arq`.
ARQ_NAMES = ("arq_scan", "arq_adopt", "arq_stage", "arq_settle", "arq_enqueue")


def _read(name: str) -> str:
    return (files("jobkit.store") / "lua" / f"{name}.lua").read_text("utf-8")


_HOLD = "\nhold = function()\nhold = function() end\n" + _read("hold") + _read("once") + "\nend\n"
_HEAD = _read("head") + _HOLD + _read("arq") + _read("failures") + _read("schedules")

#: name -> source, and name -> its sha1.
SOURCES = {name: _HEAD + _read(name) for name in NAMES + ARQ_NAMES}
# A slot's jobs are stored as any others are, in the same step.
SOURCES["schedule_fire"] = _HEAD + _read("schedule_fire") + _read("submit")
HASHES = {name: hashlib.sha1(source.encode()).hexdigest() for name, source in SOURCES.items()}


def run_blocking(client: Any, prefix: str, name: str, args: Sequence[Any]) -> Any:
    """A script's reply over a blocking client, for the heartbeat thread."""
    if not faults.armed:
        return _run_blocking(client, prefix, name, args)
    faults.meet(name, "before_send")
    reply = _run_blocking(client, prefix, name, args)
    faults.meet(name, "before_reply")
    return reply


def _run_blocking(client: Any, prefix: str, name: str, args: Sequence[Any]) -> Any:
    try:
        return client.execute_command("EVALSHA", HASHES[name], 1, prefix, *args)
    except NoScriptError:
        return client.execute_command("EVAL", SOURCES[name], 1, prefix, *args)


def _name_of(command: tuple[Any, ...]) -> str:
    return next((name for name, sha1 in HASHES.items() if sha1 == command[1]), "") if len(command) > 1 else ""


class Scripts:
    """Calls scripts on one client, for one namespace."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        line = Line(redis)
        self._line: faults.Calls = faults.FaultyLine(line, _name_of) if faults.armed else line
        self._prefix = prefix

    async def run(self, name: str, args: Sequence[Any]) -> Any:
        """The script's reply."""
        try:
            return await self._call(name, args)
        except NoScriptError:
            await self._load()
            return await self._call(name, args)

    async def _call(self, name: str, args: Sequence[Any]) -> Any:
        (reply,) = await self._line.call([("EVALSHA", HASHES[name], 1, self._prefix, *args)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def _load(self) -> None:
        """Teach the server every script, not just the missing one: `run_many` would run that one after those behind it,
        and the last lines of a job came after its end and were refused."""
        pipe = self._redis.pipeline(transaction=False)
        for source in SOURCES.values():
            pipe.script_load(source)
        await pipe.execute()

    async def run_many(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Replies of several scripts, sent together: one round trip. Each is atomic, the group is not."""
        replies = await self._line.call([("EVALSHA", HASHES[name], 1, self._prefix, *args) for name, args in calls])
        for i, (name, args) in enumerate(calls):
            if isinstance(replies[i], NoScriptError):  # not executed: safe to send again
                replies[i] = await self.run(name, args)
            elif isinstance(replies[i], Exception):
                raise replies[i]
        return replies
