"""Code of a forked child: set up the process, read a call, run it, send its outcome; then the next call, or exit.

Descriptors: 0 is /dev/null, 1 and 2 are pipes to the worker, 3 is the control channel (see `frames`). SIGTERM raises
`Stop` in the task, so that its `finally` blocks run; nothing of ours is torn apart by it (`SignalGuard`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import mmap
import os
import resource
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

from msgspec.structs import replace

from jobkit.files.log import LogFile
from jobkit.model import LogLine
from jobkit.run.attempt import Outcome, not_kept, too_large
from jobkit.run.ended import Ended, execute, raised
from jobkit.run.inside import capture, context, patches
from jobkit.run.inside.answers import Answers, Reply
from jobkit.run.inside.context import Context, Stop
from jobkit.run.inside.imports import ImportWatch
from jobkit.run.inside.recorder import Recorder
from jobkit.run.inside.shown_values import Body
from jobkit.run.inside.ticker import Ticker
from jobkit.run.process import frames
from jobkit.run.process.last_words import ASKED, BUSY, LastWords
from jobkit.run.process.state import HIDDEN, ProcessState
from jobkit.system import death, own, processes
from jobkit.system.hardware import cores
from jobkit.system.memory import offer_to_kernel, peak_rss_bytes
from jobkit.system.threads import apply_threads

CONTROL_FD = 3
#: So much memory may be used beside what the job has for what follows its end, such as the preview of its result.
STAGES_BYTES = 1 << 30


def main(zygote: int, fds: tuple[int, int, int], memory: mmap.mmap) -> NoReturn:
    """The life of a job's process, right after the fork (or the imports of a spawned one).

    Args:
        zygote: pid of the parent. fds: control channel, and what becomes standard output and error.
        memory: for `LastWords`, and a byte at `BUSY` that the parent sees too: 0 while there is no job and nothing that
            one has left.
    """
    status = 1
    try:
        prepare(zygote, fds)
        _Life(memory).serve()
        status = 0
    except BaseException:  # a bug of ours: on the job's log, and the parent sees a death without a result
        import traceback

        os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
    finally:
        os._exit(status)


def prepare(zygote: int, fds: tuple[int, int, int]) -> None:
    """Descriptors, signals, limits and environment of a process that the zygote has forked."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Ctrl-C goes to the worker, which decides. A handler, not SIG_IGN: that would be inherited by programs it starts.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    os.setpgid(0, 0)
    if not death.end_with_parent(zygote, signal.SIGKILL):
        os._exit(1)
    control, out, err = fds
    null = os.open(os.devnull, os.O_RDONLY)
    # Out of the way first: a received descriptor may have the number that another one is to get.
    high = [os.dup(fd) if fd <= CONTROL_FD else fd for fd in (null, out, err, control)]
    for target, fd in enumerate(high):
        os.dup2(fd, target, inheritable=target != CONTROL_FD)
    own.close_from(CONTROL_FD + 1)
    global _control
    _control = _identity(CONTROL_FD)
    offer_to_kernel()
    for name in HIDDEN:
        os.environ.pop(name, None)
    own.print_by_lines()
    gc.enable()


def _send(kind: bytes, content: Any) -> None:
    view = memoryview(frames.frame(kind, content))
    try:
        if _identity(CONTROL_FD) != _control:
            raise OSError("the job has closed it, and perhaps opened a file in its place")
        while view:
            view = view[os.write(CONTROL_FD, view) :]
    except BrokenPipeError:
        os._exit(1)  # the worker is gone, and so are we
    except OSError:
        os._exit(frames.CUT_OFF)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


_control = (0, 0)


class SignalGuard:
    """Raises `Stop` in the task, never inside our own writes: those enter it, and a SIGTERM that arrives meanwhile
    raises on the way out."""

    def __init__(self) -> None:
        self.context: Context | None = None
        self.is_stopped = False  #: `Stop` was raised (or the main coroutine cancelled)
        self.cancel: Callable[[], bool] | None = None  #: stops a coroutine; False where raising is right
        self._is_over = False
        self._depth = 0
        self._is_pending = False
        self._main = threading.get_ident()

    def __enter__(self) -> None:
        if threading.get_ident() == self._main:
            self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if threading.get_ident() == self._main:
            self._depth -= 1
            if self._is_pending and not self._depth:
                self._is_pending = False
                self._stop()

    @property
    def was_stopped(self) -> bool:
        """Return whether a request to stop has reached the task."""
        return self.is_stopped or (self.context is not None and self.context.has_yielded)

    def end(self) -> None:
        """Note that the task has ended: a request to stop comes too late."""
        self._is_over = True

    def on_term(self, number: int, frame: FrameType | None) -> None:
        if self.context is not None:
            self.context.should_stop = True
        if self._depth:
            self._is_pending = True
        else:
            self._stop()

    def _stop(self) -> None:
        is_leaving = self.context is not None and self.context.is_leaving
        if self._is_over or self.is_stopped or is_leaving:  # once: a second request must not interrupt the clean-up
            return
        self.is_stopped = True
        if self.cancel is None or not self.cancel():
            raise Stop("the job was asked to stop")


class _FrameSink:
    """Frames to the parent. Blocking: where the worker is slow, the pipe holds the job back."""

    def __init__(self, order: frames.JobOrder) -> None:
        job = order.assignment
        self._spool, self._owner = order.spool, job.log_owner if job.log_path else ""
        self._files = 0
        self.is_open = True

    def _send(self, kind: bytes, content: Any) -> None:
        if self.is_open:  # else a bar or a thread has outlived its job, and another one runs now
            _send(kind, content)

    def lines(self, lines: Sequence[LogLine]) -> None:
        self._send(frames.LINES, [line.to_wire() for line in lines])

    def progress(self, completed: float | None, total: float | None, message: str) -> None:
        self._send(frames.PROGRESS, (completed, total, message))

    def emit(self, kind: str, news: Any) -> None:
        self._send(frames.NEWS, (kind, news))

    def sync(self, key: str, reply: Callable[[Reply], None]) -> bool:
        self._send(frames.SYNC, key)  # the reply comes by the `Inbox`
        return self.is_open

    def request(self, feature: str, key: str, body: bytes, reply: Callable[[Reply], None]) -> None:
        self._send(frames.REQUEST, (feature, key, body))  # the replies come by the `Inbox`

    def artifact(self, name: str, media: str, body: Body) -> None:
        if isinstance(body, bytes) and len(body) <= frames.PART_BYTES:
            self._send(frames.ARTIFACT, (name, media, body, 0))
            return
        # A copy, also of a file: once `save` has returned, the job may change it.
        self._files += 1
        try:
            frames.spool(f"{self._spool}{self._files}", body, self._owner)
        except OSError as error:
            raise OSError(error.errno, f"artifact {name!r} cannot be kept: {error.strerror or error}") from None
        self._send(frames.ARTIFACT, (name, media, b"", self._files))


class _Reporter:
    """Tells the worker how a job ended, stage by stage; its value goes with the first.

    Attributes:
        is_urgent: there is a first stage to tell at once.
    """

    def __init__(self, order: frames.JobOrder, guard: SignalGuard, log: LogFile | None) -> None:
        self._most, self._guard, self._log = order.assignment.result_bytes, guard, log
        self._file = f"{order.spool}0" if order.assignment.log_path else ""  # in the job's folder
        self._owner = order.assignment.log_owner
        self.is_urgent = False
        self._told: Outcome | None = None

    def send(self, outcome: Outcome, kind: bytes = frames.STAGE, **more: Any) -> None:
        if outcome is self._told and kind == frames.STAGE:
            return
        is_first, self._told, body = self._told is None, outcome, outcome.body
        if self._most and len(body) > self._most:
            outcome, body = not_kept(outcome, too_large(len(body), self._most)), b""
        is_in_file = False
        if is_first and len(body) > frames.PART_BYTES:
            is_first, is_in_file = False, self._write(body)
            for start in range(0, 0 if is_in_file else len(body), frames.PART_BYTES):
                _send(frames.PART, body[start : start + frames.PART_BYTES])
        log = self._log.take() if self._log is not None else (b"", b"")
        outcome = replace(outcome, body=body if is_first else b"")
        _send(kind, frames.EndReport(outcome, self._guard.was_stopped, log, is_in_file=is_in_file, **more))

    def _write(self, body: bytes) -> bool:
        """Return whether a large value could be written to a file for the worker."""
        if self._file:
            with contextlib.suppress(OSError):
                frames.spool(self._file, body, self._owner, is_result=True)
                return True
        return False


class _Life:
    """One job after the other, until the worker has no more for this process."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._adopts = death.adopt_orphans()
        self._memory, self._last_words = memory, LastWords(memory)
        self._guard = SignalGuard()
        self._ticker = Ticker(self._tick)
        self._inbox = frames.Inbox(CONTROL_FD)
        self._before: ProcessState | None = None
        self._imports: ImportWatch | None = None
        self._peak = 0
        capture.own_process()
        patches.install(owns=True)
        os.register_at_fork(after_in_child=self._release)

    def serve(self) -> None:
        _send(frames.READY, None)
        for order in self._inbox.orders():
            self._memory[BUSY] = 1
            if self._before is None and not order.is_last:
                self._before = ProcessState()
            is_fit = self._run(order)
            if self._adopts and own.is_childless():  # else it may have left what is not below it
                self._memory[BUSY] = 0
            if not is_fit:
                break
            if self._before is not None:
                self._before.restore()
        if self._memory[BUSY]:
            processes.kill(processes.descendants(os.getpid()))

    def _run(self, order: frames.JobOrder) -> bool:
        """Run one job and say how it ended; whether the process is fit for another one."""
        job, guard = order.assignment, SignalGuard()
        self._guard = guard
        sink = _FrameSink(order)
        log = LogFile(Path(job.log_path), job.log_owner) if job.log_path else None
        self._memory[ASKED] = 0
        is_asked = partial(self._memory.__getitem__, ASKED)
        recorder = Recorder(
            sink,
            self._ticker.arm,
            guard=guard,
            bounds=job.bounds,
            log=log,
            memory=self._last_words,
            answers=Answers(self._inbox.reply),
        )
        guard.context = Context(job.job_id, job.attempt, job.task, recorder, job.prepared, is_asked)
        guard.context.seed = job.seed
        guard.context.kit_settings, guard.context.results = job.kit_settings, job.results
        os.environ["JOBKIT_JOB_ID"] = job.job_id
        os.environ.update(job.environ)
        apply_threads(job.environ, order.threads or cores())
        context.own_process(guard.context)
        spent_s = _spent_s()
        self._imports = imports = ImportWatch(partial(_tell_import, guard.context))
        sys.meta_path.insert(0, imports)
        runner, report = asyncio.Runner(), _Reporter(order, guard, log)

        def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
            report.is_urgent = True
            return runner.run(_stoppable(coroutine, guard))

        try:
            signal.signal(signal.SIGTERM, guard.on_term)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            ended = execute(job, run, guard.end, owns_process=True)
        except Stop as stop:
            ended = Ended(Outcome("cancelled")) if guard.was_stopped else raised(stop, allow_pickle=job.allow_pickle)
        guard.end()
        with contextlib.suppress(ValueError):  # the job has changed the list
            sys.meta_path.remove(imports)
        imports.tick()
        if report.is_urgent:  # what the coroutine has left behind (a thread, a task) may not end
            report.send(ended.outcome)
            with contextlib.suppress(BaseException):
                runner.close()
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # the task may have put anything there
                stream.flush()  # type: ignore[union-attr]
        own.flush_c_output()
        if log is not None and log.problem:
            recorder.line("jobkit", f"the file of the whole log could not be written: {log.problem}", "WARNING")
        recorder.close()
        sink.is_open = False
        if ended.more is None:
            outcome = ended.outcome
        else:
            with _limited_memory():
                outcome = ended.last(report.send)
        is_alone, is_fit = own.is_childless(), False
        if not order.is_last and is_alone and not guard.is_stopped and self._before is not None:
            # The next request to stop is for the next job: it waits until that has begun.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            is_fit = self._before.is_clean(self._ticker.thread, *context.own_threads)
        report.send(
            outcome,
            frames.ENDED,
            cpu_s=round(_spent_s() - spent_s, 6),
            peak_rss_bytes=self._peak_rss_bytes(),
            is_alone=is_alone,
            is_fit=is_fit,
            libraries=imports.names(),
        )
        return is_fit

    def _peak_rss_bytes(self) -> int:
        """Of this job, as far as the process knows: its peak, if that is newer than the jobs before."""
        before = self._peak
        usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        self._peak = max(map(peak_rss_bytes, usages))
        return self._peak if self._peak > before else processes.rss_bytes(os.getpid())

    def _tick(self) -> bool:
        job = self._guard.context
        if job is None or job.recorder is None:
            return False
        is_importing = self._imports is not None and self._imports.tick()
        return job.recorder.tick() or is_importing

    def _release(self) -> None:
        """In a process that the task forked: it is no job, and the control channel is not its own."""
        if self._guard.context is not None:
            self._guard.context.detach()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with contextlib.suppress(OSError):
            os.close(CONTROL_FD)


def _tell_import(job: Context, name: str) -> bool:
    """Show the name of a package whose import takes long, beside the job's progress; "" when it is over."""
    text = f"importing {name}" if job.function is not None else f"starting, importing {name}"
    return job.recorder is None or job.recorder.enter_phase(text if name else "")


def _spent_s() -> float:
    """CPU seconds of this process so far, with those of its children that have ended and been waited for."""
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


async def _stoppable(coroutine: Awaitable[Any], guard: SignalGuard) -> Any:
    """Await a coroutine, stopped by cancelling: raising from a signal handler would end whatever callback runs."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None

    def cancel() -> bool:
        if asyncio.current_task(loop) is task:
            return False  # its own code is running: raise right there
        loop.call_soon_threadsafe(task.cancel)
        return True

    guard.cancel = cancel
    if guard.context is not None:
        guard.context.enter()
    try:
        return await coroutine
    except asyncio.CancelledError:
        if guard.is_stopped:
            raise Stop("the job was asked to stop") from None
        raise
    finally:
        guard.cancel = None


@contextlib.contextmanager
def _limited_memory() -> Iterator[None]:
    """Allow this process `STAGES_BYTES` more memory meanwhile, if the system keeps such a limit."""
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    if used := processes.data_bytes(os.getpid()):
        with contextlib.suppress(OSError, ValueError):  # the limit of the job itself is lower
            resource.setrlimit(resource.RLIMIT_DATA, (used + STAGES_BYTES, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)
