"""Batches: the jobs of one map or sweep, seen as one.

For: people who submit many jobs of a task, and follow, cancel, retry and delete them together: `kit.batches`, also from
other processes, by HTTP (`routes`) and at the command line (`commands`).
In Redis: `batch:{id}` with the definition and the numbers of jobs by state, `batch-jobs:{id}` with the jobs by place.
Promise: the numbers change in the call that changes the state of a job, so they agree with the jobs.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(
    name="batches",
    parts=frozenset({"routes"}),
    commands={"batches": "List, show, cancel, retry or delete batches."},
)
