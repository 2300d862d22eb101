"""Live handles: one snapshot for all that they say, from as many threads as there are, and from the store as it is."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

import jobkit
from jobkit.client.kit import Kit
from jobkit.client.live import LiveJobs
from tests.store.server import Server, running_server
from tests.support import wait_until
from tests.worker import jobs

own_server = pytest.fixture(running_server, name="own_server")


@pytest.fixture
def kit(own_server: Server) -> Iterator[Kit]:
    with jobkit.connect(own_server.url) as kit:
        yield kit


def test_a_handle_says_the_same_with_all_its_words_while_a_watcher_is_slow(kit: Kit) -> None:
    job, may_end, told = kit.submit(jobs.count_up, 1), threading.Event(), []

    def watch(_: object) -> None:
        told.append((job.queue, job.state, job.is_terminal))
        may_end.wait(30)

    job.param.watch(watch, "queue")
    try:
        kit.move([job.id], queue="other")
        wait_until(lambda: told, what="the watcher")
        kit.cancel(job.id)
        wait_until(lambda: job.is_terminal, what="the end")
        assert (job.state, job.finished_at is not None) == ("cancelled", True)
    finally:
        may_end.set()
    assert told == [("other", "queued", False)]


def test_handles_are_made_while_others_are_read(kit: Kit) -> None:
    job = kit.submit(jobs.count_up, 1)
    live: LiveJobs = kit._connection.live
    snapshot, errors, made = replace(job.snapshot, state=jobkit.JobState.SUCCEEDED), [], []
    interval = sys.getswitchinterval()

    def make() -> None:
        snapshots = (replace(snapshot, spec=replace(snapshot.spec, id=f"{number}")) for number in range(3_000))
        made.extend(map(live.adopt_own, snapshots))

    def read() -> None:
        try:
            while making.is_alive():
                live._status_changed(True)
        except RuntimeError as error:
            errors.append(error)

    making, reading = threading.Thread(target=make), threading.Thread(target=read)
    sys.setswitchinterval(1e-6)
    try:
        making.start()
        reading.start()
        making.join()
        reading.join()
    finally:
        sys.setswitchinterval(interval)
    assert errors == []


def test_a_job_is_read_from_a_server_that_was_restored_to_an_older_state(own_server: Server, kit: Kit) -> None:
    job = kit.submit(jobs.count_up, 1)
    shutil.copytree(own_server.home / "appendonlydir", own_server.home / "backup")
    kit.cancel(job.id)
    assert job.wait(30)
    own_server.kill()
    shutil.rmtree(own_server.home / "appendonlydir")
    (own_server.home / "backup").rename(own_server.home / "appendonlydir")
    own_server.start()

    wait_until(lambda: answers(kit), what="the server")
    found = kit.get(job.id)
    assert found.state == "queued"
    kit.cancel(job.id)
    assert found.wait(30)
    assert kit.get(job.id) is found


def answers(kit: Kit) -> bool:
    try:
        return bool(kit.counts())
    except jobkit.StoreUnavailable:
        return False
