"""Records of units, made from lists of an engine and heartbeats of workers."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from jobkit.features.pools.decide import Tempo
from jobkit.features.pools.launcher import Unit
from jobkit.features.pools.store import PoolUnit
from jobkit.features.pools.units import has_failed, is_stuck, merged, worked_ms
from jobkit.store.values import WorkerInfo
from tests.features.pools.fakes import spec, unit, worker

NOW = 1_000_000_000
HOUR_MS = 3_600_000


def merge(
    known: PoolUnit, listed: Unit | None = None, worker: WorkerInfo | None = None, *, is_whole: bool = True
) -> list[PoolUnit]:
    return merged(spec(), [known], [listed] if listed else [], is_whole, [worker] if worker else [], NOW)


def listed(state: Any = "running", **fields: Any) -> Unit:
    return Unit("a", "4711", state, **fields)


def test_a_unit_goes_from_its_order_to_its_end() -> None:
    [one] = merge(unit("a", "ordered", made_ms=NOW), listed("pending", reason="PENDING (Resources)", expected_ms=5))
    assert (one.phase, one.id, one.reason, one.expected_ms) == ("pending", "4711", "PENDING (Resources)", 5)
    [one] = merge(one, listed())
    assert (one.phase, one.started_ms, one.up_ms) == ("starting", NOW, 0)
    [one] = merge(one, listed(), worker("a", running=1, slots=2))
    assert (one.phase, one.running, one.up_ms, one.idle_ms) == ("up", 1, NOW, 0)
    [one] = merge(one, listed(), worker("a", done=1, slots=2))
    assert one.idle_ms == 0  # it has just ended a job
    [one] = merge(one, listed(), worker("a", done=1, slots=2))
    assert one.idle_ms == NOW
    [one] = merge(one, listed("ended"))
    assert (one.phase, one.ended_ms) == ("ended", NOW)


def test_a_live_worker_counts_more_than_a_list_that_lacks_it() -> None:
    assert [one.phase for one in merge(unit("a", made_ms=1), None, worker("a"))] == ["up"]
    assert [one.phase for one in merge(unit("a", made_ms=1, up_ms=1))] == ["ended"]


def test_an_order_that_the_engine_never_got_is_forgotten_and_is_no_failure() -> None:
    assert merge(unit("a", "ordered", made_ms=NOW - 10_000)) != []
    assert merge(unit("a", "ordered", made_ms=NOW - 60_000)) == []
    assert merge(unit("a", "ordered", made_ms=NOW - 60_000), is_whole=False) != []


def test_a_worker_that_is_silent_for_a_while_comes_back() -> None:
    [one] = merge(unit("a", up_ms=1, started_ms=1), listed())
    assert one.phase == "ending"
    [one] = merge(one, listed(), worker("a"))
    assert one.phase == "up"


def test_a_unit_that_was_given_up_is_known_again_when_its_worker_sends_a_heartbeat() -> None:
    [gone] = merge(unit("a", made_ms=1, up_ms=1, started_ms=1))
    assert gone.phase == "ended"
    gone = replace(gone, ended_ms=NOW - 5_000)

    assert [each.phase for each in merge(gone, None, worker("a", beat_age_s=9.0))] == ["ended"]
    assert [each.phase for each in merge(replace(gone, error="Failed"), None, worker("a"))] == ["ended"]
    assert merge(unit("b", "ended"), listed("ended"), worker("a")) == [unit("b", "ended")]
    assert [(each.phase, each.ended_ms, each.error) for each in merge(gone, None, worker("a"))] == [("up", 0, "")]


def test_a_unit_whose_host_did_not_answer_counts_again_when_it_is_back() -> None:
    lost = unit("a", "ended", ended_ms=NOW - 60_000, up_ms=1, started_ms=1, error="lab2 does not answer")

    [one] = merge(lost, listed(), worker("a", beat_age_s=1.0))
    assert (one.phase, one.ended_ms, one.error) == ("up", 0, "")
    [one] = merge(replace(lost, stopped_ms=1), listed(), worker("a", beat_age_s=1.0))
    assert one.phase == "ending"
    for gone in (
        merge(lost, listed("ended"), worker("a", beat_age_s=1.0)),
        merge(lost, None, worker("a", beat_age_s=90.0)),
        merge(lost, listed()),
    ):
        assert gone == [lost]


def test_time_is_counted_once_and_across_a_gap_until_the_last_heartbeat() -> None:
    before = unit("a", started_ms=NOW - 3 * HOUR_MS, counted_ms=NOW - 2 * HOUR_MS, up_ms=1, seen_ms=NOW - HOUR_MS)

    [running] = merge(before, listed(), worker("a"))
    [ended] = merge(before, listed("ended"))

    assert worked_ms([before], [running]) == 2 * HOUR_MS
    assert worked_ms([before], [ended]) == HOUR_MS
    assert worked_ms([running], merge(running, listed(), worker("a"))) == 0


def test_only_an_early_end_that_was_not_asked_for_is_a_failure() -> None:
    ended = unit("a", "ended", up_ms=NOW, ended_ms=NOW + 1000, error="exit code 1")

    assert has_failed(ended, Tempo())
    assert has_failed(replace(ended, up_ms=0, error=""), Tempo())
    for change in ({"error": ""}, {"done": 1}, {"stopped_ms": NOW}, {"ended_ms": NOW + 60_000}):
        assert not has_failed(replace(ended, **change), Tempo()), change


def test_a_unit_is_stuck_if_its_worker_does_not_come_or_is_gone() -> None:
    late = unit("a", "starting", started_ms=NOW - 700_000)
    gone = unit("a", "ending", started_ms=1, up_ms=1, seen_ms=NOW - 100_000)

    assert is_stuck(late, NOW, Tempo()).startswith("its worker did not reach the server")
    assert is_stuck(gone, NOW, Tempo()) == "its worker has ended or lost the server"
    assert not is_stuck(replace(gone, seen_ms=NOW), NOW, Tempo())
    assert not is_stuck(replace(gone, stopped_ms=NOW), NOW, Tempo())  # it was asked just now
