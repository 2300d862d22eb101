"""`Helpers`: what runs beside a worker's loop for its whole life: inbox, heartbeat, scheduler, notifier."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from jobkit.model import JobkitError

logger = logging.getLogger("jobkit.worker")


class Helpers:
    """Helpers of one worker. If one of them fails, the worker is deaf or blind and has to be started again.

    Args:
        on_failure: called once, with the first failure.

    Attributes:
        has_failed: True from the first failure on.
    """

    def __init__(self, on_failure: Callable[[], None]) -> None:
        self._on_failure = on_failure
        self.has_failed = False

    def run(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a helper on the current loop. It may return; an exception is a failure."""
        helper = asyncio.get_event_loop().create_task(work, name=f"jobkit-{name}")

        def ended(helper: asyncio.Task[None]) -> None:
            if not helper.cancelled() and (error := helper.exception()) is not None:
                self.fail(name, error)

        helper.add_done_callback(ended)
        return helper

    def fail(self, what: str, error: BaseException) -> None:
        """Report the failure of a part of the worker."""
        if not self.has_failed:
            self.has_failed = True
            bug = None if isinstance(error, JobkitError) else error  # which deserves a traceback
            sentence = "the %s of this worker has failed: %s: %s; it ends with status 1, to be started again"
            logger.error(sentence, what, type(error).__name__, error, exc_info=bug)
            self._on_failure()


async def end(helpers: Sequence[asyncio.Task[None]]) -> None:
    """Cancel helpers, and wait for their ends. Asks again each second: a library may swallow a cancellation."""
    while left := [helper for helper in helpers if not helper.done()]:
        for helper in left:
            helper.cancel()
        await asyncio.wait(left, timeout=1.0)
