"""`kit.on("failed")`: users' functions that are called when something happens to a job.

A hook reads the namespace's events in order, all of them, also after a cut connection, and calls the function in a
separate thread: one that raises, hangs or is slow harms neither a job nor another hook.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from jobkit.client.connection import Connection
from jobkit.client.events import all_events
from jobkit.client.job import Job
from jobkit.client.loop import background
from jobkit.client.reader import JobReader
from jobkit.model import EventsExpired, EventType, JobkitError, JobNotFound

logger = logging.getLogger("jobkit.client")

#: Jobs that wait for one slow hook; of more, the oldest are left out, and the log says how many.
MOST_WAITING = 10_000

_ENDS = (EventType.SUCCEEDED, EventType.FAILED, EventType.CANCELLED)


class Hook:
    """One function that is called with each job to which one of its events happened. Made by `kit.on`.

    Attributes:
        calls: how often it was called. errors: how often it raised. left_out: jobs it was too slow for.
    """

    def __init__(
        self,
        connection: Connection,
        reader: JobReader,
        call: Callable[[Job], object],
        kinds: frozenset[EventType],
        task: str,
        after: str,
    ) -> None:
        self._connection, self._reader = connection, reader
        self._call, self._kinds, self._task = call, kinds, task
        self._name = getattr(call, "__qualname__", None) or repr(call)
        self._waiting: queue.SimpleQueue[tuple[str, bool]] = queue.SimpleQueue()
        self._is_over = False
        self.calls = self.errors = self.left_out = 0
        threading.Thread(target=self._run, name=f"jobkit-hook-{self._name}"[:60], daemon=True).start()
        self._reading = background.spawn(self._read(after))

    def __repr__(self) -> str:
        return f"<Hook {self._name} on {', '.join(sorted(self._kinds))}: {self.calls} calls, {self.errors} errors>"

    def __call__(self, job: Job) -> Any:
        """The function itself, as if undecorated."""
        return self._call(job)

    def stop(self) -> None:
        """End the hook. A call that runs may finish; this does not wait for it."""
        self._is_over = True
        self._waiting.put(("", False))  # wakes its thread
        self._reading.cancel()

    # -- on the background loop -------------------------------------------------------------------------------------

    async def _read(self, after: str) -> None:
        """Every event from `after` on, for as long as it takes."""
        position: str | None = after
        while not self._is_over:
            try:
                async for event in all_events(self._connection.verbs, position):
                    if event.type in self._kinds:
                        self._put(event.job_id, event.type in _ENDS)
                    position = event.id
            except EventsExpired as expired:
                logger.warning("hook %s missed some jobs: %s", self._name, expired)
                position = None
            except JobkitError as error:  # the kit was closed, or its store speaks nonsense
                if self._connection.is_closed:
                    return
                logger.warning("hook %s waits for the store: %s", self._name, error)
                await asyncio.sleep(1.0)

    def _put(self, job_id: str, is_end: bool) -> None:
        if self._waiting.qsize() >= MOST_WAITING:
            with contextlib.suppress(queue.Empty):  # its thread was faster
                self._waiting.get_nowait()
                self.left_out += 1
                if self.left_out % 1000 == 1:
                    logger.warning("hook %s is too slow: %d jobs were left out so far", self._name, self.left_out)
        self._waiting.put((job_id, is_end))

    # -- in its own thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            job_id, is_end = self._waiting.get()
            if self._is_over:
                return
            try:
                job = self._connection.run(self._reader.get, job_id)
                if is_end:
                    job.wait(10)  # the live handle may be a moment behind the event
            except JobNotFound:  # it is forgotten already
                continue
            except (JobkitError, TimeoutError) as error:
                logger.warning("hook %s cannot look at job %s: %s", self._name, job_id, error)
                continue
            if not fnmatchcase(job.task, self._task):
                continue
            self.calls += 1
            try:
                self._call(job)
            except Exception:
                self.errors += 1
                logger.exception("hook %s raised for job %s; the job is not affected", self._name, job_id)
