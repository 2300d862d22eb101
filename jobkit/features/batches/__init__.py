"""Batches: the jobs of one map or sweep, seen as one.

For: people who submit many jobs of a task, and follow, cancel, retry and delete them together: `kit.batches`, also from
other processes, by HTTP (`routes`), at the command line (`commands`), as a card in a notebook
(`display`) or page (`batch_card`), on a page of the dashboard (`page`).
In Redis: `batch:{id}` with the definition and the numbers of jobs by state, `batch-jobs:{id}` with the jobs by place.
Promise: the numbers change in the call that changes the state of a job, so they agree with the jobs.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(
    name="batches",
    parts=frozenset({"actions", "moved", "page", "routes", "rows", "told"}),
    scripts={
        "batch": ("csv", "save_file", "live_card", "chart", "parallel", "importance", "batch_columns"),
    },
    commands={"batches": "List, show, cancel, retry or delete batches."},
)
