"""One attempt in a separate process, as the worker sees it: output, limits and outcome."""

from __future__ import annotations

import asyncio
import codecs
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jobkit.files.log import Portion, mark_of
from jobkit.model import ErrorKind, LogLine
from jobkit.model.snapshot import JobError
from jobkit.run.attempt import Assignment, Outcome, Sink, failed, outcome_from_wire
from jobkit.run.inside.lines import LineBuffer, Splitter, WireLine
from jobkit.run.inside.log_tee import LoopLog
from jobkit.run.inside.recorder import tamed
from jobkit.run.inside.tracebacks import SAID_LINES, crash_text, fault_text, last_words
from jobkit.run.process import frames, tree
from jobkit.run.process.link import READ_BYTES, START_LIMIT_S, ChildProcess, Closed
from jobkit.run.process.tree import KernelKills

#: How `faulthandler` begins, and more than it ever writes.
_REPORT, _REPORT_BYTES = b"Fatal Python error: ", 64_000
#: It writes a hundred frames at most, and the list of loaded extension modules.
_REPORT_LINES = 300


def now_ms() -> int:
    """Milliseconds since the epoch, for display."""
    return time.time_ns() // 1_000_000


class Pipe:
    """Output of C code and grandchildren: a job's standard output or error.

    Python's report of a crash comes this way too, in many small pieces. It is held back whole (`report`): it goes into
    the error, and on the log only if no crash follows.
    """

    def __init__(
        self, source: str, lines: LineBuffer, flush_soon: Callable[[], None], log: LoopLog | None = None
    ) -> None:
        self._source = source
        self._lines = lines
        self._flush_soon = flush_soon
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._splitter = Splitter()
        self._held = b""
        self._log = log
        self._rest = b""
        self._report: bytes | None = None  # of the whole log
        self._reported: list[WireLine] = []

    @property
    def _mark(self) -> bytes:
        return mark_of(self._source, at_ms=now_ms())

    @property
    def is_partial(self) -> bool:
        """A line has begun that will be due even if nothing follows."""
        return self._splitter.is_partial and not self._is_reporting

    @property
    def _is_reporting(self) -> bool:
        """Return whether the text may be (or begin) the report of a crash."""
        if self._source != "stderr":
            return False
        begun, head = self._splitter.partial, _REPORT.decode()
        return bool(self._reported) or (begun != "" and (head.startswith(begun) or begun.startswith(head)))

    def report(self) -> str:
        """The report of a crash, "" if there is none."""
        self._end_line()
        return "\n".join(str(line[4]) for line in self._reported)

    def read(self, fd: int) -> None:
        """Read what has come.

        Raises:
            Closed, BlockingIOError.
        """
        data = os.read(fd, READ_BYTES)
        if not data:
            raise Closed
        if self._log is not None:
            self._keep(data)
        if self._lines.is_flooded and not self._is_reporting and _REPORT not in data:
            # Only the newest portion will be shown: counting newlines is a hundred times cheaper than splitting.
            self._lines.skip(self._held.count(b"\n"))
            self._held = data
        else:
            self._feed(data)
        self._flush_soon()

    def flush(self, due_ms: int | None) -> None:
        """Hand on a partial line that is due at `due_ms`, or whatever there is (None)."""
        if self._held:
            data, self._held = self._held, b""
            self._feed(data)
        if due_ms is None:
            self._end_line()
        elif not self._is_reporting:
            self._add(self._splitter.flush(due_ms), due_ms)

    def _keep(self, data: bytes) -> None:
        """Whole lines to the log as they are; a line without end in pieces."""
        assert self._log is not None
        whole, newline, rest = (self._rest + data).rpartition(b"\n")
        if len(rest) > READ_BYTES:
            whole, newline, rest = whole + newline + rest, b"\n", b""
        self._rest = rest
        if newline:
            self._keep_lines(whole + newline)

    def _keep_lines(self, lines: bytes) -> None:
        """All but Python's report of a crash, which is our affair until it turns out to be none."""
        assert self._log is not None
        if self._report is None and self._source == "stderr":
            start = 0 if lines.startswith(_REPORT) else lines.find(b"\n" + _REPORT) + 1 or len(lines)
            before, lines = lines[:start], lines[start:]
            if before:
                self._log.add_bytes(before, self._mark)
            if not lines:
                return
            self._report = b""
        if self._report is None:
            self._log.add_bytes(lines, self._mark)
            return
        self._report += lines
        if len(self._report) > _REPORT_BYTES:  # a task that prints such words
            self._log.add_bytes(self._report, self._mark)
            self._report = None

    def finish(self, *, has_crashed: bool = False) -> None:
        """At the end of the job. `has_crashed`: what looks like a report of that is one."""
        if self._log is not None:
            if self._rest:
                self._keep_lines(self._rest + b"\n")
                self._rest = b""
            if self._report and not has_crashed:
                self._log.add_bytes(self._report, self._mark)
            self._report = None
        self.flush(None)
        if not has_crashed:
            self._release()
        self._reported = []
        self._flush_soon()

    def _feed(self, data: bytes, *, is_last: bool = False) -> None:
        now = now_ms()
        for line in self._splitter.feed(self._decoder.decode(data, is_last), now):
            self._add(line, now)

    def _end_line(self) -> None:
        self._feed(b"", is_last=True)
        self._add(self._splitter.flush(), None)

    def _add(self, line: str | None, at_ms: int | None) -> None:
        if line is None:
            return
        told: WireLine = [at_ms or now_ms(), self._source, "", "", line]
        if not self._reported and not (self._source == "stderr" and line.startswith(_REPORT.decode())):
            self._lines.add(told)
            return
        self._reported.append(told)
        if len(self._reported) > _REPORT_LINES:
            self._release()

    def _release(self) -> None:
        """It was none, but a task that prints such words."""
        for told in self._reported:
            self._lines.add(told)
        self._reported = []


_FLUSH_S = 0.03


class ProcessAttempt:
    """Made and driven by `ProcessRunner`, on its loop.

    Args:
        spool: path of the file in which a large result may come.
        kernel_kills: tells whether a SIGKILL was the kernel's.
    """

    def __init__(self, assignment: Assignment, sink: Sink, spool: str, kernel_kills: KernelKills) -> None:
        self.assignment = assignment
        self._sink = sink
        self._spool = spool
        self._kernel_kills = kernel_kills
        self._last: deque[str] = deque(maxlen=SAID_LINES)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Outcome] = self._loop.create_future()
        self._child: ChildProcess | None = None
        self._known: list[int] = []
        self._stop_kind = ""  # "cancel", "timeout", "memory", "start" or "kill", the first that was asked for
        self._was_killed = False
        self._was_polite = False
        self._wire: dict[str, Any] | None = None
        self._damage = ""
        self._has_crashed = False
        self._rss = self._peak = 0
        self._timers: list[asyncio.TimerHandle] = []
        self._flush_timer: asyncio.TimerHandle | None = None
        self._lines = LineBuffer(now_ms())
        self._log: LoopLog | None = None
        if assignment.log_path:
            self._log = LoopLog(assignment.log_path, assignment.log_owner, self._loop)
        self._pipes: dict[str, Pipe] = {}  # by source, once something came that way
        self._artifacts = 0
        self._has_limit = False

    def begin(self, child: ChildProcess, *, is_last: bool) -> None:
        """Send the call to a process. `is_last`: it ends with this job."""
        assignment = self.assignment
        meta = {
            "job_id": assignment.job_id,
            "attempt": assignment.attempt,
            "task": assignment.task,
            "environ": dict(assignment.environ),
            "allow_pickle": assignment.allow_pickle,
            "spool": self._spool,
            "bounds": [assignment.bounds.count, assignment.bounds.each_bytes, assignment.bounds.total_bytes],
            "log": [assignment.log_path, assignment.log_owner],
            "is_last": is_last,
        }
        self._child = child
        child.begin(self, frames.call_frames(meta, assignment.call))
        if child.is_ready:
            self.on_ready()
        else:
            self._later(START_LIMIT_S, self._look_at_start)

    def on_ready(self) -> None:
        """The process is set up: the job begins."""
        if self.assignment.timeout_s is not None and not self._has_limit:
            self._has_limit = True
            self._later(self.assignment.timeout_s, self.stop, "timeout")

    def _look_at_start(self) -> None:
        if self._child is not None and not self._child.is_ready:
            self.kill("start")

    @property
    def is_stopping(self) -> bool:
        return bool(self._stop_kind)

    async def outcome(self) -> Outcome:
        """Return its outcome, once none of its processes is left. If cancelled, kill it first."""
        try:
            outcome = await asyncio.shield(self._ended)
        except asyncio.CancelledError:
            self.kill("kill")
            while not self._ended.done():
                try:
                    await asyncio.shield(self._ended)
                except asyncio.CancelledError:
                    continue
            self._drop_file()
            raise
        finally:
            if self._wire is None:
                self._artifact_file(self._artifacts + 1).unlink(missing_ok=True)  # one that it died over
        if self._log is not None:
            await self._log.close((b"", b"") if self._wire is None else _portion(self._wire))
        if self._has_file and outcome.outcome == "succeeded":
            return await asyncio.to_thread(self._unspooled, outcome)
        if self._has_file or self._wire is None:
            self._drop_file()
        return outcome

    def stop(self, kind: str) -> None:
        """Ask it to stop (SIGTERM to its group); for good after its grace."""
        if self._stop_kind or self._ended.done():
            return
        self._stop_kind = kind
        self._was_polite = True
        if self._child is not None:
            self._child.ask_to_stop()
        self._later(self.assignment.cancel_grace_s, self.kill, kind)

    def kill(self, kind: str) -> None:
        """Stop it for good: SIGKILL to its whole tree."""
        if self._ended.done():
            return
        self._stop_kind = self._stop_kind or kind
        self._was_killed = True
        if self._child is not None:
            self._child.kill()

    def on_refused(self, problem: str) -> None:
        """There was no process to be had."""
        self._finish(failed(ErrorKind.CRASH, "fork", f"no process could be started for the job: {problem}"))

    def on_exit(self, code: int, cpu_s: float, peak_rss_bytes: int) -> None:
        """The zygote has reaped its process and killed what was left of its tree."""
        usage = {
            "cpu_s": cpu_s,
            "peak_rss_bytes": max(peak_rss_bytes, self._peak),
            "exit": code if code >= 0 else crash_text(code)[0],
        }
        self._finish(self._verdict(code, usage))

    def on_orphaned(self, why: str) -> None:
        """The zygote is gone, and with it the job's process; see to what came from that."""
        if self._ended.done():
            return
        tree.kill(pid for pid in self._known if tree.identity(pid) is not None)
        outcome = self._stopped({}) if self._stop_kind else None
        self._finish(outcome or Outcome("lost", reason=f"the job's process was killed because {why}"))

    # -- how it ended ------------------------------------------------------------------------------------------------

    def _verdict(self, code: int, usage: dict[str, Any]) -> Outcome:
        wire = self._wire
        if wire is not None and not wire["stopped"] and wire["outcome"] != "cancelled":
            return outcome_from_wire(wire, wire["body"], usage)  # it ended before a request to stop reached it
        if self._stop_kind:
            return self._stopped(usage)
        if wire is not None:  # SIGTERM came from outside, from a system that shuts down for instance
            return failed(ErrorKind.CRASH, "SIGTERM", "the job's process was told to stop (signal 15, SIGTERM)", usage)
        if self._damage:
            return failed(
                ErrorKind.CRASH, "protocol", f"the job's process damaged its control channel: {self._damage}", usage
            )
        kind, (type_, sentence) = ErrorKind.CRASH, crash_text(code)
        if code == -signal.SIGKILL:
            last = f", its last known size was {_size(self._rss)}" if self._rss else ""
            if self._kernel_kills.take():
                kind, sentence = ErrorKind.MEMORY, f"the kernel killed the job's process because memory ran out{last}"
            else:
                sentence += f", likely out of memory{last}"
        self._has_crashed = True
        trace, where = fault_text(self._pipes["stderr"].report() if "stderr" in self._pipes else "")
        self._flush()
        text = "\n\n".join(filter(None, (trace, last_words(self._last))))
        error = JobError(kind, type_, sentence, text, where)
        return Outcome("failed", error=error, usage=usage)

    def _stopped(self, usage: dict[str, Any]) -> Outcome:
        assignment, kind = self.assignment, self._stop_kind
        grace = f"its grace of {assignment.cancel_grace_s:g} s"
        if kind == "timeout":
            sentence = f"ran longer than its timeout of {assignment.timeout_s:g} s"
            if self._wire is None and self._was_killed:
                sentence += f", did not stop within {grace} and was killed"
            return failed(ErrorKind.TIMEOUT, "timeout", sentence, usage)
        if kind == "start":
            sentence = (
                f"the job's process was not ready within {START_LIMIT_S:g} s: it hung while it imported the tasks"
            )
            return failed(ErrorKind.CRASH, "start", sentence, usage)
        if kind == "memory":
            limit = assignment.memory_limit_bytes or 0
            sentence = f"used {_size(self._peak)} of memory; its limit is {_size(limit)}"
            return failed(ErrorKind.MEMORY, "memory", sentence, usage)
        if self._wire is not None and self._was_polite:
            reason = "stopped on request; its clean-up ran"
            if self._wire["error"] is not None:
                reason = f"stopped on request; its clean-up raised {self._wire['error']['type']}"
        elif kind == "kill":
            reason = "killed by its worker"
        elif self._was_killed:
            reason = f"killed: it did not stop within {grace}"
        else:
            reason = "stopped on request; its process ended without a word"
        return Outcome("cancelled", reason=reason, usage=usage)

    def _finish(self, outcome: Outcome) -> None:
        for timer in self._timers:
            timer.cancel()
        for pipe in self._pipes.values():
            pipe.finish(has_crashed=self._has_crashed)
        self._flush()
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        self._child = None
        if not self._ended.done():
            self._ended.set_result(outcome)

    @property
    def _has_file(self) -> bool:
        return self._wire is not None and bool(self._wire["file"])

    def _artifact_file(self, number: int) -> Path:
        return Path(f"{self._spool}{frames.ARTIFACT_SUFFIX}{int(number)}")

    def _drop_file(self) -> None:
        Path(self._spool).unlink(missing_ok=True)

    def _unspooled(self, outcome: Outcome) -> Outcome:
        assert self._wire is not None
        try:
            body = frames.unspool(self._spool)
        except OSError as error:
            preview = dict(outcome.preview or {})
            preview["unavailable"] = f"the task succeeded, but its result could not be read from the disk: {error}"
            return outcome_from_wire(self._wire | {"form": b"", "preview": preview}, b"", outcome.usage)
        return outcome_from_wire(self._wire, body, outcome.usage)

    # -- what comes from it ------------------------------------------------------------------------------------------

    def read_output(self, source: str, fd: int) -> None:
        pipe = self._pipes.get(source)
        if pipe is None:
            pipe = self._pipes[source] = Pipe(source, self._lines, self._flush_soon, self._log)
        pipe.read(fd)

    def on_damage(self, problem: str) -> None:
        self._damage = problem

    def on_frame(self, kind: bytes, content: Any) -> None:
        if kind == frames.LINES:
            for at_ms, source, level, logger, text in content:
                self._lines.add([int(at_ms), str(source), str(level), str(logger), str(text)])
            self._flush_soon()
        elif kind == frames.PROGRESS:
            self._sink.progress(*tamed(*content))
        elif kind == frames.AWAITS:
            self._sink.awaits([str(job_id) for job_id in content])
        elif kind == frames.ARTIFACT:
            name, media, body, number = content
            self._artifacts = max(self._artifacts, int(number))
            self._sink.artifact(str(name), str(media), self._artifact_file(number) if number else bytes(body))
        elif kind == frames.ENDED:
            outcome_from_wire(
                content, content["body"], {}
            )  # what does not hold together is refused here, not at the end
            is_whole = isinstance(content["stopped"], bool) and isinstance(content["usage"], dict)
            if not is_whole or content["outcome"] not in ("succeeded", "failed", "cancelled"):
                raise ValueError(f"an outcome of {content['outcome']!r}")
            self._wire = content
            if content["is_alone"] and not self._stop_kind:
                self._end_early(content["usage"], is_fit=content["is_fit"])
            elif self._child is not None:  # else a warm one would wait for its next call
                self._child.retire()

    def _end_early(self, usage: dict[str, Any], *, is_fit: bool) -> None:
        """Nothing is left of it but its process, which waits for another job or is about to exit."""
        child = self._child
        assert child is not None
        child.drain_output()
        peak = max(int(usage["peak_rss_bytes"]), self._peak)
        child.spent_cpu_s += usage["cpu_s"]
        self._finish(self._verdict(0, {"cpu_s": usage["cpu_s"], "peak_rss_bytes": peak, "exit": 0}))
        child.leave(is_fit=is_fit)

    def _flush_soon(self) -> None:
        if self._flush_timer is None:
            self._flush_timer = self._loop.call_later(_FLUSH_S, self._flush)

    def _flush(self) -> None:
        self._flush_timer = None
        now = now_ms()
        is_partial = False
        for pipe in self._pipes.values():
            pipe.flush(now)
            is_partial = is_partial or pipe.is_partial
        if self._lines:
            shown = [LogLine.from_wire(line) for line in self._lines.take(now)]
            self._last.extend(line.text for line in shown[-SAID_LINES:])
            self._sink.lines(shown)
        if is_partial:
            self._flush_soon()

    # -- its limits --------------------------------------------------------------------------------------------------

    def _later(self, delay_s: float, callback: Callable[..., None], *args: Any) -> None:
        self._timers.append(self._loop.call_later(delay_s, callback, *args))

    def sample(self) -> None:
        """Look at the memory of the whole tree."""
        if self._child is None or not self._child.pid:
            return
        pid = self._child.pid
        self._known = tree.descendants(pid)
        pids = (pid, *self._known)
        size, limit = tree.rss_bytes(pids), self.assignment.memory_limit_bytes
        if limit is not None and size > limit and self._known:
            # Forked processes share most of their memory, which the sum counts for each of them.
            size = tree.pss_bytes(pids) or size
        self._rss = size or self._rss
        self._peak = max(self._peak, size)
        if limit is not None and size > limit and not self._stop_kind:
            self.kill("memory")


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _portion(wire: Mapping[str, Any]) -> Portion:
    """The last lines of a child's log."""
    data, marks = wire.get("log") or (b"", b"")
    return bytes(data), bytes(marks)
