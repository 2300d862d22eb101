"""Slots of a schedule, compared with cronsim, across changes of daylight saving time."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jobkit.features.schedules.timing import Timing, checked_cron, checked_zone, timing
from jobkit.model import InvalidParams

BERLIN = "Europe/Berlin"
#: Zones with changes of an hour, of half an hour, at midnight, in the southern hemisphere, and without changes.
ZONES = (BERLIN, "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "America/Santiago", "Asia/Kolkata", "UTC")

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def shown(slots: list[int], zone: str) -> list[str]:
    return [datetime.fromtimestamp(slot / 1000, ZoneInfo(zone)).strftime("%d %H:%M%z") for slot in slots]


def after(line: str, zone: str, since: datetime, n: int) -> list[int]:
    return list(itertools.islice(Timing(cron=line, tz=zone).slots(ms(since)), n))


def test_a_time_that_is_skipped_in_spring_fires_right_after_the_gap() -> None:
    slots = after("30 2 * * *", BERLIN, datetime(2026, 3, 28, 12, tzinfo=UTC), 2)

    assert shown(slots, BERLIN) == ["29 03:00+0200", "30 02:30+0200"]


def test_a_time_that_occurs_twice_in_autumn_fires_once() -> None:
    slots = after("30 2 * * *", BERLIN, datetime(2026, 10, 24, 12, tzinfo=UTC), 2)

    assert shown(slots, BERLIN) == ["25 02:30+0200", "26 02:30+0100"]


@pytest.mark.parametrize("every", [300, 300.0, "5m", "300", timedelta(minutes=5)])
def test_an_interval_is_given_like_every_duration(every: Any) -> None:
    assert timing(every=every, now_ms=0).every_ms == 300_000


def test_every_half_hour_keeps_its_interval_through_both_changes() -> None:
    for day in (datetime(2026, 3, 28, 22, tzinfo=UTC), datetime(2026, 10, 24, 22, tzinfo=UTC)):
        slots = after("*/30 * * * *", BERLIN, day, 12)

        assert {b - a for a, b in itertools.pairwise(slots)} == {1_800_000}


def test_in_the_repeated_hour_no_slot_of_the_first_fires_again() -> None:
    """The library does not know which of the two hours it is in, and would start at the first one again."""
    second = datetime(2026, 10, 25, 2, 15, tzinfo=ZoneInfo(BERLIN), fold=1)

    assert shown(after("30 2 * * *", BERLIN, second, 1), BERLIN) == ["26 02:30+0100"]


fields = st.tuples(
    st.one_of(st.just("*"), st.sampled_from(["*/5", "*/17", "0,30", "59"]), st.integers(0, 59).map(str)),
    st.one_of(st.just("*"), st.sampled_from(["*/2", "1-3", "0", "2"]), st.integers(0, 23).map(str)),
    st.sampled_from(["*", "*", "1", "25-31", "L", "*/10"]),
    st.sampled_from(["*", "*", "3,10", "4,9,11"]),
    st.sampled_from(["*", "*", "0", "MON-FRI", "0#1", "6L"]),
)
#: Times near the changes of 2026 in all zones, and in between.
starts = st.one_of(
    st.sampled_from(
        [(2026, 3, 28), (2026, 10, 24), (2026, 3, 7), (2026, 10, 31), (2026, 4, 4), (2026, 4, 23), (2026, 9, 5)]
    ),
    st.tuples(st.just(2026), st.integers(1, 12), st.integers(1, 28)),
)


@settings(max_examples=100, deadline=None)
@given(fields, st.sampled_from(ZONES), starts, st.integers(0, 2880))
def test_slots_equal_those_of_the_library_from_any_start(
    parts: tuple[str, ...], zone: str, day: tuple[int, int, int], minutes: int
) -> None:
    """From slot to slot, as workers do, or from any time in between: the same slots as in one pass."""
    line = " ".join(parts)
    begin = datetime(*day, tzinfo=UTC)
    tz = UTC if zone == "UTC" else ZoneInfo(zone)
    oracle = [ms(at) for at in itertools.islice(CronSim(line, begin.astimezone(tz)), 60)]
    assume(oracle)  # some lines have no slot in the library's fifty years
    made = Timing(cron=line, tz=zone)

    chain: list[int] = []
    slot = ms(begin)
    for _ in oracle:
        following = made.after(slot)
        assert following is not None
        assert following > slot
        chain.append(slot := following)
    assert chain == oracle

    middle = ms(begin) + minutes * 60_000
    expected = next((at for at in oracle if at > middle), None)
    if expected is not None:
        assert made.after(middle) == expected
    now = oracle[len(oracle) // 2]
    newest, count = made.through(oracle[0], now, 0, 7)
    upto = [at for at in oracle if at <= now]
    assert newest == upto[-7:]
    assert count == len(upto)


def test_missed_slots_of_a_year_are_found_without_counting_them_all() -> None:
    first = ms(datetime(2025, 11, 24, 12, tzinfo=UTC))

    newest, count = Timing(cron="* * * * *").through(first, ms(NOW), 0, 3)

    assert newest == [ms(NOW) - 120_000, ms(NOW) - 60_000, ms(NOW)]
    assert count == 1_000


def test_intervals_stay_on_their_grid() -> None:
    made = Timing(every_ms=30_000)

    assert made.after(100_000, anchor_ms=5_000) == 125_000
    assert made.after(125_000, anchor_ms=5_000) == 155_000
    assert made.through(125_000, 200_000, 5_000, 2) == ([155_000, 185_000], 3)


def test_until_is_the_last_moment() -> None:
    made = Timing(every_ms=30_000, until_ms=90_000)

    assert list(made.slots(0)) == [30_000, 60_000, 90_000]
    assert made.through(30_000, 1_000_000, 0, 10) == ([30_000, 60_000, 90_000], 3)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({}, "exactly one of .* none is given"),
        ({"cron": "* * * * *", "every": 3}, "exactly one of .* cron and every are given"),
        ({"cron": "0 0 30 2 *"}, "'0 0 30 2 \\*' never fires"),
        ({"cron": "* * */20 * 1L"}, None),
        ({"cron": "0 0 31 4,6 *"}, "never fires: there is no such day"),
        ({"cron": "61 * * * *"}, "'61' is no minute \\(0-59\\)"),
        ({"cron": "* * * * funday"}, "'funday' is no day of the week"),
        ({"cron": "* * * *"}, "five fields"),
        ({"cron": "0 * * * * *"}, "for seconds use every="),
        ({"cron": "@reboot"}, "@hourly"),
        ({"cron": 5}, "five fields .* not 5"),
        ({"every": 0}, "every must be a number of seconds \\(from 0.1 "),
        ({"every": -1}, "not -1"),
        ({"every": 0.01}, "not 0.01"),
        ({"every": float("nan")}, "not nan"),
        ({"every": True}, "not True"),
        ({"every": "30 x"}, "not '30 x'"),
        ({"at": "tomorrow"}, "at must be a datetime or ISO 8601"),
        ({"at": NOW - timedelta(days=1)}, "at must lie in the future"),
        ({"cron": "* * * * *", "tz": "Europe/Berln"}, "did you mean 'Europe/Berlin'"),
        ({"cron": "* * * * *", "tz": "Berlin"}, "did you mean 'Europe/Berlin'"),
        ({"cron": "* * * * *", "tz": "../../etc/passwd"}, "tz must be the name of a time zone"),
        ({"cron": "* * * * *", "tz": 3}, "tz must be the name of a time zone"),
        ({"cron": "0 0 1 1 *", "until": "2026-12-01T00:00+00:00"}, "ends before its first run"),
        ({"every": 5, "until": "2026-01-01"}, "until must lie in the future"),
    ],
)
def test_impossible_schedules_are_refused_in_one_sentence(what: dict[str, object], says: str | None) -> None:
    if says is None:  # rare, but not never
        what = {"cron": "0 0 29 2 1"}
        assert timing(**what, now_ms=ms(NOW)).after(ms(NOW)) is not None
        return
    with pytest.raises(InvalidParams) as refused:
        timing(**what, now_ms=ms(NOW))

    assert re.search(says, str(refused.value)), str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.field in {"cron", "every", "at", "tz", "until"}


def test_short_forms_and_names_are_understood() -> None:
    assert checked_cron("@daily") == "0 0 * * *"
    assert checked_cron("  0  9 * * mon-fri ") == "0 9 * * mon-fri"
    assert checked_zone(ZoneInfo("Europe/Berlin")) == "Europe/Berlin"
    assert timing(every=timedelta(minutes=5), now_ms=0).every_ms == 300_000


def test_a_time_without_a_zone_is_in_the_schedules_zone() -> None:
    made = timing(at="2026-12-24T18:00", tz=BERLIN, now_ms=ms(NOW))

    assert made.at_ms == ms(datetime(2026, 12, 24, 17, tzinfo=UTC))
