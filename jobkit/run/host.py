"""What runs in the process that all coroutines of a worker share: a loop, which the worker watches from outside.

A coroutine that blocks the loop (a `time.sleep`, a long calculation) holds up its neighbours, but neither the worker
nor its other jobs, and it can be stopped: by an exception that a signal raises right in its code, and for good by
ending this process. See `hosted` for the other side.

    worker to host   INIT {spool} once; PART, CALL as in `frames`; STOP [key, kind]; PING number
    host to worker   PONG number; LINES, PROGRESS, ARTIFACT, ENDED with the key of the attempt first
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from jobkit.model import LogLine
from jobkit.run import child, context, frames
from jobkit.run.artifacts import Body, Bounds
from jobkit.run.attempt import outcome_to_wire
from jobkit.run.base import Assignment, Outcome
from jobkit.run.channel import Channel
from jobkit.run.context import Stop
from jobkit.run.inline import AsyncRunner

#: Less of the processor's time is not worth a word.
TOLD_CPU_S = 0.01

INIT, STOP, PING, PONG = b"i", b"s", b"?", b"!"

#: Looks at what to stop and raises `Stop` in its code; writes the stack of the loop to the file of faults.
NUDGE, TELL_STACK = signal.SIGUSR1, signal.SIGUSR2


def main(zygote: int, fds: tuple[int, int, int]) -> NoReturn:
    """The life of the process, right after the fork; see `child.main`."""
    try:
        child.prepare(zygote, fds)
        for number in (signal.SIGTERM, NUDGE, TELL_STACK):  # the worker decides; the others get their meaning below
            signal.signal(number, child.ignore)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        asyncio.run(Host().serve())
    except BaseException:  # a bug of ours
        import traceback

        os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
    finally:
        os._exit(1)


class Host:
    def __init__(self) -> None:
        self._runner = AsyncRunner(is_hosted=True)
        self._spool = ""
        self._parts: list[bytes] = []
        self._running: dict[int, asyncio.Task[None]] = {}
        self._jobs: dict[int, str] = {}
        self._stopped: set[str] = set()  # jobs that were asked to stop
        self._nudged: set[str] = set()

    async def serve(self) -> None:
        await self._runner.start()
        self.channel = Channel(socket.socket(fileno=child.CONTROL_FD), self._on_frame, lambda problem: os._exit(0))
        signal.signal(NUDGE, self.on_nudge)
        await asyncio.get_running_loop().create_future()  # the channel's end is ours

    def _on_frame(self, kind: bytes, content: Any) -> None:
        if kind == frames.CALL:
            call, self._parts = b"".join(self._parts) or content.pop("call"), []
            self._start(content, call)
        elif kind == frames.PART:
            self._parts.append(content)
        elif kind == PING:
            self.channel.send(PONG, content)
        elif kind == STOP:
            key, how = content
            job_id = self._jobs.get(key)
            if job_id is not None:
                self._stopped.add(job_id)
                self._runner.stop(job_id, how)
        elif kind == INIT:
            self._spool = content["spool"]
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            fd = os.open(content["spool"] + child.FAULT_SUFFIX, flags, 0o600)
            faulthandler.enable(file=fd, all_threads=False)
            faulthandler.register(TELL_STACK, file=fd, all_threads=False)

    def _start(self, meta: dict[str, Any], call: bytes) -> None:
        key = meta["key"]
        bounds, log = meta["bounds"], meta["log"]
        assignment = Assignment(
            job_id=meta["job_id"],
            task=meta["task"],
            attempt=meta["attempt"],
            call=call,
            isolation="async",
            timeout_s=meta["timeout_s"],
            allow_pickle=meta["allow_pickle"],
            bounds=Bounds(*bounds) if bounds else Bounds(),
            log_path=log[0],
            log_owner=log[1],
        )
        self._jobs[key] = assignment.job_id
        self._running[key] = asyncio.get_running_loop().create_task(self._run(key, assignment))

    async def _run(self, key: int, assignment: Assignment) -> None:
        wire: dict[str, Any] | None = None
        try:
            outcome, spent = await self._runner.measured(assignment, _Outlet(self, key, self._spool))
            wire = outcome_to_wire(outcome) | {"longest_step_s": spent.longest_s}
            if spent.cpu_s >= TOLD_CPU_S:
                wire["usage"] = {"cpu_s": round(spent.cpu_s, 3)}
            if len(outcome.body) > child.SPOOL_BYTES:
                wire |= await asyncio.to_thread(_spooled, f"{self._spool}.{key}", outcome)
        except Stop:  # while its outcome was being written
            pass
        finally:
            del self._running[key], self._jobs[key]
            self._stopped.discard(assignment.job_id)
            self._nudged.discard(assignment.job_id)
        self.channel.send(frames.ENDED, (key, wire))

    def on_nudge(self, number: int, frame: FrameType | None) -> None:
        """The loop did not answer. If a job that was asked to stop is what runs here and now, end it right here.

        Called between two instructions of whatever runs, also in the middle of a sleep; the context tells whose code
        that is. Once for each job: its clean-up is not disturbed a second time.
        """
        self.channel.read()
        own = context.active()
        if self.channel.is_busy:  # in our code, not the job's; the worker nudges again
            return
        if own is not None and own.job_id in self._stopped and own.job_id not in self._nudged:
            self._nudged.add(own.job_id)
            raise Stop("the job was asked to stop, and blocked the loop")


def _spooled(path: str, outcome: Outcome) -> dict[str, Any]:
    """What changes in the frame of an outcome whose body goes through a file."""
    try:
        frames.spool(path, outcome.body)
    except OSError as error:
        unavailable = f"the task succeeded, but its result could not be written to the worker's disk: {error}"
        return {"form": b"", "body": b"", "preview": dict(outcome.preview or {}, unavailable=unavailable)}
    return {"file": path, "body": b""}


class _Outlet:
    """The sink of one attempt: to the worker."""

    def __init__(self, host: Host, key: int, spool: str) -> None:
        self._host, self._key = host, key
        self._spool = spool
        self._artifacts = 0

    def progress(self, done: float | None, total: float | None, message: str) -> None:
        self._host.channel.send(frames.PROGRESS, (self._key, done, total, message))

    def lines(self, lines: Sequence[LogLine]) -> None:
        self._host.channel.send(frames.LINES, (self._key, [line.to_wire() for line in lines]))
        self._host.channel.flush()  # what has left survives the crash of this process

    def awaits(self, job_ids: Sequence[str]) -> None:
        self._host.channel.send(frames.AWAITS, (self._key, job_ids))
        self._host.channel.flush()  # the wait may block the loop itself

    def artifact(self, name: str, media: str, body: Body) -> None:
        content = body.read_bytes() if isinstance(body, Path) else body
        file = ""
        if len(content) > child.SPOOL_BYTES:
            self._artifacts += 1
            file = f"{self._spool}.{self._key}{child.ARTIFACT_SUFFIX}{self._artifacts}"
            frames.spool(file, content)
            content = b""
        self._host.channel.send(frames.ARTIFACT, (self._key, name, media, content, file))
