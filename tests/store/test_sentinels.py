"""Sentinels: a fail-over under load, a wrong name, and a server of another kind."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import sys
from collections.abc import Iterator

import pytest

import jobkit
from jobkit.store import binary
from tests.store.sentinels import Sentinels, running_sentinels
from tests.store.server import Server, running_server
from tests.support import environment, wait_until
from tests.worker import jobs


@pytest.fixture(params=["redis", pytest.param("valkey", marks=pytest.mark.nightly)])
def sentinels(request: pytest.FixtureRequest) -> Iterator[Sentinels]:
    yield from running_sentinels(str(binary.find_server(request.param).path))


server = pytest.fixture(running_server, name="server")


@pytest.fixture
def place(sentinels: Sentinels) -> dict[str, str]:
    return {"url": sentinels.url, "namespace": f"t{secrets.token_hex(4)}", "secret": "of these tests"}


@contextlib.contextmanager
def _worker(place: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    names = {f"JOBKIT_{name.upper()}": value for name, value in place.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "jobkit", "worker", "-c", "4", "-t", "tests.worker.jobs"],
        env=environment(JOBKIT_LEASE="4", JOBKIT_HEARTBEAT="0.5", **names),
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def _submits(kit: jobkit.Kit) -> bool:
    with contextlib.suppress(jobkit.StoreUnavailable):
        kit.submit(jobs.count_up, 1)
        return True
    return False


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("kill", marks=pytest.mark.nightly),
        pytest.param("freeze", marks=pytest.mark.nightly),
        pytest.param("promote", marks=pytest.mark.nightly),
    ],
)
def test_replicated_jobs_survive_the_loss_of_the_primary_and_new_ones_are_accepted(
    sentinels: Sentinels, place: dict[str, str], fault: str
) -> None:
    before = sentinels.primary
    with jobkit.connect(**place) as kit, _worker(place) as worker:
        waiting = [kit.options(delay=2).submit(jobs.count_up, n) for n in range(20)]
        sentinels.replicate()

        with sentinels.loss(fault):
            wait_until(lambda: sentinels.primary != before)
            wait_until(lambda: _submits(kit))

            assert [job.result(60) for job in waiting] == [n + 1 for n in range(20)]
            assert max(job.attempt for job in waiting) <= 2  # the new primary may not know of an attempt that had begun
            assert [one.pid for one in kit.workers() if one.is_alive] == [worker.pid]


def test_a_name_that_no_sentinel_knows_is_refused_with_those_that_it_knows(sentinels: Sentinels) -> None:
    with pytest.raises(jobkit.StoreUnavailable, match=r"know no primary 'mian', but 'main': correct the name") as told:
        jobkit.connect(sentinels.url_for("mian"), secret="s")
    assert told.value.is_refusal


def test_a_server_that_is_no_sentinel_is_refused(server: Server) -> None:
    with pytest.raises(jobkit.StoreUnavailable, match="is no Sentinel: give the address of one") as told:
        jobkit.connect(f"redis+sentinel://127.0.0.1:{server.listen()}/main", secret="s")
    assert told.value.is_refusal


def test_sentinels_that_are_away_are_named() -> None:
    with pytest.raises(jobkit.StoreUnavailable, match="does not answer .nor do its Sentinels.: check that it runs"):
        jobkit.connect("redis+sentinel://127.0.0.1:1/main", secret="s")
