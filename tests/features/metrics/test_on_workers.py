"""Metrics of jobs of real workers: live, across attempts, and whatever a job logs."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

import numpy as np
import pytest

import jobkit
from jobkit.client.kit import Kit
from jobkit.model import JobSpec
from jobkit.model.metrics import Curves
from jobkit.store.values import Claimed
from jobkit.worker import attempt as attempt_module
from tests.support import wait_until
from tests.worker.conftest import Bench


def train(go: str, start: int, stop: int) -> int:
    """Log steps from `start`, wait for a file, and go on to `stop`."""
    first = jobkit.current().attempt == 1
    for step in range(0 if first else start, stop):
        jobkit.log_metrics(step, loss=1 / (step + 1), **{"val/acc": float(jobkit.current().attempt)})
        while first and step == 50 and not Path(go).exists():
            time.sleep(0.01)
    return stop


def test_metrics_of_a_running_job_move_its_handle(bench: Bench) -> None:
    bench.worker()
    go, moved = bench.folder / "go", threading.Event()
    job = bench.kit.submit(train, str(go), 0, 60)
    job.param.watch(lambda event: event.new.get("loss") == pytest.approx(1 / 51) and moved.set(), "metrics")

    assert moved.wait(60)
    assert job.state == "running"
    assert list(job.metrics()["step"]) == list(range(51))
    go.touch()
    job.result(60)

    frame = job.metrics()
    assert list(frame.columns) == ["step", "time", "loss", "val/acc"]
    assert list(frame["loss"]) == [1 / (step + 1) for step in range(60)]
    assert dict(job.metrics) == {"loss": 1 / 60, "val/acc": 1.0}
    with jobkit.connect(**bench.place) as other:
        assert dict(other.get(job.id).metrics) == dict(job.metrics)


async def test_points_go_with_each_news_and_their_summary_now_and_then_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attempt_module, "SUMMARY_S", 1000.0)
    unused: Any = None
    claimed = Claimed(JobSpec("a", "train"), "token", 1)
    attempt = attempt_module.RunningAttempt(claimed, lambda: None, unused, unused, unused, unused, None)
    news = []
    for step in range(3):
        attempt.gather("metrics", {"loss": [(step, step, float(step))]})
        news.append(attempt.take_news())
    attempt.sum_up()
    news.append(attempt.take_news())

    assert [kept.info.name for kept in attempt.kept] == ["append 1", "append 2", "append 3"]
    told = [each.more["metrics"]["newest"] if each and each.has_numbers else None for each in news]
    assert told == [{"loss": 0.0}, None, None, {"loss": 2.0}]
    assert attempt.take_news() is None


async def test_the_summary_of_earlier_attempts_is_the_first_news_of_the_next_one() -> None:
    curves, store, unused = Curves(), Mock(), cast(Any, None)
    curves.add({"loss": [(0, 0, 0.5)]})
    line = curves.take()
    assert line is not None
    claimed = Claimed(JobSpec("a", "train"), "token", 2)
    attempt = attempt_module.RunningAttempt(claimed, lambda: None, unused, unused, unused, unused, None)
    store.many = AsyncMock(return_value=[[line[2]]])

    await attempt.go_on(store)

    news = attempt.take_news()
    assert news is not None
    assert news.more["metrics"]["newest"] == {"loss": 0.5}
    assert attempt.kept == []


def log_at_first() -> None:
    if jobkit.current().attempt == 1:
        jobkit.log_metrics(0, loss=0.5)
        raise ValueError("once more")


@pytest.mark.nightly
def test_a_job_keeps_its_newest_metrics_if_its_last_attempt_logs_nothing(bench: Bench) -> None:
    bench.worker()
    job = bench.kit.options(retries=1, backoff=0).submit(log_at_first)
    job.result(60)

    with jobkit.connect(**bench.place) as other:
        found = other.get(job.id)
    assert (found.attempt, dict(found.metrics)) == (2, {"loss": 0.5})


def test_an_attempt_after_a_killed_worker_goes_on_from_its_step(bench: Bench) -> None:
    first = bench.worker()
    job = bench.kit.submit(train, bench.file("go"), 40, 60)
    wait_until(lambda: len(job.metrics()) == 51, what="the metrics of the first attempt")

    bench.kill(first)
    bench.worker()
    job.result(60)

    frame = job.metrics()
    assert job.attempt == 2
    assert list(frame["step"]) == list(range(60))
    assert list(frame["val/acc"]) == [1.0] * 40 + [2.0] * 20


def test_a_batch_gives_its_metrics_by_argument(bench: Bench) -> None:
    bench.worker()

    @jobkit.task
    def fit_with_metrics(lr: float, loss: str = "mse") -> None:
        for step in range(3):
            jobkit.log_metrics(step, loss=lr * step)

    batch = bench.kit.map(fit_with_metrics, [{"lr": 0.1}, {"lr": 0.2}])
    batch.wait(60)

    frame = batch.metrics()
    assert list(frame.columns) == ["job", "lr", "loss (argument)", "step", "time", "loss"]
    assert list(frame["loss"]) == [0, 0.1, 0.2, 0, 0.2, 0.4]
    assert set(frame["job"]) == {job.id for job in batch}


def test_metrics_with_the_name_of_a_column_or_an_argument_are_all_there(inline: Kit) -> None:
    def fit_named(lr: float) -> None:
        if lr:
            jobkit.log_metrics(7, **{"time": lr, "job": 1, "lr": 3})

    batch = inline.map(fit_named, [{"lr": 0}, {"lr": 0.2}])
    one, frame = batch[1].metrics(), batch.metrics()

    metrics = ["time (metric)", "job (metric)", "lr"]
    assert list(one.columns) == ["step", "time", *metrics]
    assert one[metrics].to_numpy().tolist() == [[0.2, 1, 3]]
    assert one["time"][0].year > 2000
    assert list(frame.columns) == ["job", "lr (argument)", "step", "time", *metrics]
    assert frame[["job", "lr (argument)", "step", *metrics]].to_numpy().tolist() == [[batch[1].id, 0.2, 7, 0.2, 1, 3]]


class Text:
    def __float__(self) -> float:
        raise RuntimeError("no")


class Loss:
    """As a tensor of torch that is part of a graph."""

    requires_grad = True

    def detach(self) -> float:
        return 0.25

    def __float__(self) -> float:
        warnings.warn("Converting a tensor with requires_grad=True to a scalar", UserWarning, stacklevel=2)
        return 0.25


@pytest.fixture(scope="module")
def inline() -> Iterator[Kit]:
    with jobkit.connect("sync://") as kit:
        kit.submit(lambda: jobkit.log_metrics(x=1)).metrics()  # opens all connections
        yield kit


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (3, 3.0), (True, 1.0), (np.float32(0.5), 0.5), (np.int64(7), 7.0), (np.array(2.5), 2.5), (math.inf, math.inf),
        (math.nan, math.nan), (Loss(), 0.25),
    ],
)  # fmt: skip
def test_numbers_of_any_kind_are_kept(inline: Kit, value: Any, kept: float) -> None:
    job = inline.submit(lambda: jobkit.log_metrics(x=value))

    assert job.logs() == []
    np.testing.assert_equal(job.metrics["x"], kept)
    np.testing.assert_equal(job.metrics()["x"].tolist(), [kept])


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (lambda: jobkit.log_metrics(x="0.3"), "metric 'x' is a number, not str '0.3': this value is not kept"),
        (lambda: jobkit.log_metrics(x=None), "metric 'x' is a number, not NoneType: this value is not kept"),
        (lambda: jobkit.log_metrics(x=Text()), "metric 'x' is a number, not Text: this value is not kept"),
        (lambda: jobkit.log_metrics(x=10**400), "metric 'x' is a number, not int: this value is not kept"),
        (lambda: jobkit.log_metrics(x=np.zeros(3)), "metric 'x' is a number, not ndarray: this value is not kept"),
        (
            lambda: jobkit.log_metrics(**{"a\nb": 1}),
            "metric 'a\\nb' is not kept: a name has 1 to 100 printable characters",
        ),
        (
            lambda: jobkit.log_metrics([1], y=1),  # type: ignore[call-overload]  # a mistake
            "a step of log_metrics is a finite number, not of type list: its metrics get the next step instead",
        ),
        (lambda: jobkit.log_metrics({"x": {"y": 1}}), "metric 'x' is a number, not dict: this value is not kept"),
        (
            lambda: jobkit.log_metrics(math.inf, y=1),
            "a step of log_metrics is a finite number, not inf: its metrics get the next step instead",
        ),
        (
            lambda: [jobkit.log_metrics(**{f"m{n}": n}) for n in range(100_000)],
            "metric 'm200' and other new ones are not kept: a job may have 200 names",
        ),
        (
            lambda: [jobkit.log_metrics(step, x=step) for step in (5, 3)],
            "metric 'x' has gone back to an earlier step; both are kept, in this order: log phases of a job under "
            "their own names, or with steps that go on",
        ),
    ],
)
def test_what_is_no_metric_is_said_once_and_the_job_goes_on(inline: Kit, log: Any, said: str) -> None:
    def twice() -> str:
        log()
        log()
        return "done"

    job = inline.submit(twice)

    assert job.result() == "done"
    assert job.logs() == [said]


def test_steps_count_by_themselves(inline: Kit) -> None:
    def count() -> None:
        jobkit.log_metrics(x=1)
        jobkit.log_metrics(x=2)
        jobkit.log_metrics(10, x=3)
        jobkit.log_metrics(x=4)

    assert list(inline.submit(count).metrics()["step"]) == [0, 1, 10, 11]


def test_metrics_may_be_a_mapping_in_front_of_the_step(inline: Kit) -> None:
    def fit_mapped() -> None:
        jobkit.log_metrics({"a/b": 1})
        jobkit.log_metrics({"a/b": 2, "step": 5}, step=10)
        jobkit.log_metrics({"a/b": 3}, 20, c=4)
        jobkit.log_metrics(step=30, c=5)

    frame = inline.submit(fit_mapped).metrics()

    assert list(frame["step"]) == [0, 10, 20, 30]
    assert frame[["a/b", "step (metric)", "c"]].fillna(-1).to_numpy().tolist() == [
        [1, -1, -1], [2, 5, -1], [3, -1, 4], [-1, -1, 5]
    ]  # fmt: skip


def test_two_steps_are_refused() -> None:
    with pytest.raises(TypeError, match="takes one step and the numbers by name"):
        jobkit.log_metrics(1, 2)  # type: ignore[call-overload]  # a mistake


def test_a_retry_at_once_starts_its_curves_again(inline: Kit) -> None:
    def fit() -> None:
        for _ in range(3):
            jobkit.log_metrics(x=jobkit.current().attempt)
        if jobkit.current().attempt == 1:
            raise OSError("again")

    job = inline.options(retries=1).submit(fit)

    assert job.attempt == 2
    assert list(job.metrics()["x"]) == [2, 2, 2]


def test_metrics_outside_a_job_do_nothing() -> None:
    jobkit.log_metrics(3, loss="nonsense")


def test_a_job_without_metrics_has_none(inline: Kit, tmp_path: Path) -> None:
    job = inline.submit(len, "abc")

    assert job.metrics().empty
    assert (dict(job.metrics), repr(job.metrics)) == ({}, "<Metrics none>")
