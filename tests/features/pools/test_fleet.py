"""Why the jobs of a queue wait, if pools start workers for it; when an idle worker ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from jobkit.client.loop import background
from jobkit.client.waits import level_of, queue_reasons
from jobkit.features.pools.fleet import PoolSource
from jobkit.features.pools.pool_info import PoolInfo
from jobkit.features.pools.spec import PoolSpec
from jobkit.features.pools.store import PoolStore, PoolUnit
from jobkit.model import Waiting
from jobkit.store.queues import BlockedJobs
from jobkit.store.values import WorkerInfo
from jobkit.worker.walltime import end_when_idle
from tests.client.test_waits import GPU, worker
from tests.ui.stage import Stage


def pool(*units: PoolUnit, resources: dict[str, float] | None = None, **state: Any) -> PoolInfo:
    spec = PoolSpec(name="gpu", engine="slurm", queues=("gpu",), max=4, resources=resources or {})
    return PoolInfo(**{"name": "gpu", "spec": spec, "manager": "head", "units": units, **state})


PENDING = PoolUnit(unit="gpu-1", id="4711", phase="pending", reason="PENDING (Priority)")


def test_a_queue_says_what_its_pool_waits_for_as_a_single_job_does() -> None:
    none_lives = queue_reasons({"gpu": {"queued": 3}}, [], [], [PoolSource([pool(PENDING)])])
    all_busy = queue_reasons({"gpu": {"queued": 3}}, [worker(running=4)], [], [PoolSource([pool(PENDING)])])

    for found in (none_lives, all_busy):
        assert [reason.text for reason in found["gpu"]] == ["waits for Slurm job 4711: PENDING (Priority)"]


def test_no_user_is_asked_to_start_a_worker_that_a_pool_starts() -> None:
    blocked = [BlockedJobs("gpu", 2, Waiting(GPU, use={"gpu": 1}))]
    broken = pool(resources={"gpu": 1}, error="sbatch refused: invalid partition")

    coming = queue_reasons({"gpu": {"queued": 2}}, [], blocked, [PoolSource([pool(PENDING, resources={"gpu": 2})])])
    failing = queue_reasons({"gpu": {"queued": 2}}, [], blocked, [PoolSource([broken])])
    other = queue_reasons({"gpu": {"queued": 2}}, [], blocked, [PoolSource([pool(PENDING)])])

    assert [reason.text for reason in coming["gpu"]] == ["waits for Slurm job 4711: PENDING (Priority)"]
    assert [(reason.level, reason.text) for reason in failing["gpu"]] == [
        ("warning", "pool gpu: sbatch refused: invalid partition")
    ]
    assert [(reason.level, reason.text) for reason in other["gpu"]] == [
        ("warning", "no pool of queue gpu has workers with gpu=1: gpu has none")
    ]


def test_a_queue_without_workers_waits_for_those_of_its_pool_until_that_is_removed(stage: Stage) -> None:
    job_id, spec = stage.submit(queue="gpu"), PoolSpec(name="gpu", engine="local", queues=("gpu",), max=2)

    assert queue_reasons({"gpu": {"queued": 3}}, [], [], [PoolSource([pool()])]) == {"gpu": []}
    assert queue_reasons({"gpu": {"queued": 3}}, [], [], [PoolSource([replace(pool(), is_removed=True)])])["gpu"]
    assert "no worker serves" in stage.kit.waits_for(job_id)
    background.call(stage.store.part(PoolStore).put("gpu", spec.sealed(stage.kit.codec)))
    assert stage.kit.waits_for(job_id).startswith("pool gpu: no autoscaler runs")
    assert level_of(stage.kit.waits_for(job_id)) == "warning"


def test_a_job_waits_for_the_worker_that_has_what_its_pools_lack(stage: Stage) -> None:
    spec = PoolSpec(name="cpu", engine="local", queues=("default",), max=4)
    background.call(stage.store.part(PoolStore).put("cpu", spec.sealed(stage.kit.codec)))
    jobs = [stage.submit(resources={"gpu": 1}) for _ in range(2)]
    background.call(stage.store.claim(WorkerInfo("gpu-1", queues=("default",), slots=8, resources={"gpu": 1}), 8))
    background.call(stage.store.renew("gpu-1", {}, {"queues": "default", "slots": 8}))

    assert stage.kit.waits_for(jobs[1]) == "waits for gpu=1: all 1 in use"
    assert [reason.text for reason in stage.kit.queue_reasons()["default"]] == ["1 waits for gpu=1: all 1 in use"]


async def test_an_autoscaler_decides_when_an_idle_worker_ends() -> None:
    asked: list[str] = []
    looks = iter(["here", "here", ""])

    async def manager() -> str:
        return next(looks)

    async def stop_idle(ids: list[str]) -> None:
        asked.extend(ids)
        raise EOFError  # the end of this test

    store = cast(Any, SimpleNamespace(part=lambda _: SimpleNamespace(manager=manager), stop_idle=stop_idle))
    with pytest.raises(EOFError):
        await end_when_idle(0.001, "w1", store, lambda: 3)

    assert (asked, next(looks, None)) == (["w1"], None)
