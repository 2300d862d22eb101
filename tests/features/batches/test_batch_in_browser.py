"""The card of a batch in a real browser: moves, sorts, filters, plots, and asks for what its buttons say."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from jobkit.client.batch import Batch
from jobkit.features.batches.batch_card import BatchCard
from jobkit.features.batches.batch_feed import BatchFeed
from tests.support import by_default, wait_until
from tests.ui.conftest import CANARY, Serve, text_of
from tests.ui.stage import Stage

if TYPE_CHECKING:
    from tests.ui.conftest import Window

pytestmark = pytest.mark.browser


def swept(stage: Stage) -> Batch:
    """A sweep over n and method: some done, one failed, some running, the rest waiting."""
    ids = [
        stage.submit("train", {"n": n, "method": method, "epochs": 20}, title="Train a model")
        for n in (1, 2, 4, 8, 16, 32, 64)
        for method in ("euler", "rk4")
    ]
    for i, job_id in enumerate(ids[:11]):
        stage.start(job_id)
        if i == 4:
            stage.fail(job_id, "ValueError", f"bad {CANARY}")
        elif i < 9:
            loss = round((1.0 if i % 2 else 1.7) / (i // 2 + 1), 4)
            plain = {"loss": loss, "steps": 20 * i, "kind": '=HYPERLINK("http://x","a long word")'}
            stage.succeed(job_id, {"type": "dict", "text": "…", "json": plain}, summary="dict of 3: loss, steps, kind")
        else:
            stage.progress(job_id, 5 + i, 20, "epochs")
    jobs = [stage.kit.get(job_id) for job_id in ids]
    return Batch(stage.kit, jobs, axes=("n", "method"))


def test_the_best_row_is_marked_and_chosen_columns_are_kept_and_saved(
    stage: Stage, serve: Serve, window: Window
) -> None:
    batch = swept(stage)
    url = serve(lambda: BatchCard(batch))
    page = window.open(url, width=1000, height=860)
    best = page.locator(".jk-batch .rows .row.best .top")
    wait_until(lambda: best.all_inner_texts() == ["0.25"], what="the lowest loss")

    boxes = page.locator(".jk-batch .rows .row").evaluate_all(
        "rows => rows.map((row) => row.getBoundingClientRect().toJSON())"
    )
    assert {box["height"] for box in boxes} == {boxes[0]["height"]}
    tops = [box["y"] for box in boxes]
    assert {round(after - before) for before, after in itertools.pairwise(tops)} == {round(boxes[0]["height"])}

    page.select_option(".jk-batch [aria-label='Mark the best']", label="highest steps")
    wait_until(lambda: best.all_inner_texts() == ["160"], what="the most steps")
    page.click(".jk-batch .columns summary")
    page.uncheck(".jk-batch .columns label:has-text('method') input")
    page.uncheck(".jk-batch .columns label:has-text('kind') input")
    names = ["n", "State", "loss", "steps", "Duration"]
    heads = page.locator(".jk-batch .headrow button")
    wait_until(lambda: heads.all_inner_texts()[:5] == names, what="fewer columns")
    page.keyboard.press("Escape")
    with page.expect_download() as saved:
        page.click(".jk-batch [title='Save these rows as CSV']")
    assert saved.value.path().read_text().splitlines()[0] == "n,state,loss,steps,duration_s,note,id"
    page.reload()
    wait_until(lambda: heads.all_inner_texts()[:5] == names, what="the same columns again")


def test_the_best_value_is_shown_whole_beside_its_star(stage: Stage, serve: Serve, window: Window) -> None:
    ids = [stage.submit("train", {"n": n}) for n in range(3)]
    for n, job_id in enumerate(ids):
        stage.start(job_id)
        numbers = {"error": -5.727e-12 * (n + 1), **{f"further {i}": i / 7 for i in range(6)}}
        stage.succeed(job_id, {"type": "dict", "text": "…", "json": numbers}, summary="dict of 7")
    batch = Batch(stage.kit, [stage.kit.get(job_id) for job_id in ids], axes=("n",))
    page = window.open(serve(lambda: BatchCard(batch)), width=1000, height=860)
    best = page.locator(".jk-batch .rows .row.best .top")
    wait_until(lambda: best.all_inner_texts() == ["-1.718e-11"], what="the lowest error")

    assert best.evaluate("cell => cell.scrollWidth <= cell.clientWidth")


def test_a_batch_says_in_one_line_why_its_jobs_wait_and_copies_its_id(
    stage: Stage, serve: Serve, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BatchFeed, "LOOK_S", 0.05)
    batch_id, first, *_ = stage.batch(*({"n": n} for n in range(3)))
    stage.start(first)
    stage.beat(slots=1)
    page = window.open(serve(lambda: BatchCard(stage.kit.batches.get(batch_id))), width=390, height=700)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])

    line, words = page.locator(".jk-batch .meta"), "2 wait for a free slot: the one slot is busy"
    wait_until(lambda: line.text_content() == f"{words}{batch_id[:8]}", what="the reason and the id")
    assert (line.bounding_box() or {})["height"] < 24
    assert not page.locator(".jk-batch .notice").is_visible()
    page.get_by_title("Copy the id").click()
    wait_until(lambda: page.evaluate("navigator.clipboard.readText()") == batch_id, what="the whole id")


@pytest.mark.parametrize("scheme", by_default(["light", "dark"]))
def test_a_batch_shows_bar_plot_and_table_and_goes_on_by_itself(
    stage: Stage, serve: Serve, window: Window, scheme: Any
) -> None:
    batch = swept(stage)
    page = window.open(serve(lambda: BatchCard(batch)), width=1000, height=860, color_scheme=scheme)

    wait_until(lambda: "9 / 14" in text_of(page, ".jk-batch .below"), what="the counts")
    wait_until(lambda: page.locator(".plot > svg circle").count() == 8, what="the plot")
    assert text_of(page, ".jk-batch .args") == "epochs=20"
    assert page.locator(".plot > svg polyline").count() == 2
    assert page.locator(".jk-batch .rows .row").count() == 14
    names = ["n", "method", "State", "loss", "steps", "kind"]
    heads = page.locator(".jk-batch .headrow button")
    wait_until(lambda: heads.all_inner_texts()[:6] == names, what="the columns")
    assert "bad <img src=x" in text_of(page, ".jk-batch .rows .row[data-face=failed]")
    assert page.evaluate("window.boom") is None

    running = batch[9].id
    stage.succeed(running, {"type": "dict", "text": "…", "json": {"loss": 0.01}}, summary="{'loss': 0.01}")

    wait_until(lambda: "10 / 14" in text_of(page, ".jk-batch .below"), what="the news")
    wait_until(lambda: page.locator(".plot > svg circle").count() == 9, what="the new point")


@pytest.mark.nightly
def test_rows_are_sorted_filtered_and_saved(stage: Stage, serve: Serve, window: Window) -> None:
    batch = swept(stage)
    page = window.open(serve(lambda: BatchCard(batch)), width=1000, height=860)
    wait_until(lambda: "loss" in text_of(page, ".jk-batch .headrow"), what="the columns")

    def column(c: int) -> list[str]:
        return [row.locator(":scope > *").nth(c).inner_text() for row in page.locator(".jk-batch .rows .row").all()]

    page.get_by_role("columnheader", name="loss").click()
    values = [float(text) for text in column(3) if text]
    assert values == sorted(values)
    assert column(3)[-1] == ""  # what has no value stays at the end
    page.get_by_role("columnheader", name="loss").click()
    assert [float(text) for text in column(3) if text] == values[::-1]
    page.locator(".states .state[data-face=failed]").click()
    assert page.locator(".jk-batch .rows .row").count() == 1
    page.locator(".states .state[data-face=failed]").click()
    page.get_by_label("Filter the rows").fill("euler")
    assert set(column(1)) == {"euler"}
    with page.expect_download() as waiting:
        page.get_by_role("button", name="CSV").click()
    lines = waiting.value.path().read_text("utf-8").splitlines()
    assert lines[0] == "n,method,state,loss,steps,kind,duration_s,note,id"
    assert len(lines) == 8
    assert ',"\'=HYPERLINK(""http://x"",""a long word"")",' in lines[1]  # text where a spreadsheet opens it


@pytest.mark.nightly
def test_the_plot_can_show_another_number_over_another_argument(stage: Stage, serve: Serve, window: Window) -> None:
    batch = swept(stage)
    page = window.open(serve(lambda: BatchCard(batch)), width=1000, height=860)
    wait_until(lambda: page.locator(".plot > svg circle").count() == 8, what="the plot")

    page.locator(".plot select").nth(0).select_option("steps")
    page.locator(".plot select").nth(1).select_option("method")

    label = page.locator(".jk-batch .plot > svg")
    wait_until(lambda: label.get_attribute("aria-label") == "steps over method, 8 points", what="the other plot")


@pytest.mark.nightly
def test_the_rest_is_cancelled_and_what_cannot_be_done_is_said(stage: Stage, serve: Serve, window: Window) -> None:
    batch = swept(stage)
    page = window.open(serve(lambda: BatchCard(batch)), width=1000, height=860)
    failed = batch[4].id
    wait_until(lambda: "9 / 14" in text_of(page, ".jk-batch .below"), what="the counts")

    page.get_by_role("button", name="Cancel the rest").click()
    page.get_by_role("button", name="Cancel 5 jobs").click()

    wait_until(lambda: batch.counts.get("cancelled") == 3, what="the waiting ones to be cancelled")
    assert sum(job.snapshot.is_cancelling for job in batch) == 2
    wait_until(lambda: "3 cancelled" in text_of(page, ".jk-batch .states"), what="the card")

    # The stage's jobs have no arguments that a worker could read: the card says why there is no retry.
    page.get_by_role("button", name="Retry 1 failed").click()
    wait_until(lambda: "is not a jobkit payload" in text_of(page, ".jk-batch .notice"), what="the refusal")
    assert batch[4].id == failed


@pytest.mark.nightly
def test_ten_thousand_rows_scroll_like_ten(stage: Stage, serve: Serve, window: Window) -> None:
    ids = [stage.submit("train", {"n": n}) for n in range(10_000)]
    batch = Batch(stage.kit, [stage.kit.get(job_id) for job_id in ids])
    page = window.open(serve(lambda: BatchCard(batch)), width=1000, height=860)

    wait_until(lambda: page.locator(".jk-batch .rows .row").count() > 5, what="the rows")
    assert page.locator(".jk-batch .rows .row").count() < 40
    page.locator(".jk-batch .grid").evaluate("grid => grid.scrollTop = 30 * 9000")
    wait_until(lambda: "9,005" in text_of(page, ".jk-batch .rows"), what="rows far below")
