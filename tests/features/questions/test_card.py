"""The form for an answer on a job's card, in a real browser."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

import jobkit
from tests.support import wait_until
from tests.ui.conftest import CANARY, Serve, Window, text_of
from tests.ui.stage import Stage
from tests.ui.test_card_in_browser import card

pytestmark = pytest.mark.browser


@dataclass
class Cut:
    """Parameters of a cut."""

    noise: Annotated[int, jobkit.Range(0, 9)]
    side: Literal["left", "right"] = "left"


def test_a_question_is_answered_on_the_card(stage: Stage, serve: Serve, window: Window) -> None:
    job = stage.running()
    page = window.open(serve(card(stage, job)))
    page.wait_for_selector(".jk-card .chip:has-text('Running')")

    stage.ask(job, Cut, f"Which one is noise? {CANARY}", show=[[1, 2]], timeout_s=7200)
    page.wait_for_selector(".question .btn:has-text('Answer')")
    assert CANARY in text_of(page, ".question .text")
    assert text_of(page, ".question .since").startswith("asked ")
    assert not page.locator(".jk-card .bar").is_visible()  # it does nothing meanwhile
    assert "closes in 1 h" in text_of(page, ".question .since")
    assert page.locator(".question .required").count() == 1
    page.click(".question .btn.primary")
    page.wait_for_selector(".question .message:has-text('noise is required and must be a whole number from 0 to 9')")
    page.fill(".question input[inputmode=numeric]", "12")
    page.click(".question button:has-text('right')")
    page.wait_for_selector(".question .message:has-text('noise must be a whole number from 0 to 9, not 12')")
    page.fill(".question input[inputmode=numeric]", "3")
    page.keyboard.press("Control+Enter")

    page.wait_for_selector(".question", state="hidden")
    page.click(".told summary")
    assert "noise=3, side=right" in text_of(page, ".told dd")
    assert stage.kit.snapshot(job).asking == ()
    stage.ask(job, bool, "Publish?")
    page.wait_for_selector(".question .text:has-text('Publish?')")
    page.click(".question button:has-text('yes')")
    page.click(".question .btn.primary")
    wait_until(lambda: not stage.kit.snapshot(job).asking)


def test_a_card_that_only_looks_shows_the_question_without_a_form(stage: Stage, serve: Serve, window: Window) -> None:
    job = stage.running()
    key = stage.ask(job, bool, "Publish?")
    made: list[Any] = []

    def looking() -> Any:
        made.append(card(stage, job, actions=())())
        return made[-1]

    page = window.open(serve(looking))
    page.wait_for_selector(".question .text:has-text('Publish?')")
    assert page.locator(".question .btn:visible").count() == 0

    made[0].request = json.dumps({"action": "answer", "key": key, "fields": {"answer": {"value": True}}, "n": 1})

    stage.log(job, "later")
    page.wait_for_selector(".line:has-text('later')")
    assert stage.kit.snapshot(job).asking


def test_the_jobs_page_counts_cancelled_jobs_and_those_that_ask_if_there_are_any(
    stage: Stage, serve: Serve, window: Window
) -> None:
    from jobkit.ui.jobs.job_table import JobTable

    quiet, asking = stage.submit("quiet"), stage.submit("asks")
    stage.start(quiet)
    stage.start(asking)
    page = window.open(serve(lambda: JobTable(stage.kit)))
    page.wait_for_selector(".row:has-text('quiet')")
    for name in ("asking", "cancelled"):
        assert page.locator(f".counter[data-name={name}]").is_hidden()

    stage.kit.cancel(stage.submit("third"))
    page.wait_for_selector(".counter[data-name=cancelled]:has-text('1')")
    stage.ask(asking, bool, "Publish?")
    page.wait_for_selector(".row .note:has-text('Asks: Publish?')")
    page.click(".counter[data-name=asking]:has-text('1')")

    page.wait_for_selector(".row:has-text('quiet')", state="detached")
    assert page.locator(".row:has-text('asks')").count() == 1


def test_a_card_says_that_a_job_waits_for_an_answer_without_a_slot(stage: Stage, serve: Serve, window: Window) -> None:
    job = stage.running()
    stage.ask(job, bool, "Publish?", show=object(), timeout_s=7200)
    stage._finish(job, "asked", reason="it waits for an answer, without a slot")
    page = window.open(serve(card(stage, job)))

    page.wait_for_selector(".chip:has-text('Asks')")
    assert "waits for an answer" in text_of(page, ".meta")
    assert "object" in text_of(page, ".question .shown")
    stage.kit.questions.answer(job, True, by="ada")

    page.wait_for_selector(".chip:has-text('Queued')")
    assert "ada" in page.locator(".told dd").text_content()
