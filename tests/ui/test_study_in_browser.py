"""The card of a study in a real browser: history, best trial, importance; it goes on by itself and is cancelled."""

from __future__ import annotations

from typing import Any

import pytest

from jobkit.client.batch import Batch
from jobkit.model.metrics import Curves
from jobkit.ui.card.cards import BatchCard
from tests.support import wait_until
from tests.ui.conftest import CANARY, Serve, Window, text_of
from tests.ui.stage import Stage
from tests.ui.test_batch_in_browser import shot

pytestmark = pytest.mark.browser


def begun(stage: Stage, trials: int = 10, *, with_importance: bool = False) -> Batch[Any]:
    """A running study, whose worker the test plays: the fourth trial is pruned, the fifth fails, the last two run."""
    params = ({"lr": 0.1 / (n + 1), "depth": n % 3} for n in range(trials))
    study_id, *ids = stage.batch(*params, id=stage.study(parallel=4), size=20, study="minimize")
    for n, job_id in enumerate(ids):
        stage.start(job_id)
        if n == 3:
            stage.measure(job_id, Curves(), loss=[(0, 0.0, 4.0)])
            stage.kit.cancel(job_id, "pruned at step 0: loss 4")
            stage.cancelled(job_id)
        elif n == 4:
            stage.fail(job_id, "ValueError", f"bad {CANARY}")
        elif n < trials - 2:
            end(stage, job_id, 2.0 / (n + 1))
    if with_importance:
        stage.tell(study_id, importance={"lr": 0.75, "depth": 0.25})
    return stage.kit.batch(study_id)


def end(stage: Stage, job_id: str, value: float) -> None:
    stage.succeed(job_id, {"type": "float", "text": repr(value), "number": value}, summary=f"{value:.6g}")


def test_a_study_shows_its_best_trial_and_history_goes_on_by_itself_and_is_cancelled(
    stage: Stage, serve: Serve, window: Window
) -> None:
    batch = begun(stage)
    page = window.open(serve(lambda: BatchCard(batch)), width=1000, height=900)

    best = "best value: 0.25 at trial 7: lr=0.0125, depth=1"
    wait_until(lambda: text_of(page, ".jk-batch .best") == best, what="the best trial")
    wait_until(lambda: page.locator(".plot > svg circle").count() == 6, what="the values")
    assert page.locator(".plot > svg > svg:has(> path)").count() == 2  # the pruned and the failed one
    assert "8 / 20" in text_of(page, ".jk-batch .below")
    assert page.locator(".plot > svg").get_attribute("aria-label") == "value over trial, 8 points"
    assert [row.get_attribute("data-face") for row in page.locator(".rows .row").all()][3:5] == ["pruned", "failed"]
    assert "bad <img src=x" in text_of(page, ".rows .row[data-face=failed]")
    assert page.locator(".importance").is_hidden()

    end(stage, batch[8].id, 0.125)
    stage.tell(batch.id, importance={"lr": 0.75, "depth": 0.25})

    wait_until(lambda: "0.125 at trial 8" in text_of(page, ".jk-batch .best"), what="the new best")
    wait_until(lambda: text_of(page, ".importance dl").split() == ["lr", "75", "%", "depth", "25", "%"], what="shares")
    shot(page, "study")
    page.get_by_role("button", name="Parallel").click()
    assert page.locator(".lines polyline").count() == 7

    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the study").click()
    wait_until(lambda: stage.kit.snapshot(batch.id).is_cancelling, what="the request")
    wait_until(lambda: "Cancelling" in text_of(page, ".jk-batch .chip"), what="the request on the card")
    stage.cancelled(batch[9].id)
    stage.cancelled(batch.id)
    wait_until(lambda: "Cancelled" in text_of(page, ".jk-batch .chip"), what="the end")
    assert page.evaluate("window.boom") is None
