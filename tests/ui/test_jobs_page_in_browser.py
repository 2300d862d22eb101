"""The jobs page in a real browser: order, pages, choosing, and what is done to many, by two people at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobkit.client.loop import background
from jobkit.model import JobSpec
from jobkit.store.values import Ending, Submission, WorkerInfo
from jobkit.testing import FrozenClock, MemoryKit
from jobkit.ui.app.dashboard import Dashboard
from tests.support import wait_until
from tests.ui.conftest import Serve, Window, text_of
from tests.ui.stage import Stage
from tests.ui.test_all_pages import findings, turn

pytestmark = pytest.mark.browser

#: Rows of jobs.
ROWS = ".jk-table .row:not(.head)"


def names(page: Any) -> list[str]:
    found: list[str] = page.locator(".jk-table .row:not(.head):not(.left) .name b").all_inner_texts()
    return found


def shows(page: Any, expected: list[str]) -> None:
    wait_until(lambda: names(page) == expected, what=f"the page to show {expected}")


def ended(stage: Stage, count: int, **spec: Any) -> list[str]:
    """Jobs that have run, `Job 0` first."""
    ids = []
    for n in range(count):
        job = stage.submit(title=f"Job {n}", **spec)
        stage.start(job, f"w{n % 3}.1.abcdef")
        stage.succeed(job)
        ids.append(job)
    return ids


def many(stage: Stage, count: int, start: int = 0, *, ends: bool = False) -> None:
    """Jobs without a handle for each, in the fewest calls."""
    jobs = [
        Submission(JobSpec(id=f"m{n:05}", task="many", title=f"Many {n}"), b"") for n in range(start, start + count)
    ]
    background.call(stage.store.submit(jobs))
    if ends:
        claimed, _ = background.call(stage.store.claim(WorkerInfo("fast"), count))
        background.call(stage.store.finish([Ending(each.spec.id, each.token, "succeeded") for each in claimed]))


@pytest.mark.nightly
def test_a_click_on_a_head_orders_and_the_url_names_it(stage: Stage, url: str, window: Window) -> None:
    for n, (task, owner) in enumerate((("b", "zoe"), ("a", "ada"), ("c", ""))):
        stage.submit(task, title=f"Job {n}", owner=owner)
    page = window.open(url, width=1440)
    shows(page, ["Job 0", "Job 1", "Job 2"])  # in the order of start

    page.click(".head .name .by")
    shows(page, ["Job 1", "Job 0", "Job 2"])
    page.click(".head .name .by")
    shows(page, ["Job 2", "Job 0", "Job 1"])
    assert page.locator(".head .name").get_attribute("aria-sort") == "descending"
    page.click(".head .owner .by")
    shows(page, ["Job 1", "Job 0", "Job 2"])  # jobs without an owner come last

    wait_until(lambda: "sort=owner" in page.url, what="the URL")
    shows(window.open(page.url, width=1440), ["Job 1", "Job 0", "Job 2"])
    page.go_back()
    shows(page, ["Job 2", "Job 0", "Job 1"])


@pytest.mark.parametrize("may_act", [True, False])
def test_heads_stand_above_their_columns(stage: Stage, serve: Serve, window: Window, may_act: bool) -> None:
    stage.submit("train", title="Job 0")
    page = window.open(serve(lambda: Dashboard(stage.kit, may_act=may_act).__panel__()), width=1440)
    shows(page, ["Job 0"])

    for name in ("name", "state", "when", "time", "worker"):
        head, cell = (page.locator(f".jk-table .row{which} > .{name}") for which in (".head", ":not(.head)"))
        assert (head.bounding_box() or {})["x"] == (cell.bounding_box() or {})["x"], name
    assert page.get_by_label("Select all on this page").is_visible() == may_act


@pytest.mark.nightly
def test_pages_follow_each_other_and_stand_in_the_url(stage: Stage, url: str, window: Window) -> None:
    many(stage, 120)
    page = window.open(url)
    wait_until(lambda: names(page)[:1] == ["Many 0"], what="home, in the order of start")
    assert "20 shown · 120 jobs" in text_of(page, ".foot")
    page.click(".foot button:has-text('Next')")
    wait_until(lambda: names(page)[:1] == ["Many 119"], what="all jobs, newest first")
    page = window.open(f"{url}?sort=-submitted")
    wait_until(lambda: len(names(page)) == 50, what="the first page")
    assert names(page)[0] == "Many 119"
    assert "50 shown · 120 jobs" in text_of(page, ".foot")

    page.click(".foot button:has-text('Next')")
    wait_until(lambda: names(page)[:1] == ["Many 69"], what="the second page")
    assert "Page 2 · 120 jobs" in text_of(page, ".foot")
    page.click(".foot button:has-text('Next')")
    wait_until(lambda: len(names(page)) == 20, what="the third page")
    wait_until(lambda: "at=" in page.url, what="the URL")
    linked = window.open(page.url)
    wait_until(lambda: names(linked)[:1] == ["Many 19"], what="the linked page")
    page.click(".foot button:has-text('Previous')")
    wait_until(lambda: names(page)[:1] == ["Many 69"], what="the second page again")
    page.click(".foot button:has-text('First')")
    wait_until(lambda: names(page)[:1] == ["Many 119"], what="the first page again")


def test_home_has_what_runs_above_what_waits_and_what_ended(stage: Stage, url: str, window: Window) -> None:
    [old] = ended(stage, 1)
    runs = stage.running(title="Runs")
    many(stage, 30)
    stage.kit.cancel(stage.submit(title="Unwanted"), "wrong data", by="grace")
    page = window.open(url)
    wait_until(lambda: names(page)[:2] == ["Runs", "Many 0"], what="home")

    heads = page.locator(".jk-table .section")
    assert heads.locator(".what").all_inner_texts() == ["Running 1", "Waiting 30", "Ended 2"]
    assert names(page)[-2:] == ["Unwanted", "Job 0"]
    assert "Cancelled by grace: wrong data" in text_of(page, f"{ROWS}:has-text('Unwanted')")
    assert page.locator(f"{ROWS} .pick").first.is_visible()
    assert "10 jobs ahead" in text_of(page, f"{ROWS}:has-text('Many 10')")
    stage.succeed(runs, summary="{'score': 0.921, 'loss': 0.079}")
    wait_until(lambda: names(page)[0] == "Many 0", what="the ended job below the waiting ones")
    assert "score 0.921 · loss 0.079" in text_of(page, f"{ROWS}:has-text('Runs')")

    page.locator(ROWS).first.hover()  # nothing moves now, but the numbers are right
    stage.kit.cancel("m00001")
    wait_until(lambda: "Waiting 29" in heads.locator(".what").all_inner_texts(), what="the number of waiting jobs")
    assert names(page)[0] == "Many 0"
    page.mouse.move(0, 0)

    stage.submit(title="Again", retry_of=old)
    page.click(f"{ROWS}:has-text('Job 0')")
    page.click(".jk-card .meta button[title='Open this job']")
    page.wait_for_selector(".jk-card .meta:has-text('runs again 00000001 → succeeded')")


@pytest.mark.nightly
def test_a_search_that_is_not_understood_says_why(stage: Stage, url: str, window: Window) -> None:
    ended(stage, 1)
    page = window.open(f"{url}?q=state:faild")

    page.wait_for_selector('.problem:has-text("state must be one of")')
    page.wait_for_selector("text=This search is not understood")
    page.click(".ask")
    page.wait_for_selector(".searchbox .help dt:has-text('age:<1h')")
    page.keyboard.press("Escape")
    page.locator(".searchbox .help").wait_for(state="hidden")
    page.fill(".search", "age:<1h")
    shows(page, ["Job 0"])


def test_a_search_is_completed_by_keyboard_and_mouse(stage: Stage, url: str, window: Window) -> None:
    for n, owner in enumerate(("ada", "ada", "bob", "cy")):
        stage.submit("train" if n else "score", title=f"Job {n}", owner=owner)
    page = window.open(url)
    shows(page, ["Job 0", "Job 1", "Job 2", "Job 3"])
    options = page.locator(".options li .mono")

    def offers(*texts: str) -> None:
        wait_until(lambda: options.all_inner_texts() == list(texts), what=f"{texts}")

    page.keyboard.press("/")
    wait_until(lambda: "owner:" in options.all_inner_texts(), what="the fields")
    page.keyboard.type("ow")
    offers("owner:")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    offers("ada", "bob", "cy")
    assert page.locator(".options li").first.inner_text().split() == ["ada", "2"]
    box = page.locator(".search")
    assert box.get_attribute("aria-expanded") == "true"
    page.keyboard.press("ArrowDown")
    assert box.get_attribute("aria-activedescendant") == "jk-search-option-0"
    assert findings(page, "the suggestions") == []
    page.keyboard.press("Tab")
    shows(page, ["Job 1", "Job 0"])
    page.keyboard.type("task:")
    offers("score", "train")  # of those that match the rest
    page.click(".options li:has-text('train')")
    shows(page, ["Job 1"])
    assert box.input_value() == "owner:ada task:train "
    wait_until(lambda: "q=owner%3Aada+task%3Atrain" in page.url, what="the URL")

    page.keyboard.type("state:f")
    offers("failed")
    page.keyboard.press("Escape")
    assert box.input_value() == "owner:ada task:train state:f"
    page.locator(".options").wait_for(state="hidden")
    page.keyboard.press("Enter")
    page.wait_for_selector('.problem:has-text("state must be one of")')


@pytest.mark.nightly
def test_jobs_that_no_longer_match_leave_the_page(stage: Stage, url: str, window: Window) -> None:
    jobs = [stage.submit(title=f"Job {n}") for n in range(2)]
    for job in jobs:
        stage.start(job)
    page = window.open(f"{url}?q=state:running")
    shows(page, ["Job 1", "Job 0"])

    stage.succeed(jobs[1])

    shows(page, ["Job 0"])
    page.locator(".row.left").wait_for(state="detached", timeout=40_000)


@pytest.mark.nightly
def test_shift_chooses_a_span_and_the_head_the_page_and_no_row_moves(stage: Stage, url: str, window: Window) -> None:
    ended(stage, 5)
    page = window.open(url)
    shows(page, [f"Job {n}" for n in (4, 3, 2, 1, 0)])
    place = page.locator(".row:has-text('Job 3')").bounding_box()

    page.click(".row:has-text('Job 3') .name", modifiers=["Control"])
    page.click(".row:has-text('Job 1') .name", modifiers=["Shift"])
    page.wait_for_selector(".bulk:has-text('3 selected')")
    assert page.locator(".row:has-text('Job 3')").bounding_box() == place
    assert page.locator(".row[aria-selected=true]").count() == 3
    page.keyboard.press("Escape")
    page.locator(".bulk").wait_for(state="hidden")
    page.check(".head .pick")
    page.wait_for_selector(".bulk:has-text('5 selected')")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.wait_for_selector(".bulk:has-text('4 selected')")


@pytest.mark.nightly
def test_matching_jobs_deleted_by_one_user_are_gone_for_the_other(stage: Stage, url: str, window: Window) -> None:
    many(stage, 130, ends=True)
    kept = stage.submit("train", title="Kept")
    one, two = window.open(f"{url}?q=task:many"), window.open(url)
    wait_until(lambda: len(names(one)) == 50, what="the first page")

    one.check(".head .pick")
    one.click(".bulk button:has-text('Select all 130 that match')")
    one.click(".bulk [data-do=delete]")
    one.click(".bulk button.danger:has-text('Delete 130 jobs')")
    one.click(".bulk button:has-text('Undo')")
    one.locator(".bulk").wait_for(state="hidden")
    assert stage.kit.counts()["succeeded"] == 130
    one.check(".head .pick")
    one.click(".bulk button:has-text('Select all 130 that match')")
    one.click(".bulk [data-do=delete]")
    one.click(".bulk button.danger:has-text('Delete 130 jobs')")

    one.wait_for_selector(".bulk:has-text('130 jobs deleted')", timeout=20_000)
    one.wait_for_selector("text=No job matches")
    shows(two, ["Kept"])
    wait_until(lambda: text_of(two, ".counter[data-name=''] b") == "1", what="the counter")
    assert stage.kit.snapshot(kept).state == "queued"


def test_all_jobs_that_match_can_be_selected_beside_a_batch(stage: Stage, url: str, window: Window) -> None:
    many(stage, 60)
    stage.batch({"n": 1}, {"n": 2}, task="many")
    page = window.open(f"{url}?q=task:many")
    page.wait_for_selector(".jk-table .row.batch")

    page.check(".head .pick")

    page.wait_for_selector(".bulk button:has-text('Select all 62 that match')")
    assert page.locator(".head .pick").evaluate("pick => pick.checked && !pick.indeterminate")


@pytest.mark.nightly
def test_a_question_names_the_count_and_keeping_does_nothing(stage: Stage, url: str, window: Window) -> None:
    many(stage, 60)
    page = window.open(f"{url}?q=state:waiting")
    wait_until(lambda: len(names(page)) == 50, what="the first page")

    page.check(".head .pick")
    page.click(".bulk [data-do=cancel]")
    page.wait_for_selector(".bulk:has-text('Cancel 50 jobs?')")
    page.click(".bulk button:has-text('Keep')")
    page.wait_for_selector(".bulk:has-text('50 selected')")
    assert stage.kit.counts()["cancelled"] == 0
    page.click(".bulk button:has-text('Select all 60 that match')")
    page.click(".bulk [data-do=cancel]")
    page.click(".bulk button.danger:has-text('Cancel 60 jobs')")

    wait_until(lambda: stage.kit.counts()["cancelled"] == 60, what="all to be cancelled")
    page.wait_for_selector(".bulk:has-text('60 jobs cancelled')")


@pytest.mark.nightly
def test_ten_thousand_jobs_run_through_a_page_that_stays_small(stage: Stage, url: str, window: Window) -> None:
    page = window.open(url)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.wait_for_selector("text=No jobs yet")

    for start in range(0, 10_000, 500):
        many(stage, 500, start, ends=True)

    wait_until(lambda: text_of(page, ".counter[data-name=succeeded] b") == "10,000", what="the counter")
    wait_until(lambda: text_of(page, ".counter[data-name=waiting] b") == "0", what="the counter")
    assert page.locator(".jk-table .row").count() <= 120
    assert errors == []
    wait_until(lambda: names(page)[:1] == ["Many 9999"], what="the newest job")
    page.locator(".jk-table .row[data-face=running]").first.wait_for(state="detached", timeout=20_000)
    wrong = findings(page, "ten thousand jobs")
    turn(page, "timeline")
    page.wait_for_selector(".jk-timeline .sum:has-text('2,000 attempts')")
    wrong += findings(page, "two thousand attempts")
    assert not wrong, "\n".join(wrong)


@pytest.mark.nightly
def test_dragging_over_the_strip_asks_for_the_jobs_of_that_time(serve: Serve, window: Window) -> None:
    clock = FrozenClock(datetime.now(UTC) - timedelta(minutes=20))
    stage = Stage(MemoryKit(at_once=False, clock=clock))
    for n in range(20):
        stage.submit(title=f"Job {n}")
        clock.tick(minutes=1)
    page = window.open(serve(lambda: Dashboard(stage.kit).__panel__()), width=1440, height=900)
    strip, bars = page.locator(".activity .bars"), page.locator(".activity i")
    wait_until(lambda: bars.count() == 20, what="a bar for each minute")
    since, until = page.locator(".activity .edge").all_inner_texts()
    assert since != until
    assert strip.get_attribute("aria-label") == f"20 jobs · 20 waiting · from {since} to {until}"
    rows = page.locator(".jk-table .rows").bounding_box()
    assert rows["height"] >= 18 * 36  # the list comes first: as many rows fit below the strip

    first, last, all_of = bars.nth(5).bounding_box(), bars.nth(9).bounding_box(), strip.bounding_box()
    assert all_of["width"] > 1400  # from edge to edge
    page.mouse.move(first["x"] + 3, all_of["y"] + 5)
    page.mouse.down()
    page.mouse.move(last["x"] + 3, all_of["y"] + 5, steps=4)
    page.mouse.up()

    shows(page, [f"Job {n}" for n in (9, 8, 7, 6, 5)])
    wait_until(lambda: bars.count() == 5, what="the strip of those jobs")
    wait_until(lambda: "since%3A" in page.url, what="the URL")
    page.click("text=All times")
    wait_until(lambda: bars.count() == 20, what="all jobs")
    stage.close()


@pytest.mark.nightly
def test_the_strip_counts_all_jobs_of_the_search_and_not_those_of_the_page(
    stage: Stage, url: str, window: Window
) -> None:
    many(stage, 30)
    page = window.open(url, width=390)
    page.wait_for_selector(".activity .bars[aria-label^='30 jobs · 30 waiting']")

    many(stage, 200, 30, ends=True)
    page.wait_for_selector(".activity .bars[aria-label^='230 jobs · 30 waiting']")
    page.goto(f"{url}?q=state:succeeded&at=1")
    page.wait_for_selector(".activity .bars[aria-label^='200 jobs · from']")
    page.goto(f"{url}?q=nothing")
    page.wait_for_selector("text=No job matches")
    assert page.locator(".activity:visible").count() == 0


@pytest.mark.nightly
def test_a_row_under_the_pointer_offers_its_actions(stage: Stage, url: str, window: Window) -> None:
    stage.kit.options(title="Counts").submit(len, [1])
    stage.submit(title="Waits")
    page = window.open(url, width=1440)
    shows(page, ["Waits", "Counts"])
    first, second = (page.locator(".jk-table .row:not(.head)").nth(n) for n in range(2))
    page.wait_for_selector(".row:has-text('Waits') .note:text-is('no worker serves queue default')")
    assert second.locator(".note").inner_text() == "1"

    first.hover()
    first.locator("button:has-text('Cancel…')").click()
    page.wait_for_selector(".bulk b:has-text('Cancel 1 job?')")
    page.click(".bulk button:has-text('Keep')")
    page.click(".bulk button:has-text('Clear')")
    second.hover()
    second.locator("button:has-text('Run again')").click()

    wait_until(lambda: len(stage.kit.jobs()) == 3, what="the new job")
    assert page.locator(".jk-card .title:visible").count() == 0


@pytest.mark.nightly
def test_chosen_jobs_are_compared_by_what_differs_and_a_click_opens_one(stage: Stage, url: str, window: Window) -> None:
    for n in range(4):
        job = stage.running("train", {"lr": n / 10, "epochs": 40}, title="Train a model")
        stage.succeed(job, {"type": "dict", "text": "…", "json": {"loss": 1 / (n + 1)}}, summary="dict of 1: loss")
    page = window.open(url, width=1440)
    shows(page, ["Train a model"] * 4)

    page.check(".head .pick")
    page.click(".bulk [data-do=compare]")

    page.wait_for_selector(".jk-batch .row:has-text('0.25')")
    assert "epochs=40" in text_of(page, ".jk-batch .args")  # what is equal is no column
    page.wait_for_selector(".jk-batch circle >> nth=3")
    stage.start(stage.submit("train", {"lr": 0.7}))  # not one of them
    page.click(".jk-batch .rows .id >> nth=0")
    page.wait_for_selector(".jk-card .title:has-text('Train a model')")
    linked = window.open(page.url.partition("&job=")[0], width=380)
    wait_until(lambda: linked.locator(".jk-batch .rows .id").count() == 4, what="the linked page")
    assert linked.evaluate("document.documentElement.scrollWidth") <= 380
    alone = window.open(f"{url}?page=compare")
    alone.wait_for_selector("text=Nothing to compare")
