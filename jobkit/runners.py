"""`Runners`: coroutines that run beside each other for one owner, who hears of what fails and ends them together.

It knows nothing of jobs. What is started once and kept in one attribute needs no `Runners`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any


class Runners:
    """Runs coroutines on the loop of the caller and holds on to them, which the loop itself does not.

    Args:
        failed: called with each exception, cancellation aside; may return something to await, or raise again.
            Without it, the loop logs them.
    """

    def __init__(self, failed: Callable[[Exception], Awaitable[None] | None] | None = None) -> None:
        self._failed = failed
        self._running: set[asyncio.Task[None]] = set()

    def __bool__(self) -> bool:
        """Return whether any of them still runs."""
        return bool(self._running)

    def run(self, work: Coroutine[Any, Any, None], then: Callable[[], None] | None = None) -> None:
        """Run `work`, and call `then` when it has ended, also if it was cancelled before its start."""
        runner = asyncio.get_running_loop().create_task(self._guarded(work))
        self._running.add(runner)

        def ended(_: asyncio.Task[None]) -> None:
            self._running.discard(runner)
            work.close()  # if it was cancelled before its start, Python would warn that it was never awaited
            if then is not None:
                then()

        runner.add_done_callback(ended)

    def cancel(self) -> None:
        """Cancel all of them except the caller."""
        current = asyncio.current_task()
        for runner in list(self._running):
            if runner is not current:
                runner.cancel()

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            if self._failed is None:
                raise
            if (rest := self._failed(error)) is not None:
                await rest
