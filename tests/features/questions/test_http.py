"""The question of a job over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import httpx

import jobkit
from tests.http.conftest import _own_registry as _own_registry
from tests.http.conftest import http as http
from tests.http.conftest import kit as kit
from tests.http.conftest import redis_server as redis_server
from tests.http.conftest import serve as serve
from tests.http.conftest import site as site
from tests.http.conftest import stage as stage
from tests.http.site import Site
from tests.http.test_rest import submit
from tests.ui.stage import Stage


@dataclass
class Cut:
    """Parameters of a cut."""

    noise: Annotated[int, jobkit.Range(0, 9)]
    keep: bool = True


def test_a_question_is_read_and_answered_once(http: httpx.Client, site: Site, stage: Stage) -> None:
    job = submit(http)["id"]
    assert http.get(f"/api/jobs/{job}/question").status_code == 404
    assert http.get("/api/jobs/nope/question").status_code == 404
    stage.start(job)
    key = stage.ask(job, Cut, "Which one is noise?", show="a <b>text</b>", timeout_s=3600)

    question = http.get(f"/api/jobs/{job}/question").json()
    assert (question["key"], question["text"], question["is_one"]) == (key, "Which one is noise?", False)
    assert question["schema"]["properties"]["noise"] == {
        "type": "integer",
        "minimum": 0,
        "maximum": 9,
        "title": "noise",
    }
    assert question["schema"]["required"] == ["noise"]
    assert question["shown"]["text"] == "a <b>text</b>"
    found = http.get("/api/jobs", params={"q": "is:asking"}).json()["jobs"]
    assert [(one["id"], one["asking"][0]["text"]) for one in found] == [(job, "Which one is noise?")]

    url = f"/api/jobs/{job}/question"
    wrong = http.post(url, json={"answer": {"noise": 10}})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "noise")
    assert wrong.json()["message"] == "noise must be a whole number from 0 to 9, not 10"
    assert http.post(url, json={"answer": 5}).status_code == 422
    assert http.post(url, json={}).status_code == 422
    done = http.post(url, json={"answer": {"noise": 3}, "key": key})
    assert (done.status_code, done.json()["text"]) == (200, "Which one is noise?")
    late = http.post(url, json={"answer": {"noise": 4}, "key": key})
    assert (late.status_code, late.json()["error"]) == (409, "question_closed")
    assert "was answered" in late.json()["message"]
    late = http.post(url, json={"answer": {"noise": 4}})
    assert late.status_code == 409
    assert "Its last question was answered by" in late.json()["message"]
    assert http.get("/api/jobs", params={"q": "is:asking"}).json()["jobs"] == []


def test_a_question_that_the_worker_did_not_seal_is_not_shown(http: httpx.Client, stage: Stage) -> None:
    job = submit(http)["id"]
    stage.start(job)
    key = stage.ask(job, bool, "Go on?")
    forged = b'{"text":"Your password?","params":[{"name":"answer","kind":"str"}],"is_one":true}'
    stage._do(stage.store.ask("HSET", f"asks:{job}", f"q:{key}", forged))

    for answer in (http.get(f"/api/jobs/{job}/question"), http.post(f"/api/jobs/{job}/question", json={"answer": "x"})):
        assert answer.status_code == 502
        assert "password" not in answer.text
