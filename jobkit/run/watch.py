"""`LoopWatch`: a thread that sees when a coroutine blocks the worker's own loop, says so, and stops it.

The thread looks four times a second while something runs there, and not at all otherwise. It names the line that
blocks. A job that is to stop (cancel, timeout) gets `Stop` raised in the middle of its code, by a signal. So does one
that has blocked the loop for `GIVE_WAY_S`: its next attempt runs in a separate process, and holds up no other
job. The thread cannot free a loop whose coroutine is in C code: then it tells its owner, who gives up on the process.
And if C code keeps the interpreter's lock, no thread runs, neither this one nor the heartbeat: when that has lasted so
long that the leases are over, the process ends. That is counted in seconds of the processor: a process that was frozen
goes on.
"""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import logging
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType

from jobkit.run.attempt import Assignment, Outcome, timed_out
from jobkit.run.inside import context
from jobkit.run.inside.context import Stop
from jobkit.run.inside.tracebacks import fault_text
from jobkit.run.shared import AsyncRunner, Running
from jobkit.tasks.call import CallHead, read_head
from jobkit.tasks.registry import registry
from jobkit.tasks.task import lookup
from jobkit.tasks.work import code_version

logger = logging.getLogger("jobkit.worker")

#: Seconds between two looks, and between two looks at a loop that is blocked.
_LOOK_S, _NEXT_S = 0.25, 0.05
#: Seconds that a nudge may take to help before the next one.
_NUDGE_S = 0.3
#: Seconds that a job may block the loop that it shares with others.
GIVE_WAY_S = 10.0
#: Interrupts the code that blocks the loop. Python delivers signals to the main thread, where the loop runs. A signal
#: for which the loop itself has a handler would call that one, too: SIGUSR1 stops a worker.
_NUDGE = signal.SIGURG

#: Cores that a process may use beside the code that keeps the interpreter's lock, before it counts as dead too early.
_CORES = min(4, os.cpu_count() or 1)

#: No step of the loop; None stands for its callbacks.
_NOTHING: object = object()


class LoopWatch:
    """Watches the loop of the thread that calls `start`, until `close`. Only in the main thread can it stop a block.

    Args:
        own: runs the coroutines there.
        block_s: seconds after which a loop that does not turn counts as blocked.
        dead_s: seconds after which a process none of whose Python threads runs ends, with the stacks on stderr;
            infinite for never. It counts the processor's time, of up to `_CORES` cores.
        give_way_s: seconds after which a job that blocks the loop is moved to a separate process.
        on_block: called in the watching thread with the assignment that blocks, or None if it is not known, and the
            sentence and stack for its log.
        on_hopeless: called in the watching thread if nothing helped, with the outcomes of jobs by id: of the
            job that blocks, or of all that may block. Does not return.

    Attributes:
        barred: functions (see `function_of`) that must not run on the loop: they have blocked one, or have crashed.
    """

    def __init__(self, own: AsyncRunner, block_s: float, dead_s: float, give_way_s: float = GIVE_WAY_S) -> None:
        self._own = own
        self._block_s, self._dead_s, self._give_way_s = block_s, dead_s, give_way_s
        self.on_block: Callable[[Assignment | None, str], None] = lambda assignment, text: None
        self.on_hopeless: Callable[[dict[str, Outcome], str], None] = lambda outcomes, reason: None
        self._busy = threading.Event()
        self._arming = threading.Lock()
        own.on_start = self._wake  # the attempt is among the running ones already, or the thread could go to sleep
        self._is_closing = False
        self.barred: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="jobkit-loop-watch", daemon=True)
        self._watched = 0
        self._previous: object = None
        self._has_turned = threading.Event()
        self._has_turned.set()
        self._owner: Running | None = None
        self._is_seen = threading.Event()

    def start(self) -> None:
        if not self._thread.is_alive():
            self._loop = asyncio.get_running_loop()
            self._watched = threading.get_ident()
            if threading.current_thread() is threading.main_thread():
                self._previous = signal.signal(_NUDGE, self._on_nudge)
            if math.isfinite(self._dead_s):
                faulthandler.register(signal.SIGPROF, file=2, chain=True)  # then its default: the end of the process
            self._thread.start()

    def close(self) -> None:
        self._is_closing = True
        self._busy.set()
        if self._thread.is_alive():
            self._thread.join(5)
            self._end_in(0)
            if math.isfinite(self._dead_s):
                faulthandler.unregister(signal.SIGPROF)
            if self._previous is not None:
                signal.signal(_NUDGE, self._previous)  # type: ignore[arg-type]  # what signal.signal gave

    def _wake(self) -> None:
        """Before the code of an attempt: what never lets another thread run must find the timer set."""
        if not self._busy.is_set():
            with self._arming:
                self._end_in(self._dead_s)
                self._busy.set()

    def _end_in(self, seconds: float) -> None:
        """End the process after so many seconds of the processor, on all cores together; 0 for never."""
        if math.isfinite(self._dead_s):
            signal.setitimer(signal.ITIMER_PROF, seconds * _CORES)

    def bar(self, assignment: Assignment) -> None:
        """Run later attempts of this function in separate processes, until its code changes."""
        name = function_of(assignment.task, read_head(assignment.call))
        if name not in self.barred:
            self.barred.add(name)
            logger.warning("%s does not run on a worker's loop any more, until its code changes", assignment.task)

    def ask(self, job_id: str, kind: str) -> None:
        """Stop an attempt, from any thread: in the middle of its code if it blocks the loop just then."""
        if (running := self._own.running.get(job_id)) is not None:
            running.asked = kind

    # -- the watching thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        held_s, seen = 0.0, _NOTHING
        while not self._is_closing:
            if not self._own.running:
                with self._arming:
                    self._busy.clear()
                    if is_idle := not self._own.running:
                        self._end_in(0)
                if is_idle:
                    seen = _NOTHING
                    self._busy.wait()
                    self._call_turn()
            self._end_in(self._dead_s)
            time.sleep(_LOOK_S)
            if self._is_turning():
                self._call_turn()
                seen = _NOTHING
            elif seen is _NOTHING or not self._is_held(seen):  # many short steps make a long turn: no job blocks
                held_s, seen = 0.0, asyncio.current_task(self._loop)
            else:
                held_s += _LOOK_S  # not by the clock: while this process is frozen, no job is to blame
                if held_s > self._block_s:
                    self._follow(seen, held_s)

    def _call_turn(self) -> None:
        """Ask the loop for a sign of life."""
        self._has_turned.clear()
        try:
            self._loop.call_soon_threadsafe(self._has_turned.set)
        except RuntimeError:  # it is closed
            self._is_closing = True

    def _is_turning(self) -> bool:
        return self._has_turned.is_set() or self._is_closing

    def _is_held(self, step: object) -> bool:
        """Return whether the loop still runs the same step of the same `asyncio.Task`."""
        return not self._is_turning() and asyncio.current_task(self._loop) is step

    def _follow(self, step: object, held_s: float) -> None:
        """Follow one block, from when it is noticed to its end."""
        running = self._find_owner()
        trace, where = _stack(self._watched)
        if not self._is_held(step):
            return
        if running is not None:
            self.bar(running.assignment)
        text = (
            f"the event loop is blocked for more than {self._block_s:g} s{f' by {where}' if where else ''}: "
            "coroutines must not wait or calculate for long without await; use asyncio.to_thread or a plain function"
        )
        lines = [text, *trace.split("\n")[1:]]
        self.on_block(None if running is None else running.assignment, "\n".join(lines))
        began = time.monotonic() - held_s
        give_up_at, nudge_at = math.inf, 0.0
        while self._is_held(step):
            now = time.monotonic()
            kind = self._reason(running, now - began)
            if kind and math.isinf(give_up_at):
                grace_s = GIVE_WAY_S if running is None else running.assignment.cancel_grace_s
                give_up_at = min(now + grace_s, math.inf if running is None else running.give_up_at)
            if kind and running is not None and not running.kind:
                running.asked = kind
                if now >= nudge_at and self._previous is not None:
                    nudge_at = now + _NUDGE_S
                    signal.pthread_kill(self._watched, _NUDGE)
            if now >= give_up_at:
                self._give_up(running, kind)
            self._end_in(self._dead_s)
            time.sleep(_NEXT_S)
        logger.info("%s: the loop runs again, after %.1f s", _name(running), time.monotonic() - began)

    def _reason(self, running: Running | None, held_s: float) -> str:
        """Return why the code that blocks the loop is to stop; "" if it may go on."""
        if running is not None:
            if kind := running.kind or running.asked:
                return kind
            if time.monotonic() >= running.due_at:
                return "timeout"
        return "move" if held_s > self._give_way_s else ""

    def _find_owner(self) -> Running | None:
        """Return the attempt whose code blocks the loop, None if that is not known."""
        task = asyncio.current_task(self._loop)
        every = list(self._own.running.values())
        for running in every:
            if running.task is task:
                return running
        if self._previous is not None:  # a coroutine that the attempt runs beside its own: its context says whose it is
            self._owner = None
            self._is_seen.clear()
            signal.pthread_kill(self._watched, _NUDGE)
            if self._is_seen.wait(_NUDGE_S):
                return self._owner
        return every[0] if len(every) == 1 else None

    def _give_up(self, blocking: Running | None, kind: str) -> None:
        outcomes = {}
        for running in [blocking] if blocking is not None else list(self._own.running.values()):
            assignment = running.assignment
            sentence = f"it held its worker's loop and did not stop within its grace of {assignment.cancel_grace_s:g} s"
            if kind == "timeout":
                outcomes[assignment.job_id] = timed_out(assignment, f", and {sentence.removeprefix('it ')}")
            elif kind == "cancel":
                outcomes[assignment.job_id] = Outcome("cancelled", reason=f"killed: {sentence}")
            else:
                outcomes[assignment.job_id] = Outcome("lost", reason=sentence, is_shared=blocking is None)
        self._end_in(0)  # the timer would outlive an exec
        self.on_hopeless(outcomes, _name(blocking))

    # -- the main thread ----------------------------------------------------------------------------------------------

    def _on_nudge(self, number: int, frame: FrameType | None) -> None:
        """Between two instructions of whatever runs in the main thread, also in the middle of a sleep."""
        own = context.active()
        running = None if own is None else self._own.running.get(own.job_id)
        self._owner = running
        self._is_seen.set()
        if running is not None and running.asked and not running.is_over and not running.kind:
            running.stop(running.asked)  # which sets its kind: this is done once, its clean-up is not disturbed
            raise Stop("the job was asked to stop, and blocked the loop")


def function_of(task: str, head: CallHead) -> str:
    """Return the reference of the function that an attempt calls, or the task's name if there is none, with the version
    of its code: "tasks:fetch@0123456789abcdef"."""
    return _versioned(head.ref or task)


@functools.lru_cache(maxsize=1000)
def _versioned(name: str) -> str:
    found = lookup(name) if ":" in name else registry.known(name)
    return f"{name}@{code_version(getattr(found, 'function', found))}"


def _name(running: Running | None) -> str:
    return "an async job" if running is None else f"job {running.assignment.job_id}"


def _stack(thread: int) -> tuple[str, str]:
    """Return a thread's stack now, as `fault_text` gives it."""
    steps = traceback.walk_stack(sys._current_frames()[thread])
    frames = [f'  File "{at.f_code.co_filename}", line {line} in {at.f_code.co_name}' for at, line in steps]
    return fault_text("\n".join(["Stack of the event loop:", *frames]))
