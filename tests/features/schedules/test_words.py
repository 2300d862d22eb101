"""Descriptions of schedules for users."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jobkit.features.schedules.model import ScheduleSnapshot, ScheduleSpec
from jobkit.features.schedules.timing import Timing
from jobkit.features.schedules.words import moment_text, moments, sentence
from jobkit.model import JobSpec


@pytest.mark.parametrize(
    ("timing", "text"),
    [
        (Timing(cron="0 3 * * *"), "Every day at 03:00 UTC"),
        (Timing(cron="0 9 * * MON-FRI", tz="Europe/Berlin"), "On Monday through Friday at 09:00 Europe/Berlin"),
        (Timing(cron="*/5 * * * *"), "Every fifth minute of every hour"),
        (Timing(cron="*/5 * * * *", tz="Asia/Kolkata"), "Every fifth minute of every hour, Asia/Kolkata"),
        (Timing(every_ms=30_000), "Every 30 s"),
        (Timing(every_ms=86_400_000), "Every day"),
        (Timing(every_ms=5_400_000), "Every 1 h 30 min"),
        (Timing(every_ms=1_500), "Every 1.5 s"),
        (Timing(at_ms=1_795_600_800_000), "Once, on Wed 25 Nov 2026 at 10:00 UTC"),
        (Timing(cron="of a newer version"), "By a line that cannot be read here: of a newer version"),
    ],
)
def test_a_schedule_is_a_sentence(timing: Timing, text: str) -> None:
    assert sentence(timing) == text


def test_the_next_moments_are_in_the_zone_of_the_schedule_and_end_with_it() -> None:
    spec = ScheduleSpec("s", JobSpec("", "t"), cron="0 3 * * *", tz="Europe/Berlin", count=3)
    kept = ScheduleSnapshot(spec, next_ms=1_795_572_000_000, fired=1, now_ms=1_795_500_000_000)

    found = moments(kept, 5)

    assert [at.isoformat() for at in found] == ["2026-11-25T03:00:00+01:00", "2026-11-26T03:00:00+01:00"]
    assert moment_text(found[0], datetime(2026, 11, 24, tzinfo=UTC)) == "Wed 25 Nov 03:00"
    assert moment_text(found[0], datetime(2025, 11, 24, tzinfo=UTC)) == "Wed 25 Nov 2026 03:00"


def test_an_unreadable_schedule_hides_no_other() -> None:
    spec = ScheduleSpec("s", JobSpec("", "t"), cron="of a newer version", tz="Mars/Olympus")

    assert moments(ScheduleSnapshot(spec, next_ms=1, now_ms=1)) == []
