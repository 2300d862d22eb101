"""`jobkit worker --arq`: an existing settings class as real processes, with jobs of arq's own client."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from arq.connections import ArqRedis
from arq.jobs import Job, JobStatus

import jobkit
from tests.support import environment, wait_until

from .conftest import Bench

T = TypeVar("T")


def with_arq(bench: Bench, act: Callable[[ArqRedis], Awaitable[T]]) -> T:
    """Run a coroutine with arq's own client in a new event loop."""

    async def run() -> T:
        pool = ArqRedis(unix_socket_path=str(bench.server.socket), encoding="utf8")
        try:
            return await act(pool)
        finally:
            await pool.aclose(close_connection_pool=True)

    return asyncio.run(run())


def enqueue(bench: Bench, *args: Any, **options: Any) -> str:
    async def act(pool: ArqRedis) -> str:
        job = await pool.enqueue_job(*args, **options)
        assert job is not None
        return job.job_id

    return with_arq(bench, act)


def begun(bench: Bench) -> tuple[str, Path]:
    """Enqueue a job, and return its id and the file that ends it, once it runs."""
    go = bench.folder / "go"
    job_id = enqueue(bench, "until", "a", str(go))
    bench.noted("start a try 1")
    return job_id, go


def result(bench: Bench, job_id: str, timeout_s: float = 20.0) -> Any:
    return with_arq(bench, lambda pool: Job(job_id, pool).result(timeout_s, poll_delay=0.02))


def status(bench: Bench, job_id: str) -> JobStatus:
    return with_arq(bench, lambda pool: Job(job_id, pool).status())


def test_an_existing_settings_class_runs_unchanged(bench: Bench) -> None:
    worker = bench.worker()

    job_id = enqueue(bench, "add", 41)

    assert result(bench, job_id) == 42
    assert bench.notes() == ["startup", "add 41 for hello"]
    worker.terminate()
    assert worker.wait(60) == 0
    assert bench.notes()[-1] == "shutdown"
    assert "Traceback" not in bench.said()


def test_arqs_own_check_finds_the_worker_healthy(bench: Bench) -> None:
    assert bench.plain("--check").wait(60) == 1
    worker = bench.worker()
    wait_until(lambda: bench.redis.exists("arq:queue:health-check"), what="the worker to tell its health")
    assert bench.plain("--check").wait(60) == 0

    worker.terminate()
    worker.wait(60)

    assert bench.plain("--check").wait(60) == 1


def test_check_looks_at_the_redis_and_the_queue_of_the_class(bench: Bench, tmp_path: Path) -> None:
    elsewhere = {"JOBKIT_URL": "", "JOBKIT_HOME": str(tmp_path / "home")}
    before = bench.worker("--check", ready=False, **elsewhere)
    assert before.wait(60) == 1
    bench.worker()

    assert bench.worker("--check", ready=False, **elsewhere).wait(60) == 0
    assert bench.worker("--check", "-q", "other", ready=False, **elsewhere).wait(60) == 1


def test_a_burst_runs_waiting_jobs_and_ends(bench: Bench) -> None:
    ids = [enqueue(bench, "add", n) for n in range(3)]

    worker = bench.worker("--burst", "-c", "2", ready=False)

    assert worker.wait(60) == 0
    assert [result(bench, job_id) for job_id in ids] == [1, 2, 3]


def test_a_job_starts_when_it_is_enqueued_and_not_at_the_next_poll(bench: Bench) -> None:
    bench.worker(SERVICE_POLL="600")

    job_id = enqueue(bench, "add", 1)

    assert result(bench, job_id) == 2


def test_a_job_of_arqs_client_is_a_normal_job(bench: Bench) -> None:
    bench.worker()
    job_id = enqueue(bench, "add", 1, b=2)
    assert result(bench, job_id) == 3

    (found,) = bench.kit.jobs()

    assert (found.id, found.task, found.queue, found.state) == (job_id, "add", "arq:queue", "succeeded")
    assert found.params == {"a": 1, "b": 2}
    assert found.result(60) == 3
    assert [str(line) for line in found.logs()] == ["adding 1 and 2"]
    assert "adding 1 and 2" in bench.said()  # and on the worker's output
    assert [event.type for event in found.events()] == ["submitted", "started", "succeeded"]
    (worker,) = bench.kit.workers()
    assert worker.queues == ("arq:queue",)
    assert "add" in worker.tasks


def test_a_waiting_job_is_listed_before_a_slot_is_free(bench: Bench) -> None:
    bench.worker("-c", "1")
    enqueue(bench, "wait", "first", _job_id="first")
    bench.noted("start first try 1")
    enqueue(bench, "add", 1, _job_id="second")
    enqueue(bench, "add", 1, _job_id="later", _defer_by=60)

    def states() -> dict[str, str]:
        return {job.id: str(job.state) for job in bench.kit.jobs()}

    expected = {"first": "running", "second": "queued", "later": "scheduled"}
    wait_until(lambda: states() == expected, what=f"{expected}")
    assert [status(bench, job_id) for job_id in ("first", "second", "later")] == [
        JobStatus.in_progress,
        JobStatus.queued,
        JobStatus.deferred,
    ]


def test_a_cancel_by_jobkit_is_an_abort_for_arq(bench: Bench) -> None:
    bench.worker("-c", "1")
    running = enqueue(bench, "wait", "a", _job_id="running")
    bench.noted("start a try 1")
    waiting = enqueue(bench, "add", 1, _job_id="waiting")
    later = enqueue(bench, "add", 1, _job_id="later", _defer_by=60)
    wait_until(lambda: len(bench.kit.jobs()) == 3, what="all to be seen")

    for job in bench.kit.jobs():
        job.cancel()

    for job_id in (running, waiting, later):
        with pytest.raises(asyncio.CancelledError):
            result(bench, job_id)
        assert bench.kit.get(job_id).wait(60)
        assert bench.kit.get(job_id).state == "cancelled"
    assert bench.notes()[-1] == "leave a"
    assert bench.redis.zcard("arq:queue") == 0


@pytest.mark.nightly
def test_the_job_of_a_killed_worker_runs_again_when_its_lease_expires(bench: Bench) -> None:
    first = bench.worker()
    job_id, go = begun(bench)
    bench.worker()

    first.kill()
    first.wait()

    bench.noted("start a try 1", times=2)  # the death of a worker is not a try
    assert status(bench, job_id) is JobStatus.in_progress
    go.touch()
    assert result(bench, job_id) == "a"
    found = bench.kit.get(job_id)
    assert [attempt.outcome for attempt in found.attempts] == ["lost", "succeeded"]


def test_code_that_blocks_the_worker_is_named_and_can_be_stopped(bench: Bench) -> None:
    worker = bench.worker()
    job_id = enqueue(bench, "block", 60.0)
    bench.noted("block")
    job = bench.kit.get(job_id)
    wait_until(lambda: "in block" in "".join(job.logs()), what="the line that blocks to be named")

    job.cancel()

    assert job.wait(60)
    assert job.state == "cancelled"
    with pytest.raises(asyncio.CancelledError):
        result(bench, job_id)
    assert result(bench, enqueue(bench, "add", 1)) == 2
    assert worker.poll() is None


def test_jobkit_stop_lets_jobs_finish(bench: Bench) -> None:
    worker = bench.worker()
    job_id = enqueue(bench, "wait", "a", 1.5)
    bench.noted("start a try 1")

    command = [sys.executable, "-m", "jobkit", "workers", "stop"]
    subprocess.run(command, env=environment(**bench.variables), check=True, timeout=30)

    assert worker.wait(60) == 0
    assert result(bench, job_id) == "a"
    assert bench.notes().count("start a try 1") == 1


@pytest.mark.nightly
def test_the_result_of_a_job_that_ends_while_redis_is_away_is_stored_by_the_next_worker(own_bench: Bench) -> None:
    bench = own_bench
    worker = bench.worker(SERVICE_WAIT="2")
    job_id, go = begun(bench)
    bench.server.kill()
    go.touch()
    bench.noted("end a")
    worker.terminate()
    worker.wait(60)
    bench.server.start()

    bench.worker()

    assert result(bench, job_id) == "a"
    assert bench.kit.get(job_id).result(60) == "a"
    assert bench.notes().count("start a try 1") == 1


def test_a_worker_that_wakes_up_too_late_overwrites_nothing(bench: Bench) -> None:
    frozen = bench.worker()
    job_id, go = begun(bench)
    frozen.send_signal(signal.SIGSTOP)
    bench.worker()
    bench.noted("start a try 1", times=2)
    go.touch()
    assert result(bench, job_id) == "a"
    before = bench.redis.get(f"arq:result:{job_id}")

    frozen.send_signal(signal.SIGCONT)

    assert result(bench, enqueue(bench, "add", 1)) == 2
    wait_until(lambda: "lease is lost" in bench.said() or "was not stored" in bench.said(), what="the zombie to know")
    assert bench.redis.get(f"arq:result:{job_id}") == before
    assert bench.kit.get(job_id).state == "succeeded"
    assert frozen.poll() is None


@pytest.mark.nightly
def test_the_end_of_a_worker_is_not_a_try(bench: Bench) -> None:
    job_id = enqueue(bench, "wait", "a", 0.5)
    for turn in range(1, 7):  # more often than max_tries
        worker = bench.worker()
        bench.noted("start a try 1", times=turn)
        worker.terminate()
        assert worker.wait(60) == 0
        assert bench.notes()[-2:] == ["leave a", "shutdown"]
        assert status(bench, job_id) is JobStatus.queued

    bench.worker()

    assert result(bench, job_id) == "a"
    assert bench.kit.get(job_id).snapshot.releases == 6


def test_running_jobs_may_end_within_job_completion_wait(bench: Bench) -> None:
    worker = bench.worker(SERVICE_WAIT="20")
    job_id, go = begun(bench)

    worker.terminate()
    wait_until(lambda: "to be completed" in bench.said(), what="the worker to notice")
    late = enqueue(bench, "add", 1)
    go.touch()

    assert worker.wait(60) == 0
    assert result(bench, job_id) == "a"
    assert status(bench, late) is JobStatus.queued


def test_a_worker_and_its_jobs_survive_a_restart_of_redis(own_bench: Bench) -> None:
    bench = own_bench
    worker = bench.worker()
    job_id, go = begun(bench)

    bench.server.kill()
    go.touch()
    bench.noted("end a")
    bench.server.start()

    assert result(bench, job_id) == "a"
    assert bench.notes().count("start a try 1") == 1
    assert result(bench, enqueue(bench, "add", 1)) == 2
    assert worker.poll() is None
    assert "Traceback" not in bench.said()


def test_arqs_own_worker_may_serve_the_same_queue(bench: Bench) -> None:
    bench.worker("-c", "4")
    bench.plain()
    ids = [enqueue(bench, "wait", f"n{n}", 0.1) for n in range(40)]

    assert [result(bench, job_id) for job_id in ids] == [f"n{n}" for n in range(40)]
    assert all(bench.notes().count(f"start n{n} try 1") == 1 for n in range(40))
    wait_until(lambda: all(job.is_terminal for job in bench.kit.jobs(limit=100)), what="every record to end")
    assert {str(job.state) for job in bench.kit.jobs(limit=100)} <= {"succeeded"}
    assert bench.redis.zcard("arq:queue") == 0


def test_a_worker_without_arq_leaves_jobs_of_arqs_client_in_their_queue(bench: Bench) -> None:
    first = bench.worker("-c", "1")
    enqueue(bench, "wait", "first", _job_id="first")
    bench.noted("start first try 1")
    waiting, later = enqueue(bench, "add", 1), enqueue(bench, "add", 2, _defer_by=5)
    wait_until(lambda: len(bench.kit.jobs()) == 3, what="all to be seen")
    first.terminate()
    first.wait(60)

    def doctor() -> str:
        command = [sys.executable, "-m", "jobkit", "doctor"]
        done = subprocess.run(command, env=environment(**bench.variables), capture_output=True, text=True, timeout=60)
        return done.stdout

    advice = (
        "2 waiting jobs in arq:queue, and no worker with --arq serves it → jobkit worker --arq MODULE.WorkerSettings"
    )
    assert advice in doctor()

    command = [sys.executable, "-m", "jobkit", "worker", "-t", "jobkit.demo", "-q", "arq:queue"]
    bench.start(command, {}, ready=True)
    own = bench.kit.options(queue="arq:queue").submit(abs, -1)
    assert own.wait(60)
    wait_until(lambda: bench.kit.get(later).state == "queued", what="the deferred job to be due")
    assert bench.kit.get(waiting).state == "queued"
    assert "no worker with --arq serves it" in doctor()

    bench.worker()

    assert [result(bench, waiting), result(bench, later)] == [2, 3]
    assert result(bench, enqueue(bench, "add", 3)) == 4
    assert "no worker with --arq" not in doctor()


def test_the_demo_is_not_offered_if_only_arqs_functions_are_served(bench: Bench) -> None:
    bench.worker()

    def said(command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "jobkit", command],
            env=environment(**bench.variables),
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout

    assert "estimate_pi" not in said("tasks")
    assert "those of arq's settings class" in said("doctor")
    assert "demo" not in said("doctor")

    command = [sys.executable, "-m", "jobkit", "worker", "-t", "jobkit.demo"]
    bench.start(command, {}, ready=True)
    wait_until(lambda: "estimate_pi" in said("tasks"), what="the tasks of the other worker")


def test_a_worker_gives_its_jobs_back_before_its_walltime_ends(bench: Bench) -> None:
    worker = bench.worker(JOBKIT_WALLTIME="8")
    job_id = enqueue(bench, "wait", "long", 60)
    bench.noted("start long try 1")

    assert worker.wait(30) == 0

    snapshot = bench.kit.get(job_id).snapshot
    assert (snapshot.state, snapshot.releases, snapshot.losses) == ("queued", 1, 0)


def test_sigusr1_ends_a_worker_as_its_walltime_does(bench: Bench) -> None:
    worker = bench.worker()
    job_id = enqueue(bench, "wait", "long", 60)
    bench.noted("start long try 1")

    worker.send_signal(signal.SIGUSR1)

    assert worker.wait(30) == 0
    assert bench.kit.get(job_id).snapshot.losses == 0


def test_an_error_at_the_start_is_one_sentence(bench: Bench) -> None:
    for path, sentence in (
        ("tests.features.arq.nowhere.WorkerSettings", "No module named"),
        ("tests.features.arq.service.Nothing", "does not define"),
        ("tests.features.arq.service.add", "neither functions nor cron_jobs"),
    ):
        worker = bench.worker("--arq", path, ready=False)
        assert worker.wait(60) == 2
        assert sentence in bench.said()
    assert "Traceback" not in bench.said()


def test_a_retry_by_hand_runs_the_function_again(bench: Bench) -> None:
    bench.worker()
    job_id = enqueue(bench, "add", 41)
    assert result(bench, job_id) == 42

    again = bench.kit.get(job_id).retry()
    other = again.rerun(a=1, b=5)

    assert again.result(60) == 42
    assert again.id != job_id
    assert other.result(60) == 6
    assert other.params == {"a": 1, "b": 5}
    assert other.rerun(b=again).result(60) == 43
    assert bench.notes().count("add 41 for hello") == 2


@pytest.mark.nightly
def test_a_poison_job_fails_and_its_neighbours_succeed(bench: Bench) -> None:
    neighbours = [enqueue(bench, "wait", f"n{n}", 0.3) for n in range(3)]
    poison = enqueue(bench, "poison")
    limit = {"JOBKIT_MAX_LOSSES": "3", "JOBKIT_LEASE": "0.8", "JOBKIT_HEARTBEAT": "0.2"}

    def is_over() -> bool:
        if bench.workers[-1].poll() is not None:
            bench.worker(ready=False, **limit)
        job = {job.id: job for job in bench.kit.jobs()}.get(poison)
        return job is not None and job.is_terminal

    bench.worker(ready=False, **limit)
    wait_until(is_over, what="the poison job to be given up")

    assert [result(bench, job_id) for job_id in neighbours] == ["n0", "n1", "n2"]
    assert bench.kit.get(poison).error.kind == "lost"
    with pytest.raises(Exception, match="its workers died 3 times"):
        result(bench, poison)
    assert bench.notes().count("poison") == 5  # two deaths took its neighbours along, of the other three it died alone


def test_a_kit_can_wait_for_a_job_of_arqs_client(bench: Bench) -> None:
    bench.worker()
    job_id, go = begun(bench)
    job = bench.kit.get(job_id)
    seen: list[str] = []
    job.param.watch(lambda event: seen.append(str(event.new)), "state")

    go.touch()

    assert job.result(60) == "a"
    assert isinstance(job, jobkit.Job)
    wait_until(lambda: seen == ["succeeded"], what="the handle to move")
