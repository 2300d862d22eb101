"""The snapshot of a job, and how events change it.

`apply(snapshot, event)` is the only function that computes a new state from an event. The live handle, the notebook
card, the dashboard and the tests all use it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from jobkit.model.events import ENDS, ErrorKind, EventType, JobEvent, JobState
from jobkit.model.format import shortened
from jobkit.model.metrics import NO_METRICS, MetricsSummary
from jobkit.model.plain import Record, instant, to_json
from jobkit.model.question import OpenQuestion, open_questions
from jobkit.model.spec import JobSpec


class JobError(Record, frozen=True):
    """Why an attempt failed, as plain text; nothing here has to be unpickled.

    Attributes:
        kind: see `ErrorKind`.
        type: class name of the exception (`"KeyError"`), or a word for other kinds (`"SIGKILL"`, `"timeout"`).
        message: one sentence.
        traceback: the remote traceback, starting at the user's own frames; "" if there is none.
        where: "file.py:28 in evaluate", the deepest frame of the user's code, or "".
        source: up to five lines of code around that place, each `number, tab, text`; "" if unknown.

    Example:
        >>> error = kit.submit(int, "seven").error
        >>> error.type, error.message
        ('ValueError', "invalid literal for int() with base 10: 'seven'")
    """

    kind: ErrorKind
    type: str = ""
    message: str = ""
    traceback: str = ""
    where: str = ""
    source: str = ""

    def to_wire(self) -> dict[str, Any]:
        """Return all fields as JSON, without an unknown `source`."""
        wire: dict[str, Any] = to_json(self)
        if not self.source:
            del wire["source"]
        return wire

    to_json = to_wire

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.kind is ErrorKind.EXCEPTION else self.message


class Attempt(msgspec.Struct, frozen=True):
    """One execution of a job, computed from its events.

    Attributes:
        number: from 1.
        worker: id of the worker that ran it.
        started_at, ended_at: by Redis's clock; `ended_at` is None while it runs.
        outcome: "running", "succeeded", "failed", "cancelled", "retried", "lost" or "released".
        reason: one sentence if it did not succeed, else "".
        usage: resources used, if known: `cpu_s`, `peak_rss_bytes`, `exit` (status or signal); of local workers and
            built environments also `python` (version and prefix), of the latter `made` (name of the facts about it).
        ready_at: since when the job could have run; None if unknown.
    """

    number: int
    worker: str
    started_at: datetime
    ended_at: datetime | None = None
    outcome: str = "running"
    reason: str = ""
    usage: Mapping[str, Any] = {}
    ready_at: datetime | None = None

    @property
    def duration_s(self) -> float | None:
        return None if self.ended_at is None else (self.ended_at - self.started_at).total_seconds()


#: Begin of the summary of a result that could not be kept.
NOT_KEPT = "(not kept)"


class JobSnapshot(msgspec.Struct, frozen=True):
    """State of a job at one `seq`. Times are aware UTC, by Redis's clock.

    Attributes:
        spec: the submission.
        seq: number of the last change of state. `rev`: number of the last progress.
        state: see `JobState`.
        submitted_at: accepted. `due_at`: end of the current or last delay. `started_at`: start of the current or last
            attempt. `finished_at`: reached a terminal state.
        attempt: number of the current or last attempt; 0 before the first. `worker`: id of the worker that runs it.
        completed, total, message: progress in the job's own unit; None if unknown.
        awaits: id of the job that the running attempt waits for (or "ID and 3 more"), with its slot lent meanwhile; ""
            if it waits for none.
        resumed: how the running attempt goes on from a checkpoint: "resumed at epoch 43"; "" if it began anew.
            `resumed_completed`: its progress at that moment, None if not known.
        saved: text of the newest checkpoint of the attempt ("epoch 43"). `saved_at`: when it was written, None if there
            is none.
        metrics: newest values of its metrics, and a small curve.
        typical_s: usual run time of the task, if that is more than a second and known to the worker; set while it runs.
        error: error of the last failed attempt; None once the job has succeeded.
        cancel_requested_at: when cancellation of the running job was requested.
        retried, losses, releases: the three ways back to the queue, counted separately.
        summary: one line about the result, made by the worker, at most 200 characters.
        usage: of the last attempt: `cpu_s`, `peak_rss_bytes`, `exit`.
        cached_from: id of the job whose cached result this one returned; "" if it ran itself.
        asking: its questions that wait for an answer, oldest first.
        again: id of the newest job that runs this ended one again; "" if none does.
        batch: id of the batch that counts it; "" for none, also if a retry has taken its place, or it was imported.
        history: the numbered events so far, oldest first; the middle of very long histories is dropped.

    Example:
        >>> snapshot = report.submit().snapshot
        >>> snapshot.finished_at - snapshot.submitted_at < datetime.timedelta(minutes=1)
        True
    """

    spec: JobSpec
    seq: int
    state: JobState
    rev: int = 0
    submitted_at: datetime | None = None
    due_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempt: int = 0
    worker: str = ""
    completed: float | None = None
    total: float | None = None
    message: str = ""
    awaits: str = ""
    resumed: str = ""
    resumed_completed: float | None = None
    saved: str = ""
    saved_at: datetime | None = None
    typical_s: float | None = None
    metrics: MetricsSummary = NO_METRICS
    error: JobError | None = None
    cancel_requested_at: datetime | None = None
    retried: int = 0
    losses: int = 0
    releases: int = 0
    summary: str = ""
    usage: Mapping[str, Any] = msgspec.field(default_factory=dict)
    cached_from: str = ""
    asking: tuple[OpenQuestion, ...] = ()
    again: str = ""
    batch: str = ""
    history: tuple[JobEvent, ...] = ()

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def result_id(self) -> str:
        """Id that the result is sealed for: this job's, or that of the job whose cached result it returned."""
        return self.cached_from or self.id

    @property
    def is_terminal(self) -> bool:
        return self.state.is_terminal

    @property
    def lacks_result(self) -> bool:
        """True if it succeeded, and its result could not be kept."""
        return self.state is JobState.SUCCEEDED and self.summary.startswith(NOT_KEPT)

    @property
    def is_cancelling(self) -> bool:
        """True if the job is still running after cancellation was requested."""
        return self.state is JobState.RUNNING and self.cancel_requested_at is not None

    @property
    def lent_text(self) -> str:
        """Message of a running job that waits for another one, else ""."""
        first, _, others = self.awaits.partition(" ")
        return f"Waiting for job {first[:8]} {others}".rstrip() + " (its slot is lent)" if first else ""

    @property
    def face(self) -> str:
        """Key of `format.FACES`: the state, or "retrying" for a scheduled job that has already run."""
        return "retrying" if self.state is JobState.SCHEDULED and self.retried else str(self.state)

    @property
    def shown_message(self) -> str:
        """Text beside the progress bar: what the job asks or waits for, its resume, and its message."""
        asks = f"Asks: {self.asking[0].text}" if self.asking else ""
        return " · ".join(filter(None, (asks, self.lent_text, self.resumed, self.message)))

    @property
    def progress(self) -> float | None:
        """Fraction done, 0..1, or None if unknown. 1 for a job that succeeded."""
        if self.state is JobState.SUCCEEDED:
            return 1.0
        if self.completed is None or not self.total:
            return None
        return min(1.0, max(0.0, self.completed / self.total))

    @property
    def label(self) -> str:
        """One line: id, task with its arguments, state, and progress if it runs."""
        progress = f" {self.progress:.0%}" if self.progress is not None and not self.is_terminal else ""
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.spec.params.items())
        return f"{self.spec.id} {self.spec.task}({shortened(arguments, 60)}) {self.state}{progress}"

    def __repr__(self) -> str:
        return f"<JobSnapshot {self.label}, seq {self.seq}>"

    def elapsed_s(self, now: datetime) -> float | None:
        """Return the seconds that the current attempt has run at `now`, or the last one ran; None before the first."""
        ended_at: datetime | None = now
        if self.state is not JobState.RUNNING:  # it may have ended, or wait since then
            attempts = attempts_of(self.history)
            ended_at = (attempts[-1].ended_at if attempts else None) or self.finished_at
        if self.started_at is None or ended_at is None:
            return None
        return max(0.0, (ended_at - self.started_at).total_seconds())

    def eta_s(self, now: datetime) -> float | None:
        """Return the estimated seconds left, or None if the job is not running or there is no estimate.

        With progress: extrapolated from the mean rate of the attempt so far. Without: the usual run time of the task
        minus the elapsed time, None if it already runs longer than usual.
        """
        fraction, elapsed = self.progress, self.elapsed_s(now)
        if self.state is not JobState.RUNNING or elapsed is None:
            return None
        before = (self.resumed_completed or 0) / self.total if self.total else 0.0
        if fraction and fraction > before:
            return elapsed * (1 - fraction) / (fraction - before)
        return None if self.typical_s is None or elapsed > self.typical_s else self.typical_s - elapsed

    def to_json(self) -> dict[str, Any]:
        """Return JSON-compatible data for the CLI, HTTP and the cards; times as ISO 8601 UTC."""
        spec = self.spec
        return {
            "id": spec.id,
            "task": spec.task,
            "title": spec.title or spec.task,
            **{name: to_json(getattr(spec, name)) for name in _SPEC_JSON},
            **{name: to_json(getattr(self, name)) for name in _JOB_JSON},
            "error": self.error.to_json() if self.error else None,
        }


#: Fields of a spec and of a snapshot in `JobSnapshot.to_json`.
_SPEC_JSON = (
    "queue", "params", "owner", "tags", "priority", "key", "retry_of", "needs", "resources", "retries",
)  # fmt: skip
_JOB_JSON = (
    "state", "progress", "completed", "total", "message", "awaits", "attempt", "worker", "cached_from", "submitted_at",
    "due_at", "started_at", "finished_at", "cancel_requested_at", "retried", "losses", "releases", "summary", "usage",
    "resumed", "saved", "saved_at", "asking", "seq",
)  # fmt: skip


def _error(wire: Any) -> JobError | None:
    return JobError.from_wire(wire) if wire else None


def _mapping(wire: Any) -> Mapping[str, Any]:
    return wire if isinstance(wire, dict) else {}


#: wire name -> (field of the snapshot, decoder). Records and events' data use the same names.
WIRE: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "state": ("state", JobState),
    "submitted": ("submitted_at", instant),
    "due": ("due_at", instant),
    "started": ("started_at", instant),
    "finished": ("finished_at", instant),
    "cancel": ("cancel_requested_at", instant),
    "attempt": ("attempt", int),
    "worker": ("worker", str),
    "error": ("error", _error),
    "retried": ("retried", int),
    "losses": ("losses", int),
    "releases": ("releases", int),
    "summary": ("summary", str),
    "usage": ("usage", _mapping),
    "cached": ("cached_from", str),
    "asking": ("asking", open_questions),
    "again": ("again", str),
    "batch": ("batch", str),
    "asked": ("spec", JobSpec.from_wire),  # only in events: another submit replaced this one's arguments
}


def changes(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the decoded snapshot fields in an event's data or in a record; unknown names are ignored."""
    return {WIRE[name][0]: WIRE[name][1](value) for name, value in data.items() if name in WIRE}


def finite_or_none(value: Any) -> float | None:
    """Return the number if it is finite and not negative, else None."""
    if isinstance(value, (int, float)) and math.isfinite(value) and value >= 0:
        return value
    return None


def progress(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the snapshot fields in news of progress or in a record's newest progress."""
    numbers = {
        name: finite_or_none(data.get(name)) for name in ("completed", "total", "typical_s", "resumed_completed")
    }
    texts = {name: str(data.get(name) or "") for name in ("message", "awaits", "resumed", "saved")}
    metrics = MetricsSummary.from_wire(data["metrics"]) if "metrics" in data else NO_METRICS
    return {**numbers, **texts, "saved_at": instant(finite_or_none(data.get("saved_at"))), "metrics": metrics}


def apply(snapshot: JobSnapshot, event: JobEvent) -> JobSnapshot | None:
    """Return the snapshot after `event`, or None if events before it are missing (then read the snapshot again).

    An outdated event or news returns the unchanged snapshot.
    """
    if event.type is EventType.PROGRESSED:
        rev = int(event.data.get("rev", 0))
        if event.seq > snapshot.seq:
            return None
        if event.seq < snapshot.seq or rev <= snapshot.rev:
            return snapshot
        return replace(snapshot, rev=rev, **progress(event.data))
    if event.type.is_news or event.seq <= snapshot.seq:
        return snapshot
    if event.seq != snapshot.seq + 1:
        return None
    moved = changes(event.data)
    if event.type not in _DURING:
        moved["awaits"] = ""
    if event.type is EventType.STARTED:
        moved |= progress({})
    elif event.type is EventType.SUCCEEDED:
        moved["error"] = None
    elif event.type is EventType.MOVED:
        moved["spec"] = moved_spec(snapshot.spec, event.data)
    if event.type.is_end:
        moved["asking"] = ()
    kept = replace(event, result=b"") if event.result else event
    return replace(snapshot, seq=event.seq, history=(*snapshot.history, kept), **moved)


def moved_spec(spec: JobSpec, data: Mapping[str, Any]) -> JobSpec:
    """Return the spec of a job that was moved: the same, with a new queue and priority."""
    return replace(spec, queue=str(data.get("queue", spec.queue)), priority=int(data.get("priority", spec.priority)))


#: Events of a running attempt, which goes on.
_DURING = frozenset({EventType.CANCEL_REQUESTED, EventType.ASKED, EventType.ANSWERED, EventType.UNANSWERED})

#: Events that end an attempt; their names are the outcomes.
_ENDS = frozenset({*map(EventType, ENDS), EventType.RETRIED, EventType.LOST, EventType.RELEASED})

#: Events after which a job can run, unless its state is scheduled.
_TO_QUEUE = frozenset({EventType.SUBMITTED, EventType.RETRIED, EventType.QUEUED, EventType.LOST, EventType.RELEASED})


def attempts_of(history: Iterable[JobEvent]) -> list[Attempt]:
    """Return the attempts of a job, computed from its events, oldest first."""
    attempts: list[Attempt] = []
    ready_at: datetime | None = None
    for event in history:
        if event.type is EventType.STARTED:
            number = int(event.data.get("attempt", len(attempts) + 1))
            since = None if ready_at is None else min(ready_at, event.at)
            attempts.append(Attempt(number, event.data.get("worker", ""), event.at, ready_at=since))
            ready_at = None
        elif event.type in (EventType.SUBMITTED, EventType.RETRIED) and event.data.get("state") == "scheduled":
            ready_at = instant(event.data.get("due"))  # None: it waits for another job's result
        elif event.type in _TO_QUEUE:
            ready_at = event.at
        if event.type in _ENDS and attempts and attempts[-1].ended_at is None:
            error = _error(event.data.get("error"))
            attempts[-1] = replace(
                attempts[-1],
                ended_at=event.at,
                outcome=str(event.type),
                reason=str(error) if error else str(event.data.get("reason", "")),
                usage=_mapping(event.data.get("usage")),
            )
    return attempts
