"""Whose code a loop runs right now, since when, and how long each held it at most.

A loop runs one step of one coroutine at a time, from one `await` to the next. Whoever looks from outside (a thread, a
signal handler) reads here whose step it is.
"""

from __future__ import annotations

import contextlib
import time
import types
from collections.abc import Coroutine, Generator
from typing import Any

from jobkit.run.context import Context


class Spent:
    """What one attempt has taken from its loop: seconds of processor (where measured) and the longest step."""

    __slots__ = ("cpu_s", "is_given_up", "longest_s", "owner")

    def __init__(self, owner: Context) -> None:
        self.owner = owner
        self.longest_s = 0.0
        self.cpu_s = 0.0
        self.is_given_up = False
        """The next exception that reaches it from outside ends it, whatever it does with it."""


class Steps:
    """The step that runs now, of one loop.

    Args:
        is_measuring: also count the processor's time; costs 0.8 us a step.
    """

    __slots__ = ("began", "cpu_began", "is_measuring", "now")

    def __init__(self, is_measuring: bool = False) -> None:
        self.is_measuring = is_measuring
        self.now: Spent | None = None
        self.began = 0.0
        self.cpu_began = 0.0

    def begin(self, spent: Spent) -> None:
        self.began = time.perf_counter()
        if self.is_measuring:
            self.cpu_began = time.thread_time()
        self.now = spent

    def end(self) -> None:
        spent, self.now = self.now, None
        if spent is None:
            return
        took_s = time.perf_counter() - self.began
        if took_s > spent.longest_s:
            spent.longest_s = took_s
        if self.is_measuring:
            spent.cpu_s += time.thread_time() - self.cpu_began

    @types.coroutine
    def run(self, coroutine: Coroutine[Any, Any, Any], spent: Spent) -> Generator[Any, Any, Any]:
        """Await a coroutine, each of its steps between `begin` and `end`. The first has begun; the last is not ended:
        the caller's code before and after belongs to them."""
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                yielded = coroutine.send(value) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            self.end()
            value = error = None
            try:
                value = yield yielded
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as thrown:
                error = thrown
            self.begin(spent)
            if error is not None and spent.is_given_up:
                with contextlib.suppress(RuntimeError):  # it goes on even so; nobody runs it any more
                    coroutine.close()
                raise error
