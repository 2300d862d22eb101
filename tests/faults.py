"""Fault points: a test kills, stops, disconnects or delays its process before or after a call of the store.

`arm("finish:before_reply:kill")` (several: separated by commas). Places are the names of verbs (`submit`, `claim`,
`renew`, `progress`, `keep`, `finish`, ...), each with three moments:

    before_send    nothing has reached the server
    before_reply   the server has executed the call, and the caller has not seen the reply
    after_reply    the caller has seen the reply and continued (on event loops only; after `renew` in the heartbeat's
                   thread use `prune:before_send`; a blocking submit returns with its reply)

Kinds: `kill` (SIGKILL to the own process), `stop` (SIGSTOP), `drop` (cut the connection), `delay=SECONDS`. With a last
`:N` the fault happens at the N-th pass instead of the first. Each fault happens once.

Faults apply to stores that are opened afterwards, and to all blocking calls.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ConnectionError as CutOff

from jobkit.store import library
from jobkit.store.library import RedisConnection, run_blocking

#: The moments, in the order of a call.
MOMENTS = ("before_send", "before_reply", "after_reply")


@dataclass(slots=True)
class Fault:
    """One fault. `left` counts the passes until it happens; 0: it has happened."""

    verb: str
    moment: str
    what: str
    left: int = 1
    seconds: float = 0.0


#: Faults of this process.
armed: list[Fault] = []


def parse(text: str) -> list[Fault]:
    """Parse the notation that the module describes.

    Raises:
        ValueError: not a valid notation.
    """
    found = []
    for part in filter(None, text.split(",")):
        verb, moment, what, *times = part.split(":")
        what, _, seconds = what.partition("=")
        if moment not in MOMENTS or what not in ("kill", "stop", "drop", "delay"):
            raise ValueError(f"{part!r} is not understood: verb:moment:what[:n], as in finish:before_reply:kill")
        found.append(Fault(verb, moment, what, int(times[0]) if times else 1, float(seconds or 0)))
    return found


def arm(text: str) -> None:
    """Replace the faults of this process; "" removes all."""
    armed[:] = parse(text)
    library.RedisConnection = FaultyConnection if armed else RedisConnection  # type: ignore[assignment,misc]
    library.run_blocking = _run_blocking if armed else run_blocking


def _run_blocking(execute: Callable[..., Any], prefix: str, verb: str, args: Sequence[Any]) -> Any:
    meet(verb, "before_send")
    reply = run_blocking(execute, prefix, verb, args)
    meet(verb, "before_reply")
    return reply


def _verb_of(command: tuple[Any, ...]) -> str:
    verbs = {name: verb for verb, name in library.current.functions.items()}
    return verbs.get(command[1], "") if len(command) > 1 else ""


class FaultyConnection(RedisConnection):
    """Connection with fault points around its calls."""

    async def call(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        names = [_verb_of(command) for command in commands]
        await self._meet(names, "before_send")
        replies = await super().call(commands)
        names = [name for name, reply in zip(names, replies, strict=True) if not isinstance(reply, Exception)]
        await self._meet(names, "before_reply")
        asyncio.get_running_loop().call_soon(self._meet_later, names)
        return replies

    async def _meet(self, names: Sequence[str], moment: str) -> None:
        for fault in due(names, moment):
            if fault.what == "delay":
                await asyncio.sleep(fault.seconds)
            else:
                happen(fault)

    def _meet_later(self, names: Sequence[str]) -> None:
        for fault in due(names, "after_reply"):
            if fault.what == "drop":
                self._cutting = asyncio.get_running_loop().create_task(self._cut())
            else:
                happen(fault)

    async def _cut(self) -> None:
        """Close what is not in use; the next call opens another."""
        while self._idle:
            await self._drop(self._idle.pop())


def due(names: Sequence[str], moment: str) -> list[Fault]:
    """Count one pass of a place, and return the faults that happen at it now."""
    found = []
    for fault in armed:
        if fault.left and fault.moment == moment and fault.verb in names:
            fault.left -= 1
            if not fault.left:
                found.append(fault)
    return found


def meet(name: str, moment: str) -> None:
    """Pass a place in a blocking call."""
    for fault in due([name], moment):
        happen(fault)


def happen(fault: Fault) -> None:
    """Execute a fault in the calling thread."""
    if fault.what == "delay":
        time.sleep(fault.seconds)
    elif fault.what == "drop":
        raise CutOff(f"cut off at {fault.verb}:{fault.moment} by a test")
    else:
        os.kill(os.getpid(), signal.SIGKILL if fault.what == "kill" else signal.SIGSTOP)
