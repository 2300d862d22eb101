"""Expected starts of waiting jobs: reads the facts for `forecast`, for cards, tables, HTTP and the command line."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import fmean

import msgspec
from msgspec.structs import replace

from jobkit.client.waits import level_of, waits_for
from jobkit.codec import Codec
from jobkit.features.forecasts import reads
from jobkit.features.forecasts.forecast import Line, Slot, in_seconds, left_s, starts, starts_at_gate
from jobkit.model import JobSnapshot, JobState, Waiting
from jobkit.model.plain import instant
from jobkit.model.start import Start
from jobkit.store.lines import MOST_RUNNING, Lines, read_lines, running_jobs
from jobkit.store.redis import RedisStore
from jobkit.store.values import WorkerInfo


class Present(msgspec.Struct, frozen=True):
    """Running jobs and workers, as of one moment.

    Attributes:
        now: by the store's clock. workers: those that take jobs.
        usual_s: usual run times of tasks. left_s: seconds left of running jobs by id, None if unknown.
        on_worker: ids of running jobs by worker.
    """

    now: datetime
    workers: Sequence[WorkerInfo]
    usual_s: dict[str, float]
    left_s: dict[str, float | None]
    on_worker: dict[str, list[str]]

    def slots(self) -> list[Slot]:
        """Return the slots of all workers."""
        return [
            Slot(worker.queues, free_s, worker.weights)
            for worker in self.workers
            for free_s in self._free_s(worker, [self.left_s[id] for id in self.on_worker.get(worker.id, ())])
        ]

    def _free_s(self, worker: WorkerInfo, left: list[float | None]) -> list[float | None]:
        busy = list(left)
        if len(self.left_s) >= MOST_RUNNING:  # not all running jobs were read: the others are as far as these
            known = [each for each in self.left_s.values() if each is not None]
            busy += [fmean(known) if known else None] * (worker.running - len(left))
        return [*busy, *[0.0] * (worker.slots - len(busy))][: worker.slots]


async def expected(
    store: RedisStore, codec: Codec, jobs: Sequence[JobSnapshot], lines: Lines | None = None
) -> dict[str, Start]:
    """Return what is known of the starts of waiting jobs, by id; jobs that do not wait are left out.

    About ten round trips, whatever the number of jobs that wait.

    Args:
        lines: if they were just read.
    """
    found: dict[str, Start] = {}
    queued = [job for job in jobs if job.state is JobState.QUEUED]
    for job in jobs:
        if job.state is JobState.SCHEDULED and not job.asking and job.due_at is not None:
            found[job.id] = Start(at=job.due_at, is_exact=True)
    if not queued:
        return found
    wanted = {job.spec.queue for job in queued}
    workers = [worker for worker in await store.workers() if worker.takes_jobs]
    if lines is None:  # and of the other queues of the same workers, which may come before
        others = {queue for worker in workers if wanted & {*worker.queues} for queue in worker.queues}
        lines = await read_lines(store, wanted, others)
    ranks = await reads.ranks(store, [(job.spec.queue, job.id) for job in queued])
    reasons = await store.waiting([job.id for job in queued])
    gates = sorted({one.gate for one in reasons if one is not None and one.n})
    holders = await reads.holders(store, gates)
    present, tasks = await _present(store, lines, queued, workers)
    rules = await store.rules()  # a queue that lets no job start now holds up no other one
    shut = {rule.gate.removeprefix("queue:") for rule in rules if rule.pause is not None or 0 < rule.n <= rule.held}
    known = {queue: line for queue, line in _lines(lines, tasks, present).items() if queue not in shut}
    in_line = [(job, rank) for job, rank in zip(queued, ranks, strict=True) if rank is not None]
    times = starts(present.slots(), known, [(job.spec.queue, rank) for job, rank in in_line])
    for (job, rank), seconds in zip(in_line, times, strict=True):
        found[job.id] = Start(in_seconds(present.now, seconds), ahead=rank)
    for job, reason in zip(queued, reasons, strict=True):
        usual = present.usual_s.get(job.spec.timed_as)
        start = found.get(job.id, Start())
        if reason is not None:
            start = _at_gate(reason, holders.get(reason.gate, ()), present, usual)
        elif not any(job.spec.queue in worker.queues for worker in present.workers):
            start = replace(start, at=None, why=f"no worker serves queue {job.spec.queue}")
        found[job.id] = replace(start, usual_s=usual)
    # Those that wait for resources: whether any worker has as much, and what to do if none has.
    ids = [job.id for job in queued if job.spec.resources and found[job.id].why]
    for job_id, why in zip(ids, await waits_for(store, codec, ids) if ids else (), strict=True):
        if level_of(why) == "warning":
            found[job_id] = replace(found[job_id], why=why)
    return found


def _at_gate(reason: Waiting, holding: Sequence[str], present: Present, usual_s: float | None) -> Start:
    """Return when a job will start that waits at a gate; no time if the gate is paused or waits for resources."""
    seconds = None
    if reason.is_paused or reason.use:
        pass
    elif reason.n:
        free_s = [present.left_s.get(job_id) for job_id in holding]
        free_s += [0.0] * (reason.n - len(free_s))
        if None not in free_s:
            seconds = starts_at_gate([each for each in free_s if each is not None], reason.before, usual_s)
    elif reason.open_ms is not None:
        seconds = (reason.open_ms + reason.before * reason.period_ms / max(1, reason.count)) / 1000
    return Start(in_seconds(present.now, seconds), ahead=reason.before, why=replace(reason, before=0).sentence())


def _lines(lines: Lines, tasks: dict[str, str], present: Present) -> dict[str, Line]:
    """Return the lines with usual run times in place of ids."""

    def usual(ids: Sequence[str]) -> list[float | None]:
        return [present.usual_s.get(tasks.get(job_id, "")) for job_id in ids]

    return {q: Line(usual(ids), usual(lines.spread[q]), lines.size[q]) for q, ids in lines.ready.items()}


async def _present(
    store: RedisStore, lines: Lines, queued: Sequence[JobSnapshot], workers: Sequence[WorkerInfo]
) -> tuple[Present, dict[str, str]]:
    """Return what runs now, and `JobSpec.timed_as` of the jobs in the lines by id."""
    ids = dict.fromkeys(id for part in (lines.ready, lines.spread) for some in part.values() for id in some)
    tasks = await reads.timed_as(store, list(ids))
    running = [one.job for one in await running_jobs(store)]
    named = {*tasks.values(), *(job.spec.timed_as for job in running), *(job.spec.timed_as for job in queued)}
    usual = await reads.usual_s(store, named)
    now = instant(await store.now_ms()) or datetime.now(UTC)
    on_worker: dict[str, list[str]] = {}
    left: dict[str, float | None] = {}
    for job in running:
        on_worker.setdefault(job.worker, []).append(job.id)
        left[job.id] = _left_s(job, usual.get(job.spec.timed_as), now)
    return Present(now, workers, usual, left, on_worker), tasks


def _left_s(job: JobSnapshot, usual_s: float | None, now: datetime) -> float | None:
    """Return the seconds that a running job will probably take from now on: by its progress, else its task's past."""
    if job.asking:
        return None
    by_progress = job.eta_s(now) if job.progress else None
    if by_progress is not None or usual_s is None:
        return by_progress
    return left_s(job.elapsed_s(now) or 0.0, usual_s)
