"""Schedules, groups of failures and the audit trail over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from jobkit.client.kit import Kit
from tests.http.site import Site
from tests.http.test_openapi import validator
from tests.support import wait_until
from tests.ui.stage import Stage


@pytest.fixture
def nightly(kit: Kit) -> str:
    return kit.schedule("double", {"n": 4}, cron="0 3 * * *", name="nightly").name


def checked(http: httpx.Client, answer: httpx.Response, shape: str) -> Any:
    assert answer.status_code in (200, 202), answer.text
    validator(http.get("/api/openapi.json").json(), shape).validate(answer.json())
    return answer.json()


def test_a_schedule_is_read_paused_run_and_deleted(http: httpx.Client, nightly: str) -> None:
    (listed,) = checked(http, http.get("/api/schedules"), "Schedules")["schedules"]
    assert (listed["name"], listed["cron"], listed["paused"]) == ("nightly", "0 3 * * *", False)

    paused = checked(http, http.post(f"/api/schedules/{nightly}/pause"), "Schedule")
    assert (paused["paused"], paused["next_at"]) == (True, None)
    resumed = checked(http, http.post(f"/api/schedules/{nightly}/resume"), "Schedule")
    assert (resumed["paused"], resumed["next_at"]) == (False, listed["next_at"])

    job = checked(http, http.post(f"/api/schedules/{nightly}/run"), "Accepted")
    assert http.get(job["url"]).json()["params"]["n"] == 4
    (run,) = checked(http, http.get(f"/api/schedules/{nightly}"), "Schedule")["runs"]
    assert run["job_id"] == job["id"]

    assert http.delete(f"/api/schedules/{nightly}").status_code == 204
    for answer in (http.get(f"/api/schedules/{nightly}"), http.post(f"/api/schedules/{nightly}/pause")):
        assert (answer.status_code, answer.json()["field"]) == (404, "name")


def test_a_token_for_some_tasks_sees_only_their_schedules_and_groups(
    guarded: Site, kit: Kit, stage: Stage, nightly: str
) -> None:
    kit.schedule("train_model", every=3600, name="train")
    for task in ("double", "train_model"):
        job = stage.submit(task=task)
        stage.start(job)
        stage.fail(job)
    with guarded.client(guarded.token("view", "operate", tasks=["train_*"])) as http:
        assert [one["name"] for one in http.get("/api/schedules").json()["schedules"]] == ["train"]
        assert http.post(f"/api/schedules/{nightly}/run").status_code == 404
        assert [one["task"] for one in http.get("/api/failures").json()["failures"]] == ["train_model"]
        assert http.get("/api/audit").status_code == 403
    assert not kit.schedules.get(nightly).paused


def test_queues_and_tasks_are_paused_and_resumed(http: httpx.Client, stage: Stage, kit: Kit) -> None:
    assert checked(http, http.post("/api/queues/gpu/pause"), "Changed") == {"changed": True}
    assert http.post("/api/queues/gpu/pause").json() == {"changed": False}
    assert http.post("/api/tasks/double/pause").json() == {"changed": True}

    listed = checked(http, http.get("/api/paused"), "Paused")["paused"]
    assert [(each["kind"], each["name"]) for each in listed] == [("queue", "gpu"), ("task", "double")]

    assert http.post("/api/queues/gpu/resume").json() == {"changed": True}
    assert http.post("/api/tasks/double/resume").json() == {"changed": True}
    assert kit.queues.paused() == kit.tasks.paused() == []
    assert http.post("/api/queues/no%20name/pause").status_code == 422


def test_a_user_who_sees_some_jobs_cannot_pause_others(guarded: Site, kit: Kit) -> None:
    with guarded.client(guarded.token("view", "operate", tasks=["train_*"])) as http:
        assert http.post("/api/queues/gpu/pause").status_code == 403
        assert http.post("/api/tasks/double/pause").status_code == 403
        assert http.post("/api/tasks/train_model/pause").status_code == 200
    assert [pause.name for pause in kit.tasks.paused()] == ["train_model"]


def test_a_waiting_job_is_moved_and_no_other(http: httpx.Client, stage: Stage) -> None:
    job_id = stage.submit(task="double")
    moved = checked(http, http.post(f"/api/jobs/{job_id}/move", json={"queue": "gpu", "priority": 5}), "Job")
    stage.start(job_id, queue="gpu")
    late = http.post(f"/api/jobs/{job_id}/move", json={"queue": "cpu"})

    assert (moved["queue"], moved["priority"]) == ("gpu", 5)
    assert (late.status_code, late.json()["error"]) == (409, "not_waiting")
    assert http.post(f"/api/jobs/{job_id}/move", json={}).status_code == 422
    assert http.post("/api/jobs/nope/move", json={"queue": "a"}).status_code == 404


def test_failures_are_read_in_groups_and_run_again(http: httpx.Client, kit: Kit, stage: Stage) -> None:
    """With jobs that were really submitted: their sealed call is run again."""
    for n in (1, 2):
        job = http.post("/api/jobs", json={"task": "double", "params": {"n": n}}).json()
        stage.start(job["id"])
        stage.fail(job["id"], "KeyError", "'a'")
    (group,) = checked(http, http.get("/api/failures?state=open&task=double"), "Failures")["failures"]
    url = f"/api/failures/{group['id']}"

    muted = checked(http, http.post(f"{url}/mute"), "Failure")
    reopened = checked(http, http.post(f"{url}/reopen"), "Failure")
    repeated = checked(http, http.post(f"{url}/retry"), "Repeated")
    resolved = checked(http, http.post(f"{url}/resolve"), "Failure")

    assert (group["type"], group["jobs"]) == ("KeyError", 2)
    assert [each["state"] for each in (muted, reopened, resolved)] == ["muted", "open", "resolved"]
    assert (len(repeated["jobs"]), repeated["refused"], repeated["left"]) == (2, {}, 0)
    assert {kit.get(new).snapshot.spec.retry_of for new in repeated["jobs"].values()} == set(repeated["jobs"])
    assert http.get("/api/failures/nope").status_code == 404
    assert http.get("/api/failures?state=gone").json()["field"] == "state[0]"


def test_actions_are_in_the_audit_trail(http: httpx.Client, nightly: str) -> None:
    http.post(f"/api/schedules/{nightly}/pause")
    http.post("/api/schedules/nope/pause")
    wait_until(lambda: len(http.get("/api/audit").json()["entries"]) == 2, what="the trail")
    newest, oldest = checked(http, http.get("/api/audit"), "Audit")["entries"]
    page = http.get(f"/api/audit?before={newest['id']}").json()

    assert (oldest["action"], oldest["on"], oldest["targets"], oldest["via"]) == (
        "pause_schedule", "schedule", ["nightly"], "http",
    )  # fmt: skip
    assert (newest["outcome"], newest["targets"]) == ("failed", ["nope"])
    assert [entry["id"] for entry in page["entries"]] == [oldest["id"]]
