"""Keeping child processes alive in the foreground until Ctrl-C: `jobkit up` and `jobkit worker -n`."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from types import FrameType

from jobkit.embedded.children import Child, stop_all

_TICK_S = 0.2


class Keeper:
    """Tends children until a signal comes or nothing is left to tend.

    The first Ctrl-C (or SIGTERM, or the end of the terminal) ends them in good order, the second at once. A context
    manager, which takes the signals over for its block.
    """

    def __init__(self, children: Sequence[Child]) -> None:
        self.children = list(children)
        self.signals = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Keeper:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal gave us

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.signals += 1

    def run(self, tick: Callable[[], None] = lambda: None) -> None:
        """Returns when a signal came or every child gave up. `tick` is called about five times a second."""
        while not self.signals:
            for child in self.children:
                child.tend()
            if self.children and all(child.gave_up_with is not None for child in self.children):
                return
            tick()
            time.sleep(_TICK_S)

    def stop(self, within_s: float) -> None:
        """Ends the children within `within_s` seconds, at once when another signal comes."""
        asked = max(1, self.signals)
        stop_all(self.children, within_s, is_urgent=lambda: self.signals > asked)
