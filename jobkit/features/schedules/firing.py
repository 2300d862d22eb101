"""From a prepared job to a schedule of such jobs, and from a due schedule to its jobs. Pure.

Decides which slots become jobs: missed and overlapping slots, and the next one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import asdict, replace

from jobkit.codec import Blob, Codec, Subject
from jobkit.features.schedules.model import Firing, ScheduleRun, ScheduleSnapshot, ScheduleSpec
from jobkit.features.schedules.timing import MOST_COUNTED, Timing
from jobkit.model import InvalidParams, JobSpec
from jobkit.store.values import Submission

#: A slot that is fired later than this counts as missed.
MISSED_AFTER_MS = 60_000

#: Poll interval of a slot that waits for the end of the previous run, in case the notification of that end is lost.
HOLD_MS = 60_000


def decide(due: ScheduleSnapshot) -> Firing:
    """Return the decision for a schedule whose slot is due (`due.next_ms <= due.now_ms`), without its jobs."""
    spec, now_ms = due.spec, due.now_ms
    timing = Timing.of(spec)
    made = Firing(due.name, due.rev, due.next_ms)
    if spec.overlap == "wait" and due.is_running:
        return replace(made, next_ms=due.next_ms, look_ms=now_ms + HOLD_MS, holds_for=due.last_job)
    left = spec.count - due.fired if spec.count else MOST_COUNTED
    keeps = spec.missed_limit if spec.missed == "all" else 1
    slots, total = timing.through(due.next_ms, now_ms, due.anchor_ms, max(1, min(keeps, left)))
    next_ms = timing.after(now_ms, due.anchor_ms)
    first_ms, why = due.next_ms, "missed"
    if spec.overlap == "skip" and due.is_running:
        slots, why = [], "overlap"
    elif spec.missed == "all" and len(slots) > 1 and spec.overlap == "wait":  # one after the other
        next_ms, total = slots[1], total - len(slots) + 1
        slots = slots[:1]
    elif spec.missed == "all" and len(slots) > 1 and spec.overlap == "skip":  # the others would overlap the first
        slots, why = slots[-1:], "overlap"
    elif spec.overlap == "wait" and due.holds_for and spec.missed != "all":  # slots that became due while it waited
        slots, why = [due.next_ms], "overlap"
        first_ms = timing.after(due.next_ms, due.anchor_ms) or 0
    elif spec.missed == "skip" and now_ms - slots[-1] > MISSED_AFTER_MS:
        slots = []
    if left <= len(slots):
        next_ms = None
    return replace(
        made,
        slots=tuple(slots),
        left_out=max(0, total - len(slots)),
        first_ms=first_ms,
        why=why,
        next_ms=next_ms or 0,
        look_ms=next_ms or 0,
    )


#: Returns the job of a slot and its call as they are to be, from what the schedule has.
Edit = Callable[[JobSpec, bytes], tuple[JobSpec, bytes]]


def _unchanged(job: JobSpec, body: bytes) -> tuple[JobSpec, bytes]:
    return job, body


def firing(due: ScheduleSnapshot, decision: Firing, codec: Codec, edit: Edit = _unchanged) -> Firing:
    """Return the decision with its jobs; the schedule's arguments are sealed again for each. Unpickles nothing.

    Raises:
        SignatureError: the arguments were not sealed for this schedule with one of our keys.
    """
    jobs = [job_of(due.spec, slot_ms, due.payload, codec, edit=edit) for slot_ms in decision.slots]
    runs = [ScheduleRun(job.spec.slot_ms, due.now_ms, job.spec.id) for job in jobs]
    if decision.left_out:
        runs.insert(0, ScheduleRun(decision.first_ms, due.now_ms, why=decision.why, count=decision.left_out))
    return replace(decision, jobs=tuple(jobs), runs=tuple(runs))


def without_jobs(decision: Firing, why: str) -> Firing:
    """Return the decision with all slots skipped, if no job can be created; `why` is the message for users."""
    left_out = max(1, decision.left_out + len(decision.slots))
    return replace(decision, slots=(), left_out=left_out, first_ms=decision.slot_ms, why=why[:500])


def job_of(
    spec: ScheduleSpec, slot_ms: int, payload: bytes, codec: Codec, job_id: str = "", edit: Edit = _unchanged
) -> Submission:
    """Return the job of a slot. Its id is a hash of schedule and slot, so a repeated call yields the same job.

    Raises:
        SignatureError: the arguments were not sealed for this schedule with one of our keys.
    """
    form, body = codec.verify(payload, subject_of(spec))
    # The prefix "s" tells the store to report the job's end to the schedule.
    job_id = job_id or "s" + hashlib.sha256(f"{spec.name}\x00{slot_ms}".encode()).hexdigest()[:15]
    # Overlapping runs are controlled by `overlap`, not by `unique` or `debounce`.
    job: JobSpec = replace(spec.job, id=job_id, schedule=spec.name, slot_ms=slot_ms, once=None)
    job, body = edit(job, body)
    blobs = tuple(map(Blob, spec.blobs))
    return Submission(job, codec.seal(form, body, Subject("args", job.id, job.task)), blobs)


def scheduled(prepared: Submission, name: str, when: Timing, codec: Codec, **rules: Any) -> tuple[ScheduleSpec, bytes]:
    """Return the schedule whose jobs are like the prepared one, and its arguments, sealed for it.

    Args:
        name: "" for one made of the task and its arguments.
        rules: further fields of `ScheduleSpec`.

    Raises:
        InvalidParams: an argument is a job, whose result would be the same each time.
    """
    job = prepared.spec
    if job.needs:
        raise InvalidParams("an argument of a schedule cannot be a job: pass its value, job.result()")
    form, body = codec.verify(prepared.payload, Subject("args", job.id, job.task))
    if not name:  # the same task with the same arguments has the same one
        name = re.sub(r"[^A-Za-z0-9_.:-]", "_", job.task)[:180]
        if name != job.task or job.params:
            call = job.task.encode() + b"\0" + msgspec.json.encode(dict(job.params), order="sorted")
            name += f"-{hashlib.sha256(call).hexdigest()[:6]}"
    job = replace(job, id="", key="", delay_ms=0, at_ms=0, traceparent="")
    blobs = tuple(blob.name for blob in prepared.blobs)
    spec = ScheduleSpec(name, job, **asdict(when), **rules, blobs=blobs)
    return spec, codec.seal(form, body, subject_of(spec))


def subject_of(spec: ScheduleSpec) -> Subject:
    """Return the subject of a schedule's sealed arguments, which makes them invalid for other schedules."""
    return Subject("schedule", spec.name, spec.job.task)
