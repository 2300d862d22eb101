"""Processes that wait for an embedded server: they start it again if it has died, and hear of it if it was stopped."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import jobkit
from jobkit.client.kit import Kit
from jobkit.embedded import ensure_running, revive, shutdown
from jobkit.embedded.home import Home, holding
from jobkit.embedded.server import answers
from jobkit.model import StoreUnavailable
from jobkit.settings import Settings
from jobkit.store import hub
from tests.store.server import stop_flushes
from tests.support import by_default, environment

from .conftest import IDLE_WORKER, processes_of, supervisor_of, wait_until


def kill_supervisor(settings: Settings) -> None:
    os.kill(supervisor_of(settings), signal.SIGKILL)


def killed(settings: Settings, *kinds: str) -> None:
    """Kill the processes of a home whose command lines contain one of these words."""
    lines = {process: " ".join(process.info["cmdline"]) for process in processes_of(settings.home)}
    for process, line in lines.items():
        if any(kind in line for kind in kinds):
            process.kill()


def delete(home: Path) -> None:
    """Delete a home whose processes may still write to it."""
    while home.exists():
        shutil.rmtree(home, ignore_errors=True)


def noted(path: str, seconds: float) -> int:
    """Task: note its start, and take some time."""
    import time

    with open(path, "a") as file:
        file.write("x")
    time.sleep(seconds)
    return 42


@pytest.fixture(params=["supervisor", "server and worker", "all"])
def dying(request: pytest.FixtureRequest) -> tuple[str, ...]:
    words = {"supervisor": ("embedded.supervisor",), "server and worker": ("-server ", "--embedded")}
    everything = tuple(word for kind in words.values() for word in kind)
    return words.get(request.param, everything)


def test_a_job_whose_place_has_died_runs_again_at_once_and_those_who_wait_get_its_result(
    settings: Settings, tmp_path: Path, dying: tuple[str, ...]
) -> None:
    """The lease is longer than the test: the dead worker gets no time to renew."""
    mark = tmp_path / "starts"
    with jobkit.connect(home=settings.home, lease=600.0, heartbeat=200.0) as kit:
        job = kit.submit(noted, str(mark), 1.5)
        wait_until(mark.exists, what="the job to start")

        killed(settings, *dying)

        assert job.result(60) == 42
        assert mark.read_text() == "xx"
        assert job.snapshot.losses == 1


def test_of_several_who_wait_one_starts_the_dead_server(settings: Settings) -> None:
    ensure_running(settings, worker_command=IDLE_WORKER)
    kill_supervisor(settings)
    wait_until(lambda: not Home(settings.home).is_supervised())

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(lambda _: revive(settings), range(4))) == 1

    assert Home(settings.home).is_supervised()


# -- a server that was stopped -----------------------------------------------------------------------------------------


@pytest.fixture
def kit(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    """Kit of a server without a real worker; stops count at once."""
    monkeypatch.setattr(hub, "RESTART_S", 0.1)
    ensure_running(settings, worker_command=IDLE_WORKER)
    with jobkit.connect(home=settings.home) as kit:
        yield kit


def test_a_killed_server_loses_no_accepted_job_although_its_disk_is_busy(settings: Settings, kit: Kit) -> None:
    [server] = [each for each in processes_of(settings.home) if "-server " in " ".join(each.info["cmdline"])]
    if not stop_flushes(server.pid):
        pytest.skip("this process may not trace a thread of Redis")
    began, accepted = time.monotonic(), set()
    while time.monotonic() < began + 1.5 or not accepted:  # a flush is due once a second
        accepted.add(kit.submit(noted, "/dev/null", 0.0).id)
        time.sleep(0.05)

    server.kill()
    server.wait()

    wait_until(lambda: answers(str(Home(settings.home).socket)), what="another server")
    assert {job.id for job in kit.jobs(limit=1000)} == accepted


def told(wait: Callable[[], Any]) -> Future[Any]:
    """Call it in a thread."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(wait())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def test_those_who_wait_hear_that_the_server_was_stopped_and_do_not_start_it(settings: Settings, kit: Kit) -> None:
    job = kit.submit(noted, "/dev/null", 0.0)

    async def awaited() -> Any:
        return await job

    waits = {
        "result": told(job.result),
        "await": told(lambda: asyncio.run(awaited())),
        "as_completed": told(lambda: list(jobkit.as_completed([job]))),
        "events": told(lambda: list(kit.events())),
        "events of a job": told(lambda: list(job.events())),
    }
    shutdown(settings, now=True)

    heard = {name: str(future.exception(30)) for name, future in waits.items()}
    assert set(heard.values()) == {heard["result"]}
    assert "was stopped (`jobkit down`), and its jobs wait: start it again with `jobkit up`" in heard["result"]
    with pytest.raises(StoreUnavailable, match="was stopped"):
        job.result(30)  # one that begins to wait now
    with pytest.raises(StoreUnavailable, match="was stopped"):
        kit.counts()
    assert not job.is_terminal
    assert processes_of(settings.home) == []


def test_a_submit_starts_a_stopped_server_and_earlier_handles_go_on(settings: Settings, kit: Kit) -> None:
    job = kit.submit(noted, "/dev/null", 0.0)
    shutdown(settings, now=True)
    wait_until(lambda: kit.hub.stopped)

    assert kit.submit(noted, "/dev/null", 0.0).result(60) == 42

    assert job.result(60) == 42
    assert not kit.hub.stopped


@pytest.mark.parametrize(
    "again",
    by_default(
        [
            lambda kit, job: kit.rerun_with(job.id, {}),
            lambda kit, job: job.retry(),
            lambda kit, job: asyncio.run(kit.aio.retry(job.id)),
        ]
    ),
    ids=["rerun_with", "retry", "aio.retry"],
)
def test_a_repetition_starts_a_stopped_server_as_a_submit_does(
    settings: Settings, kit: Kit, again: Callable[[Kit, Any], Any]
) -> None:
    job = kit.submit(noted, "/dev/null", 0.0)
    job.cancel()
    shutdown(settings, now=True)
    wait_until(lambda: kit.hub.stopped)

    assert again(kit, job).result(60) == 42


def test_a_restart_of_the_server_is_not_told(settings: Settings) -> None:
    ensure_running(settings, worker_command=IDLE_WORKER)
    with jobkit.connect(home=settings.home) as kit:
        job = kit.submit(noted, "/dev/null", 0.0)
        waiting = told(job.result)
        shutdown(settings, now=True)

        ensure_running(settings)

        assert waiting.result(60) == 42


def test_a_server_that_cannot_start_is_told_with_the_reason(settings: Settings, kit: Kit) -> None:
    job = kit.submit(noted, "/dev/null", 0.0)
    waiting = told(job.result)
    home = Home(settings.home)
    (log,) = (home.data / "appendonlydir").glob("*.incr.aof")
    kill_supervisor(settings)
    log.write_bytes(b"garbage in front\r\n" + log.read_bytes())

    with pytest.raises(StoreUnavailable, match="redis-check-aof --fix"):
        waiting.result(30)


def test_a_home_that_was_deleted_is_told_and_not_made_again(settings: Settings, kit: Kit) -> None:
    job = kit.submit(noted, "/dev/null", 0.0)
    waiting = told(job.result)
    shutdown(settings, now=True)
    delete(settings.home)

    with pytest.raises(StoreUnavailable, match="was deleted, and its jobs with it"):
        waiting.result(30)
    assert not settings.home.exists()


@pytest.mark.parametrize("maker", ["the kit itself", "another process"])
def test_a_kit_signs_with_the_key_of_a_home_that_was_deleted_and_made_again(
    settings: Settings, kit: Kit, maker: str
) -> None:
    delete(settings.home)
    wait_until(lambda: not kit.hub.is_live and not processes_of(settings.home))

    if maker == "another process":
        ensure_running(settings)
        wait_until(lambda: kit.hub.is_live)

    assert kit.submit(noted, "/dev/null", 0.0).result(60) == 42
    assert kit.settings.token_secret == Home.at(settings.home).token_secret()  # by which HTTP verifies tokens


def test_an_idle_worker_starts_a_dead_server_again_and_ends_with_a_deleted_home(settings: Settings) -> None:
    ensure_running(settings, worker_command=IDLE_WORKER)
    variables = environment(JOBKIT_HOME=str(settings.home), JOBKIT_NAMESPACE=settings.namespace)
    with subprocess.Popen([sys.executable, "-m", "jobkit", "worker"], env=variables) as worker:
        try:
            with jobkit.connect(home=settings.home) as kit:
                wait_until(lambda: [each for each in kit.workers() if each.is_alive], what="the worker")
            before = supervisor_of(settings)
            kill_supervisor(settings)
            wait_until(lambda: Home(settings.home).status().get("pid", before) != before, what="another server")

            delete(settings.home)

            assert worker.wait(60) == 0
        finally:
            worker.kill()
    assert not settings.home.exists()


def test_a_server_that_starts_again_is_not_stopped_any_more_even_while_it_loads(settings: Settings, kit: Kit) -> None:
    shutdown(settings, now=True)
    wait_until(lambda: kit.hub.stopped)
    heard: list[str] = []
    kit.hub.on_status(lambda is_live: heard.append(kit.hub.connection(is_live)))

    with holding(Home(settings.home).lock):  # a supervisor that reads much data
        wait_until(lambda: not kit.hub.stopped)

        assert heard == ["reconnecting"]


def test_a_process_without_room_for_a_thread_starts_a_dead_server_later(
    settings: Settings, kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def short() -> bool:
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("can't start new thread")
        return revive(settings)

    monkeypatch.setattr(kit.hub, "_revive", short)
    kill_supervisor(settings)

    wait_until(lambda: len(tries) >= 3 and kit.hub.is_live, what="the hub to be back")
