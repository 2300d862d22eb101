"""Many jobs as one: map, sweep, and waiting for whichever ends first."""

from __future__ import annotations

import pytest

import jobkit
from jobkit.client.kit import Kit


def test_a_map_submits_one_job_for_each_item_and_collects_their_values(kit: Kit) -> None:
    def add(a: int, b: int = 1) -> int:
        return a + b

    batch = kit.map(add, [{"a": 1}, (2, 3), 4])

    assert batch.wait(30)
    assert [job.result() for job in batch] == [2, 5, 5]
    assert batch.counts == {"succeeded": 3}
    assert batch.progress == 1.0
    table = batch.results()
    assert list(table["value"]) == [2, 5, 5]
    assert list(table["a"]) == [1, 2, 4]


def test_a_sweep_submits_every_combination_the_last_axis_fastest(kit: Kit) -> None:
    def pair(a: int, b: str) -> str:
        return f"{a}{b}"

    batch = kit.sweep(pair, a=[1, 2], b=["x", "y"])

    batch.wait(30)
    assert list(batch.results()["value"]) == ["1x", "1y", "2x", "2y"]


def test_a_failed_job_of_a_batch_is_a_row_and_can_be_retried(kit: Kit) -> None:
    batch = kit.map(int, ["1", "x"])
    batch.wait(30)

    table = batch.results()

    assert list(table["state"]) == ["succeeded", "failed"]
    assert "ValueError" in table["error"].iloc[1]
    again = batch.retry_failed()
    assert len(again) == 1
    assert again[0].snapshot.spec.retry_of == batch[1].id


def test_a_batch_is_cancelled_as_a_whole_and_its_parameters_move(kit: Kit) -> None:
    if kit.settings.scheme == "sync":
        pytest.skip("with sync:// no job waits")
    batch = kit.options(delay=60).map(len, ["a", "b", "c"])
    seen = []
    batch.param.watch(lambda event: seen.append(event.new), "counts")

    assert batch.counts == {"scheduled": 3}
    assert batch.cancel() == 3

    assert batch.wait(10)
    assert batch.counts == {"cancelled": 3}
    assert seen[-1] == {"cancelled": 3}


def test_jobs_come_in_the_order_in_which_they_end(kit: Kit) -> None:
    if kit.settings.scheme == "sync":
        pytest.skip("with sync:// jobs end in the order of their submits")
    late, early = kit.options(delay=0.4).submit(len, "late"), kit.submit(len, "early")

    assert list(jobkit.as_completed([late, early], timeout=20)) == [early, late]
    assert jobkit.wait([late, early]) == ([late, early], [])


def test_waiting_for_several_jobs_can_time_out(kit: Kit) -> None:
    if kit.settings.scheme == "sync":
        pytest.skip("with sync:// no job waits")
    job, done = kit.options(delay=60).submit(len, "a"), kit.submit(len, "b")
    done.wait(20)

    assert jobkit.wait([job, done], timeout=0.05) == ([done], [job])
    with pytest.raises(TimeoutError, match="1 of 2 jobs have not ended"):
        list(jobkit.as_completed([job, done], timeout=0.05))


def test_a_batch_is_refused_whole_before_anything_is_stored(kit: Kit) -> None:
    def half(n: int) -> float:
        return n / 2

    for make, message in (
        (lambda: kit.map(half, []), "the list of items is empty"),
        (lambda: kit.map(half, [{"n": 1}, {"n": "x"}]), "n must be a whole number"),
        (lambda: kit.sweep(half), "at least one axis"),
        (lambda: kit.sweep(half, n=[]), "axis n has no values"),
        (lambda: kit.sweep(half, n="12"), "axis n must be a list of values"),
        (lambda: kit.sweep(half, n=range(10**6)), "more than 100,000 jobs"),
        (lambda: kit.options(key="k").map(half, [1]), "a key names one job"),
    ):
        with pytest.raises(jobkit.InvalidParams, match=message):
            make()
    assert kit.jobs() == []


def test_a_batch_shows_itself_in_a_panel_app(kit: Kit) -> None:
    pn = pytest.importorskip("panel")
    batch = kit.map(len, ["a", "bc"])
    batch.wait(30)

    bar, words = pn.panel(batch)

    assert bar.value == 100
    assert words.object == "2 succeeded"
