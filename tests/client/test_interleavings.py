"""A live handle with events in any order: lost, late, repeated, with snapshots that are older than the events."""

from __future__ import annotations

import asyncio
from functools import partial, reduce
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from jobkit.client.job import Job
from jobkit.client.live import LiveJobs
from jobkit.model import EventType, JobEvent, JobSnapshot, JobSpec, JobState, apply
from jobkit.store import private
from jobkit.store.redis import RedisStore
from jobkit.store.values import Ending
from tests.store.conftest import settings_for
from tests.store.support import claim, clear, job, lapse, numbers, worker
from tests.support import examples

Steps = list[tuple[str, int]]

#: Outcome of each attempt except the last.
ways = st.lists(st.sampled_from(["retried", "released", "lost", "progress", "cancel"]), max_size=6)
#: Steps between the store and the handle; the number selects an event or snapshot.
actions = st.lists(
    st.tuples(st.sampled_from(["happen", "deliver", "lose", "again", "read", "take"]), st.integers(0, 7)), max_size=60
)


async def history(ways: list[str]) -> tuple[list[JobEvent], list[JobSnapshot]]:
    """Published events of a job, in order, and its snapshot after each."""
    store = RedisStore(settings_for(private.server.url(), max_losses=50))
    try:
        return await _history(store, ways)
    finally:
        await clear(store)
        await store.close()


async def _history(store: RedisStore, ways: list[str]) -> tuple[list[JobEvent], list[JobSnapshot]]:
    await store.submit([job("a")])
    told = [event async for event in _new(store, [])]
    [first] = await store.snapshots(["a"])
    assert first is not None
    snapshots = [first]

    async def note() -> None:
        [now] = await store.snapshots(["a"])
        assert now is not None
        told.extend([event async for event in _new(store, told)])
        snapshots.extend([now] * (len(told) - len(snapshots)))

    [claimed] = await claim(store)
    await note()
    for way in ways:
        if way == "progress":
            await store.progress([numbers(claimed, 1, 2)])
        elif way == "cancel":
            await store.cancel(["a"])
        elif way == "lost":
            await lapse(store, "a")
            await store.claim(worker("sweeper", "nothing"), 0)
        else:
            await store.finish([Ending("a", claimed.token, way)])
        await note()
        found = await claim(store)
        await note()
        [claimed] = found or [claimed]
    await store.finish([Ending("a", claimed.token, "succeeded")])
    await note()
    return told, snapshots


async def _new(store: RedisStore, known: list[JobEvent]) -> Any:
    for event in (await store.events())[len(known) :]:
        yield replace(event, id="")


@settings(max_examples=examples(2_000), deadline=None)
@given(ways=ways, actions=actions, first=st.integers(0, 3))
def test_a_handle_shows_each_state_once_in_order_and_ends_like_the_store(
    ways: list[str], actions: Steps, first: int
) -> None:
    async def act() -> None:
        told, snapshots = await history(ways)
        live = LiveJobs(store=None, hub=None, make=partial(Job, None))  # type: ignore[arg-type]  # driven by hand
        at = min(first, len(snapshots) - 1)  # events in the store so far
        handle = live._make(snapshots[at])
        live._keep(handle)
        shown = [(handle.snapshot.seq, str(handle.snapshot.state))]

        def changed(before: JobSnapshot, after: JobSnapshot) -> None:
            assert after.seq >= before.seq
            if after.seq != before.seq:
                shown.append((after.seq, str(after.state)))

        handle.observe(changed)
        underway: list[JobEvent] = []
        read: list[JobSnapshot] = []
        for action, n in actions:
            if action == "happen" and at + 1 < len(snapshots):
                at += 1
                underway.append(told[at])
            elif action == "deliver" and underway:
                live.take(underway.pop(n % len(underway)))
            elif action == "lose" and underway:
                underway.pop(n % len(underway))
            elif action == "again":
                live.take(told[n % (at + 1)])
            elif action == "read":
                read.append(snapshots[at])
            elif action == "take" and read and not handle.snapshot.is_terminal:
                live._catch_up(handle, read.pop(n % len(read)))
        if not handle.snapshot.is_terminal:  # the next read of the store, which follows soon
            live._catch_up(handle, snapshots[-1])

        truth = [(snapshot.seq, str(snapshot.state)) for snapshot in snapshots_by_seq(told, snapshots)]
        assert shown == truth[shown[0][0] - 1 :]
        assert handle.snapshot.seq == snapshots[-1].seq

    asyncio.run(act())


def snapshots_by_seq(told: list[JobEvent], snapshots: list[JobSnapshot]) -> list[JobSnapshot]:
    """Return the snapshot after each event, also if one verb published several."""
    now, found = snapshots[0], [snapshots[0]]
    for event in told[1:]:
        after = apply(now, event)
        assert after is not None
        now = after
        found.append(now)
    return found


def event(seq: int, kind: EventType, state: str, at_ms: int = 0) -> JobEvent:
    """Event of the job "a"."""
    return JobEvent("a", seq, kind, at_ms or seq, {"state": state, "submitted": 1})


@pytest.mark.parametrize("is_heard", [True, False], ids=["event", "read"])
def test_a_handle_goes_back_with_a_server_that_has_lost_its_last_changes(is_heard: bool) -> None:
    """Their numbers are used again: the job was released, and succeeds now."""
    submitted = event(1, EventType.SUBMITTED, "queued")
    lost = [event(2, EventType.STARTED, "running"), event(3, EventType.RELEASED, "queued")]
    new = [event(2, EventType.STARTED, "running", 20), event(3, EventType.SUCCEEDED, "succeeded", 30)]
    blank = JobSnapshot(JobSpec("a", "task"), 0, JobState.QUEUED)
    known, fresh = (reduce(apply, events, blank) for events in ([submitted, *lost], [submitted, *new]))
    live = LiveJobs(store=None, hub=None, make=partial(Job, None))  # type: ignore[arg-type]  # driven by hand
    handle = live._make(known)
    live._keep(handle)
    shown = []
    handle.observe(lambda _, after: shown.append(str(after.state)))

    if is_heard:
        live.take(new[0])
        assert live._stale == {"a"}, "it is read again"
    live._catch_up(handle, fresh)

    assert shown == ["queued", "running", "succeeded"]


def test_a_handle_ignores_a_snapshot_that_was_read_before_its_last_event() -> None:
    events = [event(1, EventType.SUBMITTED, "queued"), event(2, EventType.STARTED, "running")]
    older, known = (reduce(apply, events[:n], JobSnapshot(JobSpec("a", "task"), 0, JobState.QUEUED)) for n in (1, 2))
    live = LiveJobs(store=None, hub=None, make=partial(Job, None))  # type: ignore[arg-type]  # driven by hand
    handle = live._make(known)

    live._catch_up(handle, older, known_seq=1)
    assert handle.snapshot is known

    live._catch_up(handle, older, known_seq=2)
    assert handle.snapshot.state == "queued", "the read began after it: the server has lost it"


def test_a_handle_that_has_ended_does_not_move_with_a_server_that_has_lost_the_end() -> None:
    events = [event(1, EventType.SUBMITTED, "queued"), event(2, EventType.CANCELLED, "cancelled")]
    live = LiveJobs(store=None, hub=None, make=partial(Job, None))  # type: ignore[arg-type]  # driven by hand
    handle = live._make(reduce(apply, events, JobSnapshot(JobSpec("a", "task"), 0, JobState.QUEUED)))
    live._keep(handle)

    live.take(event(2, EventType.STARTED, "running", 20))
    live.take(event(3, EventType.LOST, "queued", 30))

    assert handle.snapshot.state == "cancelled"
    assert not live._stale
