"""Expected starts of jobs that wait: behind others, behind queues that come first, and by times of their own code."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jobkit.client.loop import background
from tests.support import wait_until
from tests.ui.stage import Stage
from tests.worker import jobs
from tests.worker.conftest import Bench
from tests.worker.test_sharing import all_ended


def test_a_job_behind_others_says_when_it_starts(bench: Bench) -> None:
    bench.worker("-c", "1")
    bench.kit.submit(jobs.occupy, bench.file(), "ada", 0.2).wait()
    running, first, second = (bench.kit.submit(jobs.occupy, bench.file(), "ada", 20.0) for _ in range(3))
    wait_until(lambda: running.state == "running", what="the first job to run")

    found = bench.kit.expected_starts([bench.kit.snapshot(job.id) for job in (running, first, second)])

    assert [found[job.id].ahead for job in (first, second)] == [0, 1]
    assert found[second.id].at > found[first.id].at  # as far as past runs tell
    for job in (second, first, running):
        job.cancel()
    wait_until(lambda: all_ended([running]), what="the running job to stop")


def test_a_cell_has_no_usual_time_although_others_of_its_name_have(stage: Stage) -> None:
    stage.beat(slots=1)
    jobs = [stage.submit("report"), stage.submit("report", is_anonymous=True)]
    background.call(stage.store.publish_took({"report": 60.0}))

    starts = stage.kit.expected_starts([stage.kit.snapshot(job_id) for job_id in jobs])

    assert [starts[job_id].usual_s for job_id in jobs] == [60.0, None]


def test_jobs_of_a_queue_that_is_served_first_come_before_a_job_unless_it_is_paused(stage: Stage) -> None:
    first, *_ = (stage.submit(queue="high") for _ in range(3))
    low = stage.submit(queue="low")
    stage.beat(queues="high,low", slots=1)
    background.call(stage.store.publish_took({"train": 600.0}))

    def left_s() -> float:
        at = stage.kit.expected_starts([stage.kit.snapshot(low)])[low].at
        return 0.0 if at is None else (at - datetime.now(UTC)).total_seconds()

    assert left_s() == pytest.approx(1_800, abs=60)
    stage.kit.queues.pause("high")
    assert left_s() == pytest.approx(0, abs=60)
    stage.kit.queues.resume("high")
    background.call(stage.store.set_rule("queue:high", {"n": 1}))
    stage.start(first, worker="gpu-2", queue="high")
    assert left_s() == pytest.approx(0, abs=60)
