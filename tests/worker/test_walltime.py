"""Workers whose engine ends them at a known time: they stop before, and their jobs go on elsewhere."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jobkit.model import InvalidParams
from jobkit.store.values import WorkerInfo
from jobkit.worker import blocked_loop
from jobkit.worker.walltime import WALLTIME, Walltime
from tests.features.checkpoints.test_going_on import steps
from tests.support import wait_until

from . import jobs
from .conftest import Bench


@pytest.mark.parametrize("text", ["tomorrow", "-5", "0", "12:00", "nan", "4 eons"])
def test_a_walltime_that_is_no_time_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(InvalidParams, match="JOBKIT_WALLTIME must be seconds above 0"):
        Walltime.of({WALLTIME: text}, 30.0)


def test_jobs_are_asked_a_drain_time_before_they_are_released_which_is_well_before_the_end() -> None:
    walltime = Walltime(4 * 3600, 600)

    assert walltime.releases - walltime.drains == 600
    assert walltime.releases == pytest.approx(walltime.drains + 600)
    assert not walltime.is_ending


def test_a_short_walltime_is_not_spent_on_draining() -> None:
    walltime = Walltime(40, 600)

    assert walltime.drains - walltime._began == pytest.approx(20)
    assert walltime.releases - walltime._began == pytest.approx(30)


def test_a_worker_without_a_walltime_never_ends() -> None:
    assert not Walltime.of({}, 30.0).is_ending
    assert Walltime.of({WALLTIME: "4h"}, 30.0).left_s == 4 * 3600


def test_a_worker_that_starts_over_ends_when_it_would_have_ended_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WALLTIME, "4h")
    walltime = Walltime.of(os.environ, 30.0)
    walltime._began -= 3 * 3600
    monkeypatch.setattr(blocked_loop, "start_over", lambda: None)
    watch, running = cast(Any, SimpleNamespace()), cast(Any, SimpleNamespace(attempts={}))
    keeper, store = cast(Any, SimpleNamespace(run=lambda *_: None)), cast(Any, None)
    blocked_loop.attend(watch, WorkerInfo("w1"), store, running, keeper, lambda: 0, walltime)

    watch.on_hopeless({}, "a job")

    assert Walltime.of(os.environ, 30.0).left_s == pytest.approx(3600, abs=2)


def test_a_job_with_checkpoints_goes_on_in_the_next_worker_when_the_walltime_ends(bench: Bench) -> None:
    job = bench.kit.submit(jobs.count, bench.file(), 100, pause_s=0.02)

    while not steps(bench):  # a busy machine may need longer to start the job than its worker has
        worker = bench.worker(ready=False, JOBKIT_RESULTS=bench.file("results"), JOBKIT_WALLTIME="3")
        assert worker.wait(60) == 0
    wait_until(lambda: job.state == "queued", what="the job to be back")
    assert len(steps(bench)) < 100
    assert "the walltime ends in" in bench.said()
    bench.worker(JOBKIT_RESULTS=bench.file("results"))

    assert job.result(60)["step"] == 100
    assert steps(bench) == list(range(100))
    assert (job.snapshot.releases > 0, job.snapshot.losses, job.snapshot.retried) == (True, 0, 0)


def attempt(ran_s: float, *, releases: int, is_resumable: bool = False) -> Any:
    claimed = SimpleNamespace(attempt=releases + 3, retried=1, losses=1)
    began = time.monotonic() - ran_s
    return SimpleNamespace(began=began, claimed=claimed, is_resumable=is_resumable, refusal="")


@pytest.mark.parametrize(
    ("tried", "fails"),
    [
        (attempt(3500, releases=2), True),
        (attempt(3500, releases=1), False),
        (attempt(3500, releases=9, is_resumable=True), False),
        (attempt(60, releases=9), False),
    ],
    ids=["third time", "second time", "with checkpoints", "begun late"],
)
def test_a_job_fails_with_the_reason_when_it_took_the_whole_walltime_of_three_workers(tried: Any, fails: bool) -> None:
    walltime = Walltime(3600, 30)
    walltime._began -= 3600
    walltime.drains -= 3600

    walltime.refuse(cast(Any, SimpleNamespace(attempts={"job": tried})))

    assert tried.refusal.endswith("give its workers a longer walltime, or call jobkit.checkpoint") == fails


def test_a_worker_retires_when_a_job_as_long_as_others_would_not_finish() -> None:
    asked: list[str] = []
    walltime = Walltime(0.4, 0.0)

    asyncio.run(
        walltime.keep(cast(Any, SimpleNamespace(longest_s=60.0)), lambda how, why: asked.append(f"{how}: {why}"))
    )

    assert asked[0].startswith("drain: the walltime ends in")
    walltime = Walltime(3600, 0.0)
    walltime.drains -= 3500
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(walltime.keep(cast(Any, SimpleNamespace(longest_s=600.0)), _raise), 60))


def _raise(how: str, why: str) -> None:
    assert (how, "would not finish within the walltime" in why) == ("retire", True)
    raise TimeoutError


def test_sigusr1_drains_a_worker_and_a_second_one_releases_nothing(bench: Bench) -> None:
    worker = bench.worker()
    job = bench.kit.submit(jobs.until, bench.file(), bench.file("sign"))
    bench.started()

    worker.send_signal(signal.SIGUSR1)
    wait_until(lambda: "SIGUSR1: finishing running jobs" in bench.said(), what="the drain")
    worker.send_signal(signal.SIGUSR1)
    (bench.folder / "sign").touch()

    assert worker.wait(60) == 0
    assert job.result(60) == "done"
    assert (job.attempt, job.snapshot.releases) == (1, 0)


def test_a_worker_with_a_time_for_idle_ends_when_idle(bench: Bench) -> None:
    job = bench.kit.submit(jobs.count_up, 1)
    worker = bench.worker(ready=False, JOBKIT_IDLE="1")

    assert worker.wait(60) == 0
    assert job.result(60) == 2
