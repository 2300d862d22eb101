"""Batches in an export: read after their jobs, and put back with those that were imported."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from jobkit.features.batches.store import BatchStore
from jobkit.model import TERMINAL, InvalidParams
from jobkit.model.batch import BatchInfo
from jobkit.settings import checked_name
from jobkit.store import wire
from jobkit.store.namespace import in_slices
from jobkit.store.redis import RedisStore

KIND = "batch"

#: Fields of a batch's record that hold at another server.
_KEPT = ("spec", "us", "last", "came", "first", "ended", "rule", "stop", "stopped")


class BatchDump(msgspec.Struct, frozen=True):
    """The record of a batch, and its jobs with their places."""

    record: dict[str, str]
    jobs: list[tuple[str, int]]


def names(dump: Any) -> list[str]:
    """Return the ids of the batches of an exported job: its own, then the batch that it leads."""
    return [batch_id for batch_id in (dump.snapshot.spec.batch, dump.id if "leads" in dump.record else "") if batch_id]


async def read(store: RedisStore, batch_id: str) -> bytes | None:
    """Return a batch as JSON; None if it is not kept."""
    (record,) = await store.many([("HGETALL", f"batch:{batch_id}")])
    if not record:
        return None
    return msgspec.json.encode(BatchDump(wire.texts(record), await store.part(BatchStore).members(batch_id)))


def check(batch_id: str, content: bytes) -> tuple[BatchDump, BatchInfo]:
    """Decode a batch. Raises InvalidParams if it cannot be read."""
    try:
        dump = msgspec.json.decode(content, type=BatchDump)
        return dump, BatchInfo.from_wire(str(checked_name("id", batch_id)), dump.record)
    except wire.UNREADABLE as error:
        why = f"{type(error).__name__}: {str(error)[:200]}"
        raise InvalidParams(f"batch {batch_id[:60]!r} cannot be read: {why}") from None


async def restore(store: RedisStore, batch_id: str, content: bytes) -> bool:
    """Store a batch with those of its jobs that are kept here; the others count as deleted.

    Returns:
        False if the batch exists, or none of its ended jobs is kept.

    Raises:
        InvalidParams: it cannot be read.
    """
    dump, info = check(batch_id, content)
    found, states = list[tuple[str, int]](), Counter[str]()
    for some in in_slices(dump.jobs):
        snapshots = await store.snapshots([job_id for job_id, _ in some])
        for member, snapshot in zip(some, snapshots, strict=True):
            if snapshot is not None and snapshot.spec.batch == batch_id and snapshot.is_terminal:
                found.append(member)
                states[snapshot.state] += 1
    counts = {str(state): max(states[state], info.counts.get(state, 0)) for state in TERMINAL}
    made = sum(counts.values())
    record = {name: dump.record[name] for name in _KEPT if name in dump.record}
    record |= {name: str(count) for name, count in counts.items() if count}
    record |= {"n": str(made), "deleted": str(made - len(found))}
    is_new = True
    for n, some in enumerate(in_slices(found)):
        text = "" if n else msgspec.json.encode(record).decode()
        members = [item for job_id, place in some for item in (place, job_id)]
        is_new = is_new and await store.run("restore_batch", [batch_id, text, *members]) == 1
    return is_new and bool(found)
