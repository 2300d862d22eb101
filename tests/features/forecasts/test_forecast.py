"""Forecasts of starts: the first are played through, the others follow from the rate, and nothing is guessed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from jobkit.features.forecasts.forecast import Line, Slot, starts, starts_at_gate
from jobkit.model.start import Start

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


def test_a_job_starts_when_the_jobs_ahead_have_left_it_a_slot() -> None:
    slots = [Slot(("q",), 30.0), Slot(("q",), 50.0)]
    line = {"q": Line([60.0, 60.0, 60.0])}
    assert starts(slots, line, [("q", 0), ("q", 1), ("q", 2)]) == [30.0, 50.0, 90.0]


def test_workers_take_jobs_of_the_first_of_their_queues() -> None:
    slots = [Slot(("gpu", "cpu"), 0.0)]
    lines = {"gpu": Line([10.0]), "cpu": Line([10.0])}
    assert starts(slots, lines, [("cpu", 0), ("gpu", 0)]) == [10.0, 0.0]


def test_all_jobs_of_a_queue_that_is_served_first_come_before_those_of_the_next() -> None:
    slots = [Slot(("gpu", "cpu"), 5.0)]
    lines = {"gpu": Line([10.0] * 20, [10.0] * 20, size=100), "cpu": Line([10.0], size=1)}
    assert starts(slots, lines, [("gpu", 0), ("cpu", 0)]) == [5.0, 1_005.0]
    assert starts(slots, {**lines, "gpu": Line([10.0], size=1_000)}, [("cpu", 0)]) == [None]


def test_a_long_line_of_other_slots_does_not_hide_when_a_job_starts() -> None:
    slots = [*[Slot(("many",), 0.1)] * 10, Slot(("few",), 60.0)]
    lines = {"many": Line([0.1], size=100_000), "few": Line([60.0], size=20)}
    assert starts(slots, lines, [("many", 0), ("few", 15)]) == [0.1, 960.0]


def test_workers_with_weights_take_jobs_of_each_queue_in_turn() -> None:
    slots = [Slot(("gpu", "cpu"), 10.0, {"gpu": 3.0, "cpu": 1.0})]
    lines = {"gpu": Line([10.0], size=1_000), "cpu": Line([10.0], size=1_000)}
    (found,) = starts(slots, lines, [("cpu", 9)])
    assert found == pytest.approx(400.0, abs=40.0)


def test_a_queue_whose_line_was_not_read_has_no_times_behind_its_first_job() -> None:
    assert starts([Slot(("q",), 5.0)], {}, [("q", 0), ("q", 1)]) == [5.0, None]


def test_the_start_behind_a_long_line_follows_from_the_rate() -> None:
    slots = [Slot(("q",), 5.0), Slot(("q",), 10.0)]
    (found,) = starts(slots, {"q": Line([10.0] * 20, [10.0] * 20)}, [("q", 4_489)])
    assert found == pytest.approx(4_489 / 2 * 10.0, rel=0.01)


def test_without_run_times_a_job_behind_others_has_no_time() -> None:
    slots = [Slot(("q",), 5.0)]
    assert starts(slots, {"q": Line([None, 10.0])}, [("q", 0), ("q", 1)]) == [5.0, None]
    assert starts([Slot(("q",), None)], {"q": Line([10.0])}, [("q", 0)]) == [None]


def test_one_slot_of_which_nothing_is_known_does_not_hide_what_the_others_tell() -> None:
    slots = [Slot(("q",), None), Slot(("q",), 4.0), Slot(("q",), 8.0)]
    assert starts(slots, {"q": Line([10.0, 10.0])}, [("q", 1)]) == [8.0]


def test_no_worker_means_no_time() -> None:
    assert starts([Slot(("other",), 0.0)], {"q": Line([10.0])}, [("q", 0)]) == [None]


def test_a_gate_lets_jobs_go_as_its_places_get_free() -> None:
    assert starts_at_gate([20.0, 0.0], 0, None) == 0.0
    assert starts_at_gate([20.0, 5.0], 3, 60.0) == 80.0
    assert starts_at_gate([20.0], 1, None) is None


def test_a_start_reads_as_a_time_and_the_jobs_ahead() -> None:
    at = NOW + timedelta(hours=2, minutes=20)
    assert Start(at, ahead=3).sentence(NOW) == f"about {at.astimezone():%H:%M}, 3 ahead"
    assert Start(at, is_exact=True).sentence(NOW) == f"{at.astimezone():%H:%M}"
    assert Start(NOW + timedelta(seconds=42), ahead=1).sentence(NOW) == "in about 40 s, 1 ahead"
    assert (Start(ahead=1).sentence(NOW), Start(ahead=2_000).sentence(NOW)) == ("1 job ahead", "2,000 jobs ahead")
    assert (Start(NOW, ahead=0).sentence(NOW), Start(ahead=0).sentence(NOW)) == ("soon", "")
    late = NOW + timedelta(days=2)
    assert (
        Start(late).sentence(NOW) == f"about {late.astimezone():%b} {late.astimezone().day}, {late.astimezone():%H:%M}"
    )
