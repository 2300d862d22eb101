"""A job that has something of each kind, and a check that all of it is there."""

from __future__ import annotations

import os

from jobkit.client.job import Job
from jobkit.client.kit import Kit
from tests.worker import jobs

#: More than a call has in Redis.
DATA = os.urandom(1_500_000)


def furnished(kit: Kit) -> Job:
    """Return a job that has ended, with metrics, checkpoints, a large argument, artifact and result."""
    job = kit.submit(jobs.furnish, DATA)
    assert job.result(60) == DATA * 2
    return job


def check(kit: Kit, before: Job) -> None:
    """Check that a kit has this job as it was, and that it runs again and goes on."""
    job = kit.get(before.id)
    assert job.result(60) == DATA * 2
    assert list(job.metrics()["loss"]) == [1, 1 / 2, 1 / 3]
    assert [one.read() for one in job.artifacts()] == [bytes(2_000_000)]
    assert "furnished from 0" in job.logs()
    assert [kept.value() for kept in job.checkpoints()] == [{"step": 2}, {"step": 3}]
    assert job.made_by.packages["pytest"]
    assert job.made_by.host
    assert job.retry().result(60) == DATA * 2
    later = job.rerun(from_checkpoint=True, steps=5)
    assert later.result(60) == DATA * 2
    assert "furnished from 3" in later.logs()
