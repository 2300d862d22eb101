"""When messages to people go out: quiet hours, digests, time zones and the days on which clocks change."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jobkit.features.notify.rule import HoldTimes
from jobkit.model import InvalidParams


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def until(now: str, quiet: str = "", digest: str = "", tz: str = "UTC") -> str:
    return HoldTimes.read(quiet, digest, tz).until(at(now)).strftime("%d %H:%M")


def test_without_quiet_hours_and_digest_a_message_goes_out_at_once() -> None:
    now = at("2026-03-01T23:15:07")
    assert HoldTimes.read().until(now) == now


@pytest.mark.parametrize(
    ("now", "goes_out"),
    [
        ("2026-03-01T21:59", "01 21:59"),
        ("2026-03-01T22:00", "02 07:00"),
        ("2026-03-02T03:00", "02 07:00"),
        ("2026-03-02T07:00", "02 07:00"),
        ("2026-03-02T07:01", "02 07:01"),
    ],
)
def test_a_message_in_quiet_hours_over_midnight_waits_for_their_end(now: str, goes_out: str) -> None:
    assert until(now, quiet="22:00-07:00") == goes_out


def test_quiet_hours_within_a_day_end_on_that_day() -> None:
    assert until("2026-03-01T12:30", quiet="12:00-13:00") == "01 13:00"
    assert until("2026-03-01T13:30", quiet="12:00-13:00") == "01 13:30"


def test_quiet_hours_are_those_of_the_rules_time_zone() -> None:
    assert until("2026-01-01T21:30", quiet="22:00-07:00", tz="Europe/Berlin") == "02 06:00"
    assert until("2026-01-01T21:30", quiet="22:00-07:00", tz="America/New_York") == "01 21:30"


def test_quiet_hours_end_at_the_same_time_on_the_clock_when_it_changes() -> None:
    assert until("2026-03-28T23:00", quiet="22:00-07:00", tz="Europe/Berlin") == "29 05:00"  # summer time from 2:00 on


def test_quiet_hours_that_end_in_an_hour_that_comes_twice_last_through_both() -> None:
    assert until("2026-10-25T00:15", quiet="22:00-02:30", tz="Europe/Berlin") == "25 00:30"  # 2:15 in summer time
    assert until("2026-10-25T01:15", quiet="22:00-02:30", tz="Europe/Berlin") == "25 01:30"  # 2:15 an hour later


def test_a_digest_goes_out_at_full_intervals_of_the_day() -> None:
    assert until("2026-03-01T10:20", digest="1h") == "01 11:00"
    assert until("2026-03-01T11:00", digest="1h") == "01 12:00"
    assert until("2026-03-01T23:50", digest="7h") == "02 00:00"


def test_a_daily_digest_goes_out_at_its_time() -> None:
    assert until("2026-03-01T08:59", digest="09:00") == "01 09:00"
    assert until("2026-03-01T09:00", digest="09:00") == "02 09:00"


def test_a_digest_in_quiet_hours_waits_for_their_end() -> None:
    assert until("2026-03-01T21:40", quiet="22:00-07:00", digest="1h") == "02 07:00"


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"quiet": "22:00"}, "quiet"),
        ({"quiet": "25:00-07:00"}, "quiet"),
        ({"quiet": "07:00-7:00"}, "quiet"),
        ({"digest": "5 s"}, "digest"),
        ({"digest": "2d"}, "digest"),
        ({"digest": "often"}, "digest"),
        ({"tz": "Mars"}, "tz"),
    ],
)
def test_bad_times_are_refused_with_their_name(given: dict[str, str], names: str) -> None:
    with pytest.raises(InvalidParams, match=f"^{names} of a notify rule must be"):
        HoldTimes.read(**given)
