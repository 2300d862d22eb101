"""A job that keeps checkpoints goes on from the newest one, whatever ended its attempt."""

from __future__ import annotations

import asyncio
from pathlib import Path
from queue import SimpleQueue

import pytest

import jobkit
from jobkit.worker import attempt as attempt_module
from tests.support import until, wait_until
from tests.worker import jobs
from tests.worker.conftest import Bench
from tests.worker.job_classes import Counting

STEPS = 6


def steps(bench: Bench, name: str = "notes") -> list[int]:
    return [int(line.split()[1]) for line in bench.notes(name) if line.startswith("step")]


@pytest.mark.parametrize(
    "has_files", [pytest.param(True, id="in files"), pytest.param(False, id="in Redis", marks=pytest.mark.nightly)]
)
def test_a_job_whose_worker_was_killed_goes_on_from_its_last_checkpoint(bench: Bench, has_files: bool) -> None:
    variables = {"JOBKIT_RESULTS": bench.file("results")} if has_files else {}
    worker = bench.worker(**variables)
    job = bench.kit.submit(jobs.count, bench.file(), STEPS, stays_at=3)
    wait_until(lambda: steps(bench) == [0, 1, 2, 3], what="the fourth step")
    wait_until(lambda: job.snapshot.saved == "step 3", what="the checkpoint to be known")

    worker.kill()
    bench.worker(**variables)

    assert job.result(60) == {"step": STEPS, "sum": 15, "file": "0 1 2 3 4 5"}
    assert steps(bench) == [0, 1, 2, 3, 3, 4, 5]
    assert job.snapshot.resumed == "resumed at step 3"
    assert "resumed at step 3 (written by attempt 1)" in job.logs()
    assert [kept.text for kept in job.checkpoints()] == ["step 5", "step 6"]
    assert [kept.attempt for kept in job.checkpoints()] == [2, 2]
    if not has_files:
        assert job.checkpoints()[-1].value() == {"step": 6, "sum": 15}


@pytest.mark.parametrize(
    ("task", "isolation", "dies"),
    [
        (jobs.speak_and_die, "process", "job"),
        (jobs.speak_and_die, "process", "worker"),
        pytest.param(jobs.speak_and_die_on_loop, "process", "job", marks=pytest.mark.nightly),
        pytest.param(jobs.speak_and_die, "thread", "worker", marks=pytest.mark.nightly),
    ],
)
def test_what_a_job_said_before_its_checkpoint_is_stored_if_it_dies_right_after_it(
    bench: Bench, task: jobkit.Task, isolation: str, dies: str
) -> None:
    worker = bench.worker(JOBKIT_RESULTS=bench.file("results"))
    kit = bench.kit.options(isolation=isolation, retries=1, backoff=0.0)

    job = kit.submit(task, worker.pid if dies == "worker" else 0)
    if dies == "worker":
        worker.wait(60)
        bench.worker(JOBKIT_RESULTS=bench.file("results"))

    job.result(60)
    printed = [str(line) for line in job.logs() if str(line).startswith("step")]
    assert printed == [f"step {n}" for n in range(10)]
    assert list(job.metrics()["loss"]) == list(range(10))


@pytest.mark.parametrize(
    "task",
    [
        jobs.count,
        pytest.param(jobs.count_in_thread, marks=pytest.mark.nightly),
        pytest.param(jobs.count_on_loop, marks=pytest.mark.nightly),
    ],
)
def test_a_worker_that_stops_lets_a_job_stop_at_its_next_checkpoint(bench: Bench, task: jobkit.Task) -> None:
    worker = bench.worker(JOBKIT_RESULTS=bench.file("results"), JOBKIT_DRAIN="600")
    job = bench.kit.submit(task, bench.file(), 1000, pause_s=0.02)
    wait_until(lambda: len(steps(bench)) > 3, what="some steps")

    worker.terminate()

    assert worker.wait(60) == 0
    wait_until(lambda: job.state == "queued", what="the job to be back")
    assert job.snapshot.releases == 1
    assert job.attempts[0].outcome == "released"
    done = len(steps(bench))
    bench.worker(JOBKIT_RESULTS=bench.file("results"))
    wait_until(lambda: len(steps(bench)) > done + 3, what="some more steps")
    job.cancel()
    assert job.wait(60)
    assert steps(bench) == list(range(len(steps(bench))))


def test_a_job_whose_worker_is_recycled_stops_at_a_checkpoint_and_goes_on_by_itself(bench: Bench) -> None:
    job = bench.kit.submit(jobs.count, bench.file(), 100, pause_s=0.02)

    while not steps(bench):  # a busy machine may need longer to start the job than its worker has
        worker = bench.worker("--max-time", "1", ready=False, JOBKIT_RESULTS=bench.file("results"), JOBKIT_DRAIN="600")
        assert worker.wait(60) == 0
    wait_until(lambda: job.state == "queued", what="the job to be back")
    assert len(steps(bench)) < 100
    bench.worker(JOBKIT_RESULTS=bench.file("results"))

    assert job.result(60)["step"] == 100
    assert steps(bench) == list(range(100))
    assert (job.snapshot.releases > 0, job.snapshot.losses) == (True, 0)


def test_a_job_beyond_its_memory_limit_goes_on_from_its_checkpoint(bench: Bench) -> None:
    bench.worker(JOBKIT_RESULTS=bench.file("results"))

    job = bench.kit.options(memory_limit="300MB", retries=1, backoff=0.0).submit(jobs.count_and_grow, bench.file())

    assert job.result(60) == 4
    assert "memory" in job.attempts[0].reason
    assert steps(bench) == [0, 1, 2, 3]


def test_a_job_that_was_cancelled_at_a_checkpoint_is_continued_by_a_new_one(bench: Bench) -> None:
    bench.worker(JOBKIT_RESULTS=bench.file("results"))
    job = bench.kit.submit(jobs.count, bench.file(), 1000, pause_s=0.02)
    wait_until(lambda: len(steps(bench)) > 3, what="some steps")

    assert job.cancel(checkpoint=True)

    assert job.wait(60)
    assert bench.kit.get(job.id).state == "cancelled"
    done = len(steps(bench))
    again = job.rerun(from_checkpoint=True, steps=done + 2)
    assert again.result(60)["step"] == done + 2
    assert steps(bench) == list(range(done + 2))
    assert again.snapshot.resumed == f"resumed at step {done}"
    assert again.rerun(from_checkpoint=True).result(60)["step"] == done + 2
    assert len(steps(bench)) == done + 2


def test_a_job_that_asks_whether_to_stop_is_no_success_when_it_returns_early(bench: Bench) -> None:
    bench.worker()
    job = bench.kit.submit(jobs.count_politely, bench.file())
    wait_until(lambda: len(steps(bench)) > 3, what="some steps")

    job.cancel(checkpoint=True)

    assert job.wait(60)
    assert job.state == "cancelled"
    assert job.checkpoints()[-1].text == f"step {len(steps(bench))}"


def test_a_job_without_a_checkpoint_in_its_grace_is_cancelled_as_ever(bench: Bench) -> None:
    bench.worker()
    job = bench.kit.options(cancel_grace=0.3).submit(jobs.work, bench.file(), 600.0)
    bench.started()

    job.cancel(checkpoint=True)

    assert job.wait(60)
    assert job.state == "cancelled"
    assert bench.notes()[-1] == "stopped"


@pytest.mark.parametrize(
    ("task", "options"),
    [(jobs.count_and_clean, {}), (jobs.count_and_clean, {"isolation": "thread"}), (jobs.count_and_clean_on_loop, {})],
    ids=["process", "thread", "coroutine"],
)
def test_the_end_of_the_grace_does_not_interrupt_the_clean_up_after_a_checkpoint(
    bench: Bench, task: jobkit.Task, options: dict[str, str]
) -> None:
    bench.worker()
    job = bench.kit.options(cancel_grace=1, **options).submit(task, bench.file(), 1.5)
    wait_until(lambda: steps(bench), what="a step")

    job.cancel(checkpoint=True)

    assert job.wait(60)
    assert job.state == "cancelled"
    assert bench.notes()[-1] == "cleaned"


def test_a_job_that_moves_on_between_losses_survives_any_number_of_them(bench: Bench) -> None:
    bench.worker(JOBKIT_RESULTS=bench.file("results"), JOBKIT_MAX_LOSSES="2")
    job = bench.kit.submit(jobs.count_beside_deaths, bench.file(), 6, 4)

    assert job.result(60) == 6
    assert job.snapshot.losses == 4
    assert steps(bench) == list(range(6))


def test_a_job_that_dies_at_the_same_step_again_and_again_ends_as_lost(bench: Bench) -> None:
    bench.worker(JOBKIT_RESULTS=bench.file("results"), JOBKIT_MAX_LOSSES="2")
    job = bench.kit.submit(jobs.count_beside_deaths, bench.file(), 6, 99, stays_at=2)

    assert "its workers died 2 times while running it, each time after its checkpoint at step 2; last," in str(
        job.exception(60)
    )
    assert steps(bench) == [0, 1, 2]


def test_a_second_cancel_does_not_wait_for_a_checkpoint(bench: Bench) -> None:
    bench.worker()
    job = bench.kit.options(cancel_grace=600).submit(jobs.work, bench.file(), 600.0)
    bench.started()
    job.cancel(checkpoint=True)
    wait_until(lambda: job.snapshot.cancel_requested_at is not None, what="the request to be shown")

    job.cancel()

    assert job.wait(60)
    assert bench.notes()[-1] == "stopped"


@pytest.mark.parametrize("how", ["raise", pytest.param("timeout", marks=pytest.mark.nightly)])
def test_a_retried_attempt_goes_on_from_the_checkpoint(bench: Bench, how: str) -> None:
    bench.worker(JOBKIT_RESULTS=bench.file("results"))
    options = {"retries": 1, "backoff": 0.0} | ({"timeout": 1.0} if how == "timeout" else {})
    more = {"fails_at": 3} if how == "raise" else {"stays_at": 3}
    job = bench.kit.options(**options).submit(jobs.count, bench.file(), STEPS, **more)

    assert job.result(60)["sum"] == 15
    assert steps(bench) == [0, 1, 2, 3, 3, 4, 5]


@pytest.mark.nightly
def test_a_worker_that_does_not_share_the_directory_says_where_the_checkpoint_is(bench: Bench) -> None:
    worker = bench.worker(JOBKIT_RESULTS=bench.file("here"))
    job = bench.kit.submit(jobs.count, bench.file(), STEPS, stays_at=3)
    wait_until(lambda: job.snapshot.saved == "step 3", what="the checkpoint to be known")

    worker.kill()
    bench.worker(JOBKIT_RESULTS=bench.file("there"))

    assert job.result(60)["sum"] == 15
    assert steps(bench) == [0, 1, 2, 3, *range(STEPS)]
    (said,) = [line for line in job.logs() if "share" in line]
    assert bench.file("here") in said
    assert bench.file("there") in said


def test_a_task_class_has_its_declared_state_before_it_runs(bench: Bench) -> None:
    bench.worker(JOBKIT_RESULTS=bench.file("results"))

    job = bench.kit.options(retries=1, backoff=0.0).submit(Counting, steps=STEPS)

    assert job.result(60) == [0, 1, 2, 3, 4, 5]
    assert job.snapshot.resumed == "resumed at step 3"


def test_checkpoints_go_with_their_job(bench: Bench) -> None:
    bench.worker(JOBKIT_RESULTS=bench.file("results"))
    job = bench.kit.submit(jobs.count, bench.file(), STEPS)
    job.result(60)
    assert len(list(Path(bench.file("results")).rglob("checkpoint.*"))) == 2

    bench.kit.delete([job.id])

    wait_until(lambda: not list(Path(bench.file("results")).rglob("checkpoint.*")), what="the files to go")


async def test_no_job_waits_for_the_store_at_its_checkpoint_during_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt_module, "SYNC_S", 0.01)
    hurried: list[str] = []
    syncs = attempt_module.Syncs(lambda: hurried.append("said"))
    replies: SimpleQueue[str] = SimpleQueue()

    syncs.add(lambda: replies.put("late"), None)
    await until(lambda: not replies.empty(), "the reply of an attempt that has waited long enough")
    monkeypatch.setattr(attempt_module, "SYNC_S", 600.0)
    syncs.add(lambda: replies.put("at once"), None)
    await until(lambda: replies.qsize() == 2, "the reply during the outage")
    syncs.take()
    syncs.end()
    syncs.add(lambda: replies.put("stored"), None)
    syncs.end()  # of an exchange that began before
    await asyncio.sleep(0)
    assert replies.qsize() == 2
    syncs.take()
    syncs.end()
    await until(lambda: replies.qsize() == 3, "the reply once its news are stored")

    assert [replies.get() for _ in range(3)] == ["late", "at once", "stored"]
    assert len(hurried) == 3
