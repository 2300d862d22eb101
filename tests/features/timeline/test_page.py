"""The timeline in a real browser: bars follow jobs, a click opens a job, a hidden page does not read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobkit.features.timeline.page import TimelineFeed
from jobkit.testing import FrozenClock, MemoryKit
from jobkit.ui.live.shared_feed import open_feeds
from tests.support import wait_until
from tests.ui.conftest import CANARY, Serve, Window, text_of
from tests.ui.conftest import _own_registry as _own_registry
from tests.ui.stage import Stage

pytestmark = pytest.mark.browser


#: Columns of a source of the timeline, as drawn.
DATA = """name => {
  const models = [...(window.Bokeh?.documents?.[0]?._all_models.values() ?? [])];
  const found = models.find((model) => model.type === "ColumnDataSource" && model.name?.endsWith(`-${name}`));
  return found ? Object.fromEntries(Object.entries(found.data).map(([key, values]) => [key, [...values]])) : null;
}"""

#: Position of the `i`-th bar on the screen.
PLACE = """i => {
  const models = [...Bokeh.documents[0]._all_models.values()];
  const of = (name) => models.find((model) => model.name?.endsWith(name));
  const view = Bokeh.index.find_one(of("-lanes")), bars = of("-bars").data, frame = view.frame;
  const box = view.el.getBoundingClientRect();
  return [box.x + frame.x_scale.compute((bars.left[i] + bars.right[i]) / 2), box.y + frame.y_scale.compute(bars.y[i])];
}"""


def bars(page: Any) -> int:
    found = page.evaluate(DATA, "bars")
    return len(found["y"]) if found else -1


def test_bars_come_as_jobs_start_and_a_click_opens_the_job(stage: Stage, url: str, window: Window) -> None:
    failed = stage.submit("train", {"n": 1}, title="Train a model")
    stage.start(failed, "gpu-1")
    stage.fail(failed)
    page, other = window.open(f"{url}?page=timeline", width=1440), window.open(f"{url}?page=timeline", width=380)
    for each in (page, other):
        each.wait_for_selector(".jk-timeline .sum:has-text('1 attempt · 1 failed · 1 worker')")

    job = stage.submit("count", title="Count words")
    stage.start(job, "gpu-1")

    for each in (page, other):
        each.wait_for_selector(".jk-timeline .sum:has-text('2 attempts · 1 failed · 1 running · 1 worker')")
        wait_until(lambda each=each: bars(each) == 2, what="two bars")
    legend = [text.replace("\n", " ") for text in page.locator(".legend li").all_inner_texts()]
    assert legend == ["Count words 1", "Train a model 1", "failed", "waited", "tried again"]  # titles as on the bars
    page.keyboard.press("k")
    page.wait_for_selector(".tip b:has-text('Count words')")
    page.keyboard.press("j")
    page.wait_for_selector(".tip b:has-text('Train a model')")
    page.keyboard.press("Enter")
    page.wait_for_selector(".jk-card .title:has-text('Train a model')")
    page.keyboard.press("Escape")
    page.locator(".jk-card .title").wait_for(state="hidden")
    page.click("[aria-label='Zoom out']")  # from now on it does not follow the clock
    page.wait_for_selector("text=Back to now")
    page.mouse.click(*page.evaluate(PLACE, bars(page) - 1))
    page.wait_for_selector(".jk-card .title:has-text('Count words')")
    assert "page=timeline" in page.url
    stage.succeed(job)
    page.wait_for_selector(".jk-timeline .sum:has-text('2 attempts · 1 failed · 1 worker')")


@pytest.mark.nightly
def test_waits_failures_and_due_jobs_are_marked(stage: Stage, url: str, window: Window) -> None:
    job = stage.submit("train", retries=2)
    stage.start(job, "gpu-1")
    stage.retry_later(job)
    stage.start(job, "gpu-2")
    stage.submit("later", delay_ms=5_000)
    page = window.open(f"{url}?page=timeline")

    wait_until(lambda: bars(page) == 2, what="two attempts")

    assert len(page.evaluate(DATA, "joins")["x0"]) == 1
    wait_until(lambda: page.evaluate(DATA, "due")["y"] == ["scheduled"], what="the due job")
    wait_until(lambda: page.evaluate(DATA, "busy")["top"][-1] > 0, what="the load")
    stage.succeed(job)
    wait_until(lambda: sum(page.evaluate(DATA, "ends")["s"]) == 1, what="the job that ended")
    wait_until(lambda: len(page.evaluate(DATA, "tasks-ran")["y"]) == 1, what="the task's times")


@pytest.mark.nightly
def test_lanes_by_task_and_batch_keep_the_attempts_of_a_job_together(stage: Stage, url: str, window: Window) -> None:
    batch, *jobs = stage.batch({"n": 1}, {"n": 2}, task="train")
    for job in jobs:
        stage.start(job, "gpu-1")
    stage.retry_later(jobs[0])
    stage.start(jobs[0], "gpu-2")
    stage.start(stage.submit("count"), "gpu-1")
    page = window.open(f"{url}?page=timeline")

    def lanes() -> list[str]:
        return list(page.evaluate(DATA, "bars")["y"])

    wait_until(lambda: bars(page) == 4, what="the attempts")
    join = page.evaluate(DATA, "joins")
    assert join["y0"] != join["y1"]  # two workers
    page.click(".ranges button:has-text('Batches')")
    page.wait_for_selector(".jk-timeline .sum:text-is('4 attempts · 3 running · 1 batch')")
    wait_until(
        lambda: sorted({each.rstrip("\u200b") for each in lanes()}) == sorted([batch, "no batch", "·"]), what="lanes"
    )
    join = page.evaluate(DATA, "joins")
    assert join["y0"] == join["y1"] == [batch]
    page.click(".ranges button:has-text('Tasks')")
    wait_until(lambda: lanes().count("train") == 2, what="both attempts in one lane")
    wait_until(lambda: "lanes=task" in page.url, what="the URL")
    page.reload()
    page.wait_for_selector(".ranges [data-value=task][aria-checked=true]")


@pytest.mark.nightly
def test_keys_go_along_a_lane_and_to_the_next_and_zoom(serve: Serve, window: Window) -> None:
    from jobkit.ui import Dashboard

    clock = FrozenClock(datetime.now(UTC) - timedelta(minutes=31))
    stage = Stage(MemoryKit(at_once=False, clock=clock, lease=36_000.0))
    for name, worker in (("One", "gpu-1"), ("Two", "gpu-1"), ("Three", "gpu-2")):
        job = stage.submit("train", title=name)
        stage.start(job, worker)
        clock.tick(minutes=10)
        stage.succeed(job)
    page = window.open(serve(lambda: Dashboard(stage.kit).__panel__()) + "?page=timeline")
    wait_until(lambda: bars(page) == 3, what="bars")

    def tells(name: str) -> None:
        page.wait_for_selector(f".tip b:text-is('{name}')")

    for key, name in (("Left", "Three"), ("Up", "Two"), ("Left", "One"), ("Right", "Two"), ("Down", "Three")):
        page.keyboard.press(f"Arrow{key}")
        tells(name)
    page.keyboard.press("Enter")
    page.wait_for_selector(".jk-card .title:has-text('Three')")
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowLeft")
    for _ in range(3):
        page.keyboard.press("+")
    wait_until(lambda: bars(page) == 1, what="the bar alone that the keys chose")
    page.keyboard.press("-")
    page.keyboard.press("0")
    wait_until(lambda: bars(page) == 3, what="all bars")
    page.locator("text=Back to now").wait_for(state="hidden")
    page.get_by_role("application", name="Attempts as bars").focus()
    page.keyboard.press("ArrowRight")
    tells("Three")
    stage.close()


@pytest.mark.nightly
def test_a_task_keeps_its_colour_and_the_rare_ones_are_others(stage: Stage, url: str, window: Window) -> None:
    tasks = [f"task_{n:02}" for n in range(12)]
    for n, task in enumerate(tasks):
        for _ in range(12 - n):
            job = stage.running(task)
            stage.succeed(job)
    page = window.open(f"{url}?page=timeline", width=1440)
    page.wait_for_selector(".legend li:has-text('4 others')")
    shown = page.locator(".legend button:not(.others) span").all_inner_texts()
    assert shown == tasks[:8]
    before = page.locator(".legend button:has-text('task_00') i").get_attribute("style")

    page.click(".legend .others")
    page.wait_for_selector(".legend li:has-text('task_11')")
    looks = page.locator(".legend button i").evaluate_all("all => all.map((i) => i.style.cssText + i.dataset.texture)")
    assert len(set(looks)) == len(tasks)
    page.click(".legend button:has-text('task_00')")
    wait_until(lambda: page.locator(".legend button i").count() == 1, what="that task alone")
    assert page.input_value(".search") == "task:task_00"
    page.reload()
    page.wait_for_selector(".legend button[aria-pressed=true]")
    assert page.locator(".legend button i").get_attribute("style") == before


@pytest.mark.nightly
def test_the_range_stands_in_the_url(stage: Stage, url: str, window: Window) -> None:
    page = window.open(f"{url}?page=timeline&range=6h")
    page.wait_for_selector(".ranges [data-value='6h'][aria-checked=true]")

    page.click(".ranges [data-value='1h']")

    page.wait_for_selector(".ranges [data-value='1h'][aria-checked=true]")
    wait_until(lambda: page.evaluate("location.search") == "?page=timeline&range=1h", what="the URL")
    page.go_back()
    page.wait_for_selector(".ranges [data-value='6h'][aria-checked=true]")


@pytest.mark.nightly
def test_the_search_filters_the_timeline_and_is_in_the_url(stage: Stage, url: str, window: Window) -> None:
    for task, owner in (("train", "ada"), ("train", "bob"), ("count", "bob")):
        job = stage.submit(task, owner=owner, title=f"{task} of {owner}")
        stage.start(job, "gpu-1")
        stage.fail(job) if owner == "ada" else stage.succeed(job)
    page = window.open(f"{url}?page=timeline&q=owner:bob")
    page.wait_for_selector(".jk-timeline .sum:text-is('2 attempts · 1 worker')")
    assert page.input_value(".search") == "owner:bob"

    page.keyboard.press("/")
    page.keyboard.type("owner:bob task:train")
    page.wait_for_selector(".jk-timeline .sum:text-is('1 attempt · 1 worker')")
    wait_until(lambda: bars(page) == 1, what="one bar")
    wait_until(lambda: "task%3Atrain" in page.evaluate("location.search"), what="the URL")
    stage.start(stage.submit("train", owner="bob"), "gpu-1")  # new ones come, others stay away
    stage.start(stage.submit("train", owner="ada"), "gpu-1")
    page.wait_for_selector(".jk-timeline .sum:text-is('2 attempts · 1 running · 1 worker')")
    wait_until(lambda: sum(page.evaluate(DATA, "ends")["s"]) == 1, what="endings of those alone")

    page.fill(".search", "task:nothing")
    page.wait_for_selector("text=No attempt matches")
    page.fill(".search", "state:lost")
    page.wait_for_selector(".problem:has-text('state must be one of')")
    page.wait_for_selector("text=This search is not understood")
    page.click("text=Show all attempts")
    page.wait_for_selector(".jk-timeline .sum:has-text('5 attempts')")
    page.go_back()
    page.wait_for_selector("text=This search is not understood")


@pytest.mark.nightly
def test_a_hidden_timeline_does_not_read_and_is_current_when_shown_again(
    stage: Stage, url: str, window: Window
) -> None:
    page = window.open(f"{url}?page=timeline")
    page.wait_for_selector("text=Nothing has run yet")
    assert open_feeds(stage.kit, TimelineFeed)

    page.click(".tab:has-text('Jobs')")
    wait_until(lambda: not open_feeds(stage.kit, TimelineFeed), what="the reading to end")
    stage.start(stage.submit("train"))

    page.click(".tab:has-text('Timeline')")
    page.wait_for_selector(".jk-timeline .sum:has-text('1 attempt · 1 running · 1 worker')")


@pytest.mark.nightly
def test_names_on_the_timeline_are_text(stage: Stage, url: str, window: Window) -> None:
    job = stage.submit(CANARY, {CANARY: CANARY}, title=CANARY, queue=CANARY)
    stage.start(job, CANARY, CANARY)
    stage.fail(job, CANARY, CANARY)
    page = window.open(f"{url}?page=timeline")
    wait_until(lambda: bars(page) == 1, what="the bar")

    page.keyboard.press("k")

    page.wait_for_selector(".tip b")
    assert text_of(page, ".tip b") == CANARY
    assert page.evaluate("window.boom === undefined")
