"""Named places where a test lets its process die, freeze, be cut off or wait: around each call of a verb.

`arm("finish:before_reply:kill")` (several with commas). The places are the names of the verbs (`submit`, `claim`,
`renew`, `progress`, `keep`, `finish`, ...), each at three moments:

    before_send    nothing has reached the server
    before_reply   the server has done it, and nobody here knows
    after_reply    whoever asked knows, and has gone on from there (on an event loop; in the heartbeat's thread
                   `prune:before_send` comes after `renew`, and a blocking submit that has its reply is over)

What happens there: `kill` (SIGKILL to ourselves), `stop` (SIGSTOP), `drop` (the connection is cut) or `delay=SECONDS`.
A last `:N` means the N-th time that the place is passed instead of the first. Each happens once.

It counts for stores that are opened afterwards, and for all calls of threads.
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
from jobkit.store.library import run_blocking
from jobkit.store.line import Line

#: When it happens, in the order of a call.
MOMENTS = ("before_send", "before_reply", "after_reply")


@dataclass(slots=True)
class Fault:
    """What happens at one place. `left` is how often the place is passed until it does; 0: it has happened."""

    verb: str
    moment: str
    what: str
    left: int = 1
    seconds: float = 0.0


#: Faults of this process.
armed: list[Fault] = []


def parse(text: str) -> list[Fault]:
    """Faults from a text, see the module.

    Raises:
        ValueError: it is none.
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
    """Replace the faults of this process; "" for none."""
    armed[:] = parse(text)
    library.Line = FaultyLine if armed else Line  # type: ignore[assignment,misc]
    library.run_blocking = _run_blocking if armed else run_blocking


def _run_blocking(execute: Callable[..., Any], prefix: str, verb: str, args: Sequence[Any]) -> Any:
    meet(verb, "before_send")
    reply = run_blocking(execute, prefix, verb, args)
    meet(verb, "before_reply")
    return reply


def _verb_of(command: tuple[Any, ...]) -> str:
    verbs = {name: verb for verb, name in library.current.functions.items()}
    return verbs.get(command[1], "") if len(command) > 1 else ""


class FaultyLine(Line):
    """A line with faults around its calls."""

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
                self._cutting = asyncio.get_running_loop().create_task(self.cut())
            else:
                happen(fault)


def due(names: Sequence[str], moment: str) -> list[Fault]:
    """Those that happen here and now; each place that is passed counts."""
    found = []
    for fault in armed:
        if fault.left and fault.moment == moment and fault.verb in names:
            fault.left -= 1
            if not fault.left:
                found.append(fault)
    return found


def meet(name: str, moment: str) -> None:
    """Pass a place in a thread that blocks on its calls."""
    for fault in due([name], moment):
        happen(fault)


def happen(fault: Fault) -> None:
    """Let it happen, in the calling thread."""
    if fault.what == "delay":
        time.sleep(fault.seconds)
    elif fault.what == "drop":
        raise CutOff(f"cut off at {fault.verb}:{fault.moment} by a test")
    else:
        os.kill(os.getpid(), signal.SIGKILL if fault.what == "kill" else signal.SIGSTOP)
