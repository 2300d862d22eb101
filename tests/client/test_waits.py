"""Why the jobs of a queue wait, in words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.client.waits import QueueReason, level_of, no_worker_text, queue_reasons, queue_state, reasons_of
from jobkit.model import Gate, Waiting
from jobkit.model.limits import Supply
from jobkit.store.queues import BlockedJobs
from jobkit.store.values import WorkerInfo
from tests.ui.stage import Stage

GPU = "res:gpu:gpu=1"


def worker(**facts: Any) -> WorkerInfo:
    return WorkerInfo(**{"id": "w1", "queues": ("gpu",), "slots": 4, **facts})


def texts(*blocked: BlockedJobs, workers: list[WorkerInfo], queued: int) -> list[str]:
    found = queue_reasons({"gpu": {"queued": queued}}, workers, blocked)
    return [reason.text for reason in found["gpu"]]


def test_jobs_that_wait_for_resources_say_how_many_are_in_use() -> None:
    workers = [
        worker(resources={"gpu": 1}, in_use={"gpu": 1}),
        worker(id="w2", resources={"gpu": 2}, in_use={"gpu": 2}),
    ]
    blocked = BlockedJobs("gpu", 2, Waiting(GPU, use={"gpu": 1}))

    assert texts(blocked, workers=workers, queued=2) == ["2 wait for gpu=1: all 3 in use"]


def test_jobs_that_no_worker_can_run_come_first_and_say_what_the_largest_has() -> None:
    blocked = [
        BlockedJobs("gpu", 2, Waiting(GPU, use={"gpu": 1})),
        BlockedJobs("gpu", 3, Waiting("res:gpu:gpu=4", use={"gpu": 4})),
    ]

    found = queue_reasons({"gpu": {"queued": 5}}, [worker(resources={"gpu": 1}, in_use={"gpu": 1})], blocked)

    assert [(reason.level, reason.text) for reason in found["gpu"]] == [
        ("warning", "3 wait: no worker offers gpu=4, the most is 1; `jobkit worker --resources gpu=4`"),
        ("info", "2 wait for gpu=1: all 1 in use"),
    ]


def test_resources_that_are_free_on_several_workers_are_not_said_to_be_in_use() -> None:
    supply = Supply.of([({"gpu": 4}, {"gpu": 2}), ({"gpu": 4}, {"gpu": 3})], {"gpu": 3})
    full = Supply.of([({"gpu": 4, "mem": 8}, {})], {"gpu": 4, "mem": 8})
    two = Supply.of([({"gpu": 4, "mem": 8}, {"mem": 8})], {"gpu": 1, "mem": 1})

    assert Waiting("res:gpu:gpu=3", use={"gpu": 3}).sentence(supply) == (
        "waits for gpu=3: 3 of 8 free, not enough on a worker"
    )
    assert full.shortage({"gpu": 4, "mem": 8}) == "free, but its worker has no free slot"
    assert two.shortage({"gpu": 1, "mem": 1}) == "mem: all 8 in use"


def test_a_paused_queue_says_so_and_not_that_its_workers_are_busy() -> None:
    gate = Waiting("queue:gpu", is_paused=True, paused_by="ada", paused_ms=180_000)

    found = texts(BlockedJobs("gpu", 0, gate), workers=[worker(running=4)], queued=9)

    assert found == ["queue gpu is paused by ada since 3 m 00 s: `jobkit queues resume gpu`"]


def test_jobs_that_only_need_a_slot_say_that_all_are_busy() -> None:
    assert texts(workers=[worker(running=4)], queued=1_200) == ["1,200 wait for a free slot: all 4 are busy"]
    assert texts(workers=[worker(running=3)], queued=1) == []


def test_a_queue_whose_workers_all_end_says_so() -> None:
    assert texts(workers=[worker(is_draining=True)], queued=1) == ["its worker is draining and takes no more jobs"]


def test_jobs_at_other_limits_than_the_first_few_are_counted() -> None:
    assert texts(BlockedJobs("gpu", 7, None), workers=[worker()], queued=7) == ["7 wait for other limits"]


def test_a_queue_without_workers_says_so_once_with_the_command() -> None:
    gpus = BlockedJobs("gpu", 3, Waiting(GPU, use={"gpu": 1}))

    assert texts(workers=[], queued=3) == ["3 wait; no worker serves queue gpu: run `jobkit worker -q gpu`"]
    assert no_worker_text(["default"]) == "no worker serves queue default: run `jobkit worker`"
    for_arq = "no worker serves queue arq:q2: run `jobkit worker --arq MODULE.WorkerSettings`"
    assert no_worker_text(["arq:q2"]) == for_arq
    assert len(texts(gpus, workers=[], queued=3)) == 1


def test_jobs_that_ran_on_workers_that_are_all_lost_wait_for_a_worker() -> None:
    lost, queues = worker(is_alive=False), {"gpu": {"queued": 0, "running": 3}}

    assert queue_reasons(queues, [lost], []) == {
        "gpu": [QueueReason("3 ran on lost workers; no worker serves queue gpu: run `jobkit worker -q gpu`", "warning")]
    }
    assert queue_reasons(queues, [lost, worker()], []) == queue_reasons(queues, [], []) == {}


def test_the_state_of_a_queue_tells_whether_waiting_helps() -> None:
    stuck, full = [QueueReason("no worker", "warning")], [QueueReason("all busy")]

    assert queue_state({"queued": 1}, stuck) == "stuck"
    assert queue_state({"queued": 1, "running": 1}, [*stuck, *full]) == "partly stuck"
    assert queue_state({"queued": 1, "running": 1}, stuck, is_paused=True) == "paused"
    assert queue_state({"queued": 1, "running": 1}, full) == "full"
    assert queue_state({"queued": 1}, []) == queue_state({"running": 1}, []) == "working"
    assert queue_state({}, []) == "idle"


@pytest.fixture
def stage() -> Iterator[Stage]:
    with contextlib.closing(Stage()) as found:
        yield found


def test_the_jobs_of_a_batch_say_why_they_wait(stage: Stage) -> None:
    gate = (Gate("key:simulate", n=1),)
    running, *jobs = [stage.submit("simulate", limits=gate) for _ in range(4)]
    stage.start(running)
    background.call(stage.store.claim(WorkerInfo("gpu-1", slots=8), 8))

    def reasons(ids: list[str]) -> list[str]:
        return [reason.text for reason in background.call(reasons_of(stage.store, stage.kit.codec, ids))]

    assert reasons(jobs) == ["3 wait for the one place of simulate"]
    assert reasons(jobs[2:]) == ["waits for the one place of simulate"]
    assert reasons([running]) == reasons([]) == []


def test_a_kit_says_why_each_queue_waits(stage: Stage) -> None:
    stage.submit("train", resources={"gpu": 1})
    stage.submit("train", queue="other")
    background.call(stage.store.claim(WorkerInfo("gpu-1", slots=8), 8))

    found = stage.kit.queue_reasons()

    assert {name: [reason.text for reason in reasons] for name, reasons in found.items()} == {
        "default": ["1 waits: no worker offers gpu=1, none has any; `jobkit worker --resources gpu=1`"],
        "other": ["1 waits; no worker serves queue other: run `jobkit worker -q other`"],
    }


def test_a_job_in_a_queue_without_workers_says_so(stage: Stage) -> None:
    job_id = stage.submit(queue="gpu")
    lack = "no worker serves queue gpu: run `jobkit worker -q gpu`"

    assert stage.kit.waits_for(job_id) == lack
    assert level_of(lack) == "warning"
    background.call(stage.store.claim(WorkerInfo("gpu-1", slots=8, queues=("other",)), 8))
    assert stage.kit.waits_for(job_id) == lack


def test_a_wait_that_times_out_says_why_the_job_is_still_queued(queued: Kit) -> None:
    job = queued.options(queue="unserved").submit(len, "abc")

    with pytest.raises(TimeoutError, match="still queued after 10 ms: no worker serves queue unserved: run"):
        job.result(timeout=0.01)


def test_a_job_that_only_needs_a_slot_says_that_all_are_busy_and_how_many_are_before_it(stage: Stage) -> None:
    first, second, third = (stage.submit() for _ in range(3))
    stage.start(first)
    stage.beat(slots=1)

    assert [stage.kit.waits_for(job_id) for job_id in (first, second, third)] == [
        "",
        "waits for a free slot: the one slot is busy",
        "waits for a free slot: the one slot is busy; 1 job ahead",
    ]
    [reason] = background.call(reasons_of(stage.store, stage.kit.codec, [second, third]))
    assert reason.text == "2 wait for a free slot: the one slot is busy"

    stage.beat(slots=2)
    assert stage.kit.waits_for(second) == ""
