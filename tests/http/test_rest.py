"""REST: submit, read, stop, and refusals. The same with Tornado and ASGI."""

from __future__ import annotations

import base64
import json
import math
import os

import httpx
import pytest
from httpx_sse import connect_sse
from msgspec.structs import replace

from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.codec import Subject
from jobkit.model.metrics import Curves
from jobkit.store.values import ArtifactInfo, Kept
from tests.http.site import Site
from tests.ui.stage import Stage

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def submit(http: httpx.Client, **body: object) -> dict[str, str]:
    answer = http.post("/api/jobs", json={"task": "double", **body})
    assert answer.status_code == 202, answer.text
    found: dict[str, str] = answer.json()
    return found


def finish(kit: Kit, stage: Stage, job_id: str, value: object, **ending: object) -> None:
    stage.start(job_id)
    task = kit.snapshot(job_id).spec.task
    stage._finish(job_id, "succeeded", result=kit.codec.dumps(value, Subject("result", job_id, task)), **ending)


def test_submit_answers_at_once_with_the_address_of_the_job(http: httpx.Client, site: Site) -> None:
    answer = http.post("/api/jobs", json={"task": "double", "params": {"n": 5}, "tags": ["a"], "priority": 2})

    assert answer.status_code == 202
    body = answer.json()
    url = f"{site.url}/api/jobs/{body['id']}"
    since = body["last_event_id"]
    assert body == {"id": body["id"], "topic": url, "url": url, "events": f"{url}/events", "last_event_id": since}
    assert answer.headers["location"] == url
    job = http.get(url).json()
    assert (job["state"], job["params"], job["tags"], job["priority"]) == ("queued", {"n": 5, "name": ""}, ["a"], 2)


def test_streams_that_resume_after_the_id_in_the_answer_miss_nothing_of_the_job(
    http: httpx.Client, kit: Kit, stage: Stage
) -> None:
    finish(kit, stage, submit(http)["id"], 10)
    job = submit(http)
    finish(kit, stage, job["id"], 10)

    names = []
    with connect_sse(http, "GET", "/api/events", params={"last_event_id": job["last_event_id"]}) as stream:
        for event in stream.iter_sse():
            names.append((event.event, event.json()["job_id"]))
            if event.event == "succeeded":
                break

    assert names == [("submitted", job["id"]), ("started", job["id"]), ("succeeded", job["id"])]


def test_a_form_of_a_web_page_submits_with_its_further_fields_as_arguments(http: httpx.Client, kit: Kit) -> None:
    fields = {"task": "double", "n": "5", "tags": ["a", "b"], "priority": "2", "delay": "", "params.name": "x"}

    answer = http.post("/api/jobs", data=fields)

    assert answer.status_code == 202, answer.text
    spec = kit.snapshot(answer.json()["id"]).spec
    assert (dict(spec.params), spec.tags, spec.priority) == ({"n": 5, "name": "x"}, ("a", "b"), 2)


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ({"task": "double", "n": "many"}, 422, "n"),
        ({"task": "double", "n": "5", "params.n": "6"}, 400, "n"),
        ({"task": "double", "priority": "high", "n": "5"}, 422, "priority"),
        ({"n": "5"}, 422, "task"),
        ({"task": "nothing", "n": "5"}, 404, "task"),
    ],
)
def test_a_form_that_is_not_right_is_refused_with_the_field(
    http: httpx.Client, fields: dict[str, str], status: int, field: str
) -> None:
    answer = http.post("/api/jobs", data=fields)

    assert (answer.status_code, answer.json()["field"]) == (status, field)


def test_whole_numbers_may_be_written_with_a_fraction_of_zero(http: httpx.Client, kit: Kit) -> None:
    answer = http.post("/api/jobs", json={"task": "double", "params": {"n": 39.0}, "priority": 3.0})
    assert answer.status_code == 202, answer.text
    broken = http.post("/api/jobs", json={"task": "double", "params": {"n": 1}, "priority": 3.5})

    spec = kit.snapshot(answer.json()["id"]).spec
    assert (spec.params["n"], spec.priority) == (39, 3)
    assert (broken.status_code, broken.json()["field"]) == (422, "priority")


def test_one_key_gives_one_job(http: httpx.Client) -> None:
    assert submit(http, key="nightly")["id"] == submit(http, key="nightly")["id"]


def test_a_job_names_the_hub_and_itself(http: httpx.Client, site: Site) -> None:
    job = submit(http)

    link = http.get(job["url"]).headers["link"]

    assert link == f'<{site.url}/.well-known/mercure>; rel="mercure", <{job["url"]}>; rel="self"'


@pytest.mark.parametrize(
    ("body", "status", "error", "field", "says"),
    [
        ({"params": {}}, 422, "invalid_params", "task", "task is missing"),
        ({"task": 5}, 422, "invalid_params", "task", "task must be text, not a whole number"),
        ({"task": "double", "nope": 1}, 422, "invalid_params", "nope", "there is no field 'nope'"),
        ({"task": "double", "delay": -1}, 422, "invalid_params", "delay", "delay must be a number >= 0"),
        ({"task": "double", "delay": "x"}, 422, "invalid_params", "delay", "must be a number"),
        ({"task": "double", "at": "2026-01-01T00:00:00"}, 422, "invalid_params", "at", "timezone"),
        ({"task": "double", "params": {"n": 1000}}, 422, "invalid_params", "n", "from 1 to 100"),
        ({"task": "double", "params": {"m": 1}}, 422, "invalid_params", "m", "m"),
        ({"task": "double", "queue": "a b"}, 422, "invalid_params", "queue", "queue"),
        ({"task": "double", "key": "\r\nx: y"}, 422, "invalid_params", "key", "key"),
        ({"task": "dubble"}, 404, "unknown_task", "task", "did you mean 'double'"),
        ([], 422, "invalid_params", None, "an object"),
    ],
)
def test_refusals_are_one_sentence_with_the_field(
    http: httpx.Client, body: object, status: int, error: str, field: str | None, says: str
) -> None:
    answer = http.post("/api/jobs", json=body)

    told = answer.json()
    assert (answer.status_code, told["error"], told["field"]) == (status, error, field), told
    assert says in told["message"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert told["status"] == status
    assert http.get("/api/jobs").json()["jobs"] == []


def test_a_field_of_a_structure_is_checked_and_named(http: httpx.Client, kit: Kit, stage: Stage) -> None:
    from tests.tasks.test_structs import Model, published, task_of

    info = replace(published(task_of(Model)), ref="tests.http.tasks:double")
    stage.publish(info)

    wrong = http.post("/api/jobs", json={"task": "take", "params": {"value": {"depth": 1, "optimizer": {"lr": 2}}}})
    right = http.post("/api/jobs", json={"task": "take", "params": {"value": {"depth": 1, "optimizer": {"lr": 1}}}})
    schema = http.get("/api/tasks/take").json()["schema"]

    assert (wrong.status_code, wrong.json()["field"]) == (422, "value.optimizer.lr")
    assert wrong.json()["message"] == "value.optimizer.lr must be a number from 0 to 1, not 2"
    assert right.status_code == 202
    assert kit.get(right.json()["id"]).params == {"value": {"depth": 1, "optimizer": {"lr": 1}}}
    assert schema["properties"]["value"]["properties"]["depth"]["type"] == "integer"


def test_a_body_that_is_not_json_or_has_another_type_is_refused(http: httpx.Client) -> None:
    broken = http.post("/api/jobs", content=b'{"task"', headers={"Content-Type": "application/json"})
    latin = http.post("/api/jobs", content=b'{"task": "\xe4"}', headers={"Content-Type": "application/json"})
    plain = http.post("/api/jobs", content=b'{"task": "double"}', headers={"Content-Type": "text/plain"})

    assert (broken.status_code, broken.json()["error"]) == (400, "invalid_json")
    assert latin.status_code == 400
    assert (plain.status_code, plain.json()["error"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("depth", [40, 5_000])
def test_a_body_that_is_nested_too_deep_is_refused(http: httpx.Client, depth: int) -> None:
    deep = b'{"task": "double", "params": {"n": ' + b"[" * depth + b"]" * depth + b"}}"

    answer = http.post("/api/jobs", content=deep, headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["error"]) == (422, "too_deep")


@pytest.mark.parametrize("is_said", [True, False])
@pytest.mark.parametrize(("path", "refusal"), [("/api/jobs", (413, "too_large")), ("/api/none", (404, "not_found"))])
def test_a_body_that_is_too_large_is_refused(
    http: httpx.Client, is_said: bool, path: str, refusal: tuple[int, str]
) -> None:
    body = json.dumps({"task": "double", "params": {"name": "x" * 1_100_000}}).encode()

    def parts() -> object:
        yield body

    content = body if is_said else parts()
    answer = http.post(path, content=content, headers={"Content-Type": "application/json"})  # type: ignore[arg-type]

    assert (answer.status_code, answer.json()["error"]) == refusal


def test_pages_of_a_list_join_without_gaps(http: httpx.Client) -> None:
    ids = [submit(http)["id"] for _ in range(7)]
    found: list[str] = []
    cursor = ""
    while cursor is not None:
        page = http.get("/api/jobs", params={"limit": 3, "cursor": cursor}).json()
        found += [job["id"] for job in page["jobs"]]
        cursor = page["next_cursor"]

    assert found == ids[::-1]


def test_a_list_is_filtered_by_state_task_queue_and_text(http: httpx.Client, stage: Stage) -> None:
    first, second = submit(http, params={"name": "apple"})["id"], submit(http, queue="gpu")["id"]
    stage.start(first)

    def ids(query: str) -> list[str]:
        return [job["id"] for job in http.get(f"/api/jobs?{query}").json()["jobs"]]

    assert ids("state=running") == [first]
    assert ids("state=running&state=queued") == [second, first]
    assert ids("queue=gpu") == [second]
    assert ids("search=apple") == [first]
    assert ids("q=apple%20age:%3C1h") == [first]
    assert ids("q=apple%20older:1h") == []
    assert ids("q=apple%20since:2h&tz=Asia/Tokyo") == [first]
    assert ids("q=before:2000-01-01") == []
    assert ids("task=train_model") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("state=done", "state[0]"),
        ("nope=1", "nope"),
        ("cursor=x", "cursor"),
        ("order=size", "order"),
        ("q=age:soon", "age"),
        ("q=ownr:ada", "ownr"),
        ("q=since:soon", "since"),
        ("tz=Mars", "tz"),
    ],
)
def test_an_invalid_query_is_refused(http: httpx.Client, query: str, field: str) -> None:
    answer = http.get(f"/api/jobs?{query}")

    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
    assert http.get("/api/jobs?limit=1&limit=2").status_code == 400


def test_a_plain_result_is_its_json(http: httpx.Client, kit: Kit, stage: Stage) -> None:
    job = submit(http)
    finish(kit, stage, job["id"], {"a": [1, 2.5, None], "b": "é"})

    answer = http.get(f"{job['url']}/result")

    assert answer.json() == {"a": [1, 2.5, None], "b": "é"}
    assert answer.headers["content-type"] == "application/json"


class _Bomb:
    """Unpickling it would raise."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1/0",)


def test_a_result_is_never_unpickled_and_shows_its_preview(http: httpx.Client, kit: Kit, stage: Stage) -> None:
    job = submit(http)
    preview = {"type": "Figure", "text": "a figure", "png": base64.b64encode(PNG).decode()}
    finish(kit, stage, job["id"], _Bomb(), preview=preview)

    shown = http.get(f"{job['url']}/result")
    as_text = http.get(f"{job['url']}/result", headers={"Accept": "text/plain"})
    whole = http.get(f"{job['url']}/result", headers={"Accept": "application/vnd.jobkit.preview+json"})

    assert (shown.headers["content-type"], shown.content) == ("image/png", PNG)
    assert shown.headers["x-jobkit-type"] == "Figure"
    assert as_text.text == "a figure"
    assert whole.json() == preview


def test_a_missing_result_has_a_reason(http: httpx.Client, kit: Kit, stage: Stage) -> None:
    waiting, failed, lost, generator = submit(http), submit(http), submit(http), submit(http)
    stage.start(failed["id"])
    stage.fail(failed["id"], message="no luck")
    stage.start(lost["id"])
    stage._finish(lost["id"], "succeeded")
    stage.start(generator["id"])
    preview = {"type": "generator", "text": "<generator object>", "unavailable": "return list(...) instead"}
    stage._finish(generator["id"], "succeeded", preview=preview)

    answers = [http.get(f"{job['url']}/result") for job in (waiting, failed, lost, generator)]

    assert [(a.status_code, a.json()["error"]) for a in answers] == [
        (409, "not_finished"),
        (409, "failed"),
        (410, "expired"),
        (410, "result_unavailable"),
    ]
    assert "no luck" in answers[1].json()["message"]
    assert answers[3].json()["message"].endswith("is not available: return list(...) instead")
    assert http.get("/api/jobs/nope/result").status_code == 404


def test_logs_are_json_or_text(http: httpx.Client, stage: Stage) -> None:
    job = submit(http)
    stage.start(job["id"])
    stage.log(job["id"], "one", "two", "three")

    lines = http.get(f"{job['url']}/logs?after=1").json()
    text = http.get(f"{job['url']}/logs?tail=2", headers={"Accept": "text/plain"})

    assert [(line["n"], line["text"]) for line in lines["lines"]] == [(2, "two"), (3, "three")]
    assert lines["total"] == 3
    assert text.text == "two\nthree\n"


def test_a_log_is_searched_on_the_server(http: httpx.Client, stage: Stage) -> None:
    job = submit(http)
    stage.start(job["id"])
    stage.log(job["id"], *[f"Step {n}" for n in range(30)])
    stage.log(job["id"], "it failed", source="log", level="ERROR")

    def found(query: str) -> tuple[list[int], int]:
        told = http.get(f"{job['url']}/logs?{query}").json()
        return [line["n"] for line in told["lines"]], told["matched"]

    assert found("search=step 1&limit=2") == ([2, 11], 11)
    assert found("search=step 1&tail=2") == ([19, 20], 11)
    assert found("level=error") == ([31], 1)
    assert found("before=3") == ([1, 2], 2)
    refused = http.get(f"{job['url']}/logs?level=loud")
    assert (refused.status_code, refused.json()["field"]) == (422, "level")


def test_metrics_come_as_columns_with_null_for_nan(http: httpx.Client, stage: Stage) -> None:
    job = submit(http)
    stage.start(job["id"])
    assert http.get(f"{job['url']}/metrics").json() == {"metrics": {}}

    stage.measure(job["id"], Curves(), loss=[(0, 1_760_000_000_000, 0.5), (2, 1_760_000_000_001, math.nan)])

    loss = http.get(f"{job['url']}/metrics").json()["metrics"]["loss"]
    assert loss["steps"] == [0, 2]
    assert loss["values"] == [0.5, None]
    assert loss["times"][1] == "2025-10-09T08:53:20.001Z"


def test_what_made_a_job_is_told(http: httpx.Client, kit: Kit) -> None:
    job = kit.options(seed=9).submit(len, "abc")

    made = http.get(f"/api/jobs/{job.id}/made-by").json()

    assert made["seed"] == 9
    assert made["submitted_from"]["host"] == os.uname().nodename
    assert made["ran_on"] is None


def test_artifacts_are_listed_and_come_as_files_and_never_as_pages(http: httpx.Client, kit: Kit, stage: Stage) -> None:
    from jobkit.attempts import artifact_subject
    from jobkit.codec import RAW

    job = submit(http)
    token = stage.start(job["id"]).token
    spec = kit.snapshot(job["id"]).spec
    name = "a b/ü.html"
    body = kit.codec.seal(RAW, b"<script>alert(1)</script>", artifact_subject(spec, name, "text/html"))
    info = ArtifactInfo(name, "text/html", 25, 1_760_000_000_000)
    background.call(stage.store.keep([Kept(job["id"], token, info, body)]))

    (listed,) = http.get(f"{job['url']}/artifacts").json()["artifacts"]
    answer = http.get(listed["url"])

    assert (listed["name"], listed["size_bytes"]) == (name, 25)
    assert answer.content == b"<script>alert(1)</script>"
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert http.get(f"{job['url']}/artifacts/other").status_code == 404


def test_a_job_that_waits_has_its_place_in_line_and_its_expected_start(http: httpx.Client, stage: Stage) -> None:
    stage.beat()
    first, second, later = submit(http), submit(http), submit(http, delay=3600)

    waiting = [http.get(job["url"]).json() for job in (first, second, later)]

    assert [job["ahead"] for job in waiting] == [0, 1, None]
    assert waiting[2]["starts_at"] == waiting[2]["due_at"]
    assert waiting[0]["cancelled"] is None


def test_cancel_retry_and_remove_follow_the_life_of_a_job(http: httpx.Client, stage: Stage) -> None:
    job = submit(http)

    assert http.post(f"{job['url']}/retry").status_code == 409
    assert http.delete(job["url"]).status_code == 409
    cancelled = http.post(f"{job['url']}/cancel", json={"reason": "not needed"})
    assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")
    assert http.post(f"{job['url']}/cancel").status_code == 409
    assert http.get(job["url"]).json()["cancelled"]["reason"] == "not needed"
    assert http.get(f"{job['url']}/checkpoints").json() == {"checkpoints": []}
    refused = http.post(f"{job['url']}/retry", json={"from_checkpoint": True})
    assert (refused.status_code, refused.json()["field"]) == (409, "from_checkpoint")
    again = http.post(f"{job['url']}/retry")
    assert again.status_code == 202
    assert http.get(again.json()["url"]).json()["retry_of"] == job["id"]
    assert http.delete(job["url"]).status_code == 204
    assert http.get(job["url"]).status_code == 404


def test_tasks_come_with_the_schema_of_their_arguments(http: httpx.Client) -> None:
    import jsonschema

    tasks = {task["name"]: task for task in http.get("/api/tasks").json()["tasks"]}

    schema = tasks["double"]["schema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate({"n": 5}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"n": 500}, schema)
    assert http.get("/api/tasks/double").json() == tasks["double"]
    assert http.get("/api/tasks/nope").status_code == 404


def test_queues_workers_and_counts_can_be_read(http: httpx.Client, stage: Stage) -> None:
    job = submit(http, queue="gpu")
    stage.start(job["id"], worker="gpu-1", queue="gpu")
    background.call(stage.store.renew("gpu-1", {}, {"queues": "gpu", "slots": 2, "running": 1}))

    assert http.get("/api/queues").json()["queues"]["gpu"]["running"] == 1
    assert [worker["id"] for worker in http.get("/api/workers").json()["workers"]] == ["gpu-1"]
    assert http.get("/api/stats").json()["jobs"]["running"] == 1
    assert http.get("/api/healthz").json()["status"] == "ok"


def test_unchanged_responses_are_not_sent_again(http: httpx.Client, stage: Stage) -> None:
    job = submit(http)
    first = http.get(job["url"])

    same = http.get(job["url"], headers={"If-None-Match": first.headers["etag"]})
    stage.start(job["id"])
    moved = http.get(job["url"], headers={"If-None-Match": first.headers["etag"]})

    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["etag"] == first.headers["etag"]
    assert moved.json()["state"] == "running"
    assert first.headers["cache-control"] == "private, no-cache"


def test_head_has_the_same_headers_without_a_body(http: httpx.Client) -> None:
    job = submit(http)

    head, get = http.head(job["url"]), http.get(job["url"])

    assert head.content == b""
    assert head.headers["etag"] == get.headers["etag"]


def test_a_wrong_method_or_path_is_refused(http: httpx.Client) -> None:
    wrong = http.put("/api/jobs", json={})

    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    assert http.get("/api/nope").status_code == 404
    assert http.get("/api/jobs/%FF").status_code == 400


def test_an_unreachable_store_is_a_503_also_in_health(serve: object, redis_server: object) -> None:
    from jobkit.client.kit import Kit
    from jobkit.settings import Settings
    from tests.store.server import Server

    with Server() as server, Kit(Settings(url=server.url, secret="x")) as kit:
        site = serve(kit=kit)  # type: ignore[operator]
        with site.client() as http:
            assert http.get("/api/healthz").status_code == 200
            server.kill()
            assert http.get("/api/healthz").status_code == 503
            answer = http.get("/api/jobs")
            assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
            assert answer.headers["retry-after"] == "1"


def test_jobs_that_were_submitted_elsewhere_are_seen(http: httpx.Client, stage: Stage) -> None:
    job_id = stage.submit(task="other", params={"x": 1})

    assert http.get(f"/api/jobs/{job_id}").json()["task"] == "other"
