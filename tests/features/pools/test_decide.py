"""The autoscaler's decision, without store and engine."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from jobkit.features.pools.decide import PoolPlan, PoolView, Tempo, decide
from jobkit.features.pools.store import Demand, PoolUnit
from jobkit.store.values import WorkerInfo
from tests.features.pools.fakes import TEMPO, unit, view, waiting, worker

NOW = 1_000_000_000


def plan(
    pool: PoolView, demand: Sequence[Demand] = (), workers: Sequence[WorkerInfo] = (), tempo: Tempo = TEMPO
) -> PoolPlan:
    return decide([pool], demand, workers, NOW, tempo)[pool.spec.name]


def test_waiting_jobs_start_as_many_workers_as_they_fill() -> None:
    assert plan(view(slots=4, max=5), [waiting(9)]).start == 3
    assert plan(view(slots=4, max=5), [waiting(100_000)]).start == 5
    assert plan(view(), []).start == 0


def test_pending_workers_count_from_their_order_on() -> None:
    pending = [unit("a", "ordered"), unit("b", "pending"), unit("c", "starting")]

    assert plan(view(units=pending), [waiting(3)]).start == 0
    assert plan(view(units=pending), [waiting(5)]).start == 2


def test_free_slots_of_workers_that_no_pool_started_count_first() -> None:
    foreign = WorkerInfo(id="mine", queues=("gpu",), slots=4, running=1)

    assert plan(view(), [waiting(3)], [foreign]).start == 0
    assert plan(view(), [waiting(5)], [foreign]).start == 2
    assert plan(view(), [waiting(2)], [WorkerInfo(id="busy", queues=("gpu",), is_draining=True, slots=9)]).start == 2


def test_workers_are_packed_by_slots_and_by_resources() -> None:
    pool = view(slots=4, resources={"gpu": 2.0, "mem": 64.0})

    assert plan(pool, [waiting(8, gpu=1)]).start == 4
    assert plan(pool, [waiting(4, mem=40)]).start == 4
    assert plan(pool, [waiting(2, gpu=1), waiting(2)]).start == 1


def test_jobs_that_no_worker_of_the_pool_could_run_start_none() -> None:
    assert plan(view(resources={"gpu": 1.0}), [waiting(5, gpu=4), waiting(5, tpu=1), waiting(3, "other")]).start == 0


def test_needs_that_no_client_would_store_harm_no_decision() -> None:
    assert plan(view(), [waiting(1, gpu=0.0), waiting(1, gpu=-1.0)]).start == 2
    assert plan(view(resources={"gpu": 1e300}), [waiting(2, gpu=1e-320)]).start == 2


def test_a_job_without_needs_goes_to_the_pool_with_fewer_resources() -> None:
    pools = [view("big", queues=("work",), resources={"gpu": 4.0}), view("small", queues=("work",), max=2)]

    found = decide(pools, [waiting(3, "work"), waiting(1, "work", gpu=1)], [], NOW, TEMPO)

    assert (found["small"].start, found["big"].start) == (2, 2)


def test_the_shortage_must_last_before_workers_are_started() -> None:
    tempo = Tempo(grow=5.0)
    first = plan(view(), [waiting(1)], tempo=tempo)

    assert (first.start, first.wanted, first.short_ms) == (0, 1, NOW)
    assert plan(view(short_ms=NOW - 6000), [waiting(1)], tempo=tempo).start == 1


def test_only_workers_that_were_idle_for_long_enough_are_retired() -> None:
    units = [unit("new", idle_ms=NOW - 1000), unit("old", idle_ms=NOW - 700_000), unit("busy", running=1)]
    workers = [worker("new"), worker("old"), worker("busy", running=1)]

    assert plan(view(units=units), [], workers).retire == ("old",)
    assert plan(view(units=units, min=3), [], workers).retire == ()
    assert plan(view(units=units), [waiting(2)], workers).retire == ()  # they are about to get these


def test_pending_workers_that_jobs_need_no_more_are_cancelled_after_a_while() -> None:
    tempo = Tempo(cancel=60.0)
    units = [unit("a", "pending"), unit("b", "pending")]

    assert plan(view(units=units), [waiting(1)], tempo=tempo).cancel == ()
    assert plan(view(units=units, over_ms=NOW - 61_000), [waiting(1)], tempo=tempo).cancel == ("b",)
    assert plan(view(units=units, over_ms=NOW - 61_000), [waiting(2)], tempo=tempo).cancel == ()


def test_the_smallest_number_is_kept_without_jobs() -> None:
    assert plan(view(min=2)).start == 2
    assert plan(view(min=2, is_paused=True)).start == 0


def test_a_fixed_number_is_kept_whatever_waits() -> None:
    assert plan(view(fixed=3), [waiting(50)]).start == 3
    idle = [unit("a", idle_ms=NOW), unit("b", running=1)]
    assert plan(view(fixed=0, units=idle), [], [worker("a"), worker("b", running=1)]).retire == ("a",)


def test_surplus_workers_of_a_fixed_number_end_after_their_jobs_however_many_wait() -> None:
    units = [unit("a", running=1), unit("b", running=1), unit("c", idle_ms=NOW), unit("d", "ending")]

    found = plan(view(fixed=1, units=units), [waiting(50)], [worker("a", running=1), worker("b", running=1)])

    assert (found.start, found.retire, found.drain) == (0, ("c",), ("b",))


def test_a_paused_pool_cancels_what_waits_and_keeps_what_works() -> None:
    units = [unit("a", "pending"), unit("b", running=1), unit("c", idle_ms=NOW - 900_000), unit("d", idle_ms=NOW)]

    found = plan(view(units=units, is_paused=True), [waiting(9)])

    assert (found.start, found.cancel, found.retire) == (0, ("a",), ("c",))


def test_workers_that_end_take_room_of_the_engine_but_no_jobs() -> None:
    ending = [unit("a", "ending"), unit("b", "ending")]

    assert plan(view(units=ending, max=3), [waiting(5)], [worker("a", slots=8)]).start == 1


PHASES = ("ordered", "pending", "starting", "up", "ending", "ended")
units_of = st.lists(st.tuples(st.sampled_from(PHASES), st.integers(0, 2), st.booleans()), max_size=12)


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[PoolView], list[Demand], list[WorkerInfo]]:
    pools, workers = [], []
    for name in ("a", "b"):
        units: list[PoolUnit] = []
        slots, gpu = draw(st.integers(1, 3)), float(draw(st.integers(0, 2)))
        for n, (phase, running, is_idle) in enumerate(draw(units_of)):
            busy = min(running, slots) if phase == "up" else 0
            idle_ms = NOW - 10**7 if phase == "up" and not busy and is_idle else 0
            units.append(unit(f"{name}{n}", phase, running=busy, idle_ms=idle_ms, slots=slots))
            if phase == "up":
                workers.append(worker(f"{name}{n}", "q", slots, busy))
        most = draw(st.integers(1, 15))
        pools.append(
            view(
                name,
                units,
                queues=("q", name),
                slots=slots,
                resources={"gpu": gpu} if gpu else {},
                max=most,
                min=draw(st.integers(0, most)),
                is_paused=draw(st.booleans()),
                may_start=draw(st.booleans()),
                fixed=draw(st.none() | st.integers(0, 20)),
                over_ms=draw(st.sampled_from([0, NOW - 10**6])),
            )
        )
    jobs = st.tuples(st.sampled_from(["q", "a", "other"]), st.integers(1, 200), st.sampled_from([0, 1, 2]))
    demand = [
        Demand(queue, {"gpu": float(use)} if use else {}, n) for queue, n, use in draw(st.lists(jobs, max_size=4))
    ]
    return pools, demand, workers


@settings(max_examples=200, deadline=None)
@given(situations())
def test_no_decision_starts_too_many_ends_busy_workers_or_contradicts_itself(
    situation: tuple[list[PoolView], list[Demand], list[WorkerInfo]],
) -> None:
    pools, demand, workers = situation

    plans = decide(pools, demand, workers, NOW, TEMPO)

    for pool in pools:
        found, units = plans[pool.spec.name], {each.unit: each for each in pool.units}
        living = [each for each in pool.units if each.phase != "ended"]
        assert found.start == 0 or len(living) + found.start <= pool.spec.max
        assert found.start == 0 or (pool.may_start and not pool.is_paused)
        assert all(units[name].phase == "up" and units[name].idle_ms for name in found.retire)
        assert all(units[name].is_pending for name in found.cancel)
        assert not found.drain or (pool.fixed is not None and not pool.is_paused)
        assert not {*found.drain} & {*found.retire}
        assert not (found.start and (found.cancel or found.retire or found.drain)), "it starts and ends workers at once"
        kept = len([each for each in living if each.phase != "ending"]) - len(found.cancel) - len(found.retire)
        if (found.cancel or found.retire) and pool.fixed is None and not pool.is_paused:
            assert kept >= pool.spec.min


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 300), st.integers(1, 4), st.integers(1, 30), st.integers(0, 5))
def test_a_constant_demand_is_met_in_one_step_and_changes_nothing_afterwards(
    jobs: int, slots: int, most: int, least: int
) -> None:
    pool = view(slots=slots, max=max(most, least), min=least)
    first = plan(pool, [waiting(jobs)])
    ordered = [unit(str(n), "ordered", slots=slots) for n in range(first.start)]

    second = plan(view(slots=slots, max=max(most, least), min=least, units=ordered), [waiting(jobs)])

    assert first.start == min(max(most, least), max(least, -(-jobs // slots)))
    assert (second.start, second.cancel, second.retire) == (0, (), ())
