"""Live handles: one snapshot for all that they say, from as many threads as there are, and from the store as it is."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Iterator

import pytest
import redis
from msgspec.structs import replace

import jobkit
from jobkit.client import live
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
    handles: LiveJobs = kit.connection.live
    snapshot, errors, made = replace(job.snapshot, state=jobkit.JobState.SUCCEEDED), [], []
    interval = sys.getswitchinterval()

    def make() -> None:
        snapshots = (replace(snapshot, spec=replace(snapshot.spec, id=f"{number}")) for number in range(3_000))
        made.extend(map(handles.adopt_own, snapshots))

    def read() -> None:
        try:
            while making.is_alive():
                handles._status_changed(True)
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


def test_an_open_handle_goes_on_from_the_older_state_that_a_server_was_restored_to(
    own_server: Server, kit: Kit
) -> None:
    job = kit.submit(jobs.count_up, 1)
    shutil.copytree(own_server.home / "appendonlydir", own_server.home / "backup")
    for queue in ("other", "third"):
        kit.move([job.id], queue=queue)
    wait_until(lambda: job.queue == "third", what="the moves")
    own_server.kill()
    shutil.rmtree(own_server.home / "appendonlydir")
    (own_server.home / "backup").rename(own_server.home / "appendonlydir")
    own_server.start()

    wait_until(lambda: job.queue == "default", what="the older state")
    job.cancel()
    assert job.wait(30)
    assert job.state == "cancelled"


def test_a_wiped_store_is_noticed_without_events_and_logged_once(
    own_server: Server, kit: Kit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live, "SAFETY_REFRESH_S", 3600.0)  # the read that notices lost events
    with jobkit.connect(own_server.url) as other:
        waiting = [each.submit(jobs.count_up, 1) for each in (kit, other)]
        with redis.Redis.from_url(own_server.url) as client:
            client.flushall()
        for job in waiting:
            with pytest.raises(jobkit.JobNotFound, match="the store was wiped or exchanged"):
                job.result(60)
    assert [record.message for record in caplog.records if "wiped or exchanged" in record.message] == [
        "the store was wiped or exchanged: live jobs that it does not know any more are lost"
    ]


def answers(kit: Kit) -> bool:
    try:
        return bool(kit.counts())
    except jobkit.StoreUnavailable:
        return False
