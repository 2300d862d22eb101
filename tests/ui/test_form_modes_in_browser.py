"""A form submits now, later, or once for each combination of several values."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from jobkit.store.query import Query
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.specs import ParamSpec
from tests.support import wait_until
from tests.ui.conftest import Window, text_of
from tests.ui.stage import Stage
from tests.ui.test_dashboard_in_browser import TRAIN

pytestmark = pytest.mark.browser


@pytest.fixture
def page(stage: Stage, url: str, window: Window) -> Any:
    stage.publish(TRAIN)
    page = window.open(f"{url}?page=submit", width=1440)
    page.wait_for_selector("h2:has-text('Train a model')")
    return page


def test_a_sweep_submits_each_combination_and_leads_to_its_batch(stage: Stage, page: Any) -> None:
    page.click(".segments button:has-text('Sweep')")
    assert page.locator("button.submit").is_disabled()
    page.click("[data-name=n] .several")
    page.fill("[data-name=n] .axis input", "1..3, 7")
    page.click("[data-name=method] .several")
    page.fill("[data-name=lr] input.input", "0.5")
    call = 'train.sweep(n=[1, 2, 3, 7], lr=[0.5], method=["euler", "rk4"])'
    assert text_of(page, ".call code") == call

    page.click("button.submit:has-text('Submit 8 jobs')")

    wait_until(lambda: page.locator(".jk-batch .row:not(.headrow)").count() == 8, what="the jobs of the sweep")
    found = stage.kit.page(Query()).jobs
    assert {(job.spec.params["n"], job.spec.params["method"]) for job in found} == {
        (n, method) for n in (1, 2, 3, 7) for method in ("euler", "rk4")
    }
    assert {job.spec.params["lr"] for job in found} == {0.5}
    (batch_id,) = {job.spec.batch for job in found}
    assert f"page=batch&id={batch_id}" in page.url
    assert stage.kit.batch_info(batch_id).spec.axes == ("n", "method")
    page.click("nav >> text=Jobs")
    page.wait_for_selector(".jk-table .row.batch")
    assert page.locator(".jk-table .rows > .row").count() == 1
    page.click(".row.batch .more")
    wait_until(lambda: page.locator(".jk-table .inside .job").count() == 8, what="the jobs below the row")
    page.click(".row.batch .title, .row.batch b")
    page.wait_for_selector(".jk-batch .row")


@pytest.mark.nightly
def test_a_value_of_a_sweep_that_is_not_allowed_is_refused_beside_its_field(stage: Stage, page: Any) -> None:
    page.click(".segments button:has-text('Sweep')")
    page.click("[data-name=n] .several")
    page.fill("[data-name=n] .axis input", "9..11")

    page.keyboard.press("Control+Enter")

    page.wait_for_selector("[data-name=n] .message:has-text('n must be a whole number from 1 to 10, not 11')")
    assert stage.kit.page(Query()).jobs == ()


@pytest.mark.nightly
def test_a_job_for_later_waits_for_its_time(stage: Stage, page: Any) -> None:
    page.fill("[data-name=n] input.input", "7")
    page.click(".segments button:has-text('Later')")
    page.fill("input.at", "2031-02-03T04:05")
    assert text_of(page, ".call code") == "train.options(at=datetime(2031, 2, 3, 4, 5).astimezone()).submit(n=7)"

    page.click("button.submit")

    page.wait_for_selector(".jk-card .title:has-text('Train a model')")
    (job,) = stage.kit.page(Query()).jobs
    assert datetime.fromtimestamp(job.spec.at_ms / 1000).strftime("%Y-%m-%dT%H:%M") == "2031-02-03T04:05"


@pytest.mark.nightly
def test_ten_arguments_with_help_are_seen_without_scrolling_and_long_help_is_not_cut(
    stage: Stage, page: Any, window: Window
) -> None:
    helps = ["learning rate.", "passes over the data.", *["one of many."] * 8]
    params = tuple(
        ParamSpec(name=f"p{n}", kind="float", required=False, default=n, help=text)
        for n, text in enumerate((*helps, "a sentence of help that has no place beside its label. " * 2))
    )
    stage.publish(TaskInfo("many", "Many", params=params))
    page = window.open(f"{page.url.partition('?')[0]}?page=submit&task=many", width=1440, height=900)
    page.wait_for_selector("h2:has-text('Many')")

    tops = [page.locator(f"[data-name=p{n}]").bounding_box()["y"] for n in range(10)]

    assert {below - above for above, below in zip(tops[::2], tops[2::2], strict=False)} == {64}
    assert tops[-1] + 64 < page.locator(".jk-form footer").bounding_box()["y"]
    cut = "hints => hints.filter(hint => hint.scrollWidth > hint.clientWidth).map(hint => hint.textContent)"
    assert page.locator(".jk-form .hint:visible").evaluate_all(cut) == []
