"""Notifications of the ends of batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobkit.features.batches.store import BatchStore
from jobkit.model import JobkitError, JobSnapshot, JobState
from jobkit.model.batch import BatchInfo
from jobkit.model.person import Person
from jobkit.store.redis import RedisStore

NOUN = "batch"


def of(job: JobSnapshot) -> str:
    """Return the id of the batch of a job, or ""."""
    return job.batch


async def ended(store: RedisStore, batch_ids: Sequence[str]) -> Mapping[str, tuple[str, JobState]]:
    """Return a sentence and the state of each of these batches that has ended, by id.

    The sentence is `sweep has ended: 3 failed, 97 succeeded (batch 1f8c03aa)`.
    """
    found = await store.part(BatchStore).infos(batch_ids)
    return {info.id: (_sentence(info), info.state) for info in found if info is not None and info.state.is_terminal}


async def has_ended(store: RedisStore, batch_id: str, person: Person) -> bool:
    """Return whether a batch has ended. Raises JobkitError if this person sees none of this id."""
    (info,) = await store.part(BatchStore).infos([batch_id])
    if info is None or not person.sees(info.spec.owner):
        raise JobkitError(f"there is no batch {batch_id[:40]}")
    return info.state.is_terminal


def _sentence(info: BatchInfo) -> str:
    counts = ", ".join(f"{count:,} {state}" for state, count in sorted(info.counts.items()) if count)
    return f"{info.spec.name or info.spec.task} has ended: {counts} (batch {info.id[:8]})"
