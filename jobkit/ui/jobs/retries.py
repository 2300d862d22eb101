"""Retries of the failed and cancelled jobs of a page, which no event of these jobs reports."""

from __future__ import annotations

from collections.abc import Iterable

from jobkit.model import UNSUCCESSFUL, JobSnapshot
from jobkit.store.redis import RedisStore

#: States of jobs that are retried; a job that succeeded may run again, but nothing was wrong.
RETRIED = UNSUCCESSFUL


async def read_retries(store: RedisStore, jobs: Iterable[JobSnapshot]) -> dict[str, str]:
    """Return `run again → succeeded` for each of the jobs that was retried, by id."""
    ids = [job.id for job in jobs if job.state in RETRIED and " " not in job.id]  # a row of a batch has a space
    again = {
        job_id: fields[0].decode("utf-8", "replace")
        for job_id, fields in zip(ids, await store.fields(("again",), ids), strict=True)
        if fields
    }
    states = await store.fields(("state",), [*again.values()])
    return {
        job_id: f"run again → {fields[0].decode() if fields else 'deleted'}"
        for job_id, fields in zip(again, states, strict=True)
    }
