"""Workers that die, freeze, or lose their server."""

from __future__ import annotations

import signal
import time

import psutil
import pytest
import redis

import jobkit
from tests.support import is_alive, wait_until

from . import jobs
from .conftest import LEASE_S, Bench


def test_the_job_of_a_killed_worker_runs_again_when_its_lease_expires(bench: Bench) -> None:
    first = bench.worker()
    job = bench.kit.submit(jobs.until, bench.file(), bench.file("go"))
    (pid,) = bench.started()
    bench.worker()

    bench.kill(first)

    wait_until(lambda: not is_alive(pid), what="the dead worker's child to die")
    bench.started(times=2)
    (lost,) = [worker for worker in bench.kit.workers() if worker.state == "lost"]
    assert (lost.pid, lost.lost_jobs, lost.memory_bytes > 0) == (first.pid, {job.id: 1}, True)
    (bench.folder / "go").touch()
    assert job.result(60) == "done"
    assert (job.attempt, job.snapshot.losses, job.snapshot.releases, job.snapshot.retried) == (2, 1, 0, 0)
    assert [attempt.outcome for attempt in job.attempts] == ["lost", "succeeded"]
    assert "died or lost contact" in job.attempts[0].reason
    assert bench.notes().count("end") == 1


def test_the_processes_of_a_job_die_with_its_worker(bench: Bench) -> None:
    worker = bench.worker()
    job = bench.kit.submit(jobs.stubborn, bench.file())
    pids = bench.started()

    bench.kill(worker)

    wait_until(lambda: not any(map(is_alive, pids)), what="the whole family to die")
    job.cancel()
    bench.worker()
    assert job.wait(60)
    assert job.state == "cancelled"


@pytest.mark.parametrize("is_other_there", [True, False], ids=["another worker", "the next worker"])
def test_processes_of_a_job_whose_worker_and_zygote_were_killed_at_once_end_before_its_next_attempt(
    bench: Bench, is_other_there: bool
) -> None:
    first = bench.worker()
    job = bench.kit.submit(jobs.with_company, bench.file())
    pids = bench.started()
    if is_other_there:
        bench.worker()

    zygote = psutil.Process(pids[0]).parent()
    assert zygote is not None
    for process in (first, zygote):
        process.send_signal(signal.SIGSTOP)
    for process in (first, zygote):
        process.send_signal(signal.SIGKILL)
    first.wait()
    assert any(map(is_alive, pids))
    if not is_other_there:
        bench.worker()

    later = bench.started(times=2)
    assert not any(map(is_alive, pids))
    assert all(map(is_alive, later))
    job.cancel()
    assert job.wait(60)
    wait_until(lambda: not any(map(is_alive, later)), what="the second attempt's processes to end")


@pytest.mark.nightly
def test_a_job_whose_workers_die_too_often_fails_as_lost(bench: Bench) -> None:
    limit = {"JOBKIT_MAX_LOSSES": "2"}
    job = bench.kit.submit(jobs.work, bench.file(), 60.0)
    for turn in (1, 2):
        worker = bench.worker(**limit)
        bench.started(times=turn)
        bench.kill(worker)
    bench.worker(**limit)

    with pytest.raises(jobkit.JobFailed, match="its workers died 2 times while running it"):
        job.result(60)
    assert job.error.kind == "lost"
    assert job.attempt == 2


def test_a_job_that_kills_the_zygote_costs_its_neighbours_one_loss(bench: Bench) -> None:
    """They are suspects then, as it is, and each suspect has a separate zygote."""
    bench.worker(JOBKIT_MAX_LOSSES="2")
    neighbours = [bench.kit.submit(jobs.until, bench.file(f"n{i}"), bench.file("go")) for i in range(2)]
    for i in range(2):
        bench.started(f"n{i}")

    pill = bench.kit.submit(jobs.kill_parent, bench.file("pill"))

    with pytest.raises(jobkit.JobFailed, match="its workers died 2 times while running it alone; last, the job's proc"):
        pill.result(60)
    assert (pill.error.kind, pill.snapshot.losses) == ("lost", 3)
    assert pill.attempts[0].reason.endswith("died, with other jobs")
    for i in range(2):
        bench.started(f"n{i}", times=2)
    (bench.folder / "go").touch()
    assert [job.result(60) for job in neighbours] == ["done"] * 2
    assert [job.snapshot.losses for job in neighbours] == [1] * 2


@pytest.mark.nightly
def test_jobs_that_kill_their_workers_end_and_their_neighbours_succeed(bench: Bench) -> None:
    limits = {"JOBKIT_MAX_LOSSES": "2", "JOBKIT_LEASE": "2", "JOBKIT_HEARTBEAT": "0.3"}
    neighbours = [bench.kit.submit(jobs.work, bench.file(f"n{i}"), 2.0) for i in range(3)]
    pills = [bench.kit.submit(jobs.kill_worker, bench.file(f"pill{i}")) for i in range(2)]

    def all_ended() -> bool:
        if all(worker.poll() is not None for worker in bench.workers):
            bench.worker(**limits, ready=False)
        return all(job.is_terminal for job in (*neighbours, *pills))

    wait_until(all_ended, timeout_s=120, what="all jobs to end")
    assert [job.state for job in neighbours] == ["succeeded"] * 3
    assert [job.error.kind for job in pills] == ["lost"] * 2


@pytest.mark.nightly
def test_a_worker_that_wakes_up_too_late_overwrites_nothing(bench: Bench) -> None:
    frozen = bench.worker()
    job = bench.kit.submit(jobs.wait, bench.file(), 1.0)
    bench.started()
    frozen.send_signal(signal.SIGSTOP)
    bench.worker()
    bench.started(times=2)

    assert job.result(60) == "done"
    events = list(job.events())
    assert [event.type for event in events][-2:] == ["started", "succeeded"]

    frozen.send_signal(signal.SIGCONT)
    later = bench.kit.submit(jobs.count_up, 1)
    assert later.result(60) == 2
    wait_until(
        lambda: "the lease is lost" in bench.said() or "was not stored" in bench.said(), what="the zombie to know"
    )
    assert bench.kit.get(job.id).seq == events[-1].seq
    assert frozen.poll() is None


@pytest.mark.nightly
def test_the_result_of_a_frozen_workers_process_does_not_end_the_current_attempt(bench: Bench) -> None:
    """The job's process continued while its worker was frozen; the worker finds a result when it wakes up."""
    frozen = bench.worker()
    job = bench.kit.submit(jobs.one_by_one, bench.file(), bench.file("go"))
    bench.started()
    frozen.send_signal(signal.SIGSTOP)
    bench.worker()
    bench.started(times=2)
    (bench.folder / "go1").touch()
    wait_until(lambda: "end 1" in bench.notes(), what="the first attempt's process to end")

    frozen.send_signal(signal.SIGCONT)

    wait_until(
        lambda: "the lease is lost" in bench.said() or "was not stored" in bench.said(), what="the zombie to know"
    )
    assert bench.kit.submit(jobs.count_up, 1).result(60) == 2
    now = bench.kit.snapshot(job.id)
    assert (str(now.state), now.attempt, now.losses) == ("running", 2, 1)
    (bench.folder / "go2").touch()
    assert job.result(60) == 2
    assert [attempt.outcome for attempt in job.attempts] == ["lost", "succeeded"]


def test_a_running_job_survives_a_restart_of_redis_and_its_result_is_stored(own_bench: Bench) -> None:
    bench = own_bench
    worker = bench.worker()
    running = [bench.kit.submit(task, bench.file(task.name), 2.5) for task in (jobs.work, jobs.wait)]
    for task in (jobs.work, jobs.wait):
        bench.started(task.name)

    bench.server.kill()
    wait_until(lambda: all(bench.notes(task)[-1] == "end" for task in ("work", "wait")), what="the end without Redis")
    bench.server.start()

    assert [job.result(60) for job in running] == ["done"] * 2
    assert [(job.attempt, job.snapshot.losses) for job in running] == [(1, 0)] * 2
    assert worker.poll() is None
    assert bench.kit.submit(jobs.count_up, 1).result(60) == 2
    assert "Traceback" not in bench.said()


@pytest.mark.nightly
def test_a_job_keeps_its_lease_through_a_short_outage(own_bench: Bench) -> None:
    bench = own_bench
    bench.worker()
    bench.worker()
    job = bench.kit.submit(jobs.work, bench.file(), 4.0)
    bench.started()

    bench.server.kill()
    time.sleep(LEASE_S + 0.5)  # duration of the outage: longer than a lease
    bench.server.start()

    assert job.result(60) == "done"
    assert len([line for line in bench.notes() if line.startswith("start")]) == 1
    assert job.snapshot.losses == 0


def test_a_handle_names_a_server_that_was_restored_to_an_older_state(bench: Bench) -> None:
    bench.kit.options(delay=3600).submit(jobs.count_up, 1)
    older = kept(bench)
    time.sleep(0.2)  # events are compared by time
    job = bench.kit.options(delay=3600).submit(jobs.count_up, 2)
    restore(bench, older)

    with pytest.raises(jobkit.JobNotFound, match="the server has lost it: it was restored to an older state"):
        job.result(60)


def test_a_handle_ends_with_its_job_on_a_server_that_has_lost_its_start_and_release(bench: Bench) -> None:
    """Their numbers are used again, by the start and the end."""
    job = bench.kit.submit(jobs.until, bench.file(), bench.file("go"))
    shown: list[str] = []
    job.param.watch(lambda event: shown.append(str(event.new)), "state")
    older = kept(bench)
    first = bench.worker(JOBKIT_DRAIN="0")
    bench.started()
    first.terminate()
    first.wait(60)
    wait_until(lambda: job.seq == 3, what="the release")
    restore(bench, older)

    bench.worker()
    (bench.folder / "go").touch()

    assert job.result(60) == "done"
    wait_until(lambda: shown[-1:] == ["succeeded"], what="the last call of the watcher")
    assert shown == ["running", "queued", "running", "succeeded"]


def kept(bench: Bench) -> dict[bytes, tuple[int, bytes]]:
    """Return the keys of the namespace, with their TTLs and contents."""
    with redis.Redis.from_url(bench.server.url) as client:
        keys = client.scan_iter(f"jk:{bench.place['namespace']}:*")
        return {key: (max(0, client.pttl(key)), client.dump(key)) for key in keys}


def restore(bench: Bench, older: dict[bytes, tuple[int, bytes]]) -> None:
    """Restore the server to an older state, in one step."""
    with redis.Redis.from_url(bench.server.url) as client, client.pipeline() as step:
        step.delete(*client.scan_iter(f"jk:{bench.place['namespace']}:*"))
        for key, (ttl_ms, content) in older.items():
            step.restore(key, ttl_ms, content)
        step.execute()
