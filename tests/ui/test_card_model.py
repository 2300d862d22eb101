"""Contents of a card, driven by lists of events."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from jobkit.features.batches.batch_model import BatchModel
from jobkit.model import ErrorKind, EventType, JobEvent, JobSnapshot, JobSpec, JobState, LogLine
from jobkit.model.format import Eta
from jobkit.model.load import Spark, Usage, WorkerLoad
from jobkit.model.snapshot import JobError
from jobkit.ui.card.card_model import LOG_LINES, CardModel
from jobkit.ui.jobs.board import row

T0 = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
MS = int(T0.timestamp() * 1000)


def event(seq: int, type: EventType, second: float = 0, **data: Any) -> JobEvent:
    return JobEvent("j1", seq, type, MS + int(second * 1000), data)


def progress(rev: int, done: float, total: float | None, second: float, seq: int = 2) -> JobEvent:
    return event(seq, EventType.PROGRESSED, second, rev=rev, completed=done, total=total, message="steps")


SUBMITTED = event(1, EventType.SUBMITTED, state="queued", submitted=MS)
STARTED = event(2, EventType.STARTED, 4, state="running", started=MS + 4000, attempt=1, worker="gpu-1")


def queued(**spec: Any) -> CardModel:
    made = JobSpec(id="j1", task="train", title="Train", params={"n": 3, "lr": 0.1}, **spec)
    snapshot = JobSnapshot(made, seq=1, state=JobState.QUEUED, submitted_at=T0, history=(SUBMITTED,))
    return CardModel(snapshot, defaults={"n": 3})


def at(second: float) -> datetime:
    return T0 + timedelta(seconds=second)


def shown(view: CardModel, second: float) -> dict[str, Any]:
    view._dirty.add("snapshot")
    whole, _ = view.updates(at(second))
    card: dict[str, Any] = json.loads(whole["snapshot"])
    return card


def test_a_card_tells_how_long_its_job_waited_and_leaves_default_arguments_out() -> None:
    view = queued()

    assert view.take(STARTED)

    card = shown(view, 10)
    assert (card["state"], card["worker"], card["waited_s"], card["args"]) == ("running", "gpu-1", 4.0, "lr=0.1")
    assert [a["outcome"] for a in card["attempts"]] == ["running"]


def test_only_what_changed_is_sent() -> None:
    view = queued()
    whole, parts = view.updates(T0)
    assert (set(whole), parts) == ({"snapshot", "log", "preview", "artifacts", "sections", "made"}, {})
    assert view.updates(T0) == ({}, {})

    view.log([LogLine("hello", MS, n=1)])

    whole, parts = view.updates(T0)
    assert (whole, set(parts)) == ({}, {"log_append"})


def test_a_browser_gets_no_specification_of_a_chart_which_it_cannot_draw() -> None:
    view = queued()
    view.show({"type": "Figure", "text": "1 trace", "spec": {"data": [1] * 1_000}})

    whole, _ = view.updates(T0)

    assert json.loads(whole["preview"]) == {"type": "Figure", "text": "1 trace"}
    assert view.preview is not None
    assert "spec" in view.preview


def test_what_made_a_job_is_sent_once_and_not_with_each_progress() -> None:
    view = queued()
    view.updates(T0)

    view.made_by([("Commit", "1f3c")])
    assert view.updates(T0) == ({"made": '[["Commit","1f3c"]]'}, {})

    view.made_by([("Commit", "1f3c")])
    view.take(STARTED)
    whole, _ = view.updates(T0)
    assert set(whole) == {"snapshot"}
    assert "1f3c" not in whole["snapshot"]


def test_a_card_that_says_which_text_it_has_is_told_whether_it_missed_something() -> None:
    view = queued()
    first = json.loads(view.updates(T0)[0]["snapshot"])["v"]
    assert json.loads(view.everything(T0)["snapshot"])["v"] == first == view.version

    view.take(STARTED)

    assert json.loads(view.updates(T0)[0]["snapshot"])["v"] == view.version != first
    assert queued().version != queued().version  # of another server, or after a restart


def test_lines_that_come_twice_are_shown_once() -> None:
    view = queued()
    view.load_log([LogLine("one", MS, n=1), LogLine("two", MS, n=2)], total=2, dropped=0)
    view.updates(T0)

    view.take(
        event(1, EventType.LOGGED, first=2, lines=[[MS, "stdout", "", "", "two"], [MS, "log", "ERROR", "x", "3"]])
    )

    appended = json.loads(view.updates(T0)[1]["log_append"])
    assert [(line["n"], line["text"], line["level"]) for line in appended["lines"]] == [(3, "3", "ERROR")]
    assert appended["total"] == 3


def test_a_log_of_any_length_stays_bounded() -> None:
    view = queued()

    view.log([LogLine(str(n), MS, n=n) for n in range(1, 5 * LOG_LINES)])

    kept = json.loads(view.updates(T0)[0]["log"])
    assert len(kept["lines"]) == LOG_LINES
    assert kept["lines"][-1]["n"] == kept["total"] == 5 * LOG_LINES - 1


def test_a_missed_event_asks_for_the_snapshot_and_an_older_one_is_ignored() -> None:
    view = queued()

    view.take(event(4, EventType.SUCCEEDED, 9, state="succeeded"))

    assert view.needs_snapshot
    fresh = replace(view.snapshot, seq=4, state=JobState.SUCCEEDED)
    view.reset(fresh, at(9))
    assert (view.needs_snapshot, view.snapshot.state) == (False, JobState.SUCCEEDED)
    view.reset(replace(fresh, seq=2, state=JobState.RUNNING), at(9))
    assert view.snapshot.state is JobState.SUCCEEDED


def test_a_job_that_counts_nothing_is_measured_by_what_its_task_usually_takes() -> None:
    view = queued()
    view.take(STARTED)
    view.take(event(2, EventType.PROGRESSED, 6, rev=1, typical_s=200.0))

    card = shown(view, 44)

    assert (card["progress"], card["typical_s"], card["eta_s"]) == (None, 200.0, 160.0)


def test_no_time_left_is_guessed_from_the_first_update() -> None:
    view = queued()
    view.take(STARTED)

    view.take(progress(1, 1, 100, second=5))
    assert shown(view, 5)["eta_s"] is None
    view.take(progress(2, 2, 100, second=6))
    view.take(progress(3, 3, 100, second=7))

    eta = shown(view, 7)["eta_s"]
    assert 90 <= eta <= 100
    assert shown(view, 17)["eta_s"] == eta - 10  # it counts down between updates


def test_one_update_moves_the_time_left_by_a_fifth_at_most() -> None:
    eta = Eta()
    for second in range(1, 11):
        eta.update(second, 100, second)
    before = eta.left_s
    assert before is not None
    assert 85 <= before <= 95

    eta.update(60, 100, 11)  # a sudden leap

    assert eta.left_s is not None
    assert 0.8 * (before - 1) <= eta.left_s <= before


def test_a_second_loop_in_a_job_starts_its_own_estimate() -> None:
    eta = Eta()
    for second in range(1, 11):
        eta.update(second * 10, 100, second)

    eta.update(1, 1000, 11)

    assert eta.left_s is None or eta.left_s > 100


def test_a_new_attempt_forgets_the_estimate_of_the_old_one() -> None:
    view = queued(retries=1)
    view.take(STARTED)
    for n in range(1, 8):
        view.take(progress(n, n, 100, second=4 + n))
    error = JobError(ErrorKind.EXCEPTION, "OSError", "away").to_wire()

    view.take(event(3, EventType.RETRIED, 12, state="scheduled", retried=1, due=MS + 20_000, error=error))
    view.take(event(4, EventType.QUEUED, 20, state="queued"))
    view.take(event(5, EventType.STARTED, 21, state="running", started=MS + 21_000, attempt=2, worker="gpu-2"))

    card = shown(view, 22)
    assert (card["eta_s"], card["waited_s"], card["completed"]) == (None, 1.0, None)
    assert [(a["outcome"], a["reason"]) for a in card["attempts"]] == [("retried", "OSError: away"), ("running", "")]


def test_a_queued_job_says_that_no_worker_serves_its_queue() -> None:
    view = queued(queue="gpu")
    assert view.alert(at(5)) is None

    view.learn(at(5), queue_workers=0)

    alert = view.alert(at(5))
    assert alert is not None
    assert alert["text"] == "Queued; no worker serves queue gpu: run `jobkit worker -q gpu`"
    view.learn(at(6), held="no worker serves queue gpu: run `jobkit worker -q gpu`")
    assert view.alert(at(6)) == alert
    view.learn(at(8), queue_workers=2, held="")
    assert view.alert(at(8)) is None


def test_a_silent_worker_is_told_with_the_time_until_the_job_is_taken_away() -> None:
    view = queued()
    view.take(STARTED)

    view.learn(at(30), beat=(2.0, at(30)))
    assert view.alert(at(30)) is None
    view.learn(at(40), beat=(12.0, at(40)))

    alert = view.alert(at(41))
    assert alert is not None
    assert alert["text"] == "Stalled: worker last seen 13 s ago; the job will be restarted in 2 s"


def test_a_job_that_waits_for_others_says_for_which_and_how_far_they_are() -> None:
    spec = JobSpec("jchild", "train", needs=("aaaaaaaaaaaa", "bbbbbbbbbbbb"))
    view = CardModel(JobSnapshot(spec, 1, JobState.SCHEDULED))
    assert (view.alert(T0) or {})["text"] == "Waits for the results of 2 jobs"

    running = JobSnapshot(JobSpec("aaaaaaaaaaaa", "load", title="Load"), 2, JobState.RUNNING, completed=2, total=5)
    view.learn(T0, needed=[running, None])

    assert (view.alert(T0) or {})["text"] == "Waits for the results of 2 jobs: Load aaaaaaaa is running (40 %)"


def test_a_lost_connection_is_shown_until_it_is_back() -> None:
    view = queued()

    view.connected("reconnecting")
    assert shown(view, 1)["connection"] == "reconnecting"
    view.connected("live")

    assert shown(view, 2)["connection"] == "live"


def test_numbers_that_json_cannot_hold_do_not_reach_the_browser() -> None:
    view = queued()
    view.snapshot = replace(
        view.snapshot, spec=replace(view.snapshot.spec, params={"x": float("nan"), "y": [float("inf")]})
    )

    assert shown(view, 0)["params"] == {"x": None, "y": [None]}


def test_a_deleted_job_says_so() -> None:
    view = queued()

    assert view.take(event(0, EventType.DELETED))

    card = shown(view, 1)
    assert card["deleted"]
    assert "deleted" in card["alert"]["text"]


def test_bar_message_and_wait_stand_side_by_side_in_card_row_and_batch() -> None:
    view = queued()
    view.take(STARTED)
    data = {"rev": 1, "completed": 0, "total": 4, "message": "loss 0.3", "awaits": "94ce65826b98c5d9"}
    view.take(event(2, EventType.PROGRESSED, 5, **data))
    waits = "Waiting for job 94ce6582 (its slot is lent)"

    card, cells = shown(view, 6), row(view.snapshot)

    assert (card["progress"], card["message"], card["lent"]) == (0.0, "loss 0.3", waits)
    assert card["awaits"] == "94ce65826b98c5d9"
    assert (cells["progress"], cells["message"]) == (0.0, f"{waits} · loss 0.3")
    _, _, in_batch, done, _ = BatchModel([view.snapshot]).row(0)
    assert (in_batch[-2], done) == (f"{waits} · loss 0.3", 0.0)


def test_what_holds_back_a_job_is_said_once() -> None:
    view = queued()
    view.snapshot = replace(view.snapshot, message="waits for a place of task train (1 at a time)")
    assert view.card(at(1))["message"].startswith("waits for a place")

    view.learn(at(2), held="waits for the one place of task train")

    card = view.card(at(2))
    assert (card["message"], card["alert"]["text"]) == ("", "Waits for the one place of task train")


def test_a_job_that_goes_on_or_ends_waits_for_nothing() -> None:
    view = queued()
    view.take(STARTED)
    view.take(event(2, EventType.PROGRESSED, 5, rev=1, awaits="a and 2 more"))
    assert view.snapshot.lent_text == "Waiting for job a and 2 more (its slot is lent)"

    view.take(event(3, EventType.CANCEL_REQUESTED, 6, cancel=MS + 6000))
    assert view.snapshot.lent_text
    view.take(event(4, EventType.CANCELLED, 7, state="cancelled", finished=MS + 7000))

    assert not view.snapshot.lent_text


def test_metrics_alone_do_not_send_the_rest_of_a_card_again() -> None:
    view = queued()
    view.take(STARTED)
    view.take(progress(1, 2, 10, 5))
    view.updates(at(5))
    metrics = {"n": 1, "newest": {"loss": 0.5}, "spark": [0.5]}
    numbers = {"completed": 2, "total": 10, "message": "steps"}

    assert not view.take(event(2, EventType.PROGRESSED, 6, rev=2, metrics=metrics, **numbers))
    assert (view.is_dirty, view.snapshot.rev, view.snapshot.metrics.newest) == (False, 2, {"loss": 0.5})
    assert view.take(event(2, EventType.PROGRESSED, 7, rev=3, metrics=metrics, **{**numbers, "completed": 3}))
    assert view.is_dirty


def test_a_running_job_shows_what_its_processes_use_and_an_ended_one_nothing() -> None:
    view = queued()
    view.take(STARTED)
    view.updates(T0)

    view.learn(at(5), load=WorkerLoad(2.0, jobs={"j1": Usage(Spark.of([10, 50], 100), Spark.of([80]))}))

    assert view.is_dirty
    told = shown(view, 6)["load"]
    assert (told["cpu"]["last"], told["cpu"]["shape"], told["memory"]["top"], told["step_s"]) == (50, "4i", 80, 2.0)
    view.take(event(3, EventType.SUCCEEDED, 9, state="succeeded", finished=MS + 9000))
    assert shown(view, 10)["load"] is None
