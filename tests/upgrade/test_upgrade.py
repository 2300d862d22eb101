"""Records of every released version can be read and run; records of newer versions, too, and keep unknown fields."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

import jobkit
from jobkit.client.kit import Kit
from jobkit.tasks.info import sealed_definition
from tests.client.conftest import worker_of
from tests.store.server import Server, running_server
from tests.support import wait_until

from .sample import FOLDER, NAMESPACE, PREFIX, SECRET, facts, load

FILES = sorted(FOLDER.glob("records-*.json"))


server = pytest.fixture(running_server, name="server")


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as client:
        yield client


@pytest.fixture(params=FILES, ids=[path.stem for path in FILES])
def sample(request: pytest.FixtureRequest, client: redis.Redis) -> dict[str, Any]:
    """Records of one version, restored."""
    found: dict[str, Any] = json.loads(Path(request.param).read_text())
    load(client, found["keys"])
    return found


@pytest.fixture
def place(server: Server) -> dict[str, str]:
    return {"url": server.url, "namespace": NAMESPACE, "secret": SECRET}


@pytest.fixture
def kit(place: dict[str, str], sample: dict[str, Any]) -> Iterator[Kit]:
    with jobkit.connect(**place) as kit:
        yield kit


def of(sample: dict[str, Any], state: str) -> list[str]:
    return [job_id for job_id, facts in sample["facts"].items() if facts["json"]["state"] == state]


def test_a_sample_of_this_version_exists() -> None:
    """`python -m tests.upgrade.sample` writes it."""
    assert (FOLDER / f"records-{jobkit.__version__}.json").exists()


def test_records_of_a_version_read_as_they_did_then(kit: Kit, sample: dict[str, Any]) -> None:
    now = json.loads(json.dumps(facts(kit)))

    for job_id, then in sample["facts"].items():
        shown = {name: value for name, value in now[job_id]["json"].items() if name in then["json"]}
        assert shown == then["json"]
        assert {**now[job_id], "json": shown} == {**then, "json": shown}


def test_results_of_a_version_can_be_read(kit: Kit, sample: dict[str, Any]) -> None:
    [succeeded] = of(sample, "succeeded")
    [failed] = of(sample, "failed")

    assert kit.get(succeeded).result(60) == 3
    with pytest.raises(jobkit.JobFailed, match="negative a") as told:
        kit.get(failed).result(60)
    assert isinstance(told.value.__cause__, ValueError)
    for job_id in of(sample, "cancelled"):
        with pytest.raises(jobkit.JobCancelled, match="not needed"):
            kit.get(job_id).result(60)


def test_old_waiting_and_lost_jobs_run(
    kit: Kit, sample: dict[str, Any], place: dict[str, str], client: redis.Redis
) -> None:
    [waiting], [scheduled], [running] = of(sample, "queued"), of(sample, "scheduled"), of(sample, "running")

    # Its worker is dead; the lease may or may not have expired.
    client.zadd(f"{PREFIX}due:default", {scheduled: 1})
    client.zadd(f"{PREFIX}leases", {running: 1})
    client.delete(f"{PREFIX}grace")
    # After its start, the server waits for two leases before a job counts as lost.
    short = {"lease": "2", "heartbeat": "0.5"}
    with worker_of({**place, **short}, "-t", "tests.upgrade.sample", "-t", "tests.worker.jobs"):
        assert kit.get(waiting).result(60) == 7
        assert kit.get(scheduled).result(60) == 8
        again = kit.get(running)
        wait_until(lambda: again.attempt == 2, what="the job of the dead worker to run again")
        again.cancel()
        assert again.wait(60)


@pytest.mark.nightly
def test_fields_of_a_newer_version_are_ignored_and_kept(
    kit: Kit, sample: dict[str, Any], place: dict[str, str], client: redis.Redis
) -> None:
    [waiting] = of(sample, "queued")
    key = f"{PREFIX}job:{waiting}"
    spec = {**json.loads(client.hget(key, "spec")), "new_option": [1], "on_new": "x"}
    event = {**json.loads(client.hget(key, "e1")), "new": 1}
    event["data"]["new_fact"] = {"a": 1}
    client.hset(key, mapping={"spec": json.dumps(spec), "new_field": "kept", "e1": json.dumps(event)})
    news = {"id": waiting, "seq": 1, "type": "a_new_kind_of_event", "at": 1, "data": {}}
    client.xadd(f"{PREFIX}events", {"e": json.dumps(news)})
    client.publish(f"{PREFIX}all", json.dumps(news))
    newer = {"name": "newer", "options": {"newer": 1}, "params": [], "more": 2}
    client.hset(f"{PREFIX}tasks", "newer", sealed_definition(newer, kit.codec))

    job = kit.get(waiting)
    with worker_of(place, "-t", "tests.upgrade.sample"):
        assert job.result(60) == 7

    assert client.hget(key, "new_field") == b"kept"
    assert json.loads(client.hget(key, "spec"))["new_option"] == [1]
    assert [event.type for event in job.events()] == ["submitted", "started", "succeeded"]
    assert "newer" in kit.tasks()
