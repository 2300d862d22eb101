"""The jobs of the trials of a study: submitted once each, heard of, cancelled. For the job that runs the study."""

from __future__ import annotations

import math
import queue
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from jobkit.client.job import Job
from jobkit.client.outputs import cancel_reason
from jobkit.codec import MSGPACK, Blob, Codec, Subject
from jobkit.features.metrics.buffer import as_number
from jobkit.model import JobkitError, JobSnapshot, JobSpec, JobState, StoreUnavailable
from jobkit.model.batch import BatchSpec, part_id
from jobkit.model.metrics import Curves
from jobkit.run.inside import context
from jobkit.store.values import Submission
from jobkit.tasks.call import read_head, with_changes, with_own_seed
from jobkit.tasks.values import short_repr, shown_and_abridged

T = TypeVar("T")

#: How trials end. `PRUNED` is also how the reason begins for which the job of one is cancelled.
COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"

#: Seconds between two looks at the metrics of a trial, between looks whether this job is to stop, and between attempts
#: to reach a store that does not answer.
_METRICS_S, _LOOK_S, _AGAIN_S = 0.5, 0.5, 0.5

#: Characters of the sentence that says why a trial failed.
_ERROR_CHARS = 500


class TrialEnd(msgspec.Struct, frozen=True):
    """End of a trial: `complete` with a value, `pruned`, or `failed` with a sentence that says why."""

    kind: str
    value: float | None = None
    error: str = ""


class TrialTemplate:
    """The call of an objective without the arguments that differ between its trials.

    Args:
        spec: that of its jobs, JSON. body: their call, not unpickled. required: arguments that each trial must give.
    """

    def __init__(self, spec: bytes, body: bytes, required: tuple[str, ...]) -> None:
        self.spec, self.body, self.required = spec, body, required

    @classmethod
    def of(cls, sample: Submission, codec: Codec, required: tuple[str, ...]) -> TrialTemplate:
        """Return the template of a job that was prepared with the required arguments alone."""
        spec = sample.spec
        _, body = codec.verify(sample.payload, Subject("args", spec.id, spec.task))
        # Equal arguments are another trial all the same.
        spec = replace(spec, once=None, cache_key="", cache_ms=0, delay_ms=0, at_ms=0)
        return cls(msgspec.json.encode(spec), body, required)

    def submission(self, codec: Codec, batch: BatchSpec, number: int, arguments: Mapping[str, Any]) -> Submission:
        """Return the submission of a trial, a part of `batch`; it has always the same id."""
        spec = msgspec.json.decode(self.spec, type=JobSpec)
        params, abridged = shown_and_abridged({**spec.params, **arguments})
        kept = [name for name in spec.abridged if name not in arguments]
        spec = replace(
            spec, id=part_id(batch.id, number), batch=batch.id, batch_name=batch.name, params=params,
            abridged=tuple(dict.fromkeys([*kept, *abridged])),
        )  # fmt: skip
        spec, body = with_own_seed(spec, with_changes(self.body, arguments))
        blobs = tuple(map(Blob, read_head(body).part_names))
        return Submission(spec, codec.seal(MSGPACK, body, Subject("args", spec.id, spec.task)), blobs)

    def lacking(self, arguments: Mapping[str, Any]) -> str:
        """Return what a trial lacks, as a sentence; "" if it lacks nothing."""
        lacks = [name for name in self.required if name not in arguments]
        return f"the space gave no value for {', '.join(map(repr, lacks))}" if lacks else ""

    def __repr__(self) -> str:
        return str(msgspec.json.decode(self.spec)["task"])


class TrialJobs:
    """The jobs of the open trials of a study, by number.

    Args:
        batch: the batch of these jobs. has_metrics: `next` also names trials that have logged metrics.
    """

    def __init__(self, kit: Any, batch: BatchSpec, template: TrialTemplate, *, has_metrics: bool) -> None:
        self._kit, self._batch, self._template, self._has_metrics = kit, batch, template, has_metrics
        self._jobs: dict[int, Job] = {}
        self._lacking: dict[int, str] = {}
        self._news: queue.SimpleQueue[tuple[int, bool]] = queue.SimpleQueue()  # number, and whether it has ended
        self._due: dict[int, float] = {}  # when metrics are to be looked at
        self._looked_at: dict[int, float] = {}

    def start(self, number: int, arguments: Mapping[str, Any]) -> None:
        """Submit the job of a trial, unless it was submitted before."""
        if lacking := self._template.lacking(arguments):
            self._lacking[number] = lacking
            self._news.put((number, True))
            return
        made = self._template.submission(self._kit.codec, self._batch, number, arguments)
        job = self._jobs[number] = patiently(partial(self._kit.studies.submit_trial, made, self._batch, number))
        job.when_done(partial(self._news.put, (number, True)))
        if self._has_metrics and job.observe(partial(self._moved, number)).metrics.n:
            self._news.put((number, False))

    def _moved(self, number: int, before: JobSnapshot, after: JobSnapshot) -> None:
        if after.metrics.n != before.metrics.n:
            self._news.put((number, False))

    def next(self, *, blocks: bool) -> int | None:
        """Return the number of a trial that has ended or has logged metrics; None if none has and `blocks` is false.

        A wait lends the slot of this job. It ends with `Stop` if the worker is about to shut down.
        """
        if not self._news.empty() or not blocks:
            return self._taken(0.0)
        with context.waiting([job.id for job in self._jobs.values()]):
            while True:
                context.current().stop_if_asked()
                if (number := self._taken(_LOOK_S)) is not None:
                    return number

    def _taken(self, timeout_s: float) -> int | None:
        now = time.monotonic()
        wait_s = max(0.0, min([timeout_s, *(at - now for at in self._due.values())]))
        try:
            number, has_ended = self._news.get(timeout=wait_s) if wait_s else self._news.get_nowait()
        except queue.Empty:
            pass
        else:
            if has_ended:
                self._due.pop(number, None)
                return number
            self._due.setdefault(number, self._looked_at.get(number, -math.inf) + _METRICS_S)
        now = time.monotonic()
        for number, at in self._due.items():
            if at <= now:
                del self._due[number]
                self._looked_at[number] = now
                return number
        return None

    def points(self, number: int) -> dict[str, list[tuple[float, float]]]:
        """Return step and value of the points of each metric of a trial."""
        job = self._jobs.get(number)
        if job is None:
            return {}
        [lines] = patiently(partial(self._kit.metric_lines, [job.id]))
        return {
            name: [(step, value) for step, _, value in curve.points] for name, curve in Curves(lines).curves.items()
        }

    def cancel(self, number: int, reason: str) -> None:
        """Stop a trial."""
        patiently(partial(self._kit.cancel_many, [self._jobs[number].id], reason, by=""))

    def end(self, number: int) -> TrialEnd | None:
        """Return how a trial ended; None while its job is open."""
        if number in self._lacking:
            return TrialEnd(FAILED, error=self._lacking[number])
        job = self._jobs[number]
        return end_of(job) if job.is_over else None

    def forget(self, number: int) -> None:
        """Drop what is known of the job of an ended trial."""
        for known in (self._jobs, self._lacking, self._due, self._looked_at):
            known.pop(number, None)


def end_of(job: Any) -> TrialEnd:
    """Return how a trial ended whose job has ended or is gone."""
    snapshot: JobSnapshot = job.snapshot
    if snapshot.state is JobState.SUCCEEDED:
        return _valued(job)
    reasons = [str(event.data.get("reason", "")) for event in snapshot.history]
    if any(reason.startswith(PRUNED) for reason in reasons):
        return TrialEnd(PRUNED)
    if snapshot.state is JobState.FAILED and snapshot.error is not None:
        if snapshot.error.type.rpartition(".")[2] == "TrialPruned":
            return TrialEnd(PRUNED)
        return TrialEnd(FAILED, error=str(snapshot.error)[:_ERROR_CHARS])
    if snapshot.state is JobState.CANCELLED:
        reason = cancel_reason(snapshot)
        return TrialEnd(FAILED, error=f"its job was cancelled{': ' if reason else ''}{reason}"[:_ERROR_CHARS])
    return TrialEnd(FAILED, error="its job was deleted")


def _valued(job: Any) -> TrialEnd:
    try:
        value = patiently(job.result)
    except JobkitError as error:
        return TrialEnd(FAILED, error=str(error)[:_ERROR_CHARS])
    except Exception as error:  # code of the value's own classes, while it is unpickled
        why = f"its result could not be rebuilt: {type(error).__name__}: {error}"
        return TrialEnd(FAILED, error=why[:_ERROR_CHARS])
    number = as_number(value)
    if number is None or not math.isfinite(number):
        what = "None" if value is None else f"{short_repr(value, 60)} ({type(value).__name__})"
        return TrialEnd(FAILED, error=f"the objective must return a finite number, not {what}")
    return TrialEnd(COMPLETE, number)


def patiently(call: Callable[[], T]) -> T:
    """Return the value of a call that may be repeated; retries it until the store answers."""
    while True:
        try:
            return call()
        except StoreUnavailable:
            time.sleep(_AGAIN_S)
