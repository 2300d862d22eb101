"""The OpenAPI document is a promise: valid requests, and many invalid ones, get a documented response."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
import schemathesis.specs.openapi.analysis  # Python 3.11 cannot compile these at a deep stack
import schemathesis.specs.openapi.definitions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from jobkit.http.routes import ROUTES
from tests.http.site import Site
from tests.http.tasks import double
from tests.ui.stage import Stage

#: Streams do not end, and the hub's is published to by a form.
OPERATIONS = sorted(
    (
        (route.method, route.path)
        for route in ROUTES
        if route.method != "QUERY" and not route.path.endswith("/events") and route.path != "/.well-known/mercure"
    ),
    key=lambda one: ["GET", "POST", "DELETE"].index(one[0]),
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]


@pytest.fixture
def site(serve: Callable[..., Site]) -> Site:
    return serve()


@pytest.fixture
def jobs(stage: Stage) -> dict[str, str]:
    """The ids of an ended and a waiting job."""
    ended = stage.kit.submit(double, 1).id
    stage.start(ended)
    stage.log(ended, "a line")
    stage.succeed(ended)
    return {"ended": ended, "waits": stage.kit.submit(double, 2).id}


@pytest.fixture
def schema(site: Site, jobs: dict[str, str]) -> Any:
    """The document of a server with some jobs."""
    return schemathesis.openapi.from_url(f"{site.url}/api/openapi.json")


@pytest.mark.nightly
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
def test_every_answer_is_in_the_document(schema: Any, site: Site, jobs: dict[str, str], mode: GenerationMode) -> None:
    """Requests that fit the document or break one rule of it; half of them name existing jobs."""
    answered: set[int] = set()
    for method, path in OPERATIONS:
        operation = schema[path][method]
        if mode is GenerationMode.NEGATIVE and not (operation.query or operation.body):
            continue

        @settings(max_examples=10, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(mode), known=st.sampled_from(["", "ended", "waits"]))
        def holds(case: Any, known: str) -> None:
            if known:
                for name in case.path_parameters:
                    case.path_parameters[name] = {"id": jobs[known], "name": "double", "topic": "a"}.get(name, "exact")
                if isinstance(case.body, dict) and "task" in case.body:
                    case.body["task"] = "double"
            answer = case.call(base_url=site.url)
            answered.add(answer.status_code)
            case.validate_response(answer, checks=CHECKS)

        holds()

    assert answered >= ({200, 202, 404, 409, 422} if mode is GenerationMode.POSITIVE else {422}), answered
