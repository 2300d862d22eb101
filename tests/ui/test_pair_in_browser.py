"""Two jobs side by side in a real browser: from a card in one click, readable on a phone, saved as CSV."""

from __future__ import annotations

import pytest

from jobkit.model.metrics import Curves
from tests.support import wait_until
from tests.ui.conftest import CANARY, Window, text_of
from tests.ui.stage import Stage
from tests.ui.test_all_pages import findings

pytestmark = pytest.mark.browser


def test_a_run_is_compared_with_the_one_before_it(stage: Stage, url: str, window: Window) -> None:
    jobs = [stage.submit("train", {"lr": lr, "note": CANARY}, title="Train a model") for lr in (0.1, 0.01)]
    for n, job in enumerate(jobs):
        stage.start(job)
        stage.measure(job, Curves(), loss=[(step, 1.0, 1 / (1 + n + step)) for step in range(9)])
        stage.succeed(job, summary=str({"score": 0.8 + n / 10, "note": CANARY}))
    page = window.open(url, width=1440, height=900)
    page.click(".jk-table .row:has-text('lr=0.01')")

    page.locator(".jk-card").get_by_role("button", name="Compare").click()

    wait_until(lambda: page.locator(".jk-pair .fact").count() >= 3, what="the answer")
    said = page.locator(".jk-pair .fact").all_inner_texts()
    assert [" ".join(text.split()) for text in said if "duration" not in text] == [
        "Arguments lr 0.1 → 0.01 (−90 %)",
        "score 0.8 → 0.9 (+12 %)",
        "metric loss 0.111111 → 0.1 (−10 %)",
    ]
    assert page.locator(".jk-pair .chart path.line").count() == 2
    assert not page.locator(".jk-pair .equal .line:visible").count()
    assert not findings(page, "two jobs")
    with page.expect_download() as saved:
        page.click(".jk-pair [title='Save what differs as CSV']")
    rows = saved.value.path().read_text("utf-8").splitlines()
    assert rows[0] == f"kind,name,{jobs[0]},{jobs[1]},change"
    assert "Arguments,lr,0.1,0.01,−90 %" in rows
    phone = window.open(page.url, width=390, height=800, color_scheme="dark")
    wait_until(lambda: phone.locator(".jk-pair .fact").count() >= 3, what="the linked page")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    assert not findings(phone, "two jobs on a phone")
    page.click(".jk-pair .side .link >> nth=0")
    page.wait_for_selector(".jk-card .title:has-text('Train a model')")
    page.go_back()
    page.click("nav >> text=Jobs")
    page.check(".jk-table .head .pick")
    page.click(".bulk [data-do=compare]")
    page.wait_for_url("**page=compare&set=*")
    assert len(page.url.partition("?")[2]) < 40
    wait_until(lambda: "Train a model" in text_of(page, ".jk-pair .sides"), what="both jobs")
