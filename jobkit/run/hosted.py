"""`HostedRunner`: coroutines in a process that they share, watched from outside, so that they always stop.

Thousands of them run at once on one loop in a process of their own (`host`), forked by the zygote. The worker asks it
for a sign of life while it runs something. When none comes, the loop is blocked: the job's log and the worker's say by
which line, jobs that come from now on get another process, and a job that is to stop (timeout, cancel) is ended in the
middle of its code. If that does not help within its grace (a loop in C), the process is killed; the neighbours that
were in it are given back to the queue at no cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobkit.model import ErrorKind, JobkitError, LogLine
from jobkit.run import child, frames, tree
from jobkit.run.attempt import failed, outcome_from_wire
from jobkit.run.base import Assignment, Outcome, Sink
from jobkit.run.channel import Channel
from jobkit.run.host import INIT, NUDGE, PING, PONG, STOP, TELL_STACK
from jobkit.run.oom import KernelKills
from jobkit.run.pipe import now_ms
from jobkit.run.process import ProcessRunner
from jobkit.run.recorder import tamed
from jobkit.run.tracebacks import crash_text, fault_text
from jobkit.tasks.call import read_head

logger = logging.getLogger("jobkit.worker")

#: How often a host that runs something is asked for a sign of life.
_LOOK_S = 0.25
#: How long it may take to write the stack of its loop; how long a nudge may take to help before the next one.
_STACK_S, NUDGE_S = 0.1, 0.3
#: What a lost or released attempt gets between the polite and the final stop.
_KILL_GRACE_S = 1.0
#: A block is told to so many jobs, where nobody knows who it was.
_TOLD = 20
#: Jobs that were in a process that died; they run alone the next time. So many are remembered.
_SUSPECTS = 10_000


def block_text(block_s: float, trace: str, where: str) -> str:
    """What is said of a blocked loop: one sentence, then the stack, a line each."""
    return "".join(
        [
            f"the event loop is blocked for more than {block_s:g} s",
            f" by {where}" if where else "",
            ": coroutines must not wait or calculate for long without await; use asyncio.to_thread or a plain function",
            *(f"\n{line}" for line in trace.split("\n")[1:]),
        ]
    )


class HostedRunner:
    """Runs attempts of isolation "async".

    Args:
        processes: forks the hosts.
        block_s: a loop that gives no sign of life for so long counts as blocked.
    """

    def __init__(self, processes: ProcessRunner, block_s: float = 1.0) -> None:
        self._processes = processes
        self._block_s = block_s
        self._attempts: dict[str, _Hosted] = {}
        self._host: Host | None = None
        self._hosts: set[Host] = set()
        self._starting = asyncio.Lock()
        self._suspects: deque[str] = deque(maxlen=_SUSPECTS)
        self._keys = 0

    async def start(self) -> None:
        await self._processes.start()

    async def run(self, assignment: Assignment, sink: Sink) -> Outcome:
        self._keys += 1
        hosted = _Hosted(self._keys, assignment, sink)
        self._attempts[assignment.job_id] = hosted
        try:
            host = self._host
            is_suspect = assignment.is_suspect or assignment.job_id in self._suspects
            if is_suspect or host is None or host.is_retired:
                host = await self._new_host(is_alone=is_suspect)
            host.add(hosted)
            return await asyncio.shield(hosted.done)
        except JobkitError as error:
            return failed(ErrorKind.CRASH, "zygote", f"no process could be started for the job: {error}")
        except asyncio.CancelledError:
            hosted.stop("kill")
            await asyncio.wait([hosted.done])
            raise
        finally:
            hosted.close()
            if self._attempts.get(assignment.job_id) is hosted:
                del self._attempts[assignment.job_id]

    def cancel(self, job_id: str) -> None:
        if (hosted := self._attempts.get(job_id)) is not None:
            hosted.stop("cancel")

    def kill(self, job_id: str) -> None:
        if (hosted := self._attempts.get(job_id)) is not None:
            hosted.stop("kill")

    async def close(self) -> None:
        for host in tuple(self._hosts):
            host.kill("")
        while self._hosts:
            await asyncio.wait([host.gone for host in self._hosts])

    async def _new_host(self, *, is_alone: bool) -> Host:
        async with self._starting:
            if not is_alone and self._host is not None and not self._host.is_retired:
                return self._host  # another one has waited for it

            def make(key: int, spool: str, tell: Callable[..., None]) -> Host:
                return Host(key, spool, tell, self._block_s, self._suspects.append, self._processes.kernel_kills)

            host = await self._processes.adopt(make)
            self._hosts.add(host)
            host.gone.add_done_callback(lambda _: self._hosts.discard(host))
            if is_alone:
                host.is_retired = True
            else:
                self._host = host
            return host


class _Hosted:
    """One attempt in a host."""

    def __init__(self, key: int, assignment: Assignment, sink: Sink) -> None:
        self.key = key
        self.assignment = assignment
        self.sink = sink
        self.done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.host: Host | None = None
        self.kind = ""
        self.was_killed = False
        self._timers: list[asyncio.TimerHandle] = []

    def later(self, delay_s: float, callback: Callable[..., None], *args: Any) -> None:
        self._timers.append(self.done.get_loop().call_later(delay_s, callback, *args))

    def stop(self, kind: str) -> None:
        """Politely, then in the middle of its code if it blocks the loop, then for good."""
        if self.kind or self.done.done():
            return
        self.kind = kind
        if self.host is None:
            return  # `Host.add` asks again
        self.host.stop(self)
        grace_s = _KILL_GRACE_S if kind == "kill" else self.assignment.cancel_grace_s
        self.later(grace_s, self._kill)

    def _kill(self) -> None:
        if not self.done.done() and self.host is not None:
            self.was_killed = True
            self.host.kill(self.assignment.job_id)

    @property
    def name(self) -> str:
        """Of its function, as a stack has it."""
        head, _ = read_head(self.assignment.call)
        return (head.ref or self.assignment.task).rpartition(":")[2].rpartition(".")[2]

    def finish(self, outcome: Outcome) -> None:
        if not self.done.done():
            self.done.set_result(outcome)

    def close(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def stopped(self) -> Outcome:
        """The outcome of one that was to stop, and had to be killed."""
        grace = f"did not stop within its grace of {self.assignment.cancel_grace_s:g} s and was killed"
        if self.kind == "timeout":
            sentence = f"ran longer than its timeout of {self.assignment.timeout_s:g} s"
            return failed(ErrorKind.TIMEOUT, "timeout", f"{sentence}, {grace}" if self.was_killed else sentence)
        reason = f"killed: it {grace.removesuffix(' and was killed')}" if self.was_killed else "killed by its worker"
        return Outcome("cancelled", reason=reason)


class Host:
    """The worker's end of one process; made and driven by `HostedRunner`, told of its end by the zygote."""

    def __init__(
        self,
        key: int,
        spool: str,
        tell: Callable[..., None],
        block_s: float,
        suspect: Callable[[str], None],
        kernel_kills: KernelKills,
    ) -> None:
        self.key = key
        self.is_retired = False
        """Gets no more attempts, and ends with its last one."""
        self._spool = spool
        self._fault = Path(spool + child.FAULT_SUFFIX)
        self._tell = tell
        self._block_s = block_s
        self._suspect = suspect
        self._kernel_kills = kernel_kills
        self._loop = asyncio.get_running_loop()
        self._attempts: dict[int, _Hosted] = {}
        self._pid = 0
        self._guilty = ""
        self._was_killed = False
        self._pings = self._pongs = 0
        self._pinged_at = 0.0
        self._is_blocked = False
        self._blocking: set[str] = set()  # names of the functions that it was blocked in
        self._watch: asyncio.TimerHandle | None = None
        self.gone: asyncio.Future[None] = self._loop.create_future()

    def start(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            # What C code prints in it belongs to nobody: it goes where the worker's own words go.
            message = {"op": "fork", "key": self.key, "job_id": f"async.{self.key}", "entry": "host"}
            self._tell(message, (theirs.fileno(), 1, 2))
        finally:
            theirs.close()
        self._channel = Channel(ours, self._on_frame, self._on_closed)
        self._channel.send(INIT, {"spool": self._spool})
        self._ping()

    # -- attempts -----------------------------------------------------------------------------------------------------

    def add(self, hosted: _Hosted) -> None:
        assignment = hosted.assignment
        if self.gone.done():
            hosted.finish(Outcome("released", reason="its process had ended before it started"))
            return
        hosted.host = self
        self._attempts[hosted.key] = hosted
        bounds = assignment.bounds
        meta = {
            "key": hosted.key,
            "job_id": assignment.job_id,
            "attempt": assignment.attempt,
            "task": assignment.task,
            "timeout_s": assignment.timeout_s,
            "allow_pickle": assignment.allow_pickle,
            "bounds": (bounds.count, bounds.each_bytes, bounds.total_bytes),
            "log": (assignment.log_path, assignment.log_owner),
        }
        if len(assignment.call) < frames.FRAME_LIMIT // 2:
            self._channel.send(frames.CALL, meta | {"call": assignment.call})
        else:
            for frame in frames.call_frames(meta, assignment.call):
                self._channel.send_frame(frame)
        if assignment.timeout_s is not None:
            hosted.later(assignment.timeout_s, hosted.stop, "timeout")
        if hosted.kind:
            kind, hosted.kind = hosted.kind, ""
            hosted.stop(kind)
        if self._watch is None:
            self._watch = self._loop.call_later(_LOOK_S, self._look)

    def stop(self, hosted: _Hosted) -> None:
        self._channel.send(STOP, (hosted.key, hosted.kind))
        self._ping()
        hosted.later(NUDGE_S, self._nudge, hosted, self._pings)

    def _nudge(self, hosted: _Hosted, ping: int) -> None:
        """It was asked to stop, and the loop has not run since: interrupt what runs there."""
        if self._pongs < ping and not hosted.done.done() and self._is_up:
            tree.send(self._pid, NUDGE)
            hosted.later(NUDGE_S, self._nudge, hosted, ping)

    def kill(self, guilty: str) -> None:
        """End the process, and with it everything that runs in it, because of one job (or "" at the end)."""
        self.is_retired = self._was_killed = True
        self._guilty = self._guilty or guilty
        self._tell({"op": "kill", "key": self.key})

    def _on_frame(self, kind: bytes, content: Any) -> None:
        if kind == PONG:
            self._pongs = content
            return
        key, *rest = content
        hosted = self._attempts.get(key)
        if hosted is None:
            return
        if kind == frames.ENDED:
            outcome = hosted.stopped() if rest[0] is None else self._outcome(rest[0])
            del self._attempts[key]
            hosted.finish(outcome)
            self._end_if_idle()
        elif kind == frames.LINES:
            hosted.sink.lines([LogLine.from_wire(line) for line in rest[0]])
        elif kind == frames.PROGRESS:
            hosted.sink.progress(*tamed(*rest))
        elif kind == frames.AWAITS:
            hosted.sink.awaits([str(job_id) for job_id in rest[0]])
        elif kind == frames.ARTIFACT:
            name, media, body, file = rest
            hosted.sink.artifact(str(name), str(media), Path(file) if file else bytes(body))

    def _outcome(self, wire: dict[str, Any]) -> Outcome:
        usage = wire.get("usage", {})
        if not wire.get("file"):
            return outcome_from_wire(wire, wire["body"], usage)
        try:
            return outcome_from_wire(wire, frames.unspool(wire["file"]), usage)
        except OSError as error:
            unavailable = f"the task succeeded, but its result could not be read from the disk: {error}"
            preview = dict(wire["preview"] or {}, unavailable=unavailable)
            return outcome_from_wire(wire | {"form": b"", "preview": preview}, b"", usage)

    def _end_if_idle(self) -> None:
        if self.is_retired and not self._attempts:
            self._channel.close()

    # -- signs of life ------------------------------------------------------------------------------------------------

    @property
    def _is_up(self) -> bool:
        """It has answered once: its signal handlers are in place."""
        return bool(self._pid and self._pongs)

    def _ping(self) -> None:
        if self._pings == self._pongs:
            self._pinged_at = time.monotonic()
        self._pings += 1
        self._channel.send(PING, self._pings)

    def _look(self) -> None:
        self._watch = None
        if not self._attempts or not self._channel.is_open:
            return
        self._watch = self._loop.call_later(_LOOK_S, self._look)
        if self._pongs == self._pings:
            if self._is_blocked:
                self._is_blocked = False
                self._note(f"the loop runs again, after {time.monotonic() - self._pinged_at:.1f} s")
            self._ping()
        elif not self._is_blocked and self._is_up and time.monotonic() - self._pinged_at > self._block_s:
            self._is_blocked = self.is_retired = True
            with contextlib.suppress(OSError):
                self._fault.write_text("")
            tree.send(self._pid, TELL_STACK)
            self._loop.call_later(_STACK_S, self._tell_block)

    def _tell_block(self) -> None:
        trace, where = self._fault_text()
        self._blocking = {line.rpartition(" in ")[2] for line in trace.split("\n")[1:]}
        self._note(block_text(self._block_s, trace, where))

    def _note(self, text: str) -> None:
        culprits = [hosted for hosted in self._attempts.values() if hosted.name in self._blocking]
        culprits = culprits or list(self._attempts.values())[:_TOLD]
        names = ", ".join(sorted({hosted.assignment.task for hosted in culprits})[:5])
        logger.warning("%s: %s", names or "async jobs", text)
        lines = [LogLine(line, now_ms(), "jobkit", "WARNING") for line in text.split("\n")]
        for hosted in culprits:
            hosted.sink.lines(lines)

    def _fault_text(self) -> tuple[str, str]:
        try:
            return fault_text(self._fault.read_text("utf-8", "backslashreplace"))
        except OSError:
            return "", ""

    # -- the end ------------------------------------------------------------------------------------------------------

    def on_started(self, pid: int, problem: str) -> None:
        self._pid = pid
        if not pid:
            self._end(lambda hosted: failed(ErrorKind.CRASH, "fork", f"no process could be started: {problem}"))

    def on_exit(self, code: int, cpu_s: float, peak_rss_bytes: int) -> None:
        self._channel.drain()
        trace, where = ("", "") if self._was_killed else self._fault_text()
        shared = len(self._attempts)
        type_, sentence = crash_text(code)
        is_memory = code == -signal.SIGKILL and not self._was_killed and self._kernel_kills.take()
        if is_memory:
            sentence = "the kernel killed the job's process because memory ran out"
        elif code == -signal.SIGKILL:
            sentence += ", likely out of memory"

        def verdict(hosted: _Hosted) -> Outcome:
            if hosted.kind:
                return hosted.stopped()
            if self._guilty:
                return Outcome("released", reason=f"its process was shared with job {self._guilty}, which did not stop")
            if self._was_killed:
                return Outcome("released", reason="its worker was stopped")
            if shared > 1:
                self._suspect(hosted.assignment.job_id)
                reason = f"{sentence}; it was shared with {shared - 1} other jobs, and each runs alone the next time"
                return Outcome("released", reason=reason)
            outcome = failed(ErrorKind.MEMORY if is_memory else ErrorKind.CRASH, type_, sentence)
            assert outcome.error is not None
            return replace(outcome, error=replace(outcome.error, traceback=trace, where=where))

        self._end(verdict)

    def on_orphaned(self, why: str) -> None:
        if self._pid:
            tree.kill([self._pid])
        self._end(lambda hosted: hosted.stopped() if hosted.kind else Outcome("lost", reason=f"killed because {why}"))

    def _on_closed(self, problem: str) -> None:
        self.is_retired = True
        if problem:
            self.kill("")

    def _end(self, verdict: Callable[[_Hosted], Outcome]) -> None:
        self.is_retired = True
        self._channel.close()
        if self._watch is not None:
            self._watch.cancel()
        self._fault.unlink(missing_ok=True)
        attempts, self._attempts = self._attempts, {}
        for hosted in attempts.values():
            hosted.finish(verdict(hosted))
        if not self.gone.done():
            self.gone.set_result(None)
