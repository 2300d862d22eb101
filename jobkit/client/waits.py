"""Why the jobs of a queue wait, in the words of the cards of single jobs; see `model.limits.Waiting`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from jobkit.codec import Codec
from jobkit.model import Waiting
from jobkit.model.limits import Supply
from jobkit.pools.info import PoolInfo
from jobkit.pools.why import pool_reason
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
    pools: Sequence[PoolInfo] = (),
) -> dict[str, list[QueueReason]]:
    """Return for each queue with waiting jobs why they wait, the gravest reason first; [] if nothing is known.

    Args:
        queues, workers, blocked: as the store returns them, see `QueueRecords`.
    """
    found: dict[str, list[QueueReason]] = {}
    for name, numbers in queues.items():
        if not numbers.get("queued"):
            continue
        lines = [line for line in blocked if line.queue == name]
        reasons = [reason for line in lines for reason in _reasons(line, workers, pools)]
        serving = [worker for worker in workers if worker.is_alive and name in worker.queues]
        taking = [worker for worker in serving if worker.takes_jobs]
        if serving and not taking:
            which = "its worker is" if len(serving) == 1 else f"all of its {len(serving)} workers are"
            reasons.append(QueueReason(f"{which} ending and takes no more jobs", "warning"))
        ready = numbers["queued"] - sum(line.count for line in lines)
        slots, is_whole = sum(worker.slots for worker in taking), any(not line.count for line in lines)
        if ready > 0 and not is_whole and slots and all(worker.running >= worker.slots for worker in taking):
            which = "the one slot is" if slots == 1 else f"all {slots:,} are"
            reasons.append(QueueReason(f"{ready:,} wait{'s' if ready == 1 else ''} for a free slot: {which} busy"))
        if ready > 0 and not is_whole:
            reasons += _of_pools(pools, name, {})
        found[name] = sorted(dict.fromkeys(reasons), key=lambda reason: reason.level != "warning")
    return found


async def read_queue_reasons(store: RedisStore, codec: Codec) -> dict[str, list[QueueReason]]:
    """Return for each queue with waiting jobs why they wait, see `queue_reasons`."""
    queues, workers, pools = await store.queues(), await store.workers(), await pool_infos(store, codec)
    blocked = await store.blocked([name for name, numbers in queues.items() if numbers["queued"]])
    return queue_reasons(queues, workers, blocked, pools)


async def reasons_of(store: RedisStore, codec: Codec, job_ids: Sequence[str]) -> list[QueueReason]:
    """Return why queued jobs of one queue wait, the reason of the most jobs first. Of many jobs the first are read,
    uncounted."""
    some = job_ids[:_SOME]
    if not some:
        return []
    found = await store.waiting(some)
    workers, pools = await store.workers(), await pool_infos(store, codec)
    [raw] = await store.fields(("queue",), some[:1])
    queue, first = wire.text(raw[0] if raw else b""), {one.gate: one for one in reversed(found) if one is not None}
    is_counted = 1 < len(job_ids) <= _SOME
    lines = [
        BlockedJobs(queue, count if is_counted else 0, replace(first[gate], before=0))
        for gate, count in Counter(one.gate for one in found if one is not None).most_common()
    ]
    reasons = [reason for line in lines for reason in _reasons(line, workers, pools)]
    return reasons + (_of_pools(pools, queue, {}) if None in found else [])


def _reasons(line: BlockedJobs, workers: Sequence[WorkerInfo], pools: Sequence[PoolInfo]) -> list[QueueReason]:
    """Return why jobs wait, and what the pools that could run them do."""
    if line.waiting is None:
        return [QueueReason(f"{line.count:,} wait{'s' if line.count == 1 else ''} for other limits")]
    use, supply = line.waiting.use, supply_of(workers, line.waiting)
    said = _of_pools(pools, line.queue, use) if use else []
    is_lacking = supply is not None and bool(supply.lacking(use))
    if is_lacking and said:  # a worker with that need not be started by hand
        return said
    level = "warning" if line.waiting.is_paused or is_lacking else "info"
    return [QueueReason(line.waiting.sentence(supply, line.count), level), *said]


def _of_pools(pools: Sequence[PoolInfo], queue: str, use: Mapping[str, float]) -> list[QueueReason]:
    """Return what keeps the pools of a queue from running jobs with these resources, at most one reason."""
    text = pool_reason(pools, queue, use)
    return [QueueReason(text, level_of(text))] if text else []


def level_of(reason: str) -> str:
    """Return "warning" for a reason of a single job that does not pass by itself, else "info"."""
    is_problem = reason.startswith("pool ") and ":" in reason  # "pool gpu: sbatch refused: invalid partition"
    return "warning" if is_problem or reason.startswith(("waits for a worker with", "no pool ")) else "info"


async def pool_infos(store: RedisStore, codec: Codec) -> list[PoolInfo]:
    """Return the state of all pools, by name."""
    if not (records := await store.pools.records()):
        return []
    manager, now_ms = await store.pools.manager(), await store.now_ms()
    return [PoolInfo.of(record, codec, manager, now_ms) for record in records.values()]


async def with_pools(
    store: RedisStore, codec: Codec, job_ids: Sequence[str], found: Sequence[Waiting | None], sentences: Sequence[str]
) -> list[str]:
    """Return the reasons why queued jobs wait, with those of pools for jobs that wait for a worker.

    Args:
        found, sentences: what the store and `Waiting.sentence` say of each job.
    """
    waiting = [i for i, one in enumerate(found) if one is None or one.use]
    pools = await pool_infos(store, codec) if waiting else []
    reasons = list(sentences)
    if pools:
        records = await store.fields(("queue", "state"), [job_ids[i] for i in waiting])
        for i, raw in zip(waiting, records, strict=True):
            if raw and raw[1] == b"queued":
                one = found[i]
                reasons[i] = pool_reason(pools, wire.text(raw[0]), one.use if one else {}) or reasons[i]
    return reasons
