"""The document matches the server: it is generated from the types that validate, and responses are checked with it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from jobkit.http.api import shapes
from jobkit.http.api.openapi import describe
from jobkit.http.routes import ROUTES
from jobkit.model import ErrorKind
from jobkit.model.events import JobState
from jobkit.model.metrics import Curves
from jobkit.model.snapshot import JobError, JobSnapshot
from jobkit.model.spec import JobSpec
from tests.ui.stage import Stage


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return describe(ROUTES)


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield all objects of a document, at any depth."""
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects(each)


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By path and method."""
    return {
        path: {name.removeprefix("x-").upper(): one for name, one in item.items() if name != "description"}
        for path, item in document["paths"].items()
    }


def test_every_route_is_in_the_document_once(document: dict[str, Any]) -> None:
    described = {(method, path) for path, methods in operations(document).items() for method in methods}
    ids = [operation["operationId"] for methods in operations(document).values() for operation in methods.values()]

    assert described == {(route.method, route.path) for route in ROUTES}
    assert len(ids) == len(set(ids))


def test_the_document_is_consistent(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    assert document["openapi"].startswith("3.1")
    for reference in (one["$ref"] for one in objects(document) if isinstance(one.get("$ref"), str)):
        assert reference.removeprefix("#/components/schemas/") in schemas
    for schema in schemas.values():
        draft().check_schema(schema)
    for path, methods in operations(document).items():
        for operation in methods.values():
            named = [one["name"] for one in operation["parameters"] if one["in"] == "path"]
            assert all(f"{{{name}}}" in path for name in named)
            assert operation["summary"]


def test_each_operation_says_whether_it_takes_a_token(document: dict[str, Any]) -> None:
    by_address = {route.path: route for route in ROUTES}

    for path, methods in operations(document).items():
        for operation in methods.values():
            takes_token = bool(by_address[path].scope) or path.startswith("/.well-known/mercure")
            assert operation["security"] == ([{"token": []}, {}] if takes_token else []), path


def test_required_fields_are_described_and_the_license_is_named(document: dict[str, Any]) -> None:
    for schema in objects(document):
        if isinstance(schema.get("required"), list):
            assert set(schema["required"]) <= set(schema["properties"]), schema

    assert document["info"]["license"]["identifier"] == "MIT"


def draft() -> Any:
    from jsonschema import Draft202012Validator  # takes 1.5 s in each process of a run

    return Draft202012Validator


def validator(document: dict[str, Any], name: str) -> Any:
    return draft()({**document, "$ref": f"#/components/schemas/{name}"})


def test_the_shape_of_a_job_equals_a_snapshot() -> None:
    error = JobError(ErrorKind.EXCEPTION, "E", "m")
    for snapshot in (
        JobSnapshot(JobSpec("a", "b"), 1, JobState.QUEUED),
        JobSnapshot(JobSpec("a", "b"), 1, JobState.FAILED, error=error),
    ):
        wire = snapshot.to_json()

        msgspec.convert(wire, shapes.JobJson, strict=True)
        assert set(wire) == {field.encode_name for field in msgspec.structs.fields(shapes.JobJson)}


def test_responses_match_the_document(http: httpx.Client, stage: Stage) -> None:
    document = http.get("/api/openapi.json").json()
    job = http.post("/api/jobs", json={"task": "double"}).json()
    stage.start(job["id"])
    stage.log(job["id"], "a line")
    stage.measure(job["id"], Curves(), loss=[(0, 1, 0.5), (1, 2, math.inf)])
    for path, name in [
        (f"/api/jobs/{job['id']}", "Job"),
        ("/api/jobs", "JobPage"),
        (f"/api/jobs/{job['id']}/logs", "Log"),
        (f"/api/jobs/{job['id']}/metrics", "Metrics"),
        (f"/api/jobs/{job['id']}/artifacts", "Artifacts"),
        ("/api/tasks", "Tasks"),
        ("/api/queues", "Queues"),
        ("/api/workers", "Workers"),
        ("/api/stats", "Stats"),
        ("/api/healthz", "Health"),
        ("/api/jobs/nope", "Refusal"),
    ]:
        validator(document, name).validate(http.get(path).json())
    validator(document, "Accepted").validate(job)


def test_the_page_to_try_it_loads_nothing_from_other_hosts(http: httpx.Client) -> None:
    page, script = http.get("/api/docs"), http.get("/api/docs.js")

    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "sandbox" not in page.headers["content-security-policy"]
    assert "http://" not in page.text + script.text
    assert "https://" not in page.text + script.text
