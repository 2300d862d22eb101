"""Every route by every role, on other users' jobs. The table has to name every route, so no new one is forgotten.

`test_roles` tests whole tasks over HTTP and pages; `tests/ui/test_actions.py` every action of a page by every role.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from jobkit.client.loop import background
from jobkit.features.failures.page import GROUP_ACTIONS, FailuresPage
from jobkit.features.schedules.model import ScheduleSpec
from jobkit.features.schedules.page import SchedulesPage
from jobkit.features.schedules.store import ScheduleStore
from jobkit.features.timeline.page import Timeline
from jobkit.http.routes import ROUTES
from jobkit.model import JobSpec
from jobkit.model.person import Person, Role
from jobkit.store.query import Query
from jobkit.ui.access.actions import PAUSE_ACTIONS, Actions
from jobkit.ui.app.pages import PAGES
from jobkit.ui.card.job_card import JobCard
from jobkit.ui.jobs.job_table import JobTable
from jobkit.ui.log.log_view import LogView
from jobkit.ui.workers.workers_page import WorkersPage
from tests.security.people_site import PeopleSite
from tests.security.test_roles import ROLES, site, stage
from tests.support import wait_until
from tests.ui.conftest import _own_registry
from tests.ui.stage import Stage

__all__ = ["_own_registry", "site", "stage"]

#: Text in everything that belongs to another user.
SECRET = "foreign-secret"


def a_job(stage: Stage, way: str) -> str:
    job = stage.submit("double", {"n": 1}, owner="foreign", title=SECRET, tags=(SECRET,))
    if way != "waiting":
        stage.start(job)
        stage.log(job, SECRET)
        stage.save(job, "a.txt", "text/plain", SECRET.encode())
    if way == "ended":
        stage.succeed(job, {"type": "str", "text": SECRET, "json": SECRET})
    if way == "asking":
        stage.ask(job, str, SECRET)
    if way == "failed":
        stage.fail(job, message=f"{SECRET} {job}")
    return job


def a_schedule(stage: Stage) -> str:
    spec = ScheduleSpec(SECRET, JobSpec("", "double", owner="foreign", title=SECRET), cron="0 6 * * *")
    background.call(stage.store.part(ScheduleStore).put(spec, b"", 9))
    return SECRET


def a_batch(stage: Stage) -> str:
    return stage.batch({}, task="double", owner="foreign", name=SECRET)[0]


def a_group(stage: Stage) -> str:
    a_job(stage, "failed")
    return str(stage.kit.failures()[0].id)


#: Status for none, own, view, operate and admin on another user's jobs.
EVERYBODY = (200, 200, 200, 200, 200)
LOOK_AT_ALL = (403, 403, 200, 200, 200)  # about all users' jobs
LOOK_AT_ONE = (403, 404, 200, 200, 200)  # hidden from a role that sees its own jobs
LIST = (403, 200, 200, 200, 200)  # with their own jobs only


def acts(status: int, own: int = 404) -> tuple[int, ...]:
    return 403, own, 403, status, status


TABLE = {
    "POST /api/jobs": (403, 202, 403, 202, 202),
    "GET /api/jobs": LIST,
    "GET /api/jobs/{id}": LOOK_AT_ONE,
    "DELETE /api/jobs/{id}": acts(204),
    "POST /api/jobs/{id}/cancel": acts(202),
    "POST /api/jobs/{id}/retry": acts(502),  # a stage keeps no signed arguments
    "POST /api/jobs/{id}/move": acts(200, 403),
    "GET /api/jobs/{id}/question": LOOK_AT_ONE,
    "POST /api/jobs/{id}/question": acts(200),
    "GET /api/jobs/{id}/result": LOOK_AT_ONE,
    "GET /api/jobs/{id}/logs": LOOK_AT_ONE,
    "GET /api/jobs/{id}/metrics": LOOK_AT_ONE,
    "GET /api/jobs/{id}/made-by": LOOK_AT_ONE,
    "GET /api/jobs/{id}/artifacts": LOOK_AT_ONE,
    "GET /api/jobs/{id}/checkpoints": LOOK_AT_ONE,
    "GET /api/jobs/{id}/artifacts/{name}": LOOK_AT_ONE,
    "GET /api/tasks": LIST,
    "GET /api/tasks/{name}": LIST,
    "GET /api/queues": LOOK_AT_ALL,
    "GET /api/workers": LOOK_AT_ALL,
    "GET /api/stats": LOOK_AT_ALL,
    "GET /api/metrics": LOOK_AT_ALL,
    "GET /api/schedules": LIST,
    "GET /api/schedules/{name}": LOOK_AT_ONE,
    "DELETE /api/schedules/{name}": acts(204),
    "POST /api/schedules/{name}/pause": acts(200),
    "POST /api/schedules/{name}/resume": acts(200),
    "POST /api/schedules/{name}/run": acts(502),  # as above
    "GET /api/paused": LIST,
    "POST /api/queues/{name}/pause": acts(200, 403),
    "POST /api/queues/{name}/resume": acts(200, 403),
    "POST /api/tasks/{name}/pause": acts(200, 403),
    "POST /api/tasks/{name}/resume": acts(200, 403),
    "GET /api/failures": LOOK_AT_ALL,
    "GET /api/failures/{id}": LOOK_AT_ALL,
    "POST /api/failures/{id}/retry": acts(202, 403),
    "POST /api/failures/{id}/mute": acts(200, 403),
    "POST /api/failures/{id}/resolve": acts(200, 403),
    "POST /api/failures/{id}/reopen": acts(200, 403),
    "GET /api/batches": LIST,
    "GET /api/batches/{id}": LOOK_AT_ONE,
    "POST /api/batches/{id}/cancel": acts(200),
    "POST /api/batches/{id}/retry": acts(202),
    "GET /api/audit": (403, 403, 403, 403, 200),
    "GET /api/healthz": EVERYBODY,
    "GET /api/openapi.json": EVERYBODY,
    "GET /api/docs": EVERYBODY,
    "GET /api/docs.js": EVERYBODY,
}

#: Streams: see `test_roles` and `tests/http`.
STREAMS = re.compile(r".*/events|/\.well-known/.*")

BODIES = {
    "POST /api/jobs": {"task": "double"},
    "POST /api/jobs/{id}/move": {"queue": "other"},
    "POST /api/jobs/{id}/question": {"answer": "yes"},
}

#: State of the job for a route, by the end of its path; "ended" for others.
WAYS = {"cancel": "waiting", "move": "waiting", "question": "asking"}


def test_every_route_gives_each_role_what_the_table_says(stage: Stage, site: PeopleSite) -> None:
    routes = [(route.method, route.path) for route in ROUTES if not STREAMS.fullmatch(route.path)]
    assert {f"{method} {path}" for method, path in routes} == set(TABLE)
    got: dict[str, list[int]] = {name: [] for name in TABLE}
    for role in ROLES:
        with site.client(role) as http:
            for method, path in routes:
                name = f"{method} {path}"
                if "/jobs/{id}" in path:
                    job = a_job(stage, WAYS.get(path.rpartition("/")[2], "ended"))
                    path = path.replace("{id}", job).replace("{name}", "a.txt")
                elif "/schedules/{name}" in path:
                    path = path.replace("{name}", a_schedule(stage))
                elif "/batches/{id}" in path:
                    path = path.replace("{id}", a_batch(stage))
                elif "/failures/{id}" in path:
                    path = path.replace("{id}", a_group(stage))
                answer = http.request(method, path.replace("{name}", "double"), json=BODIES.get(name))
                got[name].append(answer.status_code)
                if role in ("none", "own"):
                    told = answer.text.replace(f"'{SECRET}'", "")  # the requested name, repeated
                    assert SECRET not in told, (role, name)

    assert {name: tuple(codes) for name, codes in got.items()} == TABLE


#: The pages that each role may open.
PAGES_OF = {
    "none": set(),
    "own": {"jobs", "timeline", "batch", "compare", "log", "submit"},
    "view": {"jobs", "timeline", "failures", "workers", "schedules", "batch", "compare", "log"},
    "operate": {"jobs", "timeline", "failures", "workers", "schedules", "batch", "compare", "log", "submit"},
    "admin": {"jobs", "timeline", "failures", "workers", "schedules", "batch", "compare", "log", "submit", "audit"},
}


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_open_the_pages_of_the_table(role: str) -> None:
    assert {page.slug for page in PAGES if page.is_for(Person("x", Role(role)))} == PAGES_OF[role]


def everything(stage: Stage) -> object:
    """Return everything that a request could change."""
    kit = stage.kit
    found = kit.page(Query(limit=1000)).jobs
    jobs = sorted((job.id, str(job.state), job.spec.queue, job.asking) for job in found)
    groups = sorted((group.id, str(group.state), group.jobs) for group in kit.failures())
    schedules = sorted((one.name, one.paused, len(one.runs)) for one in kit.schedules())
    return (
        jobs,
        groups,
        schedules,
        background.call(kit.verbs.pauses()),
        [worker.is_draining for worker in kit.workers()],
    )


@pytest.mark.parametrize("role", ["none", "own", "view"])
def test_no_request_to_any_page_changes_another_users_jobs(stage: Stage, role: str) -> None:
    """Forged requests as in `test_roles`, but to components that are built as if the role might see them."""
    ids = {way: a_job(stage, way) for way in ("waiting", "running", "asking", "ended")}
    (question,) = stage.kit.snapshot(ids["asking"]).asking
    group, schedule = a_group(stage), a_schedule(stage)
    stage.beat("gpu-1")
    before = everything(stage)
    access = Actions(stage.kit, Person(role, Role(role)))
    found: list[Any] = [
        FailuresPage(stage.kit, access=access),
        SchedulesPage(stage.kit, access=access),
        WorkersPage(stage.kit, access=access),
    ]
    found += [JobTable(stage.kit, access=access), *(JobCard(stage.kit, each, access=access) for each in ids.values())]
    cards, logs = found[4:], [LogView(stage.kit, access=access) for _ in ids]
    for log, each in zip(logs, ids.values(), strict=True):
        log.follow(each)
    found += logs
    if role == "view":
        wait_until(lambda: all(SECRET in card.snapshot for card in cards), what="the cards")
    else:
        wait_until(lambda: all("not found" in card.snapshot for card in cards), what="the cards")
    asked = [{"action": action, "id": group} for action in GROUP_ACTIONS]
    asked += [{"action": action, "id": "double", "task": "double"} for action in PAUSE_ACTIONS]
    asked += [{"action": action, "id": schedule} for action in SchedulesPage.ACTIONS]
    asked += [{"action": "drain_worker", "id": "gpu-1"}, {"action": "move", "queue": "other", "priority": 9}]
    asked += [{"action": action, "ids": list(ids.values())} for action in ("cancel", "retry", "delete", "rerun")]
    asked += [{"action": "answer", "key": question.key, "fields": {"answer": {"text": "yes"}}}]
    asked += [{"action": "bulk", "what": what, "query": ""} for what in ("cancel", "retry", "delete")]
    asked += [{"action": "bulk", "what": "cancel", "ids": list(ids.values())}, {"action": "go"}]
    asked += [{"action": action, "name": "a.txt"} for action in ("show", "save", "whole-log")]
    asked += [{"action": action} for action in ("log-lines", "log-hits")]
    new = {"task": "double", "name": "mine", "options": {"cron": "0 6 * * *"}, "fields": {}, "is_new": True}
    asked += [
        {"action": "save", **new},
        {"action": "save", "name": schedule, "options": {"every": "60"}, "is_new": False},
    ]

    for component in found:
        for n, each in enumerate(asked):
            component.request = json.dumps({**each, "n": f"{n}"})
    access.begin("drop_group", ["the last"])
    wait_until(lambda: any("the last" in entry.targets for entry in stage.kit.audit(500)), what="all requests")

    assert everything(stage) == before
    assert all(entry.outcome in ("refused", "failed") for entry in stage.kit.audit(500))
    if role != "view":
        assert all(not card.file and not card.log and not card.artifacts for card in cards)
        assert not any(log.page or log.hits or log.file for log in logs)
    for component in found:
        component._bridge.close()


@pytest.mark.parametrize("role", ["none", "own", "view"])
def test_no_search_and_no_timeline_shows_another_users_jobs(stage: Stage, role: str) -> None:
    for way in ("waiting", "running", "ended"):
        a_job(stage, way)
    mine = stage.submit("double", owner=role, title="mine")
    stage.start(mine, "gpu-9")
    access = Actions(stage.kit, Person(role, Role(role)))
    tables = [
        JobTable(stage.kit, search=text, access=access) for text in ("", "owner:foreign", SECRET, f"tag:{SECRET}")
    ]
    timelines = [
        Timeline(stage.kit, search=text, access=access) for text in ("", "owner:foreign", SECRET, f"tag:{SECRET}")
    ]

    wait_until(lambda: all(table.page for table in tables), what="the tables")
    wait_until(lambda: all(each.head.page and each.head.series for each in timelines), what="the timelines")

    texts = [*(table.page for table in tables), *(each.head.page + each.head.series for each in timelines)]
    assert [SECRET in text for text in texts] == [role == "view"] * 8
    assert ["mine" in texts[0], "mine" in texts[4]] == [role != "none"] * 2
    for component in (*tables, *(each.head for each in timelines)):
        component._bridge.close()
