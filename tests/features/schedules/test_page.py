"""The page of schedules, and the form that shows the next times while one types."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from jobkit.client.loop import background
from jobkit.features.schedules.model import ScheduleRun, ScheduleSnapshot, ScheduleSpec
from jobkit.features.schedules.page import ScheduleForm, SchedulesPage, picture, read_given
from jobkit.features.schedules.timing import MOST_RUNS
from jobkit.model import JobSpec
from jobkit.model.person import Person, Role
from jobkit.model.plain import instant, iso
from jobkit.store.values import WorkerInfo
from jobkit.tasks.task import TaskDef
from jobkit.ui.access.actions import Actions
from tests.support import wait_until
from tests.ui.conftest import CANARY, Window, text_of
from tests.ui.stage import Stage

NOW_MS = round(datetime(2026, 11, 24, 15, 0, tzinfo=UTC).timestamp() * 1000)


def kept(name: str = "nightly", **fields: Any) -> ScheduleSnapshot:
    given = {"job": JobSpec("", "report", params={"n": 3}), "cron": "0 6 * * *", **fields.pop("spec", {})}
    spec = ScheduleSpec(name, **given)
    return ScheduleSnapshot(spec, now_ms=NOW_MS, **{"next_ms": NOW_MS + 3_600_000, **fields})


def report(day: str = "today", n: int = 3) -> int:
    """Write the report."""
    return n


def test_rows_come_by_their_next_time_and_those_without_one_last() -> None:
    shown = picture(
        [kept("b"), kept("paused", next_ms=0, paused_ms=1), kept("a", next_ms=NOW_MS + 5)], [WorkerInfo("w")], NOW_MS
    )["schedules"]

    assert [(row["name"], row["state"]) for row in shown] == [("a", "on"), ("b", "on"), ("paused", "paused")]
    assert shown[1]["sentence"] == "Every day at 06:00 UTC"
    assert len(shown[2]["next"]) == 5  # what they would be


def test_a_row_names_the_arguments_that_are_not_the_tasks_defaults() -> None:
    job = JobSpec("", "report", params={"day": "friday", "n": 3})

    [row] = picture([kept(spec={"job": job})], [], NOW_MS, {"report": {"day": "today", "n": 3}})["schedules"]

    assert row["args"] == "day=friday"


@pytest.mark.parametrize(
    ("fields", "workers", "late_s", "why"),
    [
        ({"next_ms": NOW_MS - 98_000}, [], 98.0, "no worker"),
        ({"next_ms": NOW_MS - 98_000}, [WorkerInfo("w")], 98.0, ""),
        ({"runs": (ScheduleRun(NOW_MS - 7_000, 0, "s1", "queued"),)}, [WorkerInfo("w")], 7.0, "no worker free"),
        (
            {"runs": (ScheduleRun(NOW_MS - 7_000, 0, "s1", "queued"),)},
            [WorkerInfo("w", queues=("gpu",))],
            7.0,
            "no worker serves queue default",
        ),
        ({"next_ms": NOW_MS - 98_000, "holds_for": "s1"}, [WorkerInfo("w")], 0.0, ""),
        ({}, [WorkerInfo("w")], 0.0, ""),
    ],
)
def test_late_is_a_fact_with_a_number_and_a_reason(
    fields: dict[str, Any], workers: list[WorkerInfo], late_s: float, why: str
) -> None:
    [row] = picture([kept(**fields)], workers, NOW_MS)["schedules"]

    assert (row["late_s"], row["why"]) == (late_s, why)
    assert (row["late"] or {}).get("at") == (iso(instant(NOW_MS - int(late_s * 1000))) if late_s else None)


def test_typed_text_becomes_arguments_or_an_error_beside_its_field() -> None:
    given, errors = read_given({"every": "30", "tz": " Europe/Berlin ", "count": "x", "missed_limit": "0"})

    assert given["every"] == 30.0
    assert given["tz"] == "Europe/Berlin"
    assert given["cron"] is None
    assert errors == {
        "count": f"count must be a whole number from 1 to {MOST_RUNS}, not 'x'",
        "missed_limit": "missed_limit must be a whole number from 1 to 500, not 0",
    }


@pytest.fixture
def form(stage: Stage) -> Callable[..., dict[str, Any]]:
    """Asks the form's server half, and gives its reply."""
    task = TaskDef(report)
    stage.publish(task.info())
    said: list[dict[str, str]] = []

    def asked(doing: str, access: Actions | None = None, **what: Any) -> dict[str, Any]:
        said.clear()
        model = ScheduleForm(lambda: access or Actions(stage.kit), lambda texts: said.append(dict(texts)))
        background.call(model.schedule(doing, what))
        found: dict[str, Any] = json.loads([texts for texts in said if "reply" in texts][-1]["reply"])
        return found

    return asked


def test_the_next_five_times_are_shown_while_the_user_types(form: Callable[..., dict[str, Any]]) -> None:
    typed = {"cron": "0 6 * * MON-FRI", "tz": "Europe/Berlin"}

    reply = form("preview", task="report", is_new=True, options=typed)

    assert reply["sentence"] == "On Monday through Friday at 06:00 Europe/Berlin"
    assert len(reply["next"]) == 5
    assert reply["errors"] == {}
    wrong = form(
        "preview", task="report", is_new=True, options={**typed, "tz": "Europe/Berln"}, fields={"n": {"text": "x"}}
    )
    assert "did you mean 'Europe/Berlin'" in wrong["errors"]["option:tz"]
    assert "n must be" in wrong["errors"]["n"]
    wrong = form("preview", task="report", is_new=True, options={"cron": "* *"})
    assert "five fields" in wrong["errors"]["option:cron"]


def test_a_saved_schedule_belongs_to_its_user(form: Callable[..., dict[str, Any]], stage: Stage) -> None:
    access = Actions(stage.kit, Person("grace", Role.OPERATE))

    reply = form(
        "save", access, task="report", name="mine", is_new=True, options={"every": "60"}, fields={"n": {"text": "9"}}
    )

    assert reply["saved"]
    [made] = stage.kit.schedules()
    assert (made.id, made.every, made.params["n"]) == ("mine", 60.0, 9)
    assert made.snapshot.spec.job.owner == "grace"
    changed = form("save", access, task="report", name="mine", options={"cron": "@daily", "overlap": "skip"})
    assert changed["saved"]
    assert (made.cron, made.every, made.overlap, made.params["n"]) == ("0 0 * * *", None, "skip", 9)


def test_a_viewer_saves_nothing(form: Callable[..., dict[str, Any]], stage: Stage) -> None:
    access = Actions(stage.kit, Person("eve", Role.VIEW))

    reply = form("save", access, task="report", name="mine", is_new=True, options={"every": "60"})

    assert "may not add schedule" in reply["errors"][""]
    assert stage.kit.schedules() == []
    assert not SchedulesPage(stage.kit, access=access, is_open=False).actions


@pytest.fixture
def url(stage: Stage, url: str) -> str:
    stage.publish(TaskDef(report).info())
    return url


@pytest.mark.nightly
@pytest.mark.browser
def test_a_row_is_switched_run_and_opened_and_follows_what_others_do(stage: Stage, url: str, window: Window) -> None:
    stage.kit.schedule(report, {"day": CANARY}, every=3600, name="hourly")
    page = window.open(f"{url}?page=schedules")
    page.wait_for_selector(".schedule:has-text('Every 1 h')")
    assert text_of(page, ".schedule .next").startswith("in 59 min")

    page.click(".schedule .switch")
    page.wait_for_selector(".schedule[data-state=paused] .next:has-text('Paused')")
    assert stage.kit.schedules.get("hourly").paused

    stage.kit.schedules.resume("hourly")
    page.wait_for_selector(".schedule[data-state=on]")

    page.click(".schedule button:has-text('Run now')")
    page.wait_for_selector(".schedule .run[data-face=succeeded]")
    page.click(".schedule button:has-text('Run now')")
    page.wait_for_selector(".schedule .run[data-face=succeeded] >> nth=1")
    page.focus(".schedule .run[tabindex='0']")  # the newest one is the only stop of the Tab key
    page.keyboard.press("ArrowLeft")
    assert page.locator(".schedule .run[tabindex='0']:focus").count() == 1
    page.click(".schedule .run[data-face=succeeded] >> nth=0")
    page.wait_for_selector(".jk-card .title:has-text('Write the report')")
    assert "page=schedules" in page.url

    page.click(".schedule .name")
    page.wait_for_selector(".schedule .times li >> nth=4")
    page.click(".schedule button:has-text('Remove…')")
    page.click(".schedule button.danger")
    page.wait_for_selector("text=No schedules")
    assert stage.kit.schedules() == []
    assert page.evaluate("window.boom") is None


@pytest.mark.browser
def test_a_new_schedule_is_made_with_errors_beside_its_fields(stage: Stage, url: str, window: Window) -> None:
    page = window.open(f"{url}?page=schedules")
    page.click("button:has-text('New schedule')")
    page.wait_for_selector(".edit option:has-text('Write the report')", state="attached")
    page.select_option("#f-option-task", "report: Write the report")
    page.fill("#f-option-cron", "0 6 30 2 *")
    page.wait_for_selector("[data-name='option:cron'] .message:has-text('never fires')")

    page.fill("#f-option-cron", "0 6 * * *")
    page.fill("#f-n", "many")
    page.wait_for_selector(".preview .sentence:has-text('Every day at 06:00')")
    page.wait_for_selector(".preview .times li >> nth=4")
    page.click(".edit button:has-text('Schedule')")
    page.wait_for_selector("[data-name=n] .message:has-text('n must be')")
    assert stage.kit.schedules() == []

    page.fill("#f-n", "7")
    page.click(".edit button:has-text('Schedule')")

    page.wait_for_selector(".schedule:has-text('Every day at 06:00')")
    made = wait_until(lambda: next(iter(stage.kit.schedules()), None), what="the schedule")
    assert (made.cron, made.params["n"]) == ("0 6 * * *", 7)
    page.wait_for_selector(".formbox", state="hidden")
