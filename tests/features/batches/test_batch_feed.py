"""The feed of a batch: what its last texts have."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from jobkit.client.batch import Batch
from jobkit.client.loop import background
from jobkit.features.batches.batch_feed import BatchControl, BatchFeed
from jobkit.features.batches.store import BatchStore
from jobkit.model.batch import RULE_FAILED
from jobkit.ui.access.actions import Actions
from tests.support import PATIENCE_S, wait_until
from tests.ui.stage import Stage


def test_a_batch_that_ends_right_after_a_plot_is_plotted_once_more(stage: Stage) -> None:
    ids = [stage.submit("train", {"n": n}) for n in (1, 2, 3)]
    told: dict[str, str] = {}
    batch = Batch(stage.kit, [stage.kit.get(each) for each in ids], axes=("n",))
    control = BatchControl(Actions(stage.kit), lambda whole, _: told.update(whole), batch)
    wait_until(lambda: told.get("plot") == "null", what="the plot of nothing")

    for n, job_id in enumerate(ids):
        stage.start(job_id)
        stage.succeed(job_id, {"type": "int", "text": str(n)}, summary=str(n))

    wait_until(
        lambda: len((json.loads(told["plot"]) or {"dots": ()})["dots"]) == 3, what="the plot of all", timeout_s=10
    )
    control.stop()


def test_a_batch_ends_with_the_results_that_came_while_its_texts_were_made(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, fetch, is_fetching, is_making = BatchFeed._make, BatchFeed._fetch, threading.Event(), threading.Event()

    def slow_make(feed: BatchFeed, *of: Any) -> Any:
        made = make(feed, *of)
        if is_fetching.is_set() and not is_making.is_set():
            is_making.set()
            wait_until(lambda: feed._previews, what="the results")
        return made

    async def late_fetch(feed: BatchFeed, *of: Any) -> None:
        is_fetching.set()
        await asyncio.to_thread(is_making.wait)
        await fetch(feed, *of)

    monkeypatch.setattr(BatchFeed, "_make", slow_make)
    monkeypatch.setattr(BatchFeed, "_fetch", late_fetch)
    job, ends = stage.running(), []
    batch = Batch(stage.kit, [stage.kit.get(job)])
    control = BatchControl(
        Actions(stage.kit), lambda *_: None, batch, on_end=lambda model: ends.append(model.columns())
    )

    stage.succeed(job, {"type": "dict", "json": {"loss": 0.5}}, summary="dict of 7: loss, …")
    assert is_fetching.wait(PATIENCE_S)
    control.do("table", {})

    wait_until(lambda: ends, what="the end")
    assert ("loss", "value") in ends[0]
    control.stop()


def test_a_batch_says_that_its_stop_rule_failed_while_its_jobs_go_on_and_at_their_end(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BatchFeed, "LOOK_S", 0.1)
    batch, job = stage.batch({"n": 1})
    stage.start(job)
    told: dict[str, str] = {}
    control = BatchControl(Actions(stage.kit), lambda whole, _: told.update(whole), stage.kit.batches.get(batch))

    background.call(stage.store.part(BatchStore).set_rule(batch, f"{RULE_FAILED}TypeError: no dict", ""))
    wait_until(lambda: "Its stop rule failed: TypeError: no dict" in told.get("head", ""), what="the alert")
    stage.succeed(job)
    wait_until(lambda: json.loads(told["head"])["face"] == "succeeded", what="the end")

    assert "Its stop rule failed: TypeError: no dict" in told["head"]
    control.stop()
