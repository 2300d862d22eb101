"""`apply`: events update a snapshot, in any order and with repetitions."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from jobkit.model import EventType, JobEvent, JobSnapshot, JobSpec, JobState, apply, attempts_of
from tests.store.support import ALLOWED

SPEC = JobSpec(id="a", task="simulate")
T0 = 1_700_000_000_000
ERROR = {"kind": "exception", "type": "ValueError", "message": "boom", "traceback": "", "where": ""}


def event(seq: int, type: EventType, **data: Any) -> JobEvent:
    return JobEvent("a", seq, type, T0 + seq * 1000, data)


def submitted(state: str = "queued") -> JobSnapshot:
    start = JobSnapshot(SPEC, 0, JobState(state))
    after = apply(start, event(1, EventType.SUBMITTED, state=state, submitted=T0))
    assert after is not None
    return after


def after(snapshot: JobSnapshot, *events: JobEvent) -> JobSnapshot:
    for one in events:
        moved = apply(snapshot, one)
        assert moved is not None
        snapshot = moved
    return snapshot


def started(seq: int, attempt: int) -> JobEvent:
    return event(seq, EventType.STARTED, state="running", attempt=attempt, worker=f"w{attempt}", started=T0 + seq)


def progressed(seq: int, rev: int, done: float = 1, total: float | None = 4, message: str = "") -> JobEvent:
    return event(seq, EventType.PROGRESSED, rev=rev, completed=done, total=total, message=message)


# -- one step ---------------------------------------------------------------------------------------------------------


def test_the_next_event_updates_the_snapshot_and_its_history() -> None:
    before = submitted()

    running = after(before, started(2, 1))

    assert (running.seq, running.state, running.attempt, running.worker) == (2, JobState.RUNNING, 1, "w1")
    assert running.started_at == datetime.fromtimestamp((T0 + 2) / 1000, UTC)
    assert [one.seq for one in running.history] == [1, 2]
    assert before.state is JobState.QUEUED


def test_an_event_that_is_known_changes_nothing() -> None:
    running = after(submitted(), started(2, 1))

    assert apply(running, started(2, 1)) is running
    assert apply(running, event(1, EventType.SUBMITTED, state="queued")) is running


def test_a_gap_is_reported() -> None:
    before = submitted()

    assert apply(before, started(3, 1)) is None
    assert apply(before, progressed(2, 1)) is None


def test_newer_progress_replaces_older_and_older_is_ignored() -> None:
    running = after(submitted(), started(2, 1), progressed(2, 3, 2, 4, "half"))

    assert (running.rev, running.completed, running.total, running.progress, running.message) == (3, 2, 4, 0.5, "half")
    assert apply(running, progressed(2, 2, 4)) is running
    assert apply(running, progressed(2, 3, 4)) is running
    assert [one.type for one in running.history] == ["submitted", "started"]


def test_progress_of_an_earlier_state_is_ignored() -> None:
    running = after(submitted(), started(2, 1), event(3, EventType.CANCEL_REQUESTED, cancel=T0))

    assert apply(running, progressed(2, 9)) is running


def test_a_new_attempt_begins_without_numbers() -> None:
    lost = after(
        submitted(),
        started(2, 1),
        progressed(2, 1, 3, 4, "x"),
        event(3, EventType.LOST, state="queued", losses=1),
    )

    again = after(lost, started(4, 2))

    assert (lost.completed, lost.losses) == (3, 1)
    assert (again.completed, again.total, again.message, again.rev, again.attempt) == (None, None, "", 1, 2)
    assert after(again, progressed(4, 2)).completed == 1


def test_the_error_of_a_retried_attempt_is_cleared_only_by_success() -> None:
    retried = after(submitted(), started(2, 1), event(3, EventType.RETRIED, state="queued", retried=1, error=ERROR))
    running = after(retried, started(4, 2))

    succeeded = after(running, event(5, EventType.SUCCEEDED, state="succeeded", finished=T0))
    cancelled = after(running, event(5, EventType.CANCELLED, state="cancelled", finished=T0))

    assert running.error is not None
    assert succeeded.error is None
    assert cancelled.error == running.error


def test_log_lines_do_not_change_the_snapshot() -> None:
    running = after(submitted(), started(2, 1))

    assert apply(running, event(2, EventType.LOGGED, first=1, lines=[])) is running
    assert apply(running, event(9, EventType.LOGGED, first=1, lines=[])) is running


@pytest.mark.parametrize(("done", "total"), [("1", []), (float("nan"), float("inf")), (-1, -2), (True, None)])
def test_numbers_that_cannot_be_shown_are_unknown(done: Any, total: Any) -> None:
    running = after(submitted(), started(2, 1), progressed(2, 1, done, total))

    assert running.total is None
    assert running.progress is None
    assert running.to_json()["progress"] is None


def test_unknown_fields_are_dropped() -> None:
    running = after(submitted(), structs.replace(started(2, 1), data={**started(2, 1).data, "of_tomorrow": {"x": 1}}))

    assert running.state is JobState.RUNNING


def test_an_empty_lua_table_is_an_empty_mapping() -> None:
    """Some encoders of Lua write an empty table as a list."""
    wire = {"id": "a", "seq": 1, "type": "queued", "at": T0, "data": []}

    assert JobEvent.from_wire(wire).data == {}
    assert after(submitted(), started(2, 1), event(3, EventType.FAILED, state="failed", usage=[])).usage == {}


def test_an_event_is_json_with_an_iso_time() -> None:
    one = JobEvent("a", 1, EventType.QUEUED, T0, {"state": "queued"}, id="5-0", result=b"x")

    assert one.to_json() == {
        "job_id": "a",
        "seq": 1,
        "type": "queued",
        "at": "2023-11-14T22:13:20.000Z",
        "data": {"state": "queued"},
        "id": "5-0",
    }
    assert "id" not in structs.replace(one, id="").to_json()


# -- any path of a job ------------------------------------------------------------------------------------------------

_LEAVES: dict[JobState, list[EventType]] = {
    JobState.SCHEDULED: [EventType.QUEUED, EventType.CANCELLED],
    JobState.QUEUED: [EventType.STARTED, EventType.CANCELLED],
    JobState.RUNNING: [
        EventType.RETRIED,
        EventType.LOST,
        EventType.RELEASED,
        EventType.CANCEL_REQUESTED,
        EventType.SUCCEEDED,
        EventType.FAILED,
        EventType.CANCELLED,
    ],
}


@st.composite
def lives(draw: st.DrawFn) -> list[JobEvent]:
    """Draw a job's events as the store publishes them, with progress in between."""
    state = draw(st.sampled_from([JobState.QUEUED, JobState.SCHEDULED]))
    events = [event(1, EventType.SUBMITTED, state=str(state), submitted=T0)]
    counts = {"retried": 0, "losses": 0, "releases": 0}
    seq, rev, attempt = 1, 0, 0
    for _ in range(draw(st.integers(0, 14))):
        if state.is_terminal:
            break
        type = draw(st.sampled_from(_LEAVES[state]))
        seq += 1
        data: dict[str, Any] = {}
        if type is EventType.STARTED:
            attempt += 1
            state = JobState.RUNNING
            data = {"attempt": attempt, "worker": f"w{attempt}", "started": T0 + seq}
        elif type is EventType.QUEUED:
            state = JobState.QUEUED
        elif type is EventType.CANCEL_REQUESTED:
            data = {"cancel": T0 + seq}
        elif type is EventType.RETRIED:
            counts["retried"] += 1
            state = draw(st.sampled_from([JobState.QUEUED, JobState.SCHEDULED]))
            data = {"retried": counts["retried"], "error": ERROR}
        elif type in (EventType.LOST, EventType.RELEASED):
            name = "losses" if type is EventType.LOST else "releases"
            counts[name] += 1
            state = JobState.QUEUED
            data = {name: counts[name]}
        else:
            state = JobState(str(type))
            data = {"finished": T0 + seq} | ({"error": ERROR} if type is EventType.FAILED else {})
        if type is not EventType.CANCEL_REQUESTED:
            data["state"] = str(state)
        events.append(event(seq, type, **data))
        if state is JobState.RUNNING:
            for _ in range(draw(st.integers(0, 2))):
                rev += 1
                events.append(progressed(seq, rev, rev, 100))
    return events


class Record:
    """Record in the store: the snapshot after each event."""

    def __init__(self, events: list[JobEvent]) -> None:
        self.snapshots = [JobSnapshot(SPEC, 0, JobState(events[0].data["state"]))]
        for one in events:
            self.snapshots.append(after(self.snapshots[-1], one))


@settings(deadline=None)
@given(lives())
def test_every_path_is_allowed_and_numbered_without_gaps(events: list[JobEvent]) -> None:
    snapshots = Record(events).snapshots

    for before, now in pairwise(snapshots[1:]):
        assert now.state in {before.state, *ALLOWED[before.state]}
        assert not before.is_terminal
    assert [one.seq for one in snapshots[-1].history] == list(range(1, snapshots[-1].seq + 1))


@settings(deadline=None)
@given(lives(), st.data())
def test_any_delivery_with_refreshes_at_gaps_ends_in_the_same_snapshot(events: list[JobEvent], data: Any) -> None:
    """A live handle gets events twice, late, in any order, or never; it reads the record after a gap and at the end. It
    never goes back, never shows a state that the record did not have, and ends with the state of the record."""
    record = Record(events).snapshots
    delivery = data.draw(st.lists(st.integers(0, len(events) - 1), max_size=3 * len(events)), label="delivery")
    handle = record[1]
    newest = 1

    for index in delivery:
        newest = max(newest, index + 1)
        moved = apply(handle, events[index])
        if moved is None:
            moved = record[newest]  # reads the current record
        assert moved.seq >= handle.seq
        assert (moved.seq, moved.rev) >= (handle.seq, handle.rev)
        handle = moved
        numbered = [one for one in record if one.seq == handle.seq]
        assert handle.state in {one.state for one in numbered}
        assert handle.history == numbered[-1].history

    final = record[-1]
    settled = handle if handle.seq > final.seq else final
    assert settled == final


@settings(deadline=None)
@given(lives(), st.data())
def test_dropped_and_repeated_events_lead_to_the_correct_last_state(events: list[JobEvent], data: Any) -> None:
    """Redis keeps the order; a cut connection drops some events in a row. Dropped progress is missing until later."""
    record = Record(events).snapshots
    handle = record[1]
    for index, one in enumerate(events):
        for _ in range(data.draw(st.integers(0, 2), label=f"copies of event {index}")):
            moved = apply(handle, one)
            handle = record[index + 1] if moved is None else moved
    moved = apply(handle, events[-1])
    handle = record[-1] if moved is None else moved

    numbered = {"completed": None, "total": None, "message": "", "rev": 0}
    assert structs.replace(handle, **numbered) == structs.replace(record[-1], **numbered)


@settings(deadline=None)
@given(lives())
def test_attempts_agree_with_the_counters(events: list[JobEvent]) -> None:
    final = Record(events).snapshots[-1]

    attempts = attempts_of(final.history)

    assert [one.number for one in attempts] == list(range(1, final.attempt + 1))
    assert [one.worker for one in attempts] == [f"w{n}" for n in range(1, final.attempt + 1)]
    outcomes = [one.outcome for one in attempts]
    assert outcomes.count("retried") == final.retried
    assert outcomes.count("lost") == final.losses
    assert outcomes.count("released") == final.releases
    assert ("running" in outcomes) == (final.state is JobState.RUNNING)
    for one in attempts:
        assert (one.ended_at is None) == (one.outcome == "running")
        assert one.duration_s is None or one.duration_s > 0
        assert (one.reason == "ValueError: boom") == (one.outcome in ("retried", "failed"))


def test_attempts_of_a_history_whose_middle_was_dropped() -> None:
    history = [started(2, 1), started(90, 30), event(91, EventType.LOST, state="queued", reason="died")]

    first, last = attempts_of(history)

    assert (first.number, first.outcome) == (1, "running")
    assert (last.number, last.outcome, last.reason, last.duration_s) == (30, "lost", "died", 1.0)


def test_a_job_that_never_started_has_no_attempts() -> None:
    assert attempts_of([event(1, EventType.SUBMITTED), event(2, EventType.CANCELLED, state="cancelled")]) == []


# -- contents of a snapshot --------------------------------------------------------------------------------------------


def test_times_and_progress_of_a_running_job() -> None:
    running = after(submitted(), started(2, 1), progressed(2, 1, 1, 4))
    assert running.started_at is not None
    now = datetime.fromtimestamp(running.started_at.timestamp() + 10, UTC)

    assert running.elapsed_s(now) == pytest.approx(10)
    assert running.eta_s(now) == pytest.approx(30)
    assert structs.replace(running, total=0.0).progress is None
    assert structs.replace(running, completed=9.0).progress == 1.0
    assert structs.replace(running, total=None).eta_s(now) is None
    assert structs.replace(running, state=JobState.QUEUED).eta_s(now) is None
    assert submitted().elapsed_s(now) is None
    assert structs.replace(running, state=JobState.SUCCEEDED, completed=None).progress == 1.0


@pytest.mark.parametrize("state", ["queued", "scheduled"])
def test_the_run_time_of_a_job_that_waits_again_is_that_of_its_last_attempt(state: str) -> None:
    begun = event(2, EventType.STARTED, state="running", attempt=1, started=T0 + 2000)
    ran = after(submitted(), begun, event(3, EventType.RELEASED, state=state))
    now = datetime.fromtimestamp(T0 / 1000 + 60, UTC)

    assert ran.elapsed_s(now) == 1
    assert after(ran, event(4, EventType.CANCELLED, state="cancelled", finished=T0 + 4000)).elapsed_s(now) == 1
    assert after(ran, event(4, EventType.STARTED, state="running", started=T0 + 4000)).elapsed_s(now) == 56
    assert structs.replace(ran, history=()).elapsed_s(now) is None


def test_a_snapshot_is_json_with_the_names_of_the_contract() -> None:
    import json

    shown = after(submitted(), started(2, 1), event(3, EventType.FAILED, state="failed", finished=T0, error=ERROR))

    wire = json.loads(json.dumps(shown.to_json()))

    assert wire["error"] == ERROR
    assert wire["finished_at"] == "2023-11-14T22:13:20.000Z"
    assert (wire["state"], wire["title"], wire["due_at"]) == ("failed", "simulate", None)
    names = (
        "id task queue state progress completed total message attempt worker owner tags submitted_at started_at "
        "finished_at"
    )
    assert set(names.split()) <= set(wire)
