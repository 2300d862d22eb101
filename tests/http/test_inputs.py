"""Invalid input is refused in one sentence, and no response reveals paths of the server."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from jobkit.client.kit import Kit
from jobkit.http.api.openapi import describe
from jobkit.http.core.handling import Limits, without_places
from jobkit.http.messages import Request
from jobkit.http.routes import ROUTES
from jobkit.model.person import Person, Role
from jobkit.settings import Settings
from jobkit.ui.access.actions import Actions
from tests.http.direct import Direct
from tests.http.site import Site
from tests.support import wait_until
from tests.ui.stage import Stage


@pytest.fixture
def memory() -> Iterator[Kit]:
    with Kit(Settings(url="sync://", secret="of these tests")) as made:
        yield made


@pytest.fixture
def here(memory: Kit) -> Iterator[Direct]:
    """Client on this machine, at a server without a socket."""
    made = Direct(memory, is_own=True)
    yield made
    made.close()


@pytest.fixture
def elsewhere(memory: Kit) -> Iterator[Direct]:
    made = Direct(memory)
    yield made
    made.close()


def cursor(order: str, value: Any, us: Any = 5) -> str:
    return base64.urlsafe_b64encode(json.dumps([order, value, us]).encode()).decode()


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/api/jobs", {}, 413),
        ("POST", "/api/jobs", {"authorization": "Bearer x"}, 413),
        ("POST", "/api/none", {}, 404),
        ("PUT", "/api/jobs", {}, 405),
        ("POST", "/api/jobs", {"host": "evil.example"}, 421),
        ("POST", "/api/jobs", {"origin": "https://evil.example"}, 403),
    ],
)
def test_a_body_that_is_too_large_is_refused_after_host_origin_and_path_and_before_the_token(
    elsewhere: Direct, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    """Whatever the answer is, the rest of the body is not read: the connection is closed."""
    request = Request(method, path, {"host": "localhost", **headers}, is_too_large=True)
    answer = elsewhere.run(elsewhere.api.handle(request))

    assert (answer.status, answer.headers["Connection"]) == (status, "close")


@pytest.mark.parametrize(
    ("path", "query"),
    [
        *(
            ("/api/audit", {"before": text})
            for text in ("00-00", "x", "1", "1-", "١-٠", "99999999999999999999-0", "1-0\n")
        ),
        *(("/api/jobs", {"cursor": text}) for text in ("x", "-5", "1_000", "9" * 30, "9" * 1999, " 5", "٣")),
        ("/api/jobs", {"order": "took", "cursor": cursor("took", "text")}),
        ("/api/jobs", {"order": "took", "cursor": cursor("took", [1])}),
        ("/api/jobs", {"order": "took", "cursor": cursor("took", True)}),
        ("/api/jobs", {"order": "took", "cursor": cursor("took", float("inf"))}),
        ("/api/jobs", {"order": "took", "cursor": cursor("took", 10**40)}),
        ("/api/jobs", {"order": "took", "cursor": cursor("took", 1, 10**40)}),
        ("/api/jobs", {"order": "took", "cursor": cursor("started", 1)}),
        ("/api/jobs", {"order": "-task", "cursor": cursor("-task", 1)}),
        ("/api/jobs", {"order": "task", "cursor": cursor("task", "\ud800")}),
        ("/api/jobs", {"order": "state", "cursor": cursor("state", None)}),
        ("/api/jobs", {"order": "took", "cursor": base64.urlsafe_b64encode(b"[" * 1400).decode()}),
        ("/api/jobs", {"order": "size"}),
        ("/api/jobs", {"limit": "0"}),
        ("/api/jobs/x/logs", {"after": "-1"}),
        ("/api/failures", {"limit": "9" * 30}),
    ],
)
def test_an_invalid_position_is_a_422_with_its_field(here: Direct, path: str, query: dict[str, str]) -> None:
    """`before=00-00` used to return a 503 with the path of the store's socket."""
    answer = here.ask("GET", path, urlencode(query))

    assert answer.status == 422, answer.body
    assert answer.json()["field"] == list(query)[-1]


@pytest.mark.parametrize("query", ["type=foo", "type=logged", "type=started&type=foo"])
def test_a_stream_of_events_that_never_come_is_a_422(here: Direct, query: str) -> None:
    answer = here.ask("GET", "/api/events", query)

    assert (answer.status, answer.json()["field"][:4]) == (422, "type")


@pytest.mark.parametrize(
    "last", ["00-00", "5-99999999999999999999", "5-99999999999999999", "99999999999999999999-0", "0-0", "x", "5-", "-"]
)
@pytest.mark.parametrize("path", ["/api/events", "/api/jobs/waits/events", "/.well-known/mercure?match=*"])
def test_a_stream_from_an_odd_position_starts(serve: Callable[..., Site], stage: Stage, path: str, last: str) -> None:
    """Positions that Redis does not accept used to return a 503, or to end the stream at once, repeatedly."""
    stage.submit(id="waits", task="double")
    stage.submit(id="other", task="double")
    site = serve(limits=Limits(heartbeat_s=0.2, stream_s=30))
    with site.client() as http, http.stream("GET", path, headers={"Last-Event-ID": f"#{last}.9"[: -2 or None]}) as told:
        assert told.status_code == 200
        parts = told.iter_raw()
        assert all(next(parts) for _ in range(3))


@pytest.fixture
def away(tmp_path: Any) -> Iterator[Direct]:
    """API of a store that does not answer."""
    secret = tmp_path / "secret-place"
    made = Direct(None, is_own=True, source=lambda: Kit(Settings(url=f"unix://{secret}/r.sock", home=secret)))
    yield made
    made.close()


def test_an_error_does_not_reveal_the_address_of_the_store(away: Direct) -> None:
    for path in ("/api/jobs", "/api/jobs/x", "/api/audit", "/api/stats", "/api/events", "/.well-known/mercure"):
        answer = away.ask("GET", path, "match=*" if "mercure" in path else "")

        assert (answer.status, answer.json()["error"]) == (503, "unavailable"), path
        assert b"secret-place" not in answer.body
        assert b"r.sock" not in answer.body


def test_paths_and_addresses_are_removed_from_sentences() -> None:
    settings = Settings(url="redis://:word@box:6379/3", results="/data/results", login="/etc/people.json")
    text = f"{settings.home}/x, /data/results/y, /etc/people.json, redis://:***@box:6379/3: results of data"

    assert without_places(text, settings) == "…/x, …/y, …, …: results of data"


# -- refused requests have no effect ----------------------------------------------------------------------------------


def test_a_submit_without_a_user_name_is_refused_before_anything_is_stored() -> None:
    """With `anonymous=own` it used to answer 409, but the job ran."""
    with Kit(Settings(url="sync://", secret="of these tests", roles={"anonymous": "own"})) as kit:
        kit_tasks = Direct(kit)
        answer = kit_tasks.ask("POST", "/api/jobs", body={"task": "double"})
        listed = kit_tasks.ask("GET", "/api/jobs")
        kit_tasks.close()

        assert (answer.status, answer.json()["error"]) == (403, "insufficient_scope")
        assert (listed.status, listed.json()["jobs"]) == (200, [])
        assert kit.jobs() == []
        assert not Actions(kit, Person("", Role.OWN)).may("submit")
        assert Actions(kit, Person("ada", Role.OWN)).may("submit")


def test_a_token_for_some_tasks_does_not_see_queues_and_workers_of_others(elsewhere: Direct, memory: Kit) -> None:
    kit, token = memory, elsewhere.token("view", tasks=["train_*"])
    kit.queues.pause("secret-queue")
    kit.queues.pause("default")
    for path in ("/api/queues", "/api/workers", "/api/stats", "/api/metrics"):
        assert elsewhere.ask("GET", path, token=token).status == 403, path
    found = elsewhere.ask("GET", "/api/paused", token=token)

    assert "secret-queue" not in found.body.decode()
    assert elsewhere.ask("GET", "/api/queues", token=elsewhere.token("view")).status == 200


def test_a_loop_of_failing_requests_pushes_nothing_out_of_the_audit_trail(elsewhere: Direct, memory: Kit) -> None:
    """10,300 cancels of a user with the role `own` used to empty it."""
    kit = memory
    kit.queues.pause("default", by="admin")
    admin = elsewhere.token("operate", subject="admin")
    assert elsewhere.ask("POST", "/api/queues/default/resume", token=admin).status == 200
    token = elsewhere.token("operate", subject="eve", only_own=True)
    for n in range(1000):
        assert elsewhere.ask("POST", f"/api/jobs/job{n}/cancel", token=token).status == 404
    assert elsewhere.ask("POST", "/api/queues/default/pause", token=token).status == 403

    wait_until(lambda: len(kit.audit(10_000)) >= 3, what="the last entry: it is written after the answer")
    trail = [(entry.who, entry.action, entry.outcome) for entry in kit.audit(10_000)]
    assert trail[-1] == ("admin", "resume_queue", "done")
    assert len(trail) == 3


# -- methods ----------------------------------------------------------------------------------------------------------


def test_each_path_names_its_allowed_methods(here: Direct) -> None:
    methods: dict[str, set[str]] = {}
    for route in ROUTES:
        methods.setdefault(route.path, {"OPTIONS"}).add(route.method)
        if route.method == "GET":
            methods[route.path].add("HEAD")
    document = describe(ROUTES)["paths"]
    for path, allowed in methods.items():
        told = ", ".join(sorted(allowed))
        real = path.replace("{", "").replace("}", "")
        for method in ("TRACE", "PUT", "PROPFIND", "OPTIONS"):
            answer = here.ask(method, real)
            assert (answer.status, answer.headers["Allow"]) == (204 if method == "OPTIONS" else 405, told), path
        assert document[path]["description"] == f"Allow: {told}"
    assert here.ask("OPTIONS", "/api/nothing").status == 404


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "PREPARE", "BREW"])
def test_an_unknown_method_is_refused_with_the_allowed_ones(site: Site, method: str) -> None:
    with site.client() as http:
        answer = http.request(method, "/api/tasks/double")
        nothing = http.request(method, "/api/nothing")

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert answer.headers["content-type"] == "application/problem+json"
    assert nothing.status_code in (404, 405)


def test_a_preflight_names_the_methods_of_its_path(memory: Kit) -> None:
    direct = Direct(memory, options={"origins": ["https://app.example"]})
    headers = {"origin": "https://app.example", "access-control-request-method": "DELETE"}
    answer = direct.ask("OPTIONS", "/api/jobs/x", headers=headers)
    direct.close()

    assert answer.headers["Access-Control-Allow-Methods"] == "DELETE, GET, HEAD"


def test_the_document_has_the_allowed_orders_and_names(here: Direct) -> None:
    paths = here.ask("GET", "/api/openapi.json").json()["paths"]
    (order,) = [one for one in paths["/api/jobs"]["get"]["parameters"] if one["name"] == "order"]
    (name,) = paths["/api/queues/{name}/pause"]["post"]["parameters"]

    assert order["schema"]["pattern"].startswith("^(-?(submitted|started|finished|took|")
    assert name["schema"]["pattern"] == "^[A-Za-z0-9_.:-]{1,200}$"
    assert "x-query" in paths["/.well-known/mercure"]
