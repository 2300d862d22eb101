"""Limits of queues and tasks that are set while the system runs: `kit.limits` and `jobkit limits`.

For: people who give a full GPU or a slow service fewer jobs, on all workers at once and without new code.
In Redis: no keys. A limit is the rule of a gate, which the store keeps and applies to claims beside the
limits of `@task` and the pauses of queues and tasks (`jobkit/store/lua/lib/limits.lua`).
Promise: a limit holds from the next claim on, on all workers, until it is removed.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(name="limits", commands={"limits": "List, set or remove limits of queues and tasks."})
