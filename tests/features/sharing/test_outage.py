"""The sharing machine is away for a while: the others wait, say so, and go on."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

import jobkit
from jobkit.embedded import ensure_running, shutdown
from jobkit.embedded.home import Home
from jobkit.embedded.server import ask
from jobkit.features.sharing import hosting
from jobkit.features.sharing.gateway import read_status
from jobkit.features.sharing.members import Members
from jobkit.joined import REVOKED
from jobkit.model import StoreUnavailable
from jobkit.settings import Settings
from jobkit.store.connect import open_blocking
from tests.embedded.conftest import home_of_test
from tests.features.sharing.conftest import log_of, member_of, run, running
from tests.support import free_port, is_alive, wait_until


def test_a_joined_worker_waits_for_the_sharing_machine_says_so_and_goes_on(shared: Settings, other: Path) -> None:
    place = member_of(shared, other)
    often = {"JOBKIT_LEASE": "3", "JOBKIT_HEARTBEAT": "1"}
    with (
        running("worker", "-q", "far", home=other, JOBKIT_URL=place.url, **often),
        jobkit.connect(home=shared.home) as kit,
    ):
        assert kit.options(queue="far").submit(len, "abc").result(60) == 3
        hosting.stop_sharing(shared)
        wait_until(lambda: "may be asleep, away or stopped" in log_of(other).read_text(), what="the worker to say so")
        waiting = kit.options(queue="far").submit(len, "abcd")
        refused = run("jobs", home=other, JOBKIT_URL=place.url)
        assert refused.returncode == 1
        assert "joined://" in refused.stderr
        hosting.share(shared, None, None)
        assert waiting.result(60) == 4
        assert " sharing " in run("doctor", home=shared.home).stdout
        assert ", as a worker" in run("doctor", home=other, JOBKIT_URL=place.url).stdout


def test_a_revoked_worker_ends_with_its_jobs_says_why_and_is_not_started_again(shared: Settings, other: Path) -> None:
    place = member_of(shared, other)
    often = {"JOBKIT_LEASE": "3", "JOBKIT_HEARTBEAT": "1"}
    with (
        running("worker", "-q", "far", "-n", "2", home=other, JOBKIT_URL=place.url, **often) as worker,
        jobkit.connect(home=shared.home) as kit,
    ):
        job = kit.options(queue="far").submit(time.sleep, 300)
        wait_until(lambda: job.state == "running", what="the job to run")
        hosting.revoke(shared, [m.name for m in Members(Home.at(shared.home)).read().members if m.user == place.user])
        assert worker.wait(30) == REVOKED
        log = log_of(other).read_text()
        assert log.rfind("the worker waits") < log.index("which was revoked: join again with a new word")
        wait_until(lambda: job.state == "queued", what="the job to wait for another worker")
        job.cancel()


def test_a_killed_gateway_is_started_again_and_members_need_no_new_word(shared: Settings, other: Path) -> None:
    place = member_of(shared, other)
    pid = read_status(Home.at(shared.home))["pid"]
    with jobkit.connect(place.url, home=other) as kit:
        assert kit.stats() is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid), what="its end")
        wait_until(lambda: _answers(kit), what="the next gateway")


def test_members_work_on_when_the_server_was_restarted_and_has_forgotten_its_users(
    shared: Settings, other: Path
) -> None:
    place = member_of(shared, other)
    with jobkit.connect(place.url, home=other) as kit:
        assert kit.submit(len, "abc").result(60) == 3
        _restart(shared)
        wait_until(lambda: _answers(kit), what="the next server")
        assert kit.submit(len, "abcd").result(60) == 4


def test_after_down_any_command_starts_the_gateway_again_with_the_server(other: Path) -> None:
    with home_of_test() as settings:
        hosting.share(settings, "127.0.0.1", free_port())
        place = member_of(settings, other)
        shutdown(settings)
        assert not is_alive(read_status(Home.at(settings.home))["pid"])
        assert run("stats", home=settings.home).returncode == 0

        def reached() -> bool:
            return run("stats", home=other, JOBKIT_URL=place.url).returncode == 0

        wait_until(reached, what="the gateway")


def test_workers_of_other_machines_reach_the_server_while_a_stopping_home_drains(other: Path) -> None:
    with home_of_test() as settings, jobkit.connect(home=settings.home) as kit:
        hosting.share(settings, "127.0.0.1", free_port())
        place, home = member_of(settings, other), Home.at(settings.home)
        job = kit.submit(time.sleep, 3)
        wait_until(lambda: job.state == "running", what="the job to run")
        down = threading.Thread(target=shutdown, args=(settings,))
        down.start()
        log = home.logs / "worker-default.log"
        wait_until(lambda: "SIGTERM: finishing" in log.read_text(), what="the worker to drain")
        time.sleep(0.3)  # in which a gateway that was asked to end would
        with open_blocking(Settings.load(url=place.url, home=other), 10.0) as client:
            assert client.ping()
        down.join()
        assert not is_alive(read_status(home)["pid"])


def test_an_idle_home_that_is_shared_does_not_stop(other: Path) -> None:
    with home_of_test() as settings:
        quick = replace(settings, idle_stop=0.2)
        hosting.share(quick, "127.0.0.1", free_port())
        ensure_running(quick)
        with pytest.raises(AssertionError):
            wait_until(lambda: not Home.at(settings.home).is_supervised(), timeout_s=1.5)
        assert hosting.stop_sharing(quick)
        wait_until(lambda: not Home.at(settings.home).is_supervised(), what="the idle home to stop")


def _answers(kit: jobkit.Kit) -> bool:
    try:
        return kit.stats() is not None
    except StoreUnavailable:
        return False


def _restart(shared: Settings) -> None:
    """Let the server of a home restart."""
    with contextlib.suppress(OSError):
        ask(str(Home.at(shared.home).socket), "SHUTDOWN")
