"""Named places where a test lets this process die, freeze, be cut off or wait: around each call of a transition.

`JOBKIT_FAULT=finish:before_reply:kill` (several with commas) in the environment of one process, or `arm` in a test. The
places are the scripts' names (`submit`, `claim`, `renew`, `progress`, `keep`, `finish`, ...), each at three moments:

    before_send    nothing has reached the server
    before_reply   the server has done it, and nobody here knows
    after_reply    whoever asked knows, and has gone on from there (on an event loop; in the heartbeat's thread
                   `prune:before_send` comes after `renew`, and a blocking submit that has its reply is over)

What happens there: `kill` (SIGKILL to ourselves), `stop` (SIGSTOP), `drop` (the connection is cut) or `delay=SECONDS`.
A last `:N` means the N-th time that the place is passed instead of the first. Each happens once.

Without any nothing is wrapped, so that the calls of a real process cost what they cost without this module.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from redis.exceptions import ConnectionError as CutOff

#: When it happens, in the order of a call.
MOMENTS = ("before_send", "before_reply", "after_reply")


@dataclass(slots=True)
class Fault:
    """What happens at one place. `left` is how often the place is passed until it does; 0: it has happened."""

    script: str
    moment: str
    what: str
    left: int = 1
    seconds: float = 0.0


#: Of this process; those of `arm` count for stores that are opened afterwards.
armed: list[Fault] = []


def parse(text: str) -> list[Fault]:
    """Faults from a text, see the module.

    Raises:
        ValueError: it is none.
    """
    found = []
    for part in filter(None, text.split(",")):
        script, moment, what, *times = part.split(":")
        what, _, seconds = what.partition("=")
        if moment not in MOMENTS or what not in ("kill", "stop", "drop", "delay"):
            raise ValueError(
                f"JOBKIT_FAULT={part!r} is not understood: script:moment:what[:n], as in finish:before_reply:kill"
            )
        found.append(Fault(script, moment, what, int(times[0]) if times else 1, float(seconds or 0)))
    return found


def arm(text: str) -> None:
    """Replace the faults of this process; "" for none."""
    armed[:] = parse(text)


class Calls(Protocol):
    """What a fault may be put around: `jobkit.store.line.Line`."""

    async def call(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]: ...

    async def cut(self) -> None: ...


class FaultyLine:
    """Passes calls on, with faults around them.

    Args:
        line: to the server.
        name_of: the name of the script that a command calls, "" for others.
    """

    def __init__(self, line: Calls, name_of: Callable[[tuple[Any, ...]], str]) -> None:
        self._line, self._name_of = line, name_of

    async def call(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        names = [self._name_of(command) for command in commands]
        await self._meet(names, "before_send")
        replies = await self._line.call(commands)
        names = [name for name, reply in zip(names, replies, strict=True) if not isinstance(reply, Exception)]
        await self._meet(names, "before_reply")
        asyncio.get_running_loop().call_soon(self._meet_later, names)
        return replies

    async def cut(self) -> None:
        await self._line.cut()

    async def _meet(self, names: Sequence[str], moment: str) -> None:
        for fault in due(names, moment):
            if fault.what == "delay":
                await asyncio.sleep(fault.seconds)
            else:
                happen(fault)

    def _meet_later(self, names: Sequence[str]) -> None:
        for fault in due(names, "after_reply"):
            if fault.what == "drop":
                self._cutting = asyncio.get_running_loop().create_task(self._line.cut())
            else:
                happen(fault)


def due(names: Sequence[str], moment: str) -> list[Fault]:
    """Those that happen here and now; each place that is passed counts."""
    found = []
    for fault in armed:
        if fault.left and fault.moment == moment and fault.script in names:
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
        raise CutOff(f"cut off at {fault.script}:{fault.moment}, as JOBKIT_FAULT asks for")
    else:
        os.kill(os.getpid(), signal.SIGKILL if fault.what == "kill" else signal.SIGSTOP)


arm(os.environ.get("JOBKIT_FAULT", ""))
