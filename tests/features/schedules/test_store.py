"""Schedules: stored, due for the first caller, fired once by any number of callers, with the outcome of each slot."""

from __future__ import annotations

from typing import Any

import pytest

from jobkit.codec import Codec
from jobkit.features.schedules.firing import decide, firing, subject_of
from jobkit.features.schedules.model import SCHEDULES_CHANGED, Firing, ScheduleRun, ScheduleSnapshot, ScheduleSpec
from jobkit.features.schedules.store import ScheduleStore
from jobkit.model import EventType, JobEvent, JobSpec
from jobkit.store.redis import RedisStore
from jobkit.store.values import Submission, SubmitReply
from tests.store.support import claim, ending, snapshot
from tests.support import until

CODEC = Codec([b"a key of these tests"])


def spec(name: str = "nightly", **fields: Any) -> ScheduleSpec:
    if not {"cron", "at_ms"} & set(fields):
        fields.setdefault("every_ms", 60_000)
    return ScheduleSpec(name, JobSpec("", "simulate", params={"n": 1}), **fields)


async def put(store: RedisStore, made: ScheduleSpec, in_ms: int = 0) -> ScheduleSnapshot:
    """Store a schedule whose next slot is `in_ms` from now."""
    payload = CODEC.dumps([1], subject_of(made))
    assert await store.part(ScheduleStore).put(made, payload, await store.now_ms() + in_ms)
    return await kept(store, made.name)


async def kept(store: RedisStore, name: str = "nightly") -> ScheduleSnapshot:
    [found] = await store.part(ScheduleStore).snapshots([name])
    return found


async def due_one(store: RedisStore) -> ScheduleSnapshot:
    [due] = (await store.part(ScheduleStore).due())[0]
    return due


async def fire_due(store: RedisStore) -> list[SubmitReply] | None:
    due = await until(lambda: _first(store), "a schedule to be due")
    return await store.part(ScheduleStore).fire(firing(due, decide(due), CODEC))


async def _first(store: RedisStore) -> ScheduleSnapshot | None:
    return next(iter((await store.part(ScheduleStore).due())[0]), None)


async def look_now(store: RedisStore, name: str = "nightly") -> None:
    """Make the next check of schedules due now."""
    await store.redis.zadd(f"{store.prefix}schedules", {name: 1}, xx=True)


async def end_run(store: RedisStore, outcome: str = "succeeded") -> str:
    [claimed] = await claim(store)
    await store.finish([ending(claimed, outcome)])
    return claimed.spec.id


async def test_a_schedule_is_read_as_it_was_stored(store: RedisStore) -> None:
    made = spec(cron="*/5 * * * *", tz="Europe/Berlin", overlap="skip", missed="all", missed_limit=7)

    found = await put(store, made, in_ms=5_000)

    assert found.spec == made
    assert 0 < found.next_ms - found.now_ms <= 5_000
    assert (found.fired, found.left_out, found.runs, found.is_paused) == (0, 0, (), False)
    assert (
        await store.part(ScheduleStore).snapshots() == [found]
        or (await store.part(ScheduleStore).snapshots())[0].spec == made
    )
    assert await store.part(ScheduleStore).snapshots(["another"]) == []
    assert await store.part(ScheduleStore).snapshots([]) == []


async def test_a_due_schedule_is_given_to_the_first_caller(store: RedisStore) -> None:
    await put(store, spec())

    due, wait_s = await store.part(ScheduleStore).due()
    again, _ = await store.part(ScheduleStore).due()

    assert [one.spec.name for one in due] == ["nightly"]
    assert again == []
    assert 0 < wait_s <= 0.5
    # The first caller has died: half a second later the next one gets it.
    await until(lambda: _first(store), "it to be due again")


async def test_a_caller_gets_the_time_of_the_next_check(store: RedisStore) -> None:
    assert await store.part(ScheduleStore).due() == ([], float("inf"))

    await put(store, spec(), in_ms=5_000)

    due, wait_s = await store.part(ScheduleStore).due()
    assert due == []
    assert 4 < wait_s <= 5


async def test_a_slot_fires_once_for_any_number_of_callers(store: RedisStore) -> None:
    await put(store, spec())
    due = await due_one(store)
    made = firing(due, decide(due), CODEC)

    first, second = await store.part(ScheduleStore).fire(made), await store.part(ScheduleStore).fire(made)

    assert first is not None
    assert first[0].created_ms > 0
    assert second is None
    found = await kept(store)
    assert found.fired == 1
    assert found.next_ms == due.next_ms + 60_000
    [run] = found.runs
    assert (run.slot_ms, run.job_id, run.state) == (due.next_ms, made.jobs[0].spec.id, "queued")
    job = await snapshot(store, run.job_id)
    assert (job.spec.schedule, job.spec.slot_ms, job.spec.task) == ("nightly", due.next_ms, "simulate")


async def test_a_job_of_a_slot_carries_arguments_sealed_for_itself(store: RedisStore) -> None:
    await put(store, spec())
    await fire_due(store)

    [claimed] = await claim(store)

    from jobkit.codec import Subject

    assert CODEC.loads(claimed.payload, Subject("args", claimed.spec.id, "simulate")) == [1]


async def test_a_known_id_is_not_a_second_job(store: RedisStore) -> None:
    """A schedule is removed and created again, for a slot that has been fired already."""
    first = await put(store, spec())
    await fire_due(store)
    await store.part(ScheduleStore).remove("nightly")

    again = spec()
    await store.part(ScheduleStore).put(again, CODEC.dumps([1], subject_of(again)), first.next_ms)

    assert [reply.created_ms for reply in await fire_due(store) or ()] == [0]
    assert sum((await store.counts()).values()) == 1


async def test_a_schedule_that_was_read_before_a_change_cannot_fire(store: RedisStore) -> None:
    await put(store, spec())
    due = await due_one(store)
    stale = firing(due, decide(due), CODEC)

    await put(store, spec(overlap="skip"))

    assert await store.part(ScheduleStore).fire(stale) is None
    await store.part(ScheduleStore).pause("nightly")
    assert await store.part(ScheduleStore).fire(stale) is None
    await store.part(ScheduleStore).remove("nightly")
    assert await store.part(ScheduleStore).fire(stale) is None


async def test_scheduling_again_with_the_same_times_keeps_the_next_slot(store: RedisStore) -> None:
    before = await put(store, spec(), in_ms=5_000)

    after = await put(store, spec(missed="skip"), in_ms=9_000)

    assert (after.next_ms, after.anchor_ms) == (before.next_ms, before.anchor_ms)
    assert after.spec.missed == "skip"
    assert after.rev != before.rev
    other = await put(store, spec(every_ms=30_000), in_ms=9_000)
    assert other.next_ms > before.next_ms


async def test_the_outcome_of_a_run_outlives_its_job(store: RedisStore) -> None:
    await put(store, spec())
    await fire_due(store)
    job_id = await end_run(store, "failed")
    await store.delete([job_id])

    [run] = (await kept(store)).runs

    assert (run.job_id, run.state) == (job_id, "failed")
    assert run.finished_ms >= run.started_ms > 0


async def test_only_the_last_runs_are_kept(store: RedisStore) -> None:
    made = await put(store, spec(), in_ms=60_000)
    runs = [ScheduleRun(slot, 1, why="missed") for slot in range(1, 21)]

    await store.part(ScheduleStore).fire(
        Firing("nightly", made.rev, made.next_ms, (), runs, made.next_ms + 1, made.next_ms + 1)
    )

    assert [run.slot_ms for run in (await kept(store)).runs] == list(range(20, 6, -1))


async def test_a_manual_run_does_not_move_the_next_slot(store: RedisStore) -> None:
    made = await put(store, spec(), in_ms=60_000)
    job = Submission(JobSpec("s00000000000by1", "simulate", schedule="nightly"), b"sealed")

    replies = await store.part(ScheduleStore).fire(Firing("nightly", "", 0, (job,), (ScheduleRun(0, 5, job.spec.id),)))

    assert replies is not None
    assert replies[0].created_ms > 0
    found = await kept(store)
    assert (found.next_ms, found.fired) == (made.next_ms, 0)
    assert found.runs[0].job_id == job.spec.id


async def test_a_paused_schedule_is_not_due_until_it_is_resumed(store: RedisStore) -> None:
    made = await put(store, spec())

    assert await store.part(ScheduleStore).pause("nightly")
    assert await store.part(ScheduleStore).pause("nightly")
    assert (await store.part(ScheduleStore).due())[0] == []
    assert (await kept(store)).is_paused

    assert not await store.part(ScheduleStore).resume("nightly", "another", made.now_ms + 60_000)
    assert await store.part(ScheduleStore).resume("nightly", made.rev, made.now_ms + 1)
    assert await fire_due(store) is not None
    assert not (await kept(store)).is_paused
    assert not await store.part(ScheduleStore).pause("another")


async def test_a_pause_survives_a_change(store: RedisStore) -> None:
    await put(store, spec())
    await store.part(ScheduleStore).pause("nightly")

    found = await put(store, spec(every_ms=1_000))

    assert (found.is_paused, found.next_ms) == (True, 0)
    assert (await store.part(ScheduleStore).due())[0] == []


async def test_a_schedule_without_a_further_slot_ends_and_is_forgotten_later(store: RedisStore) -> None:
    once = spec(at_ms=await store.now_ms())
    await store.part(ScheduleStore).put(once, CODEC.dumps([1], subject_of(once)), once.at_ms)
    await fire_due(store)

    found = await kept(store)

    assert (found.next_ms, found.fired) == (0, 1)
    assert found.ended_ms > 0
    for kind in ("schedule", "schedule-args", "schedule-runs"):
        assert await store.redis.pttl(f"{store.prefix}{kind}:nightly") > 0
    await look_now(store)
    assert (await store.part(ScheduleStore).due())[0] == []

    again = await put(store, spec(), in_ms=60_000)  # used again, it stays
    assert again.ended_ms == 0
    assert await store.redis.pttl(f"{store.prefix}schedule:nightly") == -1
    assert await store.redis.pttl(f"{store.prefix}schedule-runs:nightly") == -1


async def test_a_limited_number_of_runs_is_respected(store: RedisStore) -> None:
    await put(store, spec(every_ms=100, count=2))

    await fire_due(store)
    await fire_due(store)

    found = await kept(store)
    assert found.fired == 2
    assert found.ended_ms > 0


async def test_a_waiting_slot_fires_when_the_previous_run_has_ended(store: RedisStore) -> None:
    await put(store, spec(every_ms=100, overlap="wait"))
    await fire_due(store)

    assert await fire_due(store) == []

    held = await kept(store)
    assert held.holds_for == held.runs[0].job_id
    assert held.overdue_s == 0
    assert (await store.part(ScheduleStore).due())[0] == []
    first = await end_run(store)
    assert await fire_due(store) != []
    found = await kept(store)
    assert found.holds_for == ""
    fired = [run for run in found.runs if run.job_id]
    assert [run.job_id for run in fired][1:] == [first]
    assert fired[0].slot_ms == held.next_ms


async def test_the_end_of_a_run_between_check_and_wait_is_not_missed(store: RedisStore) -> None:
    await put(store, spec(every_ms=100, overlap="wait"))
    await fire_due(store)
    due = await until(lambda: _first(store), "the second slot")
    await end_run(store)

    assert await store.part(ScheduleStore).fire(firing(due, decide(due), CODEC)) == []

    assert await fire_due(store) != []


async def test_a_schedule_from_code_does_not_overwrite_a_users_change(store: RedisStore) -> None:
    coded = spec(module="tasks")
    first = await put(store, coded)
    assert (await put(store, coded)).rev == first.rev  # the same again: nothing changes

    by_hand = spec(every_ms=5_000)
    await put(store, by_hand)

    assert not await store.part(ScheduleStore).put(coded, CODEC.dumps([1], subject_of(coded)), 1)
    assert (await kept(store)).spec == by_hand


async def test_a_removed_schedule_is_gone_and_its_jobs_are_not(store: RedisStore) -> None:
    await put(store, spec())
    await fire_due(store)

    assert await store.part(ScheduleStore).remove("nightly")

    assert not await store.part(ScheduleStore).remove("nightly")
    assert await store.part(ScheduleStore).snapshots() == []
    assert await store.part(ScheduleStore).payload("nightly") is None
    await end_run(store)


async def test_every_change_is_notified(store: RedisStore, hub: Any) -> None:
    told: list[JobEvent] = []
    hub.listen(told.append, SCHEDULES_CHANGED)
    await hub.ready(SCHEDULES_CHANGED)

    await put(store, spec())
    await fire_due(store)
    await end_run(store)
    await store.part(ScheduleStore).pause("nightly")
    await store.part(ScheduleStore).remove("nightly")

    await until(lambda: len(told) >= 5, "five changes")
    assert {(event.type, event.data["name"]) for event in told} == {(EventType.LOGGED, "nightly")}


async def test_workers_are_woken_for_an_earlier_slot(store: Any) -> None:
    await store.renew("w9", {}, {"queues": "default"})
    async with store.redis.pubsub() as inbox:
        await inbox.subscribe(store.channel("inbox", "w9"))
        await inbox.get_message(timeout=5)

        await put(store, spec())

        message = await inbox.get_message(timeout=5)
    assert message["data"] == b"T"
    await store.leave("w9")


# -- which slots ---------------------------------------------------------------------------------------------------


def due(late_ms: int = 0, **fields: Any) -> ScheduleSnapshot:
    """Schedule of every minute whose slot was at 600 s."""
    state = {name: fields.pop(name) for name in ("is_running", "holds_for", "fired", "last_job") if name in fields}
    return ScheduleSnapshot(spec(**fields), next_ms=600_000, now_ms=600_000 + late_ms, **state)


@pytest.mark.parametrize(
    ("fields", "late_ms", "slots", "left_out", "next_ms"),
    [
        ({}, 10, [600], 0, 660),
        ({}, 185_000, [780], 3, 840),  # "once": the newest of the missed slots
        ({"missed": "skip"}, 10_000, [600], 0, 660),
        ({"missed": "skip"}, 185_000, [780], 3, 840),  # its newest slot is not missed yet
        ({"missed": "skip", "every_ms": 3_600_000}, 185_000, [], 1, 3_600),
        ({"missed": "all"}, 185_000, [600, 660, 720, 780], 0, 840),
        ({"missed": "all", "missed_limit": 2}, 185_000, [720, 780], 2, 840),
        ({"missed": "all", "count": 3, "fired": 1}, 185_000, [720, 780], 2, 0),
        ({"count": 1}, 10, [600], 0, 0),
        ({"overlap": "skip", "is_running": True}, 10, [], 1, 660),
        ({"overlap": "skip"}, 10, [600], 0, 660),
        ({"overlap": "skip", "missed": "all"}, 185_000, [780], 3, 840),
        ({"overlap": "wait", "holds_for": "last"}, 185_000, [600], 3, 840),
        ({"overlap": "wait", "missed": "all"}, 185_000, [600], 0, 660),
        ({"overlap": "wait", "missed": "all", "missed_limit": 2}, 185_000, [720], 2, 780),
        ({"overlap": "allow", "is_running": True}, 10, [600], 0, 660),
        ({"until_ms": 700_000}, 185_000, [660], 1, 0),
    ],
)
def test_the_policy_decides_which_slots_fire(
    fields: dict[str, Any], late_ms: int, slots: list[int], left_out: int, next_ms: int
) -> None:
    made = decide(due(late_ms, **fields))

    assert [slot // 1000 for slot in made.slots] == slots
    assert made.left_out == left_out
    assert made.next_ms // 1000 == next_ms
    assert not made.holds_for


def test_a_slot_waits_while_the_previous_run_is_running() -> None:
    made = decide(due(10, overlap="wait", is_running=True, last_job="last"))

    assert made.holds_for == "last"
    assert made.slots == ()


def test_arguments_of_another_schedule_are_refused() -> None:
    from jobkit.model import SignatureError

    mine, other = spec("mine"), spec("other")
    swapped = ScheduleSnapshot(mine, next_ms=600_000, now_ms=600_000, payload=CODEC.dumps([1], subject_of(other)))

    with pytest.raises(SignatureError):
        firing(swapped, decide(swapped), CODEC)
