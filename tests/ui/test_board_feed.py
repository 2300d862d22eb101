"""Feed of a page of jobs: visible jobs, counts, and changes."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from jobkit.client.loop import background
from jobkit.model import JobSnapshot, JobSpec, JobState
from jobkit.model.person import Person, Role
from jobkit.model.plain import iso, now_ms, to_ms
from jobkit.model.question import OpenQuestion
from jobkit.store.grammar import read_search
from jobkit.store.query import Query
from jobkit.ui.access.actions import Actions
from jobkit.ui.jobs import job_table
from jobkit.ui.jobs.board import BoardFeed, row
from jobkit.ui.jobs.groups import groups
from jobkit.ui.jobs.job_table import Bulk, JobTable
from jobkit.ui.live.shared_feed import Subscriber, open_feeds
from tests.support import PATIENCE_S, wait_until
from tests.ui.conftest import Look
from tests.ui.screen import Screen
from tests.ui.stage import Stage


def test_a_user_who_sees_only_own_jobs_gets_no_others_and_no_counts_of_them(stage: Stage, look: Look) -> None:
    mine = stage.submit(owner="ada")
    stage.submit(owner="bob")
    everybodys = Query(owner=("ada", "bob"))

    screen = look(everybodys, "ada")
    assert (screen.order, screen.told["counts"]["queued"], screen.told["total"]) == ([mine], 1, 1)
    stage.submit(owner="bob")
    more = stage.submit(owner="ada")
    wait_until(lambda: screen.order == [more, mine], what="the new one")
    wait_until(lambda: screen.told["counts"]["queued"] == 2, what="the counter")

    for nobody in ("*", "\x00nobody", "a*"):
        assert look(everybodys, nobody).order == []


def test_a_search_for_jobs_of_other_users_does_not_count_them(stage: Stage, look: Look) -> None:
    stage.submit(owner="ada")
    stage.submit(owner="bob")

    screen = look(Query(owner="bob"), "ada")

    assert (screen.order, screen.told["total"], set(screen.told["counts"].values())) == ([], 0, {0})


def test_a_job_that_does_not_match_any_more_leaves(stage: Stage, look: Look) -> None:
    job = stage.running()
    screen = look(Query(states=("running",)))
    assert (screen.order, screen.told["total"]) == ([job], 1)

    stage.succeed(job)

    wait_until(lambda: screen.left == [job], what="the job to leave")
    wait_until(lambda: screen.told["total"] == 0, what="the number that match")


def test_counters_are_of_the_jobs_that_match_whatever_state_is_asked_for(stage: Stage, look: Look) -> None:
    mine = [stage.submit(owner="ada") for _ in range(3)]
    stage.submit(owner="bob")
    stage.start(mine[0])
    stage.fail(mine[0])

    def counted(screen: Screen) -> dict[str, int]:
        return {state: n for state, n in screen.told["counts"].items() if n}

    screen = look(Query(owner="ada", states=("failed",)))
    assert (counted(screen), screen.told["total"]) == ({"queued": 2, "failed": 1}, 1)
    assert counted(look(Query(flag="asking", search="nothing like this"))) == {}
    assert counted(look(Query(states=("failed",)))) == {"queued": 3, "failed": 1}

    stage.start(mine[1])
    stage.fail(mine[1])
    wait_until(lambda: counted(screen) == {"queued": 1, "failed": 2}, what="the counters")
    wait_until(lambda: screen.told["total"] == 2, what="the number that match")


def test_a_failed_job_says_whether_it_was_retried_and_how_that_ended(stage: Stage, look: Look) -> None:
    failed, other = stage.submit(), stage.submit()
    for job in (failed, other):
        stage.start(job)
        stage.fail(job)
    screen = look(Query(states=("failed",)))
    unretried = look(read_search("is:unretried")[0])
    assert screen.order == unretried.order == [other, failed]

    again = stage.submit(retry_of=failed)

    def notes(job: str) -> str:
        return [row["note"] for row in [*screen.rows.values(), *screen.changed] if row["id"] == job][-1]

    wait_until(lambda: notes(failed).startswith("run again → queued · ValueError"), what="the retry")
    stage.start(again)
    stage.succeed(again)
    wait_until(lambda: notes(failed).startswith("run again → succeeded · "), what="its end")
    assert notes(other).startswith("ValueError")
    assert look(read_search("is:retried")[0]).order == [failed]
    assert look(read_search("is:unretried state:failed")[0]).order == [other]


def test_a_batch_is_one_row_that_counts_its_jobs(stage: Stage, look: Look) -> None:
    batch, first, *others = stage.batch({"n": 1}, {"n": 2}, {"n": 3}, name="first try")
    screen = look(Query())
    [shown] = screen.rows.values()
    assert (shown["id"], shown["name"], shown["args"]) == (f"batch {batch}", "first try", "3 jobs")
    assert (shown["note"], shown["face"], screen.told["total"]) == ("3 queued", "queued", 3)

    stage.start(first)
    stage.fail(first)
    later, last = stage.batch({"n": 4})

    wait_until(lambda: screen.order[0] == f"batch {later}", what="the new batch")
    wait_until(lambda: "2 queued, 1 failed" in [row["note"] for row in screen.changed], what="its counts")
    assert look(Query(states=("queued",))).order == [last, *reversed(others)]


@pytest.mark.parametrize(("query", "own"), [(Query(limit=2), "ada"), (Query(task="train", limit=2), None)])
def test_batches_are_rows_for_users_of_own_jobs_and_in_searches_by_task(
    stage: Stage, look: Look, query: Query, own: str | None
) -> None:
    oldest = stage.submit(owner="ada")
    batch, *_ = stage.batch({"n": 1}, {"n": 2}, owner="ada")
    stage.batch({"n": 1}, task="score", owner="bob")
    newest = stage.submit(owner="ada")

    screen = look(query, own)
    assert screen.order == [newest, f"batch {batch}"]
    assert look(msgspec.structs.replace(query, cursor=screen.told["more"]), own).order == [oldest]

    stage.batch({"n": 1}, task="score", owner="bob")
    later, *_ = stage.batch({"n": 3}, owner="ada")
    wait_until(lambda: screen.order == [f"batch {later}", newest, f"batch {batch}"], what="the new batch")


def test_a_study_is_one_row_for_its_trials_and_the_job_that_runs_it(stage: Stage, look: Look) -> None:
    study = stage.study("Study tune")
    screen = look(Query())
    assert screen.order == [study]  # there is no trial yet

    _, first, last = stage.batch(
        {"x": 1}, {"x": 2}, id=study, size=3, name="tune", kind="study", direction="minimize", owner="ada"
    )
    wait_until(lambda: screen.left == [study], what="the row of the study in place of its job")
    assert screen.order[0] == f"batch {study}"
    for job in (first, last):
        stage.start(job)
    stage.succeed(first)
    stage.fail(last)

    words = "1 succeeded, 1 failed"
    wait_until(lambda: screen.changed and screen.changed[-1]["note"] == words, what="its trials")
    row = screen.changed[-1]
    assert (row["name"], row["args"], row["face"], round(row["progress"], 2)) == (
        "Study tune",
        "3 trials",
        "running",
        0.67,
    )
    stage.succeed(study)
    wait_until(lambda: screen.changed[-1]["face"] == "succeeded", what="its end")
    again, controller = look(Query()), stage.kit.snapshot(study)
    assert again.order == look(Query(), "ada").order == [f"batch {study}"]
    row = again.rows[f"batch {study}"]
    assert (row["started_at"], row["finished_at"]) == (iso(controller.started_at), iso(controller.finished_at))


def test_a_batch_of_a_later_page_stays_there_while_its_jobs_run(stage: Stage, look: Look) -> None:
    _, job, _ = stage.batch({"n": 1}, {"n": 2})
    batch_ms = to_ms(stage.kit.snapshot(job).submitted_at)
    wait_until(lambda: now_ms() > batch_ms, what="the next millisecond, since rows are ordered by it")
    others = [stage.submit(), stage.submit()]
    screen = look(Query(task="train", limit=2))
    stage.start(job)
    newest, *_ = stage.batch({"n": 3})

    wait_until(lambda: f"batch {newest}" in screen.order, what="the new batch")
    assert screen.order == [f"batch {newest}", *reversed(others)]


def test_an_open_page_does_not_grow_with_each_new_batch(stage: Stage, look: Look) -> None:
    screen = look(Query(limit=2))
    for count in range(1, 9):
        stage.batch({"n": count})
        wait_until(lambda count=count: len(screen.order) == count, what="the new batch")  # type: ignore[misc]

    assert look(Query(limit=2)).order == screen.order[:4]  # as with jobs


def test_a_batch_that_comes_while_batches_are_read_is_shown(
    stage: Stage, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, go, refreshed = threading.Event(), threading.Event(), groups().refreshed

    async def slowly(*of: Any) -> Any:
        infos = await refreshed(*of)
        held.set()
        await asyncio.to_thread(go.wait)
        return infos

    _, job = stage.batch({"n": 1})
    screen = look(Query())
    [feed] = open_feeds(stage.kit, BoardFeed)
    monkeypatch.setattr(groups(), "refreshed", slowly)
    stage.start(job)
    assert held.wait(PATIENCE_S)
    newest, _ = stage.batch({"n": 2})
    wait_until(lambda: newest in feed.model.other_groups, what="the feed to know of the new batch")
    go.set()

    wait_until(lambda: screen.order[0] == f"batch {newest}", what="the new batch")


def test_a_batch_whose_jobs_were_deleted_leaves_the_page(stage: Stage, look: Look) -> None:
    batch, job = stage.batch({"n": 1})
    stage.start(job)
    stage.succeed(job)
    screen = look(Query(task="train"))
    assert screen.order == [f"batch {batch}"]

    background.call(stage.store.delete([job]))

    wait_until(lambda: not screen.rows, what="its row to go")


def test_a_job_that_was_retried_in_its_batch_has_a_separate_row(stage: Stage, look: Look) -> None:
    batch, job, _ = stage.batch({"n": 1}, {"n": 2}, owner="ada")
    stage.kit.get(job).cancel()
    stage.submit(batch=batch, retry_of=job)

    for query, own in ((Query(), None), (Query(), "ada"), (Query(task="train"), None)):
        assert look(query, own).order == [f"batch {batch}", job]


def test_in_another_order_new_jobs_are_shown_as_a_number(stage: Stage, look: Look) -> None:
    job = stage.submit("b")
    screen = look(Query(order="task"))

    stage.submit("a")

    wait_until(lambda: screen.told["fresh"] == 1, what="the number")
    assert screen.order == [job]


def test_deltas_are_numbered_from_their_page_on(stage: Stage) -> None:
    told: list[dict[str, Any]] = []

    def deliver(whole: Mapping[str, str], parts: Mapping[str, str]) -> None:
        told.append(json.loads(whole.get("page") or parts["delta"]))

    subscriber = Subscriber(deliver).start(stage.kit, BoardFeed, Query(), None)
    wait_until(lambda: told, what="the page")
    job = stage.submit()
    wait_until(lambda: any("new" in each for each in told), what="the new job")
    stage.start(job)
    wait_until(lambda: "running" in [row["face"] for each in told for row in each.get("rows", ())], what="its start")
    subscriber.stop()

    numbers = [each["n"] for each in told]
    assert numbers == list(range(numbers[0], numbers[0] + len(told)))


def test_a_hidden_tab_gets_no_updates_until_it_is_visible(stage: Stage) -> None:
    table = JobTable(stage.kit)
    n = itertools.count()

    def ask(action: str) -> None:
        with table.changing():  # as a message of a browser does
            table.request = json.dumps({"action": action, "n": str(next(n))})

    def feeds() -> int:
        return len(open_feeds(stage.kit, BoardFeed))

    wait_until(lambda: '"rows":[]' in table.page, what="the first page")
    ask("hidden")
    wait_until(lambda: feeds() == 0, what="the feed to end")
    table.is_open = True  # its page is turned to, in a tab that is still hidden
    table.search = "state:queued"
    assert feeds() == 0
    job = stage.submit()
    ask("visible")

    wait_until(lambda: job in table.page, what="the page as it is now")
    table.is_open = False
    wait_until(lambda: feeds() == 0, what="the feed to end")


@pytest.fixture
def told() -> list[dict[str, Any]]:
    return []


def bulk(stage: Stage, told: list[dict[str, Any]], person: Person | None = None) -> Bulk:
    return Bulk(Actions(stage.kit, person), lambda text: told.append(json.loads(text) if text else {}))


def states(told: list[dict[str, Any]]) -> list[str]:
    return [each.get("state", "") for each in told]


def test_nothing_is_done_before_the_answer_and_all_that_match_after_it(
    stage: Stage, told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_table, "SLICE", 2)
    jobs = [stage.submit("train", owner="ada") for _ in range(5)]
    other = stage.submit("score")
    work = bulk(stage, told)

    work.ask("cancel", read_search("task:train")[0])
    wait_until(lambda: states(told)[-1:] == ["asking"], what="the question")
    assert told[-1]["total"] == 5
    assert stage.kit.counts()["cancelled"] == 0
    work.go()

    wait_until(lambda: states(told)[-1:] == ["ended"], what="the end")
    assert [each["done"] for each in told if each.get("state") == "running"] == [0, 2, 4]
    assert told[-1]["sentence"] == "5 jobs cancelled or asked to stop"
    assert all(stage.kit.snapshot(job).state == "cancelled" for job in jobs)
    assert stage.kit.snapshot(other).state == "queued"


def test_a_delete_that_is_taken_back_deletes_nothing(stage: Stage, told: list[dict[str, Any]]) -> None:
    job = stage.running()
    stage.succeed(job)
    work = bulk(stage, told)

    work.ask("delete", [job])
    wait_until(lambda: states(told)[-1:] == ["asking"], what="the question")
    work.go()
    wait_until(lambda: states(told)[-1:] == ["undoable"], what="the moment in which it can be taken back")
    work.stop()

    wait_until(lambda: states(told)[-1:] == [""], what="the bar to go")
    assert stage.kit.snapshot(job).state == "succeeded"


@pytest.mark.parametrize("state", ["succeeded", "running", "open"])
def test_a_study_is_deleted_with_its_trials_which_the_question_says(
    stage: Stage, told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr(job_table, "UNDO_S", 0.01)
    study = stage.study()
    _, *trials = stage.batch({"x": 1}, {"x": 2}, id=study, size=2, kind="study", direction="minimize", owner="ada")
    for trial in trials[: 1 if state == "open" else 2]:
        stage.start(trial)
        stage.succeed(trial)
    if state != "running":
        stage.succeed(study)
    work = bulk(stage, told)

    work.ask("delete", [study])
    wait_until(lambda: states(told)[-1:] == ["asking"], what="the question")
    work.go()
    wait_until(lambda: states(told)[-1:] == ["ended"], what="the end")

    question = next(each for each in told if each.get("state") == "asking")
    assert (question["total"], question["led"]) == (1, 2)
    kept = [snapshot is not None for snapshot in background.call(stage.store.snapshots([study, *trials]))]
    assert kept == [state != "succeeded"] * 3
    why = {"succeeded": "1 job deleted", "running": "is running; cancel it first", "open": "1 job that"}
    assert why[state] in told[-1]["sentence"]


def test_the_row_of_a_job_that_asks_has_no_moving_bar() -> None:
    spec = JobSpec("a", "train")
    running = JobSnapshot(
        spec, 1, JobState.RUNNING, asking=(OpenQuestion("q", "Go on?", datetime(2026, 11, 27, tzinfo=UTC)),)
    )

    assert row(running)["asks"] is True
    assert "asks" not in row(JobSnapshot(spec, 1, JobState.RUNNING))


def test_where_nothing_can_be_done_it_says_so_instead_of_asking(stage: Stage, told: list[dict[str, Any]]) -> None:
    stage.submit()

    bulk(stage, told).ask("retry", Query())

    wait_until(lambda: states(told)[-1:] == ["ended"], what="the sentence")
    assert told[-1]["sentence"] == "no job here can be retried"


@pytest.mark.parametrize("person", [Person("eve", Role.VIEW), Person("ada", Role.OWN)])
def test_many_are_checked_as_one_is(stage: Stage, told: list[dict[str, Any]], person: Person) -> None:
    foreign, own = stage.submit(owner="bob"), stage.submit(owner="ada")
    work = bulk(stage, told, person)

    work.ask("cancel", Query(owner="*"))
    if person.role is Role.VIEW:
        background.call(stage.store.counts())  # what was spawned before has run
        assert told == []
    else:
        wait_until(lambda: states(told)[-1:] == ["asking"], what="the question")
        assert told[-1]["total"] == 1
        work.go()
        wait_until(lambda: states(told)[-1:] == ["ended"], what="the end")
        assert stage.kit.snapshot(own).state == "cancelled"
    assert stage.kit.snapshot(foreign).state == "queued"
