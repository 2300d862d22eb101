"""Batches: map, sweep, and waiting for the first end."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

import jobkit
from jobkit.client.kit import Kit
from jobkit.features.batches.rows import GROUPS
from jobkit.tasks.registry import registry
from tests.support import wait_until

from .calls import second_time


def test_a_map_submits_one_job_for_each_item_and_collects_their_values(kit: Kit) -> None:
    def add(a: int, b: int = 1) -> int:
        return a + b

    batch = kit.map(add, [{"a": 1}, (2, 3), 4])

    assert batch.wait(60)
    assert [job.result() for job in batch] == [2, 5, 5]
    assert batch.counts == {"succeeded": 3}
    assert batch.progress == 1.0
    table = batch.results()
    assert list(table["value"]) == [2, 5, 5]
    assert list(table["a"]) == [1, 2, 4]


def test_a_batch_has_the_values_of_its_jobs(kit: Kit) -> None:
    async def values() -> list:
        return await kit.map(abs, [-1, 2, -3])

    assert asyncio.run(values()) == [1, 2, 3]
    assert kit.map(abs, [-1, 2, -3]).result("1m") == [1, 2, 3]
    assert kit.map(abs, [-4]).values() == [4]


def test_the_first_failure_of_a_batch_ends_the_wait_for_its_values(kit: Kit) -> None:
    async def values(batch: jobkit.Batch) -> list:
        return await batch

    slow = kit.options(delay=0 if kit.settings.scheme == "sync" else 600)
    for way in (jobkit.Batch.result, lambda batch: asyncio.run(values(batch))):
        batch = jobkit.Batch(kit, [*slow.map(abs, [1]), kit.submit(int, "x")])
        with pytest.raises(jobkit.JobFailed, match="invalid literal"):
            way(batch)
        batch.cancel()
    if kit.settings.scheme != "sync":
        with pytest.raises(TimeoutError, match="1 of 1 jobs have not ended after 10 ms"):
            slow.map(abs, [1]).result("10ms")


def test_a_sweep_submits_every_combination_the_last_axis_fastest(kit: Kit) -> None:
    def pair(a: int, b: str) -> str:
        return f"{a}{b}"

    batch = kit.sweep(pair, a=[1, 2], b=["x", "y"])

    batch.wait(60)
    assert list(batch.results()["value"]) == ["1x", "1y", "2x", "2y"]


def test_a_failed_job_of_a_batch_is_a_row_and_can_be_retried(kit: Kit) -> None:
    batch = kit.map(int, ["1", "x"])
    batch.wait(60)

    table = batch.results()

    assert list(table["state"]) == ["succeeded", "failed"]
    assert "ValueError" in table["error"].iloc[1]
    again = batch.retry_failed()
    assert len(again) == 1
    assert again[0].snapshot.spec.retry_of == batch[1].id


def test_a_batch_is_cancelled_as_a_whole_and_its_parameters_move(queued: Kit) -> None:
    batch = queued.options(delay=60).map(len, ["a", "b", "c"])
    seen = []
    batch.param.watch(lambda event: seen.append(event.new), "counts")

    assert batch.counts == {"scheduled": 3}
    assert batch.cancel() == 3

    assert batch.wait(60)
    assert batch.counts == {"cancelled": 3}
    assert seen[-1] == {"cancelled": 3}


def test_jobs_come_in_the_order_in_which_they_end(queued: Kit) -> None:
    late, early = queued.options(delay=0.4).submit(len, "late"), queued.submit(len, "early")

    assert list(jobkit.as_completed([late, early], timeout=20)) == [early, late]
    assert jobkit.wait([late, early]) == ([late, early], [])


def test_waiting_for_several_jobs_can_time_out(queued: Kit) -> None:
    job, done = queued.options(delay=60).submit(len, "a"), queued.submit(len, "b")
    done.wait(60)

    assert jobkit.wait([job, done], timeout=0.05) == ([done], [job])
    with pytest.raises(TimeoutError, match="1 of 2 jobs have not ended"):
        list(jobkit.as_completed([job, done], timeout=0.05))


def test_a_batch_is_refused_whole_before_anything_is_stored(kit: Kit) -> None:
    def half(n: int) -> float:
        return n / 2

    for make, message in (
        (lambda: kit.map(half, []), "the list of items is empty"),
        (lambda: kit.map(half, [{"n": 1}, {"n": "x"}]), "n must be a whole number"),
        (lambda: kit.sweep(half, n=[]), "axis n has no values"),  # and what else `test_sweep.py` has
        (lambda: kit.sweep(half, n=[1], stop_when=3), "stop_when must be a function"),
        (lambda: kit.map(half, [1], stop_when="0 failed"), '"3 failed", "10 succeeded", not \'0 failed\''),
        (lambda: kit.map(half, "abc"), "items must be a list"),
        (lambda: kit.sweep(half, n=[1], m=[2]), "unexpected argument 'm'"),
        (
            lambda: kit.map(repr, [threading.Lock()]),
            "argument 1 cannot be sent: a value of type lock cannot be pickled",
        ),
        (lambda: kit.options(key="k").map(half, [1]), "a key names one job"),
        (lambda: kit.map(registry.task_of(half).options(key="k"), [1]), "a key names one job"),
    ):
        with pytest.raises(jobkit.InvalidParams, match=message):
            make()
    assert kit.jobs() == []


def test_a_sweep_shows_its_arguments_and_its_seed(kit: Kit) -> None:
    def area(a: float, b: float = 1.0) -> float:
        return a * b

    zipped = kit.sweep(area, a=[1, 2, 3], b=[4, 5, 6], how="zip")
    drawn = kit.sweep(area, a=jobkit.Range(0.0, 1.0), b=[1, 2], how="random", samples=5, seed=7)
    again = kit.sweep(area, a=jobkit.Range(0.0, 1.0), b=[1, 2], how="random", samples=5, seed=7)

    for batch in (zipped, drawn, again):
        assert batch.wait(60)
    assert zipped.axes == ("a", "b")
    assert list(zipped.results()["value"]) == [4.0, 10.0, 18.0]
    assert drawn.seed == 7
    assert list(drawn.results()["a"]) == list(again.results()["a"])


def test_a_rule_cancels_the_rest_of_a_batch(kit: Kit) -> None:
    def slow(n: int) -> int:
        import time

        time.sleep(0 if n < 3 else 0.2)
        return n

    batch = kit.map(slow, list(range(80)), stop_when=lambda job: job.result() >= 2)

    assert batch.wait(60)
    assert batch.stopped_by is not None
    assert batch.stopped_by.result() >= 2
    assert batch.counts["cancelled"] > (
        20 if kit.settings.scheme == "sync" else 0
    )  # a worker starts the rule's job first
    assert "stop_when held for job" in str(batch.jobs[-1].snapshot.history[-1].data["reason"])


def test_a_batch_may_stop_at_the_first_failure_and_survives_a_rule_that_raises(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    told = "the stop_when rule of a batch raised"
    failing = kit.map(int, ["x", *["1"] * 30], stop_when="failed")
    raising = kit.map(int, ["1", "2", "3"], stop_when=lambda job: {}[job.result()])
    asking = kit.map(int, ["x", "1"], stop_when=lambda job: job.result() > 5)  # raises JobFailed for the first

    for batch in (failing, raising, asking):
        assert batch.wait(60)
    assert failing.stopped_by is failing[0]
    wait_until(lambda: kit.batches.info(raising.id).rule == "failed: KeyError: 1", what="the batch to tell of its rule")
    assert kit.batches.get(raising.id).rule_problem == "KeyError: 1"
    assert GROUPS.cells(kit.batches.info(raising.id))["note"] == "its stop rule failed; 3 succeeded"
    assert asking.rule_problem == failing.rule_problem == ""
    assert raising.counts == {"succeeded": 3}
    assert asking.counts == {"failed": 1, "succeeded": 1}
    if kit.settings.scheme == "sync":
        wait_until(lambda: caplog.text.count(told) == 1, what="one report")
    else:  # the job that applies the rule says so
        judges = kit.jobs(task="apply_rule")
        jobkit.wait(judges, 60)
        assert sorted(str(judge.state) for judge in judges) == ["failed", "succeeded"]
        [failed] = kit.jobs("failed", task="apply_rule")
        assert "the rule raised, so the batch goes on without it" in str(failed.error)


def test_retried_jobs_can_replace_the_failed_ones(kit: Kit, tmp_path: Path) -> None:
    batch = kit.map(second_time, [str(tmp_path / "a"), str(tmp_path / "b")])
    assert batch.wait(60)
    assert batch.counts == {"failed": 2}
    first = batch[0]

    again = batch.retry_failed(replace=True)

    assert again.wait(60)
    assert batch.wait(60)
    assert batch.counts == {"succeeded": 2}
    assert batch[0] is again[0]
    assert batch[0].snapshot.spec.retry_of == first.id
    assert list(batch.results()["value"]) == [7, 7]


@pytest.mark.nightly
def test_thousands_of_jobs_are_one_bulk_submit(queued: Kit) -> None:
    async def nothing(n: int) -> int:
        return n

    batch = queued.map(nothing, list(range(3000)))

    assert batch.wait(60)
    assert batch.counts == {"succeeded": 3000}
    assert [job.result() for job in batch] == list(range(3000))


def test_results_keep_an_argument_with_the_name_of_a_column(kit: Kit) -> None:
    def same(value: int, state: str) -> int:
        return value * 2

    batch = kit.map(same, [{"value": 3, "state": "x"}])
    batch.wait(60)

    table = batch.results()

    assert list(table.columns) == ["value (argument)", "state (argument)", "state", "value", "duration_s", "error"]
    assert list(table["value"]) == [6]


def test_a_batch_shows_itself_in_a_panel_app(kit: Kit) -> None:
    pn = pytest.importorskip("panel")
    batch = kit.map(len, ["a", "bc"])
    batch.wait(60)

    card = pn.panel(batch)

    wait_until(lambda: "2 / 2" in card.head or '"ended":2' in card.head, what="the card")
