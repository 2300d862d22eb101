"""A form with a structure in it: typed, submitted, and filled in again from the job by "Edit and run"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

import pytest

import jobkit
from jobkit.model import JobSnapshot
from jobkit.store.query import Query
from jobkit.tasks.registry import registry
from jobkit.tasks.specs import Range
from tests.support import wait_until
from tests.ui.conftest import Window, text_of
from tests.ui.stage import Stage

pytestmark = pytest.mark.browser


@dataclass
class Optimizer:
    """Update rule of weights.

    Attributes:
        lr: learning rate.
    """

    lr: Annotated[float, Range(0, 1)] = 0.01
    betas: tuple[float, float] = (0.9, 0.999)


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

    assert call.startswith(f'kit.get("{job.id}").rerun(model=Model(depth=4)')
    assert again.spec.retry_of == job.id
    assert again.spec.params["model"]["depth"] == 4
    assert again.spec.params["warm"] == {"lr": 0.3, "betas": [0.9, 0.999]}
    assert again.spec.params["retry"] is False
    assert again.spec.params["names"] == "list of 50"
    assert stage.kit.get(again.id).result().endswith(" 50")
    assert again.spec.abridged == ("names",)
