"""Why the jobs of a queue wait, in the words of the cards of single jobs; see `model.limits.Waiting`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
from msgspec.structs import replace

from jobkit.codec import Codec
from jobkit.features import DOORS, modules
from jobkit.model import Waiting
from jobkit.model.format import ahead_text
from jobkit.model.limits import Supply, waits_text
from jobkit.store import wire
from jobkit.store.queues import BlockedJobs
from jobkit.store.redis import RedisStore
from jobkit.store.values import WorkerInfo

#: Jobs of a batch whose reasons are read.
_SOME = 100


class QueueReason(msgspec.Struct, frozen=True):
    """Why jobs of a queue wait, in one line. `level`: "warning" if waiting does not help, else "info"."""

    text: str
    level: str = "info"


class WorkerSource(Protocol):
    """A starter of workers while jobs wait, which a feature has; see `fleet.py` in `jobkit/feature.py`."""

    def serves(self, queue: str) -> bool:
        """Return whether it starts workers for a queue."""

    def reason(self, queue: str, use: Mapping[str, float], *, is_lacking: bool = True) -> str:
        """Return why a job that needs these resources waits for a worker of it; "" if it has nothing to say.

        Args:
            is_lacking: no worker has the resources, even if nothing uses them.
        """


async def read_sources(store: RedisStore, codec: Codec) -> list[WorkerSource]:
    """Return what starts workers."""
    return [await module.source(store, codec) for module in modules("fleet")]


def supply_of(workers: Sequence[WorkerInfo], waiting: Waiting) -> Supply | None:
    """Return what the workers of a job's queue have of the resources that it needs; None if it needs none."""
    if not waiting.use:
        return None
    queue = waiting.gate.partition(":")[2].rpartition(":")[0]
    serving = [worker for worker in workers if worker.takes_jobs and queue in worker.queues]
    return Supply.of([(worker.resources, worker.in_use) for worker in serving], waiting.use)


def queue_reasons(
    queues: Mapping[str, Mapping[str, int]],
    workers: Sequence[WorkerInfo],
    blocked: Sequence[BlockedJobs],
    sources: Sequence[WorkerSource] = (),
) -> dict[str, list[QueueReason]]:
    """Return for each queue with waiting jobs why they wait, the gravest reason first; [] if nothing is known.

    If all workers are lost, jobs that ran on them wait, too: the next worker queues them again.

    Args:
        queues, workers, blocked: as the store returns them, see `QueueRecords`.
    """
    found: dict[str, list[QueueReason]] = {}
    are_lost = bool(workers) and not any(worker.is_alive for worker in workers)
    for name, numbers in queues.items():
        if not numbers.get("queued"):
            if are_lost and (count := numbers.get("running")):
                found[name] = [QueueReason(f"{count:,} ran on lost workers; {no_worker_text([name])}", "warning")]
            continue
        lines = [line for line in blocked if line.queue == name]
        reasons = [reason for line in lines for reason in _reasons(line, workers, sources)]
        serving = [worker for worker in workers if worker.is_alive and name in worker.queues]
        taking = [worker for worker in serving if worker.takes_jobs]
        if serving and not taking:
            which = "its worker is" if len(serving) == 1 else f"all of its {len(serving)} workers are"
            reasons.append(QueueReason(f"{which} draining and takes no more jobs", "warning"))
        if (lack := _lack_of_workers(workers, sources, name)) and not any(one.level == "warning" for one in reasons):
            reasons.append(QueueReason(f"{waits_text(numbers['queued'])}; {lack}", "warning"))
        ready = numbers["queued"] - sum(line.count for line in lines)
        if ready > 0 and all(line.count for line in lines):  # else the whole queue waits at its own gate
            reasons += _for_room(workers, sources, name, ready)
        found[name] = sorted(dict.fromkeys(reasons), key=lambda reason: reason.level != "warning")
    return found


def queue_state(numbers: Mapping[str, int], reasons: Sequence[QueueReason], *, is_paused: bool = False) -> str:
    """Return the state of a queue in one word.

    "stuck": jobs wait for what does not come by itself; "partly stuck" if others run. "paused". "full": jobs wait for
    room. "working": jobs run or are about to. "idle": there are none.
    """
    if is_paused:
        return "paused"
    if any(reason.level == "warning" for reason in reasons):
        return "partly stuck" if numbers.get("running") and numbers.get("queued") else "stuck"
    if reasons:
        return "full"
    return "working" if numbers.get("running") or numbers.get("queued") else "idle"


async def read_queue_reasons(store: RedisStore, codec: Codec) -> dict[str, list[QueueReason]]:
    """Return for each queue with waiting jobs why they wait, see `queue_reasons`."""
    (queues, workers, _), sources = await store.overview(), await read_sources(store, codec)
    blocked = await store.blocked([name for name, numbers in queues.items() if numbers["queued"]])
    return queue_reasons(queues, workers, blocked, sources)


async def reasons_of(store: RedisStore, codec: Codec, job_ids: Sequence[str]) -> list[QueueReason]:
    """Return why queued jobs of one queue wait, the reason of the most jobs first. Of many jobs the first are read,
    uncounted."""
    some = job_ids[:_SOME]
    if not some:
        return []
    found = await store.waiting(some)
    workers, sources = await store.workers(), await read_sources(store, codec)
    [raw] = await store.fields(("queue",), some[:1])
    queue, first = wire.text(raw[0] if raw else b""), {one.gate: one for one in reversed(found) if one is not None}
    is_counted = 1 < len(job_ids) <= _SOME
    lines = [
        BlockedJobs(queue, count if is_counted else 0, replace(first[gate], before=0))
        for gate, count in Counter(one.gate for one in found if one is not None).most_common()
    ]
    reasons = [reason for line in lines for reason in _reasons(line, workers, sources)]
    if None in found:
        reasons += _for_room(workers, sources, queue, found.count(None) if is_counted else 0)
    return reasons


def _for_room(
    workers: Sequence[WorkerInfo], sources: Sequence[WorkerSource], queue: str, count: int
) -> list[QueueReason]:
    """Return what jobs wait for that nothing blocks: a worker that is to start, else a free slot; [] if nothing."""
    if said := _of_sources(sources, queue, {}):
        return said
    text = _for_slot(workers, queue, count)
    return [QueueReason(text)] if text else []


def _reasons(line: BlockedJobs, workers: Sequence[WorkerInfo], sources: Sequence[WorkerSource]) -> list[QueueReason]:
    """Return why jobs wait, and what keeps workers that could run them from starting."""
    if line.waiting is None:
        return [QueueReason(f"{waits_text(line.count)} for other limits")]
    use, supply = line.waiting.use, supply_of(workers, line.waiting)
    is_lacking = supply is not None and bool(supply.lacking(use))
    said = _of_sources(sources, line.queue, use, is_lacking=is_lacking) if use else []
    if is_lacking and said:  # a worker with that need not be started by hand
        return said
    level = "warning" if line.waiting.is_paused or is_lacking else "info"
    return [QueueReason(line.waiting.sentence(supply, line.count), level), *said]


def _of_sources(
    sources: Sequence[WorkerSource], queue: str, use: Mapping[str, float], *, is_lacking: bool = True
) -> list[QueueReason]:
    """Return what keeps workers that could run such jobs from starting, at most one reason."""
    text = _first(sources, queue, use, is_lacking=is_lacking)
    return [QueueReason(text, level_of(text))] if text else []


def _first(sources: Sequence[WorkerSource], queue: str, use: Mapping[str, float], *, is_lacking: bool = True) -> str:
    return next(filter(None, (each.reason(queue, use, is_lacking=is_lacking) for each in sources)), "")


def level_of(reason: str) -> str:
    """Return "warning" for a reason of a single job that does not pass by itself, else "info"."""
    is_lacking = reason.startswith(("no worker offers", "no worker serves"))
    is_grave = is_lacking or any(module.is_grave(reason) for module in modules("fleet") if reason)
    return "warning" if is_grave else "info"


def no_worker_text(queues: Sequence[str]) -> str:
    """Return that no worker serves these queues, and what to do."""
    options = "" if list(queues) == ["default"] else "".join(f" -q {queue}" for queue in queues)
    for name, door in DOORS.items():
        if all(queue.startswith(door.keys) for queue in queues):  # arq's default is "arq:queue"
            options = f" --{name} {door.path}"
    return f"no worker serves queue {', '.join(queues)}: run `jobkit worker{options}`"


def _lack_of_workers(workers: Sequence[WorkerInfo], sources: Sequence[WorkerSource], queue: str) -> str:
    """Return that no worker serves a queue, "" if one does or is to start."""
    is_served = any(worker.is_alive and queue in worker.queues for worker in workers)
    return "" if is_served or any(each.serves(queue) for each in sources) else no_worker_text([queue])


async def waits_for(store: RedisStore, codec: Codec, job_ids: Sequence[str]) -> list[str]:
    """Return for each job why it cannot start yet, in one line; "" if nothing is known, or it is not queued."""
    found = await store.waiting(job_ids)
    reasons = ["" if one is None else one.sentence() for one in found]
    starved = [i for i, one in enumerate(found) if one is None or one.use]  # they wait for a worker
    records = await store.fields(("queue", "state"), [job_ids[i] for i in starved]) if starved else []
    queues = {i: wire.text(raw[0]) for i, raw in zip(starved, records, strict=True) if raw and raw[1] == b"queued"}
    if not queues:
        return reasons
    workers, sources = await store.workers(), await read_sources(store, codec)
    ranks = await store.many([("ZRANK", f"ready:{queue}", job_ids[i]) for i, queue in queues.items()])
    for (i, queue), rank in zip(queues.items(), ranks, strict=True):
        if (one := found[i]) is None:
            busy = _first(sources, queue, {}) or _for_slot(workers, queue, before=rank or 0)
            reasons[i] = busy or _lack_of_workers(workers, sources, queue)
        else:
            supply = supply_of(workers, one)
            said = _first(sources, queue, one.use, is_lacking=supply is None or bool(supply.lacking(one.use)))
            reasons[i] = said or one.sentence(supply)
    return reasons


def _for_slot(workers: Sequence[WorkerInfo], queue: str, count: int = 0, before: int = 0) -> str:
    """Return the sentence for jobs that need nothing but a free slot; "" if there is one, or no worker.

    Args:
        count: number of these jobs, 0 for a single one, which has `before` jobs before it.
    """
    taking = [worker for worker in workers if worker.takes_jobs and queue in worker.queues]
    slots = sum(worker.slots for worker in taking)
    if not slots or any(worker.running < worker.slots for worker in taking):
        return ""
    which = "the one slot is" if slots == 1 else f"all {slots:,} are"
    return f"{waits_text(count)} for a free slot: {which} busy" + (f"; {ahead_text(before)}" if before else "")
