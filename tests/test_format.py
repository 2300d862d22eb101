"""The words and numbers of every page, at their edges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from jobkit.model import format as fmt

NOW = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)

DURATIONS = [
    (0, "0 ms"),
    (-1, "0 ms"),
    (0.0004, "0 ms"),
    (0.91, "910 ms"),
    (0.9994, "999 ms"),
    (0.9996, "1.0 s"),
    (1, "1.0 s"),
    (4.9, "4.9 s"),
    (9.94, "9.9 s"),
    (9.96, "10 s"),
    (42.4, "42 s"),
    (59.4, "59 s"),
    (59.95, "1 m 00 s"),
    (60, "1 m 00 s"),
    (209, "3 m 29 s"),
    (3599, "59 m 59 s"),
    (3599.6, "1 h 00 m"),
    (3720, "1 h 02 m"),
    (86399, "23 h 59 m"),
    (86400, "1 d 0 h"),
    (187200, "2 d 4 h"),
]

LEFT = [
    (0, "a few seconds left"),
    (4.9, "a few seconds left"),
    (5, "about 5 s left"),
    (31, "about 35 s left"),
    (55, "about 55 s left"),
    (56, "about 1 min left"),
    (293, "about 5 min left"),
    (3540, "about 59 min left"),
    (3600, "about 1 h left"),
    (4830, "about 1 h 20 min left"),
    (200_000, "about 2 d left"),
]

AGES = [
    (0, "just now"),
    (1.4, "just now"),
    (12.7, "12 s ago"),
    (59.9, "59 s ago"),
    (60, "1 min ago"),
    (3599, "59 min ago"),
    (7200, "2 h ago"),
    (86400 * 5, "5 d ago"),
    (-1, "now"),
    (-40, "in 40 s"),
    (-7300, "in 2 h"),
]


@pytest.mark.parametrize(("seconds", "text"), DURATIONS)
def test_a_duration_has_two_units_at_most_and_no_float_tail(seconds: float, text: str) -> None:
    assert fmt.duration(seconds) == text


def test_an_unknown_duration_is_empty() -> None:
    assert [fmt.duration(s) for s in (None, float("nan"), float("inf"))] == ["", "", ""]


@pytest.mark.parametrize(("seconds", "text"), LEFT)
def test_time_left_is_as_coarse_as_it_is_uncertain(seconds: float, text: str) -> None:
    assert fmt.time_left(seconds) == text


def test_no_time_left_is_shown_if_it_is_unknown() -> None:
    assert [fmt.time_left(s) for s in (None, -1, float("inf"))] == ["", "", ""]


@pytest.mark.parametrize(("seconds", "text"), AGES)
def test_a_moment_is_told_relative_to_now(seconds: float, text: str) -> None:
    assert fmt.ago(NOW - timedelta(seconds=seconds), NOW) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234567, "1,234,567"), (148.0, "148"), (0.125, "0.125"), (12.34567, "12.35"), (1234.56, "1,234.6")],
)
def test_numbers_have_at_most_four_digits_after_the_point(value: float, text: str) -> None:
    assert fmt.number(value) == text


@pytest.mark.parametrize(("part", "text"), [(0, "0 %"), (0.37, "37 %"), (0.29, "29 %"), (0.9999, "99 %"), (1, "100 %")])
def test_a_percentage_says_100_only_when_all_is_done(part: float, text: str) -> None:
    assert fmt.percent(part) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (910, "910 B"), (4900, "4.9 kB"), (12_000_000, "12 MB"), (3.2e9, "3.2 GB")]
)
def test_sizes_are_in_decimal_units(count: float, text: str) -> None:
    assert fmt.size(count) == text


def test_only_arguments_that_differ_from_their_defaults_are_shown() -> None:
    params = {"n": 1000, "method": "rk4", "note": "two words", "lr": 0.1 + 0.2}

    assert fmt.params_brief(params) == "n=1000, method=rk4, note='two words', lr=0.3"
    assert fmt.params_brief(params, {"n": 1000, "method": "euler"}) == "method=rk4, note='two words', lr=0.3"


def test_long_arguments_are_cut_with_an_ellipsis() -> None:
    text = fmt.params_brief({"x": "a" * 500, "y": list(range(500))}, limit=60)

    assert len(text) <= 60
    assert "…" in text
    assert "\n" not in fmt.value_brief("a\nb")


def test_addresses_that_differ_in_their_ends_look_different_in_brief() -> None:
    urls = [f"https://data.example.org/images/2026/part-{n:04}.tar" for n in range(4)]

    texts = [fmt.params_brief({"url": url}) for url in urls]

    assert texts[1] == "url=https:/…26/part-0001.tar"
    assert len(set(texts)) == 4
    assert [fmt.cut_inside("abcdef", limit) for limit in (1, 2, 4, 6)] == ["…", "…f", "a…ef", "abcdef"]
