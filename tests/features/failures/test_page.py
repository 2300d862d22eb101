"""The page of failures in a real browser, and what it is made of."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest

import jobkit
from jobkit.client.loop import background
from jobkit.features.failures.page import FailuresPage, detail
from jobkit.model.person import Person, Role
from jobkit.store.query import Query
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.specs import ParamSpec
from jobkit.ui.access.actions import Actions
from jobkit.ui.card.job_card import JobCard
from jobkit.ui.jobs.board import Board
from tests.support import wait_until
from tests.ui.conftest import CANARY, Window, text_of
from tests.ui.conftest import _own_registry as _own_registry
from tests.ui.stage import Stage


@pytest.fixture
def divide() -> Any:
    @jobkit.task(name="divide")
    def divide(a: Annotated[int, jobkit.Range(0, 100)], b: int = 0, note: str = "") -> float:
        """Divide."""
        return a / b

    return divide


def fail(stage: Stage, task: Any, *values: int, **more: Any) -> list[str]:
    """Jobs that fail here and now."""
    return [stage.kit.submit(task, a=value, **more).id for value in values]


def act(access: Actions, name: str, target: str, **details: Any) -> str:
    return asyncio.run(access.act(name, [target], **details)).sentence


# -- actions -----------------------------------------------------------------------------------------------------------


def test_the_outcome_of_an_action_is_one_sentence(stage: Stage, divide: Any) -> None:
    fail(stage, divide, 1, 2)
    [group] = stage.kit.failures()
    access = Actions(stage.kit, Person("ada"))

    assert act(access, "retry_group", group.id) == f"group {group.id} was run again: 2 jobs"
    assert act(access, "mute_group", group.id) == f"group {group.id} was muted"
    assert stage.kit.failures.get(group.id).changed_by == "ada"
    assert act(access, "pause_task", "divide") == "task divide was paused"
    assert act(access, "pause_task", "divide") == "task divide is paused already"
    assert act(access, "drop_group", group.id) == f"group {group.id} was dropped: 4 jobs deleted"
    assert "there is no group of failures" in act(access, "resolve_group", group.id)


def test_a_single_job_of_a_group_names_the_arguments_that_are_not_the_tasks_defaults(stage: Stage) -> None:
    params = (
        ParamSpec(name="a", kind="int", default=1),
        ParamSpec(name="b", kind="int", default=0),
    )
    stage.start(job := stage.submit("divide", {"a": 5, "b": 0}))
    stage.fail(job)
    [group], snapshot = stage.kit.failures(), stage.kit.snapshot(job)

    [row] = detail(group, [snapshot], set(), False, TaskInfo("divide", params=params), 10)["jobs"]

    assert row["args"] == "a=5"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"a": {"text": "101"}}, "a must be a whole number from 0 to 100, not 101"),
        ({"x": {"text": "1"}}, "task 'divide' has no argument 'x'"),
        ({"b": {"text": "many"}}, "b must be a whole number, not 'many'"),
    ],
)
def test_a_change_that_does_not_fit_is_refused_before_anything_runs(
    stage: Stage, divide: Any, changes: dict[str, Any], sentence: str
) -> None:
    fail(stage, divide, 1)
    [group] = stage.kit.failures()

    assert act(Actions(stage.kit), "retry_group", group.id, changes=changes).startswith(sentence)
    assert stage.kit.failures.get(group.id).repeated == 0


def test_a_viewer_is_refused_and_gets_no_buttons(stage: Stage, divide: Any) -> None:
    fail(stage, divide, 1)
    [group] = stage.kit.failures()
    access = Actions(stage.kit, Person("eve", Role.VIEW))

    page = FailuresPage(stage.kit, access=access, is_open=False)
    page.request = f'{{"action":"mute_group","id":"{group.id}","n":"1"}}'

    wait_until(lambda: "eve may not mute group here" in page.notice, what="a refusal")
    assert page.actions == []
    assert stage.kit.failures.get(group.id).state == "open"


def test_a_closed_page_reads_nothing(stage: Stage, divide: Any) -> None:
    page = FailuresPage(stage.kit, is_open=False)

    fail(stage, divide, 1)
    background.call(asyncio.sleep(0.3))

    assert page.picture == ""


def test_jobs_are_moved_from_the_desk(stage: Stage) -> None:
    waits = stage.submit("train")
    access = Actions(stage.kit, Person("ada"))

    assert act(access, "move", waits, queue="gpu", priority="5") == f"job {waits} was moved to queue gpu and priority 5"
    assert act(access, "move", waits, priority="high") == "priority must be a whole number, not 'high'"
    assert "give a queue or a priority" in act(access, "move", waits)
    snapshot = stage.kit.snapshot(waits)
    assert (snapshot.spec.queue, snapshot.spec.priority) == ("gpu", 5)
    assert snapshot.history[-1].data["reason"] == "moved by ada"


def test_rows_of_a_paused_queue_say_so_and_stop_saying_it(stage: Stage) -> None:
    waits, other = stage.submit("train", queue="gpu"), stage.submit("train")
    board = Board(Query())
    board.load(background.call(stage.store.list(Query())), {})
    now = datetime.now(UTC)

    board.pause({"gpu": "queue gpu is paused by ada"})
    rows = {row["id"]: row.get("message") for row in board.delta(now)["rows"]}
    assert rows == {waits: "queue gpu is paused by ada"}

    board.pause({})
    assert [row.get("message") for row in board.delta(now)["rows"]] == [None]
    assert other not in rows


# -- in the browser ---------------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_failures_arrive_without_a_reload_and_a_group_shows_what_its_jobs_share(
    stage: Stage, url: str, window: Window, divide: Any
) -> None:
    page = window.open(f"{url}?page=failures")
    page.wait_for_selector("text=Nothing has failed")

    ids = fail(stage, divide, 1, note="same")
    page.wait_for_selector(".group .title:has-text('ZeroDivisionError: division by zero')")
    ids += fail(stage, divide, 2, note="same")
    page.wait_for_selector(".group .sub:has-text('2 jobs')")
    [group] = stage.kit.failures()
    page.click(".group .row")

    page.wait_for_selector(".failure .frame.failing:has-text('in divide')")
    assert f"group={group.id}" in page.url
    assert "note=same" in text_of(page, ".detail .args")
    assert text_of(page, ".differ") == "They differ in a"
    assert text_of(page, ".jobs li .owner") == stage.kit.snapshot(ids[0]).spec.owner != ""
    page.click(f".jobs li[data-id='{ids[0]}'] .link")
    page.wait_for_selector(".jk-card .title:has-text('divide')")
    page.go_back()
    page.go_back()
    page.wait_for_selector(".group .row[aria-expanded='false']")


@pytest.mark.nightly
@pytest.mark.browser
def test_a_failed_jobs_card_leads_to_those_that_failed_like_it(
    stage: Stage, divide: Any, url: str, window: Window
) -> None:
    jobs = fail(stage, divide, 1, 2, 3)
    [group] = stage.kit.failures()
    page = window.open(f"{url}?job={jobs[0]}", width=1440)

    page.click(".jk-card .failure button:has-text('2 more like this')")

    page.wait_for_selector(f".group[data-id='{group.id}'][data-open]")
    assert f"group={group.id}" in page.url
    assert "page=failures" in page.url


@pytest.mark.parametrize(("role", "is_told"), [("view", True), ("own", False)])
def test_a_user_who_sees_only_own_jobs_gets_no_counts_of_others(
    stage: Stage, divide: Any, role: str, is_told: bool
) -> None:
    job, *_ = fail(stage, divide, 1, 2, 3)
    owner = stage.kit.snapshot(job).spec.owner
    card = JobCard(stage.kit, job, access=Actions(stage.kit, Person(owner, Role(role))))
    wait_until(lambda: '"failed"' in card.snapshot, what="the card")

    for n, action in enumerate(("alike", "whole-log")):
        with card.changing():  # as a message of a browser does
            card.request = json.dumps({"action": action, "n": str(n)})
    wait_until(lambda: card.file, what="the answer to the next request")

    if is_told:
        wait_until(lambda: '"2 more like this"' in card.alike, what="the number of others")
    assert bool(card.alike) is is_told
    card._bridge.close()


@pytest.mark.nightly
def test_a_link_opens_the_group_and_destructive_actions_ask_with_the_count(
    stage: Stage, url: str, window: Window, divide: Any
) -> None:
    fail(stage, divide, 1, 2)
    [group] = stage.kit.failures()
    page = window.open(f"{url}?page=failures&group={group.id}")

    page.get_by_role("button", name="Retry all 2").click()
    assert stage.kit.failures.get(group.id).repeated == 0
    page.get_by_role("button", name="Retry 2 jobs").click()

    page.wait_for_selector(".notice:has-text('was run again: 2 jobs')")
    page.wait_for_selector(".group .sub:has-text('2 run again')")
    assert stage.kit.failures.get(group.id).jobs == 4

    page.get_by_role("button", name="Delete group").click()
    page.get_by_role("button", name="Delete 4 jobs").click()
    page.wait_for_selector("text=Nothing has failed")
    assert stage.kit.jobs() == []


@pytest.mark.nightly
@pytest.mark.browser
def test_retry_with_changes_refuses_what_does_not_fit_and_keeps_what_was_typed(
    stage: Stage, url: str, window: Window, divide: Any
) -> None:
    fail(stage, divide, 6, 9)
    [group] = stage.kit.failures()
    page = window.open(f"{url}?page=failures&group={group.id}")
    page.get_by_role("button", name="Retry with changes").click()

    page.fill("form input[name='b']", "three")
    page.click("form button[type='submit']")
    page.wait_for_selector(".notice:has-text('b must be a whole number')")
    assert page.input_value("form input[name='b']") == "three"

    page.fill("form input[name='b']", "3")
    page.click("form button[type='submit']")
    page.wait_for_selector(".notice:has-text('was run again: 2 jobs')")
    page.wait_for_selector(".group .sub:has-text('2 healed')")
    assert [job.result(60) for job in stage.kit.jobs(state="succeeded")] == [3.0, 2.0]


@pytest.mark.nightly
@pytest.mark.browser
def test_muted_and_resolved_groups_leave_the_list_and_can_be_reopened(
    stage: Stage, url: str, window: Window, divide: Any
) -> None:
    fail(stage, divide, 1)
    [group] = stage.kit.failures()
    page = window.open(f"{url}?page=failures&group={group.id}")

    page.get_by_role("button", name="Mute", exact=True).click()
    page.wait_for_selector(".notice:has-text('was muted')")
    page.get_by_role("button", name="Undo").click()
    wait_until(lambda: stage.kit.failures.get(group.id).state == "open", what="the mute to be taken back")

    page.get_by_role("button", name="Resolve", exact=True).click()
    page.wait_for_selector(".group[data-state='resolved']")
    page.click(".group .row")
    page.wait_for_selector("text=Nothing to look at")
    fail(stage, divide, 2)
    page.wait_for_selector(".group .chip:has-text('Regressed')")


@pytest.mark.nightly
@pytest.mark.browser
def test_a_task_is_paused_from_here_and_its_waiting_jobs_say_so(
    stage: Stage, url: str, window: Window, divide: Any
) -> None:
    fail(stage, divide, 1)
    [group] = stage.kit.failures()
    page = window.open(f"{url}?page=failures&group={group.id}")

    page.get_by_role("button", name="Pause divide").click()
    page.get_by_role("button", name="Resume divide").wait_for()
    assert [(pause.kind, pause.name) for pause in stage.kit.tasks.paused()] == [("task", "divide")]
    waits = stage.submit("divide")
    background.call(stage.store.claim(_worker(), 1))
    card = window.open(f"{url}?job={waits}")
    card.wait_for_selector(".jk-card .notice:has-text('Task divide is paused')")

    page.get_by_role("button", name="Resume divide").click()
    page.get_by_role("button", name="Pause divide").wait_for()
    card.wait_for_selector(".jk-card .notice:has-text('Task divide is paused')", state="hidden", timeout=30_000)


@pytest.mark.nightly
@pytest.mark.browser
def test_a_queue_is_paused_from_the_workers_page(stage: Stage, url: str, window: Window) -> None:
    waits = stage.submit("train")
    page = window.open(f"{url}?page=workers")

    page.get_by_role("button", name="Pause queue default").click()
    page.wait_for_selector("tr.paused .why:has-text('queue default is paused')")
    page.goto(f"{url}?page=workers&job={waits}")
    page.wait_for_selector(".jk-card .notice:has-text('Queue default is paused')")
    jobs = window.open(url)
    jobs.wait_for_selector(".jk-table .row .note:has-text('queue default is paused')")
    page.bring_to_front()
    page.get_by_role("button", name="Resume queue default").click()

    page.get_by_role("button", name="Pause queue default").wait_for()
    assert stage.kit.queues.paused() == []


@pytest.mark.nightly
@pytest.mark.browser
def test_a_waiting_job_is_moved_from_its_card(stage: Stage, url: str, window: Window) -> None:
    waits = stage.submit("train")
    page = window.open(f"{url}?job={waits}")

    page.get_by_role("button", name="Move…").click()
    page.get_by_label("Queue", exact=True).last.fill("gpu")
    page.get_by_label("Priority", exact=True).last.fill("7")
    page.locator(".mover button[type='submit']").click()

    page.wait_for_selector(".jk-card .meta:has-text('queue gpu')")
    assert stage.kit.snapshot(waits).spec.priority == 7
    page.get_by_role("button", name="Move…").click()
    page.get_by_label("Queue", exact=True).last.fill("my queue")
    page.locator(".mover button[type='submit']").click()
    page.wait_for_selector(".jk-card .notice:has-text('queue must be 1 to 200 characters')")


@pytest.mark.nightly
@pytest.mark.browser
def test_text_of_users_is_text(stage: Stage, url: str, window: Window) -> None:
    for _ in range(2):
        job = stage.running("train", {CANARY: CANARY, "n": CANARY}, owner=CANARY)
        trace = f'Traceback\n  File "{CANARY}", line 1, in {CANARY}\n    {CANARY}\n{CANARY}'
        stage.fail(job, CANARY, CANARY, trace, CANARY)
    [group] = stage.kit.failures()
    stage.kit.failures.mute(group.id, by=CANARY)

    page = window.open(f"{url}?page=failures&state=muted&group={group.id}")
    page.wait_for_selector(".failure")
    page.wait_for_selector(".jobs li")

    assert "<img" in text_of(page, ".group .title")
    assert page.locator(".jk-failures img, .jk-failures script").count() == 0
    assert page.evaluate("window.boom") is None


def _worker() -> Any:
    from jobkit.store.values import WorkerInfo

    return WorkerInfo("gpu-1")
