"""A job that leaves files of each kind, and a check that a client has all of them."""

from __future__ import annotations

import os
import random
from typing import Any

from jobkit.client.job import Job
from jobkit.client.kit import Kit
from tests.worker import jobs

#: More than a call has in Redis, and than an artifact or checkpoint has there.
DATA = os.urandom(1_500_000)
LINES = 60_000


def submit(kit: Any, result_bytes: int = 3_000_000, sign: str = "") -> Job:
    return kit.submit(jobs.leave_all, DATA, result_bytes, sign)


def check(kit: Kit, job_id: str, result_bytes: int = 3_000_000) -> None:
    """Check what a client has of the job."""
    job = kit.get(job_id)
    assert job.result(60) == random.Random(1).randbytes(result_bytes)
    assert [one.read() for one in job.artifacts()] == [DATA]
    assert [kept.value() for kept in job.checkpoints()] == [{"step": step, "data": DATA} for step in (1, 2)]
    file = job.log_file()
    assert file is not None, "there is no whole log"
    text = file.read_text()
    assert text.count("\n") >= LINES
    assert text.index("step 0 line 0 ") < text.index("step 0 line 29999 ") < text.index("step 1 line 29999 ")
    middle = kit.log_slice(job.id, search="step 1 line 12345 ")
    assert [(line.source, line.text[:18]) for line in middle.lines] == [("stdout", "step 1 line 12345 ")]
