"""`ProcessAttempt`: an attempt in a separate process, as its worker sees it: output, limits and outcome."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from jobkit.files.log import mark_of
from jobkit.model import ErrorKind, LogLine
from jobkit.model.format import binary_size, limit_text, size
from jobkit.model.plain import now_ms
from jobkit.model.snapshot import JobError
from jobkit.run import news
from jobkit.run.attempt import Assignment, Outcome, failed, timed_out
from jobkit.run.ended import STAGES_LIMIT_S, TOO_LONG, incomplete
from jobkit.run.inside.answers import Reply
from jobkit.run.inside.imports import LONG_S
from jobkit.run.inside.lines import LineBuffer
from jobkit.run.inside.log_tee import LoopLog
from jobkit.run.inside.recorder import Sink, tamed
from jobkit.run.inside.tracebacks import crash_text, fault_text
from jobkit.run.process import frames
from jobkit.run.process.child_process import ChildProcess
from jobkit.run.process.output import OutputPipe
from jobkit.system import processes
from jobkit.system.memory import KernelKills, was_scarce
from jobkit.tasks.call import read_head
from jobkit.tasks.sources import install

#: The task modules may take so long to import.
START_LIMIT_S = 120.0
_FLUSH_S = 0.03
#: What follows the end of a task is mentioned in its log when it takes longer.
_LONG_S = 1.0
#: Of its log, a crashed job's error has so many lines.
_SAID_LINES = 10


class ProcessAttempt:
    """Made and driven by `ProcessRunner`, on its loop. `spool`: see `frames.JobOrder`."""

    def __init__(self, assignment: Assignment, sink: Sink, spool: str, kernel_kills: KernelKills) -> None:
        self.assignment = assignment
        self._sink = sink
        self._spool = spool
        self._kernel_kills = kernel_kills
        self._last: deque[str] = deque(maxlen=_SAID_LINES)
        self._loop = asyncio.get_running_loop()
        self._outcome: asyncio.Future[Outcome] = self._loop.create_future()
        self._child: ChildProcess | None = None
        self.stop_kind = ""  #: "cancel", "timeout", "memory", "start" or "kill", the first that was asked for
        self._was_killed = self._is_asked = False
        self._ended: frames.EndReport | None = None  #: what it has said last about its end
        self._is_at_end = False  #: that was the last stage
        self._is_cut_short = False
        self.libraries: Sequence[str] = ()  #: see `frames.EndReport`
        self.damage = ""  #: of the control channel, in a few words
        self._rss = self._peak = 0
        self.pids: tuple[int, ...] = ()  #: of its whole tree, by the last sample
        self._timers: list[asyncio.TimerHandle] = []
        self._flush_timer: asyncio.TimerHandle | None = None
        self._lines = LineBuffer(now_ms())
        self._log: LoopLog | None = None
        if assignment.log_path:
            self._log = LoopLog(assignment.log_path, assignment.log_owner)
        self._pipes = {source: OutputPipe(source, self._lines, self._log) for source in ("stdout", "stderr")}
        self._artifacts = 0
        self._parts: list[bytes] = []  # of a large value
        self._most_bytes = (assignment.result_bytes or math.inf) + frames.PART_BYTES
        self._has_lines = False
        self._has_limit = self._is_start_told = False

    def begin(self, child: ChildProcess, *, is_last: bool, threads: int) -> None:
        """Send the call to a process. `is_last`: it ends with this job. `threads`: of BLAS and OpenMP, at most."""
        self._child = child
        child.begin(self, frames.written(frames.JobOrder(self.assignment, self._spool, is_last, threads)))
        if child.is_ready:
            self.on_ready()
        else:
            self._later(LONG_S, self._tell_of_start)
            self._later(START_LIMIT_S, self._look_at_start)

    def on_ready(self) -> None:
        """The process is set up: the job begins."""
        if self._is_start_told:
            self._is_start_told = False
            self._sink.progress(None, None, "")
        if self.assignment.timeout_s is not None and not self._has_limit:
            self._has_limit = True
            self._later(self.assignment.timeout_s, self.stop, "timeout")

    def _tell_of_start(self) -> None:
        if self._child is not None and not self._child.is_ready:
            self._is_start_told = True
            self._sink.progress(None, None, "starting its process")

    def _look_at_start(self) -> None:
        if self._child is not None and not self._child.is_ready:
            self.kill("start")

    async def outcome(self) -> Outcome:
        """Return its outcome, once none of its processes is left. A cancel kills it first."""
        is_taken = False
        try:
            await asyncio.wait([self._outcome])
            outcome, ended = self._outcome.result(), self._ended
            if self._log is not None:
                rest = None if self._has_lines else (b"", b"")
                await self._log.close(rest if ended is None else ended.log)
            if outcome.form and ended is not None and ended.is_in_file:
                is_taken = True
                return replace(outcome, file=str(self._file(0)))
            if self._parts and outcome.form:
                return replace(outcome, body=await asyncio.to_thread(b"".join, self._parts))
            return outcome
        except asyncio.CancelledError:
            self.kill("kill")
            while not self._outcome.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([self._outcome])
            raise
        finally:
            if not self._is_at_end:  # perhaps there is one that it died over
                with contextlib.suppress(OSError):
                    self._file(self._artifacts + 1).unlink()
            if self.assignment.log_path and not is_taken:
                with contextlib.suppress(OSError):
                    self._file(0).unlink()

    def stop(self, kind: str) -> None:
        """Ask it to stop (SIGTERM to its group); for good after its grace."""
        if self.stop_kind or self._ended is not None or self._outcome.done():
            return
        self.stop_kind = kind
        if self._child is not None:
            self._child.stop("term")
        self._later(self.assignment.cancel_grace_s, self.kill, kind)

    def ask(self) -> None:
        """Let it stop at a safe point, from which another attempt can go on."""
        self._is_asked = True
        if self._child is not None and self._ended is None:
            self._child.stop("ask")

    def kill(self, kind: str) -> None:
        """Stop it for good: SIGKILL to its whole tree."""
        if self._outcome.done():
            return
        self.stop_kind = self.stop_kind or kind
        self._was_killed = True
        if self._child is not None:
            self._child.stop("kill")

    # -- how it ended ------------------------------------------------------------------------------------------------

    def on_exit(self, code: int, cpu_s: float, peak_rss_bytes: int, unsent: Sequence[LogLine] = ()) -> None:
        """The zygote has reaped its process and killed what was left of its tree. `unsent`: its last lines."""
        for line in unsent:
            self._lines.add(line)
            if self._log is not None:
                self._log.add([line.text], mark_of(line.source, line.level, line.at_ms))
        how = code if code >= 0 else crash_text(code)[0]
        usage = {"cpu_s": cpu_s, "peak_rss_bytes": max(peak_rss_bytes, self._peak), "exit": how}
        self.finish(replace(self._verdict(code, peak_rss_bytes), usage=usage))

    def on_orphaned(self, why: str, *, is_shared: bool = False) -> None:
        """The zygote is gone, and with it the job's process and what came from that.

        Args:
            is_shared: other jobs were lost with it.
        """
        if self._outcome.done():
            return
        if self._ended is not None or self.stop_kind:
            self.finish(self._verdict(-signal.SIGKILL))
        else:
            reason = f"the job's process was killed because {why}"
            self.finish(Outcome("lost", reason=reason, is_shared=is_shared))

    def _verdict(self, code: int, peak_rss_bytes: int = 0) -> Outcome:
        ended = self._ended
        if ended is not None and not ended.was_stopped and ended.outcome.outcome != "cancelled":
            # It ended before a request to stop reached it.
            if self._is_at_end:
                return ended.outcome
            died = f"its process died meanwhile ({self.stop_kind or crash_text(code)[0]})"
            return incomplete(ended.outcome, TOO_LONG if self._is_cut_short else died)
        if self.stop_kind:
            return self._stopped()
        if ended is not None and self._is_asked:
            return self._stopped()
        if ended is not None:  # SIGTERM came from outside, from a system that shuts down for instance
            return failed(ErrorKind.CRASH, "SIGTERM", "the job's process was told to stop (signal 15, SIGTERM)")
        if code == frames.CUT_OFF:
            sentence = "the task closed descriptor 3, by which its process tells the worker its result"
            return failed(ErrorKind.CRASH, "descriptor", sentence)
        if self.damage:
            sentence = f"the job's process damaged its control channel: {self.damage}"
            return failed(ErrorKind.CRASH, "protocol", sentence)
        kind, (type_, sentence) = ErrorKind.CRASH, crash_text(code)
        if code == -signal.SIGKILL:
            last = f", its last known size was {size(self._rss)}" if self._rss else ""
            if self._kernel_kills.take():
                kind, sentence = ErrorKind.MEMORY, f"the kernel killed the job's process because memory ran out{last}"
            else:
                is_near = self._peak > 0.8 * (self.assignment.memory_limit_bytes or math.inf)
                is_likely = is_near or was_scarce(max(self._rss, peak_rss_bytes))
                sentence += f"{', likely out of memory' if is_likely else ', sent from outside of jobkit'}{last}"
        with contextlib.suppress(msgspec.MsgspecError):
            install(read_head(self.assignment.call).sources)  # so that frames of a notebook's code have lines
        trace, where = fault_text(self._pipes["stderr"].take_report())
        self._flush(is_last=True)
        said = "\n  ".join(["The last lines of its log:", *self._last]) if self._last else ""
        text = "\n\n".join(filter(None, (trace, said)))
        return Outcome("failed", error=JobError(kind, type_, sentence, text, where))

    def _stopped(self) -> Outcome:
        assignment, kind, ended = self.assignment, self.stop_kind, self._ended
        grace = f"its grace of {assignment.cancel_grace_s:g} s"
        if kind == "timeout":
            is_late = ended is None and self._was_killed
            return timed_out(assignment, f", did not stop within {grace} and was killed" if is_late else "")
        if kind == "start":
            sentence = (
                f"the job's process was not ready within {START_LIMIT_S:g} s: it hung while it imported the tasks"
            )
            return failed(ErrorKind.CRASH, "start", sentence)
        if kind == "memory":
            sentence = (
                f"Out of memory: {binary_size(self._peak)}, limit {limit_text(assignment.memory_limit_bytes or 0)}"
            )
            return failed(ErrorKind.MEMORY, "memory", sentence)
        if kind == "kill":
            reason = "killed by its worker"
        elif ended is not None:
            error = ended.outcome.error
            reason = f"stopped on request; its clean-up {'ran' if error is None else f'raised {error.type}'}"
        elif self._was_killed:
            reason = f"killed: it did not stop within {grace}"
        else:
            reason = "stopped on request; its process ended without a word"
        return Outcome("cancelled", reason=reason)

    def finish(self, outcome: Outcome) -> None:
        for timer in self._timers:
            timer.cancel()
        self._flush(is_last=True)
        self._child = None
        if not self._outcome.done():
            self._outcome.set_result(outcome)

    def _file(self, number: int) -> Path:
        """Return the path of a large artifact on its way, with 0 that of a large result."""
        return Path(f"{self._spool}{number}")

    # -- what comes from it ------------------------------------------------------------------------------------------

    def on_output(self, source: str, data: bytes) -> None:
        self._pipes[source].add(data)
        self._flush_soon()

    def on_frame(self, kind: bytes, content: Any) -> None:
        """Raises LookupError, TypeError, ValueError or OverflowError if a job's process sends no such frame."""
        if kind == frames.LINES:
            self._has_lines = True
            for at_ms, source, level, logger, text in content:
                self._lines.add(LogLine(str(text), int(at_ms), str(source), str(level), str(logger)))
            self._flush_soon()
        elif kind == frames.PROGRESS:
            self._sink.progress(*tamed(*content))
        elif kind == frames.NEWS:
            name, said = content
            self._sink.emit(name, news.of(name).read(said))
        elif kind == frames.SYNC:
            if self._child is not None:
                self._child.drain_output()
            self._flush()
            self._sink.sync(str(content), self._reply)
        elif kind == frames.REQUEST:
            feature, key, body = content
            self._sink.request(str(feature), str(key), bytes(body), self._reply)
        elif kind == frames.ARTIFACT:
            name, media, body, number = content
            number = int(number)
            self._artifacts = max(self._artifacts, number)
            self._sink.artifact(str(name), str(media), self._file(number) if number else bytes(body))
        elif kind == frames.PART:
            self._parts.append(bytes(content))
            if self._ended is not None or len(self._parts) * frames.PART_BYTES > self._most_bytes:
                raise ValueError("a value that is larger than its result may be")
        elif kind in (frames.STAGE, frames.ENDED):
            if self._ended is None and kind == frames.STAGE:
                self._later(_LONG_S, self._tell_of_stages)
                self._later(STAGES_LIMIT_S, self._cut_short)
            self._ended = ended = frames.EndReport.from_wire(content).after(self._ended)
            if ended.is_in_file and not self.assignment.log_path:
                raise ValueError("a value in a file of no folder")
            self._is_at_end = kind == frames.ENDED
            self.libraries = ended.libraries
            child = self._child
            if child is None or not self._is_at_end:
                return
            if ended.is_alone and not self.stop_kind:
                # Nothing is left of it but its process, which waits for another job or is about to exit.
                child.drain_output()
                child.spent_cpu_s += ended.cpu_s
                self.on_exit(0, ended.cpu_s, ended.peak_rss_bytes)
                child.leave(is_fit=ended.is_fit)
            else:  # a warm one would wait for its next call
                child.retire()

    def _reply(self, reply: Reply) -> None:
        if self._child is not None:
            self._child.send(frames.reply_frame(reply))

    def _tell_of_stages(self) -> None:
        if not self._is_at_end:
            text = f"the task has ended; its preview, or what it has left behind, may take {STAGES_LIMIT_S:g} s"
            self._sink.lines([LogLine(text, now_ms(), source="jobkit")])

    def _cut_short(self) -> None:
        if not self._is_at_end and self._child is not None:
            self._is_cut_short = True
            self._child.stop("kill")

    def _flush_soon(self) -> None:
        if self._flush_timer is None:
            self._flush_timer = self._loop.call_later(_FLUSH_S, self._flush)

    def _flush(self, *, is_last: bool = False) -> None:
        self._flush_timer = None
        for pipe in self._pipes.values():
            pipe.flush(is_last=is_last)
        if self._lines:
            shown = self._lines.take(now_ms())
            self._last.extend(line.text for line in shown[-_SAID_LINES:])
            self._sink.lines(shown)
        if any(pipe.is_partial for pipe in self._pipes.values()):
            self._flush_soon()

    # -- its limits --------------------------------------------------------------------------------------------------

    def _later(self, delay_s: float, callback: Callable[..., None], *args: Any) -> None:
        self._timers.append(self._loop.call_later(delay_s, callback, *args))

    def sample(self, table: Mapping[int, int] | None) -> None:
        """Look at the memory of the whole tree. `table`: see `processes.parents`."""
        if self._child is None or not self._child.pid:
            return
        pid = self._child.pid
        below = processes.descendants(pid, table)
        self.pids = pids = (pid, *below)
        used, limit = sum(map(processes.rss_bytes, pids)), self.assignment.memory_limit_bytes
        if limit is not None and used > limit and below:
            # Forked processes share most of their memory, which the sum counts for each of them.
            used = sum(map(processes.pss_bytes, pids)) or used
        self._rss = used or self._rss
        self._peak = max(self._peak, used)
        if limit is not None and used > limit and not self.stop_kind:
            self.kill("memory")
