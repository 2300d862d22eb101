"""The form in a real browser: drafts, refusals, when and how often it submits, and structures as arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

import jobkit
from jobkit.client.loop import background
from jobkit.model import JobSnapshot
from jobkit.store.query import Query
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.registry import registry
from jobkit.tasks.specs import ParamSpec
from tests.support import wait_until
from tests.tasks.test_structs import Optimizer
from tests.ui.conftest import Window, text_of
from tests.ui.stage import Stage
from tests.ui.test_dashboard_in_browser import TRAIN

pytestmark = pytest.mark.browser


FIT = TaskInfo(
    name="fit",
    title="Fit it",
    ref="tests.ui.stage:Stage",
    params=(
        ParamSpec(name="lr", kind="float", min=1e-4, max=1.0, required=False, default=0.01),
        ParamSpec(name="n", kind="int"),
        ParamSpec(name="password", kind="str", required=False, default="", is_secret=True),
    ),
)


def opened(page: Any) -> None:
    page.wait_for_selector("h2:has-text('Fit it')")


def slid_to(page: Any, place: int) -> str:
    """Move the slider of `lr`; return the value that it types."""
    page.locator("[data-name=lr] .slider").evaluate(
        "(el, place) => { el.value = place; el.dispatchEvent(new Event('input')); }", place
    )
    return str(page.locator("[data-name=lr] input.input").input_value())


def test_a_form_keeps_drafts_and_refusals_and_says_what_it_usually_takes(
    stage: Stage, url: str, window: Window
) -> None:
    stage.publish(FIT)
    background.call(stage.store.publish_took({"fit": 203.0}))
    page = window.open(f"{url}?page=submit", width=1440)
    opened(page)
    wait_until(lambda: text_of(page, ".go .usual") == "usually 3 m 23 s", what="the usual run time")

    assert [slid_to(page, place) for place in (0, 200, 400)] == ["0.0001", "0.01", "1"]  # by size, not evenly
    slid_to(page, 100)
    page.fill("[data-name=password] input", "secret")
    page.click(".options summary")
    page.fill("[data-name='option:timeout'] input", "soon")
    page.click("button.submit")
    wait_until(lambda: "n is required" in text_of(page, "[data-name=n] .message"), what="the refusal")
    page.click("[data-name=n] input.input")
    page.click(".jk-form h2")
    assert "n is required" in text_of(page, "[data-name=n] .message")
    assert "timeout must be" in text_of(page, "[data-name='option:timeout'] .message")
    page.fill("[data-name='option:timeout'] input", "10m")
    assert not page.locator("[data-name='option:timeout'] .message").is_visible()
    page.fill("[data-name=n] input.input", "7")
    wait_until(lambda: '"7"' in str(page.evaluate("localStorage['jobkit-drafts']")), what="the draft")

    page.reload()
    opened(page)
    page.wait_for_selector(".draft:has-text('As you left it')")
    assert page.locator("[data-name=lr] input.input").input_value() == "0.001"
    assert page.locator("[data-name='option:timeout'] input").input_value() == "10m"
    assert page.locator("[data-name=password] input").input_value() == ""
    assert "secret" not in page.evaluate("localStorage['jobkit-drafts']")
    page.click(".segments button:has-text('Sweep')")
    assert "Press “Sweep this” beside a field" in text_of(page, ".go .why")
    page.click(".segments button:has-text('Now')")
    page.click("button.submit")

    wait_until(lambda: stage.kit.page(Query()).jobs, what="the job")
    [job] = stage.kit.page(Query()).jobs
    assert (job.spec.params["n"], job.spec.params["lr"], job.spec.timeout_s) == (7, 0.001, 600.0)
    wait_until(lambda: '"7"' not in str(page.evaluate("localStorage['jobkit-drafts']")), what="the draft to go")
    page.reload()
    opened(page)
    assert page.locator("[data-name=n] input.input").input_value() == ""


@pytest.fixture
def page(stage: Stage, url: str, window: Window) -> Any:
    stage.publish(TRAIN)
    page = window.open(f"{url}?page=submit", width=1440)
    page.wait_for_selector("h2:has-text('Train a model')")
    return page


def test_an_address_of_an_unknown_task_says_so_until_another_is_chosen(stage: Stage, url: str, window: Window) -> None:
    stage.publish(FIT)
    stage.publish(TaskInfo(name="plan", title="Plan it", ref="tests.ui.stage:Stage"))
    page = window.open(f"{url}?page=submit&task=gone", width=1440)

    page.wait_for_selector(".about .trouble:has-text('Task gone is not known here')")
    page.click(".task:has-text('Plan it')")

    page.wait_for_selector("h2:has-text('Plan it')")
    assert page.locator(".about .trouble").is_hidden()


def test_a_job_of_other_code_with_the_name_of_a_task_shows_its_call_and_no_form(
    stage: Stage, url: str, window: Window
) -> None:
    def fit(lr: float = 0.1, data: str = "a") -> str:
        return data

    stage.publish(FIT)
    job = stage.kit.submit(fit, data="b")
    page = window.open(f"{url}?page=submit&again={job.id}", width=1440)

    said = f"Job {job.id[:8]} ran other code than the task fit that is offered here. Run its job again from Python:"
    page.wait_for_selector(f".about .trouble:has-text('{said}')")
    assert text_of(page, ".about .trouble .snippet pre") == f'jobkit.connect().get("{job.id}").rerun(lr=..., data=...)'
    assert page.locator(".jk-form button.submit").is_hidden()


def test_a_job_whose_task_has_no_form_shows_its_call_and_no_other_form(stage: Stage, url: str, window: Window) -> None:
    stage.publish(FIT)
    job = stage.submit("mean_price", {"table": "a table", "column": "cost"})
    page = window.open(f"{url}?page=submit&again={job}", width=1440)

    page.wait_for_selector(".about .trouble:has-text('Task mean_price is not known here')")
    call = f'jobkit.connect().get("{job}").rerun(table=..., column=...)'
    assert text_of(page, ".about .trouble .snippet pre") == call
    assert page.locator(".about .trouble .snippet button:has-text('Copy')").is_visible()
    for part in ("button.submit", "h2", "[data-name=n]"):
        assert page.locator(f".jk-form {part}").first.is_hidden()
    assert page.locator(".task[aria-selected=true]").count() == 0
    page.click(".task:has-text('Fit it')")
    opened(page)
    assert page.locator("button.submit").is_visible()
    assert page.locator(".about .trouble").is_hidden()


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
    assert stage.kit.batches.info(batch_id).spec.axes == ("n", "method")
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


@dataclass
class Model:
    """Model to train."""

    depth: int
    name: str = "net"
    optimizer: Optimizer = field(default_factory=Optimizer)
    start: datetime | None = None


@jobkit.task
def fit(
    model: Model,
    names: list[str],
    warm: Optimizer | None = None,
    at: datetime = datetime(2026, 1, 2),
    retry: bool | None = None,
) -> str:
    """Fit a model."""
    return f"{model} {warm} {at!r} {len(names)}"


@pytest.fixture
def form(stage: Stage, url: str, window: Window) -> Callable[..., Any]:
    registry.register(fit)  # what runs must be a task of the process that runs it
    stage.publish(fit.info())

    def opened(query: str = "") -> Any:
        page = window.open(f"{url}?page=submit{query}", width=1440, height=900)
        page.wait_for_selector("h2:has-text('Fit a model')")
        return page

    return opened


def submitted(stage: Stage, page: Any) -> JobSnapshot:
    before = len(stage.kit.page(Query()).jobs)
    page.click("button.submit")
    wait_until(lambda: len(stage.kit.page(Query()).jobs) > before, 40, "a job")
    return stage.kit.page(Query()).jobs[0]


def test_a_nested_dataclass_goes_through_the_form_and_comes_back_by_change(stage: Stage, form: Any) -> None:
    page = form()
    page.fill("[data-name='model.depth'] input", "many")
    page.fill("[data-name='model.optimizer.lr'] input.input", "0.5")
    page.fill("[data-name='names'] input", "a, b")
    page.click("button.submit")
    page.wait_for_selector("[data-name='model.depth'] .message:has-text('model.depth must be a whole number')")
    page.fill("[data-name='model.depth'] input", "3")
    call = text_of(page, ".call code")

    job = submitted(stage, page)

    assert call == 'fit.submit(model=Model(depth=3, optimizer=Optimizer(lr=0.5)), names=["a", "b"])'
    assert job.spec.params["model"] == {
        "depth": 3, "name": "net", "optimizer": {"lr": 0.5, "betas": [0.9, 0.999]}, "start": None,
    }  # fmt: skip
    made = "Model(depth=3, name='net', optimizer=Optimizer(lr=0.5, betas=(0.9, 0.999)), start=None)"
    assert stage.kit.get(job.id).result() == f"{made} None datetime.datetime(2026, 1, 2, 0, 0) 2"

    page = form(f"&again={job.id}")
    page.wait_for_selector("[data-name=model].changed")
    assert page.input_value("[data-name='model.optimizer.betas'] input") == "0.9, 0.999"
    changed = "fields => fields.map(each => each.dataset.name)"
    assert page.locator(".jk-form .form > .fields .field.changed").evaluate_all(changed) == [
        "model", "model.depth", "model.optimizer", "model.optimizer.lr", "names",
    ]  # fmt: skip
    again = submitted(stage, page)

    assert again.id != job.id
    assert again.spec.params == job.spec.params


@pytest.mark.nightly
def test_what_the_page_does_not_know_as_a_whole_stays_as_it_is_in_the_job(stage: Stage, form: Any) -> None:
    names = [f"name {n}" for n in range(50)]
    params = {"model": {"depth": 3}, "names": names, "warm": {"lr": 0.3}, "retry": False}
    job = stage.kit.submit_info("fit", params)
    assert stage.kit.snapshot(job.id).spec.abridged == ("names",)

    page = form(f"&again={job.id}")
    page.wait_for_selector("[data-name=names] .kept:has-text('list of 50')")
    page.fill("[data-name='model.depth'] input", "4")
    call = text_of(page, ".call code")
    again = submitted(stage, page)

    assert call.startswith(f'jobkit.connect().get("{job.id}").rerun(model=Model(depth=4)')
    assert again.spec.retry_of == job.id
    assert again.spec.params["model"]["depth"] == 4
    assert again.spec.params["warm"] == {"lr": 0.3, "betas": [0.9, 0.999]}
    assert again.spec.params["retry"] is False
    assert again.spec.params["names"] == "list of 50"
    assert stage.kit.get(again.id).result().endswith(" 50")
    assert again.spec.abridged == ("names",)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_task_of_a_link_is_in_view_in_the_list_of_many(stage: Stage, url: str, window: Window, width: int) -> None:
    stage.publish(*(TaskInfo(name=f"task{n:02}", title=f"Task {n}", ref="tests.ui.stage:Stage") for n in range(30)))
    page = window.open(f"{url}?page=submit&task=task27", width=width)
    page.wait_for_selector("h2:has-text('Task 27')")

    place = page.locator(".task[aria-selected=true]").bounding_box() or {}

    assert 0 <= place["x"] <= width - place["width"]
    assert 0 <= place["y"] <= 800 - place["height"]
