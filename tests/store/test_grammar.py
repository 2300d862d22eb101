"""The search text: every field, its values, and the sentence for each that is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from jobkit.model import InvalidParams
from jobkit.store.grammar import FIELDS, HELP, day, of_command_line, parse, point
from jobkit.store.query import Query


def test_every_field_becomes_a_filter_and_the_rest_is_text() -> None:
    query = parse(
        "state:failed,waiting task:train* queue:gpu owner:ada tag:a,b worker:gpu-1 error:KeyError "
        'batch:b1,"b 2" "two words" x'
    )

    assert query == Query(
        states=("failed", "queued", "scheduled"),
        task=("train*",),
        queue=("gpu",),
        owner=("ada",),
        tag=("a", "b"),
        worker=("gpu-1",),
        error=("KeyError",),
        batch=("b1", "b 2"),
        search=("two words", "x"),
    )


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("age:<1h", None, 3600),
        ("age:1h", None, 3600),
        ("newer:90", None, 90),
        ("older:2d", 172_800, None),
        ("age:>=1.5m", 90, None),
        ("age:1h..2h", 3600, 7200),
        ("age:..2h", None, 7200),
        ("newer:1h older:10m", 600, 3600),
    ],
)
def test_ages_are_lengths_of_time(text: str, least: float | None, most: float | None) -> None:
    query = parse(text)

    assert (query.older_s, query.newer_s) == (least, most)


def test_a_sign_in_front_excludes_values() -> None:
    query = parse("-task:train,score -Tag:nightly -state:failed,ended -x=1 -0.5")

    assert query.excluded == (("task", "train"), ("task", "score"), ("tag", "nightly"))
    assert query.states == ("scheduled", "queued", "running")
    assert query.texts == ("-x=1", "-0.5")
    assert parse("state:ended -state:failed").states == ("succeeded", "cancelled")


def test_a_duration_is_a_minimum_by_default() -> None:
    assert (parse("took:10s").took_min_s, parse("took:<500ms").took_max_s) == (10, 0.5)


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ('"state:failed"', ("state:failed",)),
        ("http://host:80/x", ("http://host:80/x",)),
        ("12:30 x:y", ("12:30", "x:y")),
        ('"host:x"', ("host:x",)),
        ("don't", ("don't",)),
        (r"C:\work", (r"c:\work",)),
        ('an "open quote', ("an", "open quote")),
        ('lr=0.003 name="x y"', ("lr=0.003", "name=x y")),
        (":x", (":x",)),
        ('""', ()),
        ("", ()),
    ],
)
def test_what_is_quoted_or_does_not_look_like_a_field_is_text(text: str, texts: tuple[str, ...]) -> None:
    query = parse(text)

    assert query.texts == texts
    assert query.states == ()


def test_values_in_quotes_keep_spaces_and_commas() -> None:
    assert parse('task:"my task, too",other').task == ("my task, too", "other")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("state:faild", "state must be one of scheduled, .* not 'faild'"),
        ("age:soon", "age must be a length of time like 90s, 10m, 1h, 2d, 1w, 1y, not 'soon'"),
        ("older:<", "older must be a length of time"),
        ("took:5x", "took must be a length of time .* not '5x'"),
        ("age:2h..1h", "age must name the smaller length first"),
        ("age:..x", "age must be a length of time"),
        (
            "ownr:ada",
            "there is no field ownr; did you mean owner:ada. Fields are state, .*; in quotes it is text: .ownr:ada.",
        ),
        ("host:x", "there is no field host; Fields are state, task"),
        ("state:", "state needs a value, like state:failed"),
        ('task:""', "task needs a value, like task:train"),
        ("in:x", "in must be archive"),
        ("state:failed -state:ended", "-state leaves no state in which a job could be"),
        ("-age:1h", "-age: only state, task, .*, batch can be excluded with -"),
        ("since:soon", "since must be a time like 22:00, today, .* not 'soon'"),
        ("before:25:00", "before must be a time like 22:00"),
        ("on:22:00", "on must be a day: today, yesterday, monday or 2026-11-26, not '22:00'"),
        ("since:2h before:3h", "before must be later than since: these ask for 20"),
        ("since:2999-01-01", "since must be a time that has passed"),
        ("x" * 501, "at most 500 characters, this one has 501"),
    ],
)
def test_a_value_that_is_refused_is_named(text: str, sentence: str) -> None:
    with pytest.raises(InvalidParams, match=sentence):
        parse(text)


#: A Friday in Berlin, 09:30.
NOW = datetime(2026, 11, 27, 9, 30, tzinfo=ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9:00", "2026-11-27 09:00"),
        ("22:00", "2026-11-26 22:00"),  # the last one that has passed
        ("today", "2026-11-27 00:00"),
        ("Yesterday", "2026-11-26 00:00"),
        ("yesterday 22:00", "2026-11-26 22:00"),
        ("yesterdayT22:00:30", "2026-11-26 22:00"),
        ("today 22:00", "2026-11-27 22:00"),
        ("monday", "2026-11-23 00:00"),
        ("fri", "2026-11-27 00:00"),
        ("2026-11-01", "2026-11-01 00:00"),
        ("2026-11-01T08:05", "2026-11-01 08:05"),
    ],
)
def test_a_point_in_time_is_in_the_time_zone_of_the_viewer(text: str, expected: str) -> None:
    found = point(text, NOW)

    assert found is not None
    assert f"{datetime.fromtimestamp(found, NOW.tzinfo):%Y-%m-%d %H:%M}" == expected


@pytest.mark.parametrize(
    "text", ["", "soon", "24:00", "22", "2026-02-30", "0001-01-01", "t", "2026", "22:0", "-1h", "٢2:00"]
)
def test_anything_else_is_no_point_in_time(text: str) -> None:
    assert point(text, NOW.replace(tzinfo=None) if text.startswith("0") else NOW) is None or text.startswith("0")


def test_a_length_of_time_is_a_point_before_now() -> None:
    assert point("2h", NOW) == -7200
    assert (point("0s", NOW) or 0) < 0


def test_a_day_has_as_many_hours_as_the_clocks_say() -> None:
    begin, end = day("2026-10-25", NOW) or (0, 0)

    assert end - begin == 25 * 3600


def test_times_become_bounds_of_the_last_change() -> None:
    before = datetime.now(UTC)
    yesterday = parse("yesterday", zone="UTC")
    assert yesterday.since == parse("on:yesterday", zone="UTC").since
    midnight = before.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    assert yesterday.since in (midnight - 86_400, midnight)  # it may be midnight just now
    assert yesterday.before == (yesterday.since or 0) + 86_400

    assert parse("since:2h since:30m before:10m before:1m") == Query(since=-1800, before=-600)
    assert parse("since:yesterday since:1s", zone="UTC") == Query(since=-1)
    tokyo, utc = (parse("since:2026-11-01", zone=zone).since or 0 for zone in ("Asia/Tokyo", "UTC"))
    assert utc - tokyo == timedelta(hours=9).total_seconds()


def test_an_unknown_time_zone_is_named() -> None:
    with pytest.raises(InvalidParams, match="tz must be the name of a time zone like Europe/Berlin, not 'Mars/X'"):
        parse("", zone="Mars/X")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["state:failed since:yesterday task:train"], "state:failed since:yesterday task:train"),
        (["two words"], "two words"),
        (["state:failed since:yesterday", "adam"], "state:failed since:yesterday adam"),
        (["batch:first try", "x"], 'batch:"first try" x'),
        (["two words", "lr=0.1", "x:y z"], '"two words" lr=0.1 "x:y z"'),
        ([], ""),
    ],
)
def test_one_string_of_a_command_line_means_the_same_as_on_the_page(arguments: list[str], text: str) -> None:
    assert of_command_line(arguments) == text


def test_every_example_of_the_help_is_understood() -> None:
    for example, _ in HELP:
        parse(example)
    for name, (example, _) in FIELDS.items():
        assert parse(example) != Query(), name
