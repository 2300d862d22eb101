"""Pacing and retries of feeds on jobkit's background loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from jobkit.client.loop import background
from jobkit.model import StoreUnavailable

T = TypeVar("T")

logger = logging.getLogger("jobkit.ui")

#: Seconds between questions while the store does not answer.
_AGAIN_S = 0.5


class Pacer:
    """Calls `flush` at once and then at most once per `window_s`, which may be changed; for one event loop's thread."""

    def __init__(self, window_s: float, flush: Callable[[], None]) -> None:
        self.window_s = window_s
        self._flush = flush
        self._last = float("-inf")
        self._handle: asyncio.TimerHandle | None = None

    def poke(self) -> None:
        if self._handle is not None:
            return
        loop = asyncio.get_running_loop()
        wait = self._last + self.window_s - loop.time()
        if wait <= 0:
            self._run()
        else:
            self._handle = loop.call_later(wait, self._run)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _run(self) -> None:
        self._handle = None
        self._last = asyncio.get_running_loop().time()
        self._flush()


async def answered(read: Callable[[], Awaitable[T]]) -> T:
    """Return the value of a read, as soon as the store answers.

    Waiting for the hub's status instead could last for ever: events have a separate connection, and the one for reads
    can be cut alone. The feed cancels the caller with its last subscriber.
    """
    while True:
        try:
            return await read()
        except StoreUnavailable as error:
            logger.debug("what is shown could not be read, and is asked for again: %s", error)
            await asyncio.sleep(_AGAIN_S)


def on_loop(function: Callable[[T], None], value: T) -> None:
    """Call it on the background loop: at once if this is the loop's thread, else soon."""
    loop = background.start()
    try:
        is_there = asyncio.get_running_loop() is loop
    except RuntimeError:
        is_there = False
    if is_there:
        function(value)
    else:
        loop.call_soon_threadsafe(function, value)
