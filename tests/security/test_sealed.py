"""Write access to Redis without the key chooses neither what runs nor what is shown as a result."""

from __future__ import annotations

import json
import logging
import pickle
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import redis
from msgspec.structs import replace

import jobkit
from jobkit.attempts import preview_subject
from jobkit.client.kit import Kit
from jobkit.codec import MAGIC, MSGPACK, PICKLE, RAW, Codec, Subject
from jobkit.run.attempt import Assignment, Rejected, resolve
from jobkit.settings import Settings
from jobkit.tasks.call import Call, encode_call, read_head, with_changes
from jobkit.tasks.info import TaskInfo, sealed_definition
from jobkit.tasks.registry import registry
from jobkit.tasks.specs import ParamSpec
from jobkit.ui.card.card_html import card_html
from jobkit.ui.card.card_model import CardModel
from tests.http.site import Site
from tests.store.server import Server
from tests.support import environment
from tests.ui.stage import Stage
from tests.worker import jobs
from tests.worker.conftest import Bench

from .conftest import Trap

SECRET = "of these tests"
REPORT = TaskInfo("report", "Report", params=(ParamSpec(name="command", kind="str"),), ref="os:system")
UNSIGNED = MAGIC + bytes(36)


@pytest.fixture
def kit(shared_server: Server) -> Iterator[Kit]:
    """Kit on a real Redis. `stage` plays the worker without heartbeats, so the lease is long."""
    kit = Kit(Settings(url=shared_server.url, namespace=f"t{secrets.token_hex(4)}", secret=SECRET, lease=3600.0))
    yield kit
    kit.close()
    with redis.Redis.from_url(shared_server.url) as client:
        for key in client.scan_iter(f"jk:{kit.settings.namespace}:*"):
            client.delete(key)


@pytest.fixture
def stage(kit: Kit) -> Stage:
    return Stage(kit)


@pytest.fixture
def stranger(kit: Kit) -> Iterator[redis.Redis]:
    """Kit with write access to Redis and without the secret."""
    with redis.Redis.from_url(kit.settings.url) as client:
        yield client


@pytest.fixture
def http(kit: Kit) -> Iterator[httpx.Client]:
    site = Site("tornado", kit)
    with httpx.Client(base_url=f"http://127.0.0.1:{site.port}") as client:
        yield client
    site.close()


def key(kit: Kit, name: str) -> str:
    return f"jk:{kit.settings.namespace}:{name}"


def unsigned(kind: str, job_id: str, task: str, value: Any) -> bytes:
    """Return an envelope without a signature."""
    return UNSIGNED + MSGPACK + msgspec.msgpack.encode(value)


# -- what runs ---------------------------------------------------------------------------------------------------------


def definitions() -> dict[str, bytes]:
    """Return forgeries of the sealed definition of `report`."""
    sealed = sealed_definition(REPORT.to_json(), Codec.from_secret(SECRET))
    bare = json.dumps(REPORT.to_json()).encode()
    swapped = replace(REPORT, ref="subprocess:call")
    other = replace(REPORT, name="other")
    return {
        "as it was before": bare,
        "unsigned": UNSIGNED + RAW + bare,
        "another key": sealed_definition(REPORT.to_json(), Codec.from_secret("not yours")),
        "another reference": sealed[:40] + msgspec.json.encode(swapped.to_json()),
        "another directory": sealed.replace(b'"source_dir":""', b'"source_dir":"/tmp"'),
        "another option": sealed.replace(b'"isolation":"process"', b'"isolation":"thread"'),
        "another parameter": sealed.replace(b'"command"', b'"argument"'),
        "of another task": sealed_definition(other.to_json(), Codec.from_secret(SECRET)),
        "cut": sealed[:60],
        "nothing": b"",
    }


@pytest.mark.parametrize("what", definitions())
def test_a_definition_that_no_worker_sealed_is_refused(what: str) -> None:
    codec = Codec.from_secret(SECRET)
    good = sealed_definition(REPORT.to_json(), codec)
    assert TaskInfo.from_sealed("report", good, codec) == REPORT

    with pytest.raises(jobkit.SignatureError, match=r"task 'report' cannot be used here.* JOBKIT_SECRET"):
        TaskInfo.from_sealed("report", definitions()[what], codec)


def test_a_task_that_a_stranger_wrote_cannot_be_submitted_by_name(
    kit: Kit, stranger: redis.Redis, http: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    stranger.hset(key(kit, "tasks"), "report", json.dumps(REPORT.to_json()))

    with caplog.at_level(logging.WARNING, "jobkit.client"):
        answer = http.post("/api/jobs", json={"task": "report", "params": {"command": "id"}})
        with pytest.raises(jobkit.UnknownTask, match="does not carry a valid signature; start its worker"):
            kit.submit("report", command="id")

    assert (answer.status_code, answer.json()["error"]) == (404, "unknown_task")
    assert "start its worker with the same JOBKIT_SECRET" in answer.json()["message"]
    assert "report" not in kit.tasks()
    assert "report" not in [task["name"] for task in http.get("/api/tasks").json()["tasks"]]
    assert "valid signature" in http.get("/api/tasks/report").json()["message"]
    with pytest.raises(jobkit.UnknownTask, match="valid signature"):
        kit.checked_changes("report", {"command": "id"})
    with pytest.raises(jobkit.UnknownTask, match="valid signature"):
        kit.schedule("report", {"command": "id"}, every=30)
    assert kit.jobs() == []
    assert [record.message for record in caplog.records if "report" in record.message][1:] == []  # once


def test_a_signed_definition_can_be_submitted_by_name(kit: Kit, stage: Stage, http: httpx.Client) -> None:
    stage.publish(TaskInfo("report", params=REPORT.params, ref="reports:report"))

    assert http.post("/api/jobs", json={"task": "report", "params": {"command": "x"}}).status_code == 202
    assert "report" in kit.tasks()


def call(ref: str, *args: Any, **outer: Any) -> bytes:
    made = msgspec.msgpack.decode(encode_call(Codec(), Call(None, args, {}), ref=ref))
    return msgspec.msgpack.encode(made | outer)


@pytest.fixture
def known() -> Iterator[None]:
    """Register `count_up` in this process, as in a worker that was started with its module."""
    before = registry.known("count_up")
    registry.register(jobs.count_up)
    yield
    if before is None:
        registry._tasks.pop("count_up")


@pytest.mark.parametrize("owns_process", [True, False])
def test_a_call_by_name_runs_only_the_workers_own_task_of_that_name(owns_process: bool, known: None) -> None:
    """Signed calls are checked, too: older clients sign definitions without checking them."""
    for ref in ("os:system", "subprocess:call", "no.such.module:f", ""):
        with pytest.raises(Rejected, match="report"):
            resolve(Assignment("j", "report", 1, call(ref, "id", named=True)), owns_process=owns_process)

    signed = Assignment("j", "count_up", 1, call("os:system", 1, named=True))
    function, args, _ = resolve(signed, owns_process=owns_process)

    assert function(*args) == 2


@pytest.mark.parametrize("owns_process", [True, False])
def test_an_unsigned_call_runs_only_a_registered_task_with_plain_arguments(
    owns_process: bool, known: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.chdir(tmp_path)
    path, mark = list(sys.path), tmp_path / "mark"
    evil = pickle.dumps([[Trap(mark)], {}])
    forged = {
        "a reference": call("os:system", f"touch {mark}"),
        "pickled arguments": call("", form=PICKLE, body=evil),
        "a pickled result": call("", None, needs=[[[0, 0], ["x"], False]], given={"x": [PICKLE, evil]}),
        "a function": call("", body=msgspec.msgpack.encode([[], {}, "os:system"])),
        "a directory": call("elsewhere:f", 1, path=["/"], cwd="/"),
    }

    for what, body in forged.items():
        for task in ("count_up", "report"):
            try:
                unsigned = Assignment("j", task, 1, body, allow_pickle=False)
                function, *_ = resolve(unsigned, owns_process=owns_process)
            except Rejected:
                continue
            assert (task, what) in [("count_up", "a reference"), ("count_up", "a directory")], what
            assert getattr(function, "__self__", None) is jobs.count_up, what

    assert not mark.exists()
    assert (sys.path, Path.cwd()) == (path, tmp_path)


def test_without_a_key_workers_run_nothing_that_a_stranger_chose(own_bench: Bench, known: None, tmp_path: Path) -> None:
    """Same forgeries with a real worker: each of them used to run."""
    bench = own_bench
    mark = tmp_path / "mark"
    evil = pickle.dumps([[Trap(mark)], {}])
    with jobkit.connect(**{**bench.place, "secret": ""}) as kit, redis.Redis.from_url(bench.server.url) as client:
        forged = {
            "os:system": call("os:system", f"touch {mark}"),
            "arguments": call("", form=PICKLE, body=evil),
            "result": call("", None, needs=[[[0, 0], ["x"], False]], given={"x": [PICKLE, evil]}),
        }
        waiting = []
        for task, body in [("report", forged["os:system"]), *(("count_up", body) for body in forged.values())]:
            job = kit.options(queue="held").submit(jobs.count_up, 1)
            spec = json.loads(client.hget(key(kit, f"job:{job.id}"), "spec"))
            client.hset(key(kit, f"job:{job.id}"), "spec", json.dumps(spec | {"task": task}))
            client.set(key(kit, f"args:{job.id}"), UNSIGNED + MSGPACK + body)
            waiting.append(job)
        bench.worker("-q", "held", JOBKIT_SECRET="")
        assert kit.options(queue="held").submit(jobs.count_up, 1).result(20) == 2
        for job in waiting:
            with pytest.raises(jobkit.JobFailed):
                job.result(20)
    assert not mark.exists()


def test_without_a_key_only_tasks_are_submitted(shared_server: Server) -> None:
    with Kit(Settings(url=shared_server.url, namespace=f"t{secrets.token_hex(4)}")) as kit:
        with pytest.raises(jobkit.InvalidParams, match=r"len is not a registered task.* set JOBKIT_SECRET"):
            kit.submit(len, "abc")
        assert kit.jobs() == []


def test_without_a_key_running_again_with_changes_opens_no_pickle_and_imports_nothing(
    shared_server: Server, known: None, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    with (
        Kit(Settings(url=shared_server.url, namespace=f"t{secrets.token_hex(4)}")) as kit,
        redis.Redis.from_url(shared_server.url) as client,
    ):
        job = kit.submit(jobs.count_up, 1)
        job.cancel()
        for body in (call("", form=PICKLE, body=pickle.dumps([[Trap(mark)], {}])), call("antigravity:f", 1)):
            client.set(key(kit, f"args:{job.id}"), UNSIGNED + MSGPACK + body, keepttl=True)
            with pytest.raises(jobkit.JobkitError) if b"antigravity" not in body else _nothing():
                kit.rerun(job.id, {"n": 2})
        for each in kit.jobs():
            each.cancel()
            kit.delete([each.id])
    import sys

    assert not mark.exists()
    assert "antigravity" not in sys.modules


def _nothing() -> Any:
    import contextlib

    return contextlib.nullcontext()


@pytest.mark.parametrize("verb", ["retry", "rerun", "retry_many", "retry_many with changes"])
def test_nothing_runs_again_from_arguments_that_a_stranger_wrote(
    verb: str, kit: Kit, stage: Stage, stranger: redis.Redis, tmp_path: Path, known: None
) -> None:
    mark = tmp_path / "mark"
    stage.publish(jobs.count_up.info())
    job = kit.submit(jobs.count_up, 1)
    stage.start(job.id)
    stage.fail(job.id)
    evil = UNSIGNED + PICKLE + pickle.dumps(Trap(mark))
    stranger.set(key(kit, f"args:{job.id}"), evil, keepttl=True)

    if verb.startswith("retry_many"):
        repeated = kit.retry_many([job.id], changes={"n": 2} if "changes" in verb else None)
        assert "is not signed" in repeated.refused[job.id]
    else:
        with pytest.raises(jobkit.SignatureError, match="is not signed"):
            kit.retry(job.id) if verb == "retry" else kit.rerun(job.id, {"n": 2})

    assert not mark.exists()
    assert [each.id for each in kit.jobs()] == [job.id]


def test_a_schedule_makes_no_job_of_arguments_that_a_stranger_wrote(
    kit: Kit, stage: Stage, stranger: redis.Redis, known: None
) -> None:
    schedule = kit.schedule(jobs.count_up, {"n": 1}, every=3600)
    other = kit.schedule("count_up", {"n": 2}, every=3600, name="other")
    mine = stranger.get(key(kit, f"schedule-args:{schedule.name}"))
    for forged in (
        unsigned("schedule", schedule.name, "count_up", {}),
        stranger.get(key(kit, f"schedule-args:{other.name}")),
    ):
        stranger.set(key(kit, f"schedule-args:{schedule.name}"), forged)
        with pytest.raises(jobkit.SignatureError):
            schedule.run_now()
    stranger.set(key(kit, f"schedule-args:{schedule.name}"), mine)

    assert schedule.run_now().task == "count_up"
    schedule.remove()
    other.remove()


# -- what is shown as true -------------------------------------------------------------------------------------------


def ended(kit: Kit, stage: Stage, value: int = 42) -> str:
    """Return the id of a job with the result `value`, stored as a worker does."""
    job_id = kit.submit(jobs.count_up, value - 1).id
    stage.start(job_id)
    result = kit.codec.dumps(value, Subject("result", job_id, "count_up"))
    stage.succeed(job_id, preview={"type": "int", "text": str(value), "json": value}, summary=str(value), result=result)
    return job_id


FORGED_PREVIEW = json.dumps({"type": "int", "text": "666", "json": 666, "png": "AAAA"}).encode()


def previews(kit: Kit, job_id: str, other_id: str) -> dict[str, bytes]:
    codec = Codec.from_secret("not yours")
    return {
        "as it was before": FORGED_PREVIEW,
        "unsigned": UNSIGNED + RAW + FORGED_PREVIEW,
        "another key": codec.seal(RAW, FORGED_PREVIEW, preview_subject(job_id)),
        "of another job": kit.codec.seal(RAW, FORGED_PREVIEW, preview_subject(other_id)),
        "a result": kit.codec.seal(RAW, FORGED_PREVIEW, Subject("result", job_id, "count_up")),
    }


def test_a_preview_that_no_worker_sealed_for_the_job_is_shown_nowhere(
    kit: Kit, stage: Stage, stranger: redis.Redis, http: httpx.Client, known: None
) -> None:
    job_id, other_id = ended(kit, stage), ended(kit, stage, 7)
    assert kit.preview(job_id) == {"type": "int", "text": "42", "json": 42}
    assert http.get(f"/api/jobs/{job_id}/result").json() == 42

    for what, forged in previews(kit, job_id, other_id).items():
        stranger.set(key(kit, f"preview:{job_id}"), forged, keepttl=True)
        shown = kit.preview(job_id)
        assert f"the preview of job {job_id}" in shown["unavailable"], what
        assert "666" not in str(shown), what
        assert http.get(f"/api/jobs/{job_id}/result").json() == 42, "the value itself is signed"
        for accept in ("image/png", "text/plain", "application/vnd.jobkit.preview+json"):
            answer = http.get(f"/api/jobs/{job_id}/result", headers={"Accept": accept})
            assert "666" not in answer.text
        assert shown["unavailable"].split(";")[0] in card_html(CardModel(kit.snapshot(job_id), preview=shown))

    stranger.delete(key(kit, f"result:{job_id}"))
    answer = http.get(f"/api/jobs/{job_id}/result")
    assert (answer.status_code, answer.json()["error"]) == (502, "signature")
    assert "preview" in answer.json()["message"]


def test_a_result_with_a_broken_seal_is_reported_and_not_replaced_by_its_preview(
    kit: Kit, stage: Stage, stranger: redis.Redis, http: httpx.Client, known: None
) -> None:
    job_id = ended(kit, stage)
    sealed = stranger.get(key(kit, f"result:{job_id}"))
    stranger.set(key(kit, f"result:{job_id}"), sealed[:-1] + b"\x00", keepttl=True)

    answer = http.get(f"/api/jobs/{job_id}/result")
    with Kit(kit.settings) as other, pytest.raises(jobkit.SignatureError, match="does not carry a valid signature"):
        other.get(job_id).result(5)

    assert (answer.status_code, answer.json()["error"]) == (502, "signature")
    assert f"the result of job {job_id} does not carry a valid signature" in answer.json()["message"]


def test_an_artifact_with_a_broken_seal_is_reported(
    kit: Kit, stage: Stage, stranger: redis.Redis, http: httpx.Client, known: None
) -> None:
    job_id = kit.submit(jobs.count_up, 1).id
    stage.start(job_id)
    stage.save(job_id, "notes.txt", "text/plain", b"mine")
    stage.succeed(job_id)
    stranger.hset(key(kit, f"bodies:{job_id}"), "notes.txt", UNSIGNED + RAW + b"theirs")

    answer = http.get(f"/api/jobs/{job_id}/artifacts/notes.txt")

    assert (answer.status_code, answer.json()["error"]) == (502, "signature")
    with pytest.raises(jobkit.SignatureError):
        kit.artifact(job_id, "notes.txt").read()


def test_an_exception_with_a_broken_seal_is_not_unpickled_but_reported(
    kit: Kit, stage: Stage, stranger: redis.Redis, tmp_path: Path, known: None
) -> None:
    job_id = kit.submit(jobs.count_up, 1).id
    stage.start(job_id)
    stage.fail(job_id)
    stranger.set(key(kit, f"result:{job_id}"), UNSIGNED + PICKLE + pickle.dumps(Trap(tmp_path / "mark")))

    with (
        Kit(kit.settings) as other,
        pytest.raises(jobkit.JobFailed, match="exception was not rebuilt.*is not signed") as told,
    ):
        other.get(job_id).result(5)

    assert told.value.__cause__ is None
    assert not (tmp_path / "mark").exists()


def test_a_result_of_another_job_is_used_only_if_the_signed_calls_of_both_are_equal(
    kit: Kit, stage: Stage, stranger: redis.Redis, http: httpx.Client, known: None
) -> None:
    """The record's `cached` field names the other job; it is not signed."""
    first, second = ended(kit, stage, 42), ended(kit, stage, 7)
    stranger.delete(key(kit, f"result:{second}"), key(kit, f"preview:{second}"))
    stranger.hset(key(kit, f"job:{second}"), "cached", first)

    with Kit(kit.settings) as other, pytest.raises(jobkit.SignatureError, match="not the same work"):
        other.get(second).result(5)
    answer = http.get(f"/api/jobs/{second}/result")
    assert (answer.status_code, answer.json()["error"]) == (502, "signature")
    assert "not the same work" in kit.preview(second)["unavailable"]

    third = kit.submit(jobs.count_up, kit.get(second))
    from jobkit.attempts import NeedMissing, needed
    from jobkit.client.loop import background

    with pytest.raises(NeedMissing, match="not the same work"):
        background.call(needed(stage.store, third.snapshot.spec, kit.codec))


def test_a_reused_result_is_returned_and_shown(kit: Kit, stage: Stage, http: httpx.Client, known: None) -> None:
    cached = kit.options(cache=3600)
    first = cached.submit(jobs.count_up, 41)
    stage.start(first.id)
    result = kit.codec.dumps(42, Subject("result", first.id, "count_up"))
    stage.succeed(first.id, preview={"type": "int", "text": "42", "json": 42}, result=result)

    second = cached.submit(jobs.count_up, 41)

    assert second.snapshot.cached_from == first.id
    assert second.result(5) == 42
    assert kit.preview(second.id) == {"type": "int", "text": "42", "json": 42}
    assert http.get(f"/api/jobs/{second.id}/result").json() == 42


def test_changed_arguments_drop_the_cache_key() -> None:
    codec = Codec.from_secret(SECRET)
    body = encode_call(codec, Call(None, (1,), {}), ref="a:b", cache_key="k")

    assert read_head(body).cache_key == "k"
    assert read_head(with_changes(body, {"n": 2})).cache_key == ""


def test_the_command_line_says_that_a_preview_is_not_signed(
    kit: Kit, stage: Stage, stranger: redis.Redis, known: None
) -> None:
    import subprocess
    import sys

    job_id = ended(kit, stage)
    stranger.set(key(kit, f"preview:{job_id}"), FORGED_PREVIEW, keepttl=True)
    place = {"JOBKIT_URL": kit.settings.url, "JOBKIT_NAMESPACE": kit.settings.namespace, "JOBKIT_SECRET": SECRET}

    command = [sys.executable, "-m", "jobkit", "show", job_id]
    shown = subprocess.run(command, env=environment(**place), capture_output=True, text=True, timeout=60)

    assert shown.returncode == 0, shown.stderr
    assert f"the preview of job {job_id} is not" in shown.stdout
    assert "666" not in shown.stdout
