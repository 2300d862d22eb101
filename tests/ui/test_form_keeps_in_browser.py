"""A form keeps drafts over a reload and refusals until their field is changed, and says the usual run time."""

from __future__ import annotations

from typing import Any

import pytest

from jobkit.client.loop import background
from jobkit.store.query import Query
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.specs import ParamSpec
from tests.support import wait_until
from tests.ui.conftest import Window, text_of
from tests.ui.stage import Stage

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
