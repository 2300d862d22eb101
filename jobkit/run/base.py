"""Values and protocols between a worker and its runners: one attempt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from jobkit.model import LogLine, Retry
from jobkit.model.snapshot import JobError
from jobkit.run.inside.artifacts import Body, Bounds


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt to execute. The payload's signature has been verified; nothing of it has been unpickled.

    Attributes:
        call: the payload's body, see `jobkit.tasks.call`.
        isolation: "process", "thread" or "async".
        timeout_s, memory_limit_bytes: limits, or None.
        cancel_grace_s: between the polite and the final stop.
        reuse: so many jobs may run in one process, one after the other; 1 for a separate process.
        allow_pickle: the payload is signed, so it may name any module and hold pickles; the result may be one, too.
        bounds: how much it may keep as artifacts.
        log_path: file for its whole log, or "". log_owner: what the folder of that file says about its owner.
        environ: variables of its process, for isolation "process".
        is_alone: nothing else may share a process with it: a worker died while it ran this job, or it must not run
            twice, which the end of a shared process would make it.
    """

    job_id: str
    task: str
    attempt: int
    call: bytes
    isolation: str = "process"
    timeout_s: float | None = None
    memory_limit_bytes: int | None = None
    cancel_grace_s: float = 10.0
    reuse: int = 1
    allow_pickle: bool = True
    bounds: Bounds = Bounds()
    log_path: str = ""
    log_owner: str = ""
    is_alone: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)


class Sink(Protocol):
    """Receiver of an attempt's news. Called from the worker's loop; must not block."""

    def progress(self, done: float | None, total: float | None, message: str) -> None: ...

    def lines(self, lines: Sequence[LogLine]) -> None: ...

    def awaits(self, job_ids: Sequence[str]) -> None:
        """The task waits for these jobs now, those of its newest wait first; empty: it goes on."""
        ...

    def artifact(self, name: str, media: str, body: Body) -> None:
        """Something to keep. A file belongs to the sink from now on, which removes it when it has its content."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """End of an attempt, as its runner saw it.

    Attributes:
        outcome: "succeeded", "failed", "cancelled" (only where a cancel was asked for), "released" (it could not be
            finished for a reason outside of it, and is to run again) or "lost" (it is to run again, though the death
            of its process may have been its fault, so not for ever).
        form, body: the encoded value of a success (`codec.encode`); empty if it could not be written, and then
            `preview["unavailable"]` is the sentence that says why.
        preview: what any page may show of the value, JSON only; see `jobkit.run.inside.preview`.
        summary: one line of it, at most 200 characters.
        error: for "failed". `error_types`: qualified names of the exception's class and its bases, for `retry_on`.
        error_body: the pickled exception, empty if it cannot be pickled.
        retry: the `Retry` that the task raised, if it did.
        reason: one sentence for "cancelled": whether its clean-up ran or it was killed; for "released" and "lost": why.
        usage: `cpu_s`, `peak_rss_bytes`, `exit` (status, or name of the signal), where known;
            of a local worker also `python` (version and prefix).
    """

    outcome: str
    form: bytes = b""
    body: bytes = b""
    preview: Mapping[str, Any] | None = None
    summary: str = ""
    error: JobError | None = None
    error_types: tuple[str, ...] = ()
    error_body: bytes = b""
    retry: Retry | None = None
    reason: str = ""
    usage: Mapping[str, Any] = field(default_factory=dict)


class Runner(Protocol):
    """Executes attempts of one isolation. One runner serves many attempts at once, on the worker's loop."""

    async def start(self) -> None: ...

    async def run(self, assignment: Assignment, sink: Sink) -> Outcome:
        """Execute one attempt to its end. Never raises for what user code does; cancelling this coroutine kills the
        attempt at once (SIGKILL for a process) and waits until nothing of it is left."""
        ...

    def cancel(self, job_id: str) -> None:
        """Ask the attempt to stop: politely first, for good after its grace. `run` then returns "cancelled", or
        what the attempt ended as before the request reached it."""
        ...

    def kill(self, job_id: str) -> None:
        """Stop the attempt at once, without grace: its lease is lost, whatever it returns will be refused."""
        ...

    async def close(self) -> None: ...
