"""`LoopWatch`: a thread that sees when one coroutine holds the worker's own loop, says so, and stops it on request.

The thread looks four times a second while something runs there, and not at all otherwise. What it cannot do is free a
loop whose coroutine is in C code: then it tells its owner, who gives up on the whole process. And where C code keeps
the interpreter's lock, no thread runs, neither this one nor the heartbeat: when that has lasted so long that the leases
are over, the process ends.
"""

from __future__ import annotations

import faulthandler
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from jobkit.run.base import Assignment
from jobkit.run.context import Stop
from jobkit.run.hosted import NUDGE_S, block_text
from jobkit.run.inline import AsyncRunner
from jobkit.run.tracebacks import fault_text

logger = logging.getLogger("jobkit.worker")

_LOOK_S = 0.25
#: Raises `Stop` in the code that holds the loop. Python delivers signals to the main thread, where the loop runs.
_NUDGE = signal.SIGUSR1


class LoopWatch:
    """Watches the loop of the thread that calls `start`, until `close`. Only in the main thread can it stop a block.

    Args:
        own: runs the coroutines there.
        block_s: a step longer than this is told.
        dead_s: if no thread of this process runs for so long, it ends, with the stacks on stderr.
        on_block: called in the watching thread with the assignment that blocks and what is said of it.
        on_hopeless: likewise, when a request to stop did not help within the attempt's grace. Does not return.
    """

    def __init__(self, own: AsyncRunner, block_s: float, dead_s: float) -> None:
        self._own = own
        own.on_start = self._expect
        self._block_s, self._dead_s = block_s, dead_s
        self.on_block: Callable[[Assignment, str], None] = lambda assignment, text: None
        self.on_hopeless: Callable[[Assignment, str], None] = lambda assignment, kind: None
        self._busy = threading.Event()
        self._is_closing = False
        self._asked: dict[str, str] = {}  # job to "cancel" or "kill"
        self._nudged: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="jobkit-loop-watch", daemon=True)
        self._watched = 0
        self._previous: object = None

    def start(self) -> None:
        if not self._thread.is_alive():
            self._watched = threading.get_ident()
            if threading.current_thread() is threading.main_thread():
                self._previous = signal.signal(_NUDGE, self._on_nudge)
            self._thread.start()

    def close(self) -> None:
        self._is_closing = True
        self._busy.set()
        if self._thread.is_alive():
            self._thread.join(5)
            faulthandler.cancel_dump_traceback_later()
            if self._previous is not None:
                signal.signal(_NUDGE, self._previous)  # type: ignore[arg-type]  # what signal.signal gave

    def _expect(self, job_id: str) -> None:
        """An attempt starts. It is among the running ones already, or the thread could go to sleep just now."""
        self._asked.pop(job_id, None)
        self._nudged.discard(job_id)
        if not self._busy.is_set():
            self._busy.set()

    def ask(self, job_id: str, kind: str) -> None:
        """Stop an attempt, from whichever thread: in the middle of its code if it blocks the loop just then."""
        if job_id in self._own.running:
            self._asked[job_id] = kind

    def _run(self) -> None:
        while not self._is_closing:
            if not self._own.running:
                self._asked.clear()
                self._nudged.clear()
                self._busy.clear()
                if not self._own.running:
                    faulthandler.cancel_dump_traceback_later()
                    self._busy.wait()
            faulthandler.dump_traceback_later(self._dead_s, exit=True)
            time.sleep(_LOOK_S)
            spent = self._own.steps.now
            if spent is not None and time.perf_counter() - self._own.steps.began > self._block_s:
                self._follow(spent.owner.job_id, self._own.steps.began)

    def _follow(self, job_id: str, began: float) -> None:
        """One block, from when it is noticed to its end."""
        running = self._own.running.get(job_id)
        if running is None:
            return
        trace, where = _stack(self._watched)
        if not self._is_step(began):
            return
        self.on_block(running.assignment, block_text(self._block_s, trace, where))
        give_up_at = nudge_at = 0.0
        while self._is_step(began) and not self._is_closing:
            now = time.perf_counter()
            if kind := self._asked.get(job_id):
                give_up_at = give_up_at or now + running.assignment.cancel_grace_s
                if now >= nudge_at and self._previous is not None:
                    nudge_at = now + NUDGE_S
                    signal.pthread_kill(self._watched, _NUDGE)
                if now >= give_up_at:
                    self.on_hopeless(running.assignment, kind)
            faulthandler.dump_traceback_later(self._dead_s, exit=True)
            time.sleep(0.05)
        logger.info("job %s: the loop runs again, after %.1f s", job_id, time.perf_counter() - began)

    def _is_step(self, began: float) -> bool:
        return self._own.steps.now is not None and self._own.steps.began == began

    def _on_nudge(self, number: int, frame: FrameType | None) -> None:
        """Between two instructions of whatever runs in the main thread, also in the middle of a sleep."""
        spent = self._own.steps.now
        if spent is None or (job_id := spent.owner.job_id) in self._nudged:
            return
        kind, running = self._asked.get(job_id), self._own.running.get(job_id)
        if kind and running is not None:
            self._nudged.add(job_id)  # once: its clean-up is not disturbed
            running.kind = running.kind or kind
            running.context.is_stopping = True
            raise Stop("the job was asked to stop, and blocked the loop")


def _stack(thread: int) -> tuple[str, str]:
    """A thread's stack now, as `fault_text` gives it."""
    frame: FrameType | None = sys._current_frames().get(thread)
    lines = ["Stack of the event loop:"]
    while frame is not None:
        lines.append(f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}')
        frame = frame.f_back
    return fault_text("\n".join(lines))
