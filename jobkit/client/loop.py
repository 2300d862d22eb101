"""One background loop per process: async code is written once, blocking verbs hand a coroutine to it.

The loop runs in a daemon thread, owns every Redis connection of the process's kits, and never runs code of users:
their watchers are called by a second thread (`jobkit-watchers`), so a watcher may block or use blocking verbs itself.
A forked child starts without either and gets new ones when it first needs them.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import logging
import os
import queue
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from jobkit.model import JobkitError
from jobkit.model.unhandled import log_unhandled
from jobkit.run.inside.context import own_threads

T = TypeVar("T")

logger = logging.getLogger("jobkit.client")


class BackgroundLoop:
    """An event loop in a separate thread, started by the first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.inheriting, self.connecting = threading.Lock(), threading.RLock()
        """Held while a forked child renews a handle of its parent, and while it connects a kit of it."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._watchers: queue.SimpleQueue[Callable[[], None] | None] | None = None
        self._watcher_thread: threading.Thread | None = None
        self.generation = 0
        """Grows with each fork: connections of an older generation belong to the parent."""

    def start(self) -> asyncio.AbstractEventLoop:
        """The running loop."""
        loop = self._loop
        if loop is not None:
            return loop
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                loop.set_exception_handler(log_unhandled)
                self._thread = threading.Thread(target=self._run, args=(loop,), name="jobkit-loop", daemon=True)
                self._thread.start()
                own_threads.add(self._thread)
                self._loop = loop
                atexit.unregister(self.stop)
                atexit.register(self.stop)  # the last, so that it ends before a private server does
            return self._loop

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()

    @property
    def is_here(self) -> bool:
        """True in the loop's own thread."""
        return threading.current_thread() is self._thread

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop; from any thread.

        It gets an empty context, not the caller's: what goes on long after a notebook cell has ended must not speak in
        that cell's name (ipykernel keeps the cell that output belongs to in a context variable).
        """
        try:
            loop = self.start()
        except RuntimeError:  # the interpreter is ending, and starts no thread
            coroutine.close()
            raise
        return contextvars.Context().run(asyncio.run_coroutine_threadsafe, coroutine, loop)

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for its value; an interrupt (Ctrl-C) cancels it."""
        if self.is_here:
            coroutine.close()
            # Waiting would stop everything.
            raise JobkitError("a blocking verb was used on jobkit's own event loop; await its twin in kit.aio")
        future = self.spawn(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def call_async(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """`call` from a coroutine on any loop."""
        return await asyncio.wrap_future(self.spawn(coroutine))

    def watchers_do(self, action: Callable[[], None]) -> None:
        """Run `action` on the thread that calls users' watchers, after those before it."""
        if self._watchers is None:
            with self._lock:
                if self._watchers is None:
                    self._watchers = queue.SimpleQueue()
                    self._watcher_thread = threading.Thread(
                        target=_drain, args=(self._watchers,), name="jobkit-watchers", daemon=True
                    )
                    self._watcher_thread.start()
        self._watchers.put(action)

    def stop(self) -> None:
        """End both threads; the next use starts new ones."""
        with self._lock:
            loop, thread = self._loop, self._thread
            watchers, watcher_thread = self._watchers, self._watcher_thread
            self._loop = self._thread = self._watchers = self._watcher_thread = None
        if watchers is not None:
            watchers.put(None)
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(_cancel_all(), loop).add_done_callback(
                lambda _: loop.call_soon_threadsafe(loop.stop)
            )
            if thread is not threading.current_thread():
                thread.join(timeout=5)
        if watcher_thread is not None and watcher_thread is not threading.current_thread():
            watcher_thread.join(timeout=1)

    def after_fork_in_child(self) -> None:
        """Forget what belongs to the parent: its threads do not exist here."""
        self._lock = threading.Lock()
        self.inheriting, self.connecting = threading.Lock(), threading.RLock()
        self._loop = self._thread = self._watchers = self._watcher_thread = None
        self.generation += 1


async def _cancel_all() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for runner in rest:
        runner.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


def _drain(actions: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (action := actions.get()) is not None:
        try:
            action()
        except Exception:
            logger.exception("a watcher of jobs raised; the others go on")


#: The loop of this process.
background = BackgroundLoop()

if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=background.after_fork_in_child)
