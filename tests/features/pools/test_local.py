"""Pools end to end: kit and command line, an autoscaler, and real worker processes of this machine."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jobkit.client.kit import Kit
from jobkit.features.pools.autoscaler import Autoscaler
from jobkit.features.pools.decide import Tempo
from jobkit.features.pools.launcher import EngineUnavailable
from jobkit.features.pools.launchers.local import LocalLauncher, LocalOptions
from jobkit.model import InvalidParams
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore
from jobkit.system import processes
from tests.support import ROOT, is_alive, wait_until
from tests.worker import jobs

QUICK = Tempo(tick=0.1, list=0.2, grow=0.1, cancel=0.5, well=0.5, backoff=0.1, backoff_most=0.2, failures=2)


class Scaling:
    """A kit, and an autoscaler that runs in a thread of this process."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.kit = settings, Kit(settings)
        self._loop = asyncio.new_event_loop()
        self._work: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start an autoscaler."""

        async def run() -> None:
            store = RedisStore(self.settings)
            try:
                scaler = Autoscaler(self.settings, store, tempo=QUICK)
                await scaler.run()
            finally:
                await scaler.close()
                await store.close()

        def serve() -> None:
            asyncio.set_event_loop(self._loop)
            self._work = self._loop.create_task(run())
            with pytest.raises(asyncio.CancelledError):
                self._loop.run_until_complete(self._work)

        self._thread = threading.Thread(target=serve)
        self._thread.start()

    def stop(self) -> None:
        """End it; its workers go on."""
        if self._thread is not None:
            wait_until(lambda: self._work)
            assert self._work is not None
            self._loop.call_soon_threadsafe(self._work.cancel)
            self._thread.join()
            self._thread = None

    def pids(self) -> list[int]:
        return [worker.pid for worker in self.kit.workers() if worker.is_alive]


@pytest.fixture
def scaling(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scaling]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(ROOT)
    settings = Settings(
        url=redis_url, namespace=f"p{secrets.token_hex(4)}", secret="of these tests", heartbeat=0.2, lease=4.0
    )
    scaling = Scaling(settings.checked())
    try:
        yield scaling
    finally:
        for pid in scaling.pids():
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not any(map(is_alive, scaling.pids())), what="the workers to end")
        scaling.stop()
        scaling.kit.close()


def test_workers_come_run_the_jobs_and_end_when_they_are_idle(scaling: Scaling, tmp_path: Path) -> None:
    pool = scaling.kit.pool("work", on="local", max=2, idle="500ms", tasks="tests.worker.jobs")
    assert pool.state == "no autoscaler"
    assert repr(pool).endswith("running=0: no autoscaler runs, so no workers are started: `jobkit pools run`>")
    scaling.start()
    ids = [scaling.kit.options(queue="work").submit(jobs.work, str(tmp_path / f"n{n}"), 0.3) for n in range(3)]

    assert [job.result(60) for job in ids] == ["done"] * 3
    pids = scaling.pids()
    assert {worker.pool for worker in scaling.kit.workers()} == {"work"}
    wait_until(lambda: pool.running == 0 and pool.wanted == 0, what="the workers to end")

    assert not any(map(is_alive, pids))
    assert pool.worker_hours > 0
    assert pool.error == ""


def test_the_job_of_a_killed_only_worker_runs_in_the_next_without_waiting_for_its_lease(
    scaling: Scaling, tmp_path: Path
) -> None:
    scaling.settings = replace(scaling.settings, lease=3600.0)
    scaling.kit.pool("work", on="local", max=1, tasks="tests.worker.jobs")
    scaling.start()
    job = scaling.kit.options(queue="work").submit(jobs.until, str(tmp_path / "n"), str(tmp_path / "go"))
    wait_until(lambda: job.state == "running")
    [pid] = scaling.pids()

    os.kill(pid, signal.SIGKILL)
    (tmp_path / "go").touch()

    job.result(60)
    assert job.snapshot.losses == 1


def test_a_drained_worker_finishes_its_job_and_another_autoscaler_knows_it(scaling: Scaling, tmp_path: Path) -> None:
    pool = scaling.kit.pool("work", on="local", max=1, tasks="tests.worker.jobs")
    scaling.start()
    job = scaling.kit.options(queue="work").submit(jobs.work, str(tmp_path / "n"), 1.0)
    wait_until(lambda: job.state == "running")
    [before] = scaling.pids()
    scaling.stop()  # it dies
    scaling.start()

    later = scaling.kit.options(queue="work").submit(jobs.work, str(tmp_path / "m"), 0.0)
    pool.drain(wait=True, timeout=60)

    assert job.result(1) == "done"
    assert job.attempt == 1
    assert later.result(60) == "done"
    assert later.worker != job.worker
    assert not is_alive(before)
    pool.remove()
    wait_until(lambda: not scaling.kit.pools(), what="the pool to go")


def test_workers_that_cannot_start_pause_the_pool_with_their_last_words(scaling: Scaling) -> None:
    pool = scaling.kit.pool("work", on="local", max=3, tasks="no.such.module")
    scaling.start()
    job = scaling.kit.options(queue="work").submit(len, "abc")

    wait_until(lambda: pool.paused, what="the pool to be paused")
    assert "2 starts in a row have failed" in pool.sentence
    assert "no.such.module" in pool.sentence
    job.cancel()


def test_bad_definitions_are_refused_before_anything_is_stored(scaling: Scaling) -> None:
    for options, said in (
        ({}, "pool gpu needs max="),
        ({"max": 0}, "max must be a whole number from 1 to 1,000, not 0"),
        ({"max": 2, "min": 3}, "min must not be above max: got min=3 and max=2"),
        ({"max": 2, "idle": "soon"}, "idle must be a number of seconds"),
        ({"max": 2, "walltime": 5}, "walltime must be 60 s or more"),
        ({"max": 2, "resources": {"gpu": -1}}, "resources must be amounts above 0"),
        ({"max": 2, "queues": "a b"}, "queue must be 1 to 200 characters"),
        ({"max": 2, "partition": "a100"}, "partition is not an option of pools on local; allowed are folder"),
        ({"max": 2, "folder": "/no/such"}, "pool on local: folder must be a directory, not '/no/such'"),
    ):
        with pytest.raises(InvalidParams) as caught:
            scaling.kit.pool("gpu", on="local", **options)  # type: ignore[arg-type]
        assert str(caught.value).startswith(said)
    with pytest.raises(InvalidParams, match="there is no pool gpu"):
        scaling.kit.pool("gpu")
    assert scaling.kit.pools() == []


def test_a_pool_is_scaled_paused_and_changed_within_its_bounds(scaling: Scaling) -> None:
    pool = scaling.kit.pool("gpu", on="local", max=2, resources={"gpu": 1, "mem": "64G"})

    assert pool.spec is not None
    assert pool.spec.resources == {"gpu": 1.0, "mem": 64.0}
    with pytest.raises(InvalidParams, match="n must be a whole number from 0 to 2, the max of pool gpu, not 3"):
        pool.scale(3)
    pool.scale(2)
    pool.pause("no power")
    wait_until(lambda: pool.state == "paused" and pool.fixed == 2)
    assert "no power" in pool.sentence
    assert "jobkit pools resume gpu" in pool.sentence
    assert scaling.kit.pool("gpu", on="local", max=5) is pool
    wait_until(lambda: pool.max == 5)
    assert pool.paused
    pool.resume()
    pool.scale(None)
    pool.remove()
    assert scaling.kit.pools() == []


async def test_a_folder_into_which_others_can_write_names_no_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / f"jobkit-pools-{os.geteuid()}" / "jk-1-gpu"
    folder.mkdir(parents=True)
    (folder / "gpu-1.pid").write_text(processes.mark(os.getpid()))
    launcher = LocalLauncher("jk-1-gpu", LocalOptions())
    assert [unit.unit for unit in await launcher.list()] == ["gpu-1"]

    folder.chmod(0o777)

    with pytest.raises(EngineUnavailable, match="belongs to another user"):
        await launcher.list()
    with pytest.raises(EngineUnavailable, match="belongs to another user"):
        await launcher.stop(["gpu-1"], now=True)
