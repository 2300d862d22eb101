"""Workers while the server is unreachable, full or replaced: they lose nothing that can be kept, and log the reason."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import redis

import jobkit
from jobkit.client.loop import background
from jobkit.model.person import Person, Role
from jobkit.run.shared import ThreadRunner
from jobkit.settings import Settings
from jobkit.ui.access.actions import Actions
from jobkit.worker.about import RetryPause
from jobkit.worker.worker import JobWorker
from tests.support import wait_until

from . import jobs
from .conftest import HEARTBEAT_S, Bench


def spooled(bench: Bench) -> list[Path]:
    """Return the files that a worker left for the next one."""
    return [path for path in bench.folder.glob("home/spool/*/*") if not path.name.startswith(".")]


def published(bench: Bench) -> set[str]:
    """Return the names of the published tasks."""
    return set(background.call(bench.kit.verbs.tasks()))


@pytest.fixture
def bench(own_bench: Bench) -> Bench:
    """The server of these tests may be killed."""
    return own_bench


@pytest.fixture
def home(bench: Bench) -> dict[str, str]:
    return {"JOBKIT_HOME": str(bench.folder / "home"), "JOBKIT_DRAIN": "1", "JOBKIT_LEASE": "15"}


def started_and_then_away(bench: Bench, home: dict[str, str]) -> tuple[subprocess.Popen[bytes], list[jobkit.Job]]:
    """Start a worker whose jobs end while the server is down."""
    worker = bench.worker(**home)
    running = []
    for task in (jobs.speak, jobs.wait):  # one after the other: a process may start late
        running.append(bench.kit.submit(task, bench.file(task.name), 1.0))
        bench.started(task.name)
    bench.server.kill()
    wait_until(lambda: all(bench.notes(name)[-1] == "end" for name in ("speak", "wait")), what="the end of the jobs")
    ids = [job.id.encode() for job in running]
    wait_until(lambda: [id for path in spooled(bench) for id in ids if id in path.read_bytes()] == ids, what="the file")
    return worker, running


@pytest.mark.parametrize("end", [subprocess.Popen.terminate, subprocess.Popen.kill], ids=["drain", "death"])
def test_results_of_an_outage_are_stored_by_the_next_worker_of_the_home(
    bench: Bench, home: dict[str, str], end: Callable[[subprocess.Popen[bytes]], None]
) -> None:
    worker, running = started_and_then_away(bench, home)
    [file] = spooled(bench)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700

    end(worker)
    worker.wait(60)
    bench.server.start()
    bench.worker(**home)

    assert [job.result(60) for job in running] == ["done"] * 2
    assert [(job.attempt, job.snapshot.losses) for job in running] == [(1, 0)] * 2
    assert [str(line) for line in running[0].logs(tail=1)] == ["last words"]
    assert [one.read() for one in running[0].artifacts()] == [b"weights"]
    wait_until(lambda: not spooled(bench), what="the file to be gone")


def test_a_worker_that_survives_an_outage_stores_its_results_and_leaves_no_file(
    bench: Bench, home: dict[str, str]
) -> None:
    worker, running = started_and_then_away(bench, home)

    bench.server.start()

    assert [job.result(60) for job in running] == ["done"] * 2
    wait_until(lambda: not spooled(bench), what="the file to be gone")
    assert worker.poll() is None


@pytest.mark.nightly
def test_spooled_results_are_discarded_if_another_worker_runs_the_job(bench: Bench, home: dict[str, str]) -> None:
    worker, running = started_and_then_away(bench, home)
    bench.kill(worker)
    bench.server.start()
    with redis.Redis.from_url(bench.server.url) as client:  # its lease has expired, and another worker runs the job
        for job in running:
            client.hset(f"jk:{bench.kit.settings.namespace}:job:{job.id}", "token", "another:2")

    bench.worker(**home)

    wait_until(lambda: bench.said().count("comes too late") == 2, what="both to be named")
    assert {bench.kit.get(job.id).state for job in running} == {"running"}
    assert not spooled(bench)


@pytest.mark.nightly
def test_a_forged_spool_file_is_removed(bench: Bench, home: dict[str, str]) -> None:
    worker, running = started_and_then_away(bench, home)
    [file] = spooled(bench)
    bench.kill(worker)
    sealed = file.read_bytes()
    file.write_bytes(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    file.with_name("other").write_bytes(sealed)  # the signature covers the name
    bench.server.start()

    worker = bench.worker(**home)

    wait_until(lambda: bench.said().count("is not what a worker left behind") == 2, what="both to be named")
    assert not spooled(bench)
    assert {bench.kit.get(job.id).state for job in running} == {"running"}
    assert bench.kit.submit(jobs.count_up, 1).result(60) == 2
    assert "Traceback" not in bench.said()


def test_the_first_heartbeat_after_an_outage_ends_the_waits_of_the_loop(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a long outage: each wait takes 5 s, from the first failure on."""
    waited, began = RetryPause.wait, {}

    async def wait(pause: RetryPause, failures: int) -> None:
        began[asyncio.current_task().get_name()] = time.monotonic()
        await waited(pause, 99)

    monkeypatch.setattr(RetryPause, "wait", wait)
    with serving(replace(Settings.load(**bench.place), heartbeat=HEARTBEAT_S)):
        assert bench.kit.submit(jobs.dawdle, bench.file()).result(60) == "done"
        bench.server.kill()
        wait_until(lambda: "jobkit-inbox" in began, what="the inbox to wait")
        bench.server.start()

        assert bench.kit.submit(jobs.dawdle, bench.file()).result(60) == "done"

        assert time.monotonic() - began["jobkit-inbox"] < 4.5


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[None]:
    """Run a worker for jobs in threads in this process."""

    async def run() -> None:
        worker = JobWorker(settings, ThreadRunner(), handle_signals=False)
        try:
            await worker.async_run()
        finally:
            await worker.close()

    async def serve() -> None:
        serving = asyncio.create_task(run())
        await asyncio.to_thread(ended.wait)
        serving.cancel()
        await asyncio.wait([serving])

    ended = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        serves = threads.submit(asyncio.run, serve())
        try:
            yield
        finally:
            ended.set()
            serves.result(60)


def test_a_worker_may_start_before_the_server(bench: Bench) -> None:
    bench.server.kill()
    worker = bench.worker(ready=False)
    wait_until(lambda: "the worker waits" in bench.said(), what="the worker to say so")

    bench.server.start()

    assert bench.kit.submit(jobs.count_up, 1).result(60) == 2
    assert worker.poll() is None
    assert "Traceback" not in bench.said()


def test_a_worker_that_waits_for_the_server_ends_on_a_signal(bench: Bench) -> None:
    bench.server.kill()
    worker = bench.worker(ready=False)
    wait_until(lambda: "the worker waits" in bench.said(), what="the worker to say so")

    worker.send_signal(signal.SIGTERM)

    assert worker.wait(60) == 0


@pytest.mark.nightly
def test_a_refused_worker_and_a_burst_worker_do_not_wait_for_the_server(bench: Bench) -> None:
    with redis.Redis.from_url(bench.server.url) as client:
        client.config_set("requirepass", "canary")
    assert bench.worker(ready=False).wait(60) == 2
    assert "refused the login" in bench.said()
    bench.server.kill()
    assert bench.worker("--burst", ready=False).wait(60) == 2
    assert "does not answer" in bench.said()
    assert "canary" not in bench.said()


def test_a_full_server_is_named_and_running_jobs_end(bench: Bench) -> None:
    bench.worker()
    job = bench.kit.submit(jobs.until, bench.file(), bench.file("go"))
    bench.started()
    with redis.Redis.from_url(bench.server.url) as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(jobkit.StoreUnavailable, match="has reached its memory limit"):
            bench.kit.submit(jobs.count_up, 1)
        wait_until(
            lambda: "no job can be submitted, those that were accepted are run" in bench.said(), what="the worker"
        )
        assert "has reached its memory limit" in bench.kit.refused()
        (Path(bench.folder) / "go").touch()

        assert job.result(60) == "done"
        client.config_set("maxmemory", 0)
    assert bench.kit.submit(jobs.count_up, 1).result(60) == 2
    wait_until(lambda: "Redis takes changes again" in bench.said(), what="the worker to say that it is over")
    assert bench.said().count("has reached its memory limit") == 1
    assert bench.kit.refused() == ""


@pytest.mark.nightly
def test_a_worker_that_starts_on_a_full_server_runs_accepted_jobs(bench: Bench) -> None:
    job = bench.kit.submit(jobs.count_up, 1)
    with redis.Redis.from_url(bench.server.url) as client:
        client.config_set("maxmemory", 1)
        bench.worker()

        assert job.result(60) == 2
        assert "count_up" not in published(bench)
        client.config_set("maxmemory", 0)
    wait_until(lambda: "count_up" in published(bench), what="its tasks to be known")


@pytest.mark.nightly
def test_a_server_that_cannot_write_is_reported_and_results_are_stored_later(
    bench: Bench, home: dict[str, str]
) -> None:
    worker = bench.worker(**home)
    job = bench.kit.submit(jobs.until, bench.file(), bench.file("go"))
    bench.started()
    sentence = "cannot write to its disk and refuses changes: free space, see its log"

    bench.server.fill_disk()
    wait_until(lambda: sentence in bench.said(), what="the worker to say so")
    with pytest.raises(jobkit.StoreUnavailable, match=sentence):
        bench.kit.submit(jobs.count_up, 1)
    access = Actions(bench.kit, Person("ada", Role.OPERATE))  # the dashboard's query and sentence
    assert sentence in asyncio.run(access.act("cancel", [job.id])).sentence
    assert bench.kit.snapshot(job.id).state == "running"
    (bench.folder / "go").touch()
    wait_until(lambda: spooled(bench), what="the end of the job to be kept in a file")

    bench.server.free_disk()

    assert job.result(60) == "done"
    assert (job.attempt, job.snapshot.losses) == (1, 0)
    assert bench.kit.submit(jobs.count_up, 1).result(60) == 2
    wait_until(lambda: not spooled(bench), what="the file to be gone")
    wait_until(lambda: "Redis takes changes again" in bench.said(), what="the worker to say that it is over")
    assert bench.said().count(sentence) == 1
    assert worker.poll() is None


@pytest.mark.nightly
def test_a_full_disk_for_the_spool_is_reported_and_results_are_stored_later(bench: Bench, home: dict[str, str]) -> None:
    worker = bench.worker(**home)
    job = bench.kit.submit(jobs.much, bench.file(), bench.file("go"))
    bench.started()
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
    bench.server.kill()

    (bench.folder / "go").touch()
    wait_until(lambda: "is only in memory" in bench.said(), what="the worker to say so")
    assert not list(bench.folder.glob("home/spool/*/*"))  # nor a partial file
    bench.server.start()

    assert job.result(60) == "done" * 25_000
    assert (job.attempt, job.snapshot.losses) == (1, 0)
    assert worker.poll() is None


@pytest.mark.nightly
def test_a_wiped_server_is_reported_by_worker_and_handle(bench: Bench) -> None:
    worker = bench.worker()
    job = bench.kit.submit(jobs.wait, bench.file(), 60.0)
    bench.started()

    with redis.Redis.from_url(bench.server.url) as client:
        client.flushall()

    with pytest.raises(jobkit.JobNotFound, match="the store was wiped or exchanged"):
        job.result(60)
    wait_until(lambda: "was wiped or exchanged" in bench.said(), what="the worker to say so")
    wait_until(lambda: bench.notes()[-1] == "stopped", what="the unknown job to be stopped")
    wait_until(lambda: "count_up" in bench.kit.tasks(), what="the tasks to be known again")
    assert bench.kit.submit(jobs.count_up, 1).result(60) == 2
    assert worker.poll() is None


@pytest.mark.nightly
def test_a_replaced_server_is_noticed(bench: Bench) -> None:
    """Another, empty server at the same address."""
    bench.worker()
    job = bench.kit.submit(jobs.wait, bench.file(), 60.0)
    bench.started()

    bench.server.kill()
    for pattern in ("*.aof", "*.rdb", "*.manifest"):
        for path in bench.server.home.rglob(pattern):
            path.unlink()
    bench.server.start()

    with pytest.raises(jobkit.JobNotFound, match="the store was wiped or exchanged"):
        job.result(60)
    wait_until(lambda: "was wiped or exchanged" in bench.said(), what="the worker to say so")
    assert bench.kit.submit(jobs.count_up, 1).result(60) == 2


@pytest.mark.nightly
def test_a_freeze_of_server_and_worker_loses_no_job(bench: Bench) -> None:
    """The server and one of two workers freeze for more than a lease, but less than a lease plus 5 s (by default 15 to
    20 s). Both survive, so no job runs twice, although the worker that wakes first recovers lost jobs."""
    for _ in range(2):
        bench.worker("-c", "8", JOBKIT_LEASE="4", JOBKIT_HEARTBEAT="1")
    running = [bench.kit.submit(jobs.until, bench.file(), bench.file("go")) for _ in range(6)]
    bench.started(times=6)
    server = psutil.Process(bench.server.pid)
    [late] = [psutil.Process(each.pid) for each in bench.workers if f".{each.pid}." in running[0].worker]

    for process in (server, late):
        process.suspend()
    time.sleep(6.3)  # duration of the silence; the server's clock continues
    server.resume()
    wait_until(lambda: any(w.beat_age_s < 1 for w in bench.kit.workers() if w.pid != late.pid), what="the other's beat")
    late.resume()

    wait_until(lambda: len(bench.alive()) == 2, what="the workers to be back")
    (Path(bench.folder) / "go").touch()
    assert [job.result(60) for job in running] == ["done"] * 6
    assert [job.snapshot.losses for job in running] == [0] * 6
    assert len([note for note in bench.notes() if note.startswith("start")]) == 6
