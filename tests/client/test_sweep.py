"""The points of a sweep, without a store: arguments of each job, and refused sweeps."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from jobkit.client.sweep import sweep_of
from jobkit.model import InvalidParams
from jobkit.tasks.specs import Range


def test_a_grid_has_every_combination_the_last_axis_fastest() -> None:
    sweep = sweep_of({"a": [1, 2], "b": ("x", "y")})

    assert sweep.points == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]
    assert (sweep.axes, sweep.seed) == (("a", "b"), None)


def test_a_zip_combines_values_by_position() -> None:
    assert sweep_of({"a": [1, 2], "b": ["xy"] * 2, "how": "zip"}).points == [
        {"a": 1, "b": "xy"},
        {"a": 2, "b": "xy"},
    ]


def test_a_random_sweep_of_lists_draws_different_points_of_the_grid() -> None:
    axes = {"a": range(1000), "b": range(1000), "how": "random", "samples": 50}

    first, second, third = (sweep_of({**axes, "seed": seed}) for seed in (1, 1, 2))

    assert first == second
    assert first.points != third.points
    assert len({tuple(point.values()) for point in first.points}) == 50
    everything = sweep_of({"a": [1, 2, 3], "how": "random", "samples": 3, "seed": 0}).points
    assert sorted(point["a"] for point in everything) == [1, 2, 3]


def test_a_random_sweep_draws_whole_numbers_from_a_whole_range_and_keeps_its_own_seed() -> None:
    sweep = sweep_of({"lr": Range(0.0, 1.0), "n": Range(1, 6), "how": "random", "samples": 200})

    assert all(0 <= point["lr"] <= 1 and point["n"] in range(1, 7) for point in sweep.points)
    assert sweep.seed is not None
    assert sweep_of({"lr": Range(0.0, 1.0), "n": Range(1, 6), "how": "random", "samples": 200, "seed": sweep.seed}) == (
        sweep
    )


def test_a_list_is_an_axis_and_a_single_value_an_option() -> None:
    sweep = sweep_of({"seed": [0, 1, 2], "limit": [5], "how": ["a", "b"], "samples": [1]})

    assert sweep.axes == ("seed", "limit", "how", "samples")
    assert len(sweep.points) == 6


def test_limit_takes_the_first_points_of_a_large_or_endless_sweep() -> None:
    assert sweep_of({"a": range(10**6), "limit": 3}).points == [{"a": 0}, {"a": 1}, {"a": 2}]
    assert len(sweep_of({"a": itertools.count(), "b": [1, 2], "limit": 5}).points) == 5
    assert sweep_of({"a": [1, 2], "limit": 10, "how": "random", "seed": 1}).points in (
        [{"a": 1}, {"a": 2}],
        [{"a": 2}, {"a": 1}],
    )


def test_arrays_become_python_numbers() -> None:
    numpy = pytest.importorskip("numpy")

    (point, *_) = sweep_of({"a": numpy.linspace(0, 1, 3)}).points

    assert type(point["a"]) is float


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "at least one axis"),
        ({"n": []}, "axis n has no values"),
        ({"n": "12"}, "axis n must be a list of values, not '12'"),
        ({"n": 5}, r"write n=\[5\]"),
        ({"n": range(10**6)}, r"1,000,000 points.*pass limit=1000"),
        ({"n": itertools.count()}, r"more than 1,000,000 points.*pass limit=1000"),
        ({"n": range(1000), "m": range(1000)}, r"1,000,000 points.*limit="),
        ({"n": [1, 2, 3], "m": [1, 2], "how": "zip"}, "n has 3, m has 2 values"),
        ({"n": [1], "how": "all"}, "how must be one of grid, zip, random, not 'all'"),
        ({"n": [1], "samples": 3}, "samples is for how='random'"),
        ({"n": [1], "how": "random"}, "how='random' needs samples="),
        ({"n": [1, 2], "how": "random", "samples": 3}, "2 combinations, fewer than samples=3"),
        ({"n": Range(0, 1)}, "axis n is a Range"),
        ({"n": Range(0, None), "how": "random", "samples": 2}, "needs both ends"),
        ({"n": [1], "limit": 0}, "limit must be a whole number from 1 to 1000000 or None, not 0"),
    ],
)
def test_invalid_sweeps_are_refused_in_one_sentence(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParams, match=message):
        sweep_of(given)
