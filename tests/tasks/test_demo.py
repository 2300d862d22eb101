"""The demo tasks do what their forms say, on small settings."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobkit import demo
from jobkit.tasks.info import TaskInfo

TASKS = [demo.estimate_pi, demo.bootstrap_regression, demo.cross_validate, demo.mandelbrot, demo.count_words]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_demo_can_be_submitted_from_a_form_as_it_opens(task: Any) -> None:
    info = TaskInfo.from_definition(task.info().to_json())

    opened = {spec.name: spec.default for spec in info.params}

    assert info.check(opened) == {spec.name: spec.default for spec in task.params}
    assert all(spec.help for spec in info.params)
    assert task.ref == f"jobkit.demo:{task.name}"
    assert not any(spec.kind == "any" for spec in info.params)


def test_estimate_is_within_its_own_error_and_repeatable() -> None:
    for method in ("darts", "stratified"):
        result = demo.estimate_pi(points=20_000_000, method=method, seed=3)

        assert abs(result["true error"]) < 5 * result["standard error"]
        assert result == demo.estimate_pi(points=20_000_000, method=method, seed=3)


def test_the_fewest_points_are_drawn_as_asked() -> None:
    (points,) = [spec for spec in demo.estimate_pi.params if spec.name == "points"]

    assert demo.estimate_pi(points=points.min)["points"] == points.min


@pytest.mark.nightly
def test_regression_gives_a_row_for_each_coefficient() -> None:
    table = demo.bootstrap_regression(predictors=["functions", "branches"], resamples=200)

    assert list(table.index) == ["functions", "branches", "constant"]
    assert (table["from"] < table["to"]).all()
    with pytest.raises(ValueError, match="nothing to fit"):
        demo.bootstrap_regression(predictors=[], intercept=False)


def test_neighbours_beat_guessing() -> None:
    table = demo.cross_validate(packages=["email", "http"], neighbours=[1, 5], folds=5, repeats=2)

    assert list(table["neighbours"]) == [1, 5]
    assert (table["accuracy"] > table["largest package"]).all()
    with pytest.raises(ValueError, match="at least two packages"):
        demo.cross_validate(packages=["email"])


@pytest.mark.parametrize("colours", ["fire", "ocean", "grey"])
def test_picture_has_the_size_and_more_than_one_colour(colours: Any) -> None:
    picture = demo.mandelbrot(width=60, iterations=100, colours=colours)

    assert picture.size == (60, 40)
    assert len(set(picture.get_flattened_data() if hasattr(picture, "get_flattened_data") else picture.getdata())) > 50


def test_words_are_counted_and_a_failure_can_be_asked_for() -> None:
    table = asyncio.run(demo.count_words(packages=["json"], pause=0.0))

    assert list(table.columns) == ["word", "count", "files", "share"]
    assert table["count"].is_monotonic_decreasing
    with pytest.raises(RuntimeError, match="asked to fail at file 1"):
        asyncio.run(demo.count_words(packages=["json"], pause=0.0, fail_at=1))
    with pytest.raises(RuntimeError, match="asked to fail at row 2"):
        demo.mandelbrot(width=60, iterations=20, fail_at=2)
