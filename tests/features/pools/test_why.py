"""Sentences on cards of jobs that wait for a worker of a pool."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from jobkit.features.pools.pool_info import PoolInfo
from jobkit.features.pools.store import PoolPause
from jobkit.features.pools.why import pool_reason
from tests.features.pools.fakes import spec, unit

NOW = int(datetime(2026, 11, 27, 12, 0).timestamp() * 1000)


def pool(name: str = "gpu", **fields: Any) -> PoolInfo:
    definition = {key: fields.pop(key) for key in list(fields) if key in ("max", "resources", "engine", "queues")}
    made = spec(name, **{"engine": "slurm", "queues": ("gpu",), **definition})
    return PoolInfo(**{"name": name, "spec": made, "manager": "login1", "now_ms": NOW, **fields})


PENDING = unit("gpu-1", "pending", id="4711", reason="PENDING (Priority)", expected_ms=NOW + 140 * 60_000)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"units": (PENDING,)}, "waits for Slurm job 4711: PENDING (Priority), expected 14:20"),
        (
            {"units": (PENDING, unit("gpu-2", "starting", id="4712", host="n1"))},
            "waits for Slurm job 4712, which starts on n1",
        ),
        (
            {"error": "sbatch refused: invalid partition", "error_ms": NOW},
            "pool gpu: sbatch refused: invalid partition",
        ),
        (
            {"error": "sbatch refused: invalid partition", "retry_ms": NOW + 40_000},
            "pool gpu: sbatch refused: invalid partition; next try in 40 s",
        ),
        ({"manager": ""}, "pool gpu: no autoscaler runs, so no workers are started: `jobkit pools run`"),
        (
            {"paused": PoolPause("ada", NOW - 60_000, "no power")},
            "pool gpu: paused by ada since 1 m 00 s: no power; `jobkit pools resume gpu`",
        ),
        ({"running": 2, "max": 2}, "waits for a worker of pool gpu: all of its 2 workers are busy"),
        ({"wanted": 1}, "pool gpu is about to start a worker"),
        ({}, ""),
        ({"queues": ("other",)}, ""),
    ],
)
def test_a_waiting_job_says_what_its_pool_does(state: dict[str, Any], said: str) -> None:
    assert pool_reason([pool(**state)], "gpu", {}) == said


def test_a_job_that_no_pool_could_run_says_what_they_have() -> None:
    pools = [pool("a", resources={"gpu": 1.0}), pool("b")]

    assert pool_reason(pools, "gpu", {"gpu": 4.0}) == (
        "no pool of queue gpu has workers with gpu=4: a has gpu=1; b has none"
    )


def test_the_pool_whose_worker_comes_first_is_named() -> None:
    pools = [pool("a", error="ssh: no route to host"), pool("b", units=(PENDING,))]

    assert pool_reason(pools, "gpu", {}).startswith("waits for Slurm job 4711")
