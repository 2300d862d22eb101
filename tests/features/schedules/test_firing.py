"""At any times of checks: each slot fires once or is counted as missed; none fires twice or is lost."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jobkit.features.schedules.firing import HOLD_MS, decide
from jobkit.features.schedules.model import ScheduleSnapshot, ScheduleSpec
from jobkit.features.schedules.timing import Timing
from jobkit.model import JobSpec

BEGIN_MS = 1_795_600_000_000

timings = st.sampled_from(
    [{"every_ms": 60_000}, {"every_ms": 700}, {"cron": "*/5 * * * *"}, {"cron": "30 2 * * *", "tz": "Europe/Berlin"}]
)
rules = st.fixed_dictionaries(
    {
        "missed": st.sampled_from(["once", "skip", "all"]),
        "overlap": st.sampled_from(["allow", "skip", "wait"]),
        "missed_limit": st.sampled_from([1, 3, 500]),
    }
)
#: Time until the next check (ms), and True if the previous run is still running then.
looks = st.lists(
    st.tuples(st.one_of(st.integers(0, 2_000), st.integers(0, 400_000), st.just(3 * 86_400_000)), st.booleans()),
    min_size=1,
    max_size=25,
)


@settings(max_examples=100, deadline=None)
@given(timings, rules, looks)
def test_every_slot_is_accounted_for(when: dict[str, Any], how: dict[str, Any], visits: list[tuple[int, bool]]) -> None:
    spec = ScheduleSpec("s", JobSpec("", "t"), **when, **how)
    timing = Timing.of(spec)
    next_ms = first_ms = timing.after(BEGIN_MS, BEGIN_MS)
    assert next_ms is not None
    now_ms, fired, left_out, is_held, counts, is_full = BEGIN_MS, [], 0, False, True, False
    for pause_ms, was_running in visits:
        now_ms = max(now_ms, next_ms) + pause_ms
        is_running = was_running and bool(fired)
        made = decide(
            ScheduleSnapshot(
                spec,
                anchor_ms=BEGIN_MS,
                next_ms=next_ms,
                holds_for="last" if is_held else "",
                fired=len(fired),
                last_job="last",
                now_ms=now_ms,
                is_running=is_running,
            )
        )
        if made.holds_for:
            assert (is_running, spec.overlap) == (True, "wait")
            assert made.look_ms == now_ms + HOLD_MS
            is_held = True
            continue
        is_held = False
        assert made.next_ms > next_ms  # it advances, otherwise the same slot would fire again
        fired += made.slots
        left_out += made.left_out
        counts = counts and made.left_out < 500  # more are not counted
        is_full = is_full or len(made.slots) == spec.missed_limit
        next_ms = made.next_ms

    assert fired == sorted(set(fired))
    if counts:
        passed = 0
        for slot_ms in timing.slots(first_ms - 1, BEGIN_MS):
            if slot_ms >= next_ms:
                break
            passed += 1
        assert len(fired) + left_out == passed
    if (spec.missed, spec.overlap) == ("all", "allow"):
        assert left_out == 0 or is_full
