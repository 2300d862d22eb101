"""Batches over HTTP: list, read, cancel, retry; and who may not."""

from __future__ import annotations

import httpx

from jobkit.client.batch import Batch
from jobkit.client.kit import Kit
from tests.http.conftest import _own_registry as _own_registry
from tests.http.conftest import http as http
from tests.http.conftest import kit as kit
from tests.http.conftest import redis_server as redis_server
from tests.http.conftest import serve as serve
from tests.http.conftest import site as site
from tests.http.conftest import stage as stage
from tests.http.tasks import double
from tests.ui.stage import Stage


def test_a_batch_is_listed_read_and_cancelled(http: httpx.Client, kit: Kit) -> None:
    made: Batch = kit.map(double, [{"n": 1}, {"n": 2}], name="first try")

    listed = http.get("/api/batches").json()["batches"]
    read = http.get(f"/api/batches/{made.id}").json()

    assert listed == [read]
    assert (read["id"], read["name"], read["task"], read["size"]) == (made.id, "first try", "double", 2)
    assert (read["state"], read["counts"], read["progress"]) == ("queued", {"queued": 2}, 0.0)
    assert http.get("/api/batches", params={"name": "other"}).json() == {"batches": []}
    cancelled = http.post(f"/api/batches/{made.id}/cancel", json={"reason": "enough"})
    assert (cancelled.status_code, cancelled.json()["counts"]) == (200, {"cancelled": 2})
    again = http.post(f"/api/batches/{made.id}/cancel")
    assert (again.status_code, again.json()["error"]) == (409, "ended")
    assert http.get("/api/batches/unknown").status_code == 404


def test_the_failed_jobs_of_a_batch_are_retried(http: httpx.Client, kit: Kit, stage: Stage) -> None:
    made: Batch = kit.map(double, [{"n": 1}, {"n": 2}])
    stage.start(made[0].id)
    stage.fail(made[0].id)

    answer = http.post(f"/api/batches/{made.id}/retry")

    assert answer.status_code == 202
    assert list(answer.json()["jobs"]) == [made[0].id]
    assert http.get(f"/api/batches/{made.id}").json()["counts"] == {"queued": 2}
