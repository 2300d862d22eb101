"""Home: what runs, what waits in the order of start, what ended last; as its feed delivers it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobkit.client.loop import background
from jobkit.features.search.index import Index
from jobkit.model import JobSpec
from jobkit.store import lines
from jobkit.store.query import Query, QueryPage
from jobkit.store.values import Submission, WorkerInfo
from jobkit.ui.card.job_feed import JobFeed
from jobkit.ui.jobs import board, home
from jobkit.ui.jobs.board import row as row_of
from jobkit.ui.jobs.home import HomeFeed
from jobkit.ui.live import shared_feed
from jobkit.ui.live.shared_feed import Subscriber
from tests.support import PATIENCE_S, wait_until
from tests.ui.conftest import Look
from tests.ui.screen import Screen
from tests.ui.stage import Stage

Watch = Callable[..., Screen]
Card = Callable[[str], Callable[[], dict[str, Any]]]


@pytest.fixture
def watch(look: Look) -> Watch:
    """`watch()`: home, as it is fed."""
    return lambda own=None: look(Query(owner=None), own, HomeFeed)


@pytest.fixture
def card(stage: Stage) -> Iterator[Card]:
    """`card(id)()`: the newest snapshot of a job's card."""
    watched: list[Any] = []

    def begin(job_id: str) -> Callable[[], dict[str, Any]]:
        texts: dict[str, str] = {}
        watched.append(Subscriber(lambda whole, _: texts.update(whole)).start(stage.kit, JobFeed, job_id))
        return lambda: json.loads(texts.get("snapshot") or "{}")

    yield begin
    for each in watched:
        each.stop()


def faces(screen: Screen) -> list[str]:
    return [screen.rows[id]["face"] for id in screen.order]


def submit_many(stage: Stage, count: int) -> list[str]:
    jobs = [Submission(JobSpec(id=f"m{n:05}", task="train", owner="ada"), b"") for n in range(count)]
    background.call(stage.store.submit(jobs))
    return [job.spec.id for job in jobs]


def test_of_thousands_of_jobs_the_running_ones_are_on_top_then_those_that_start_next(
    stage: Stage, watch: Watch
) -> None:
    ended = [stage.submit(title=f"Job {n}") for n in range(2)]
    for job in ended:
        stage.start(job)
        stage.succeed(job, summary="{'score': 0.921, 'loss': 0.079}")
    running = [stage.submit(title=f"Runs {n}") for n in range(2)]
    stage.start(running[-1])
    waiting = submit_many(stage, 5_000)
    stage.beat(slots=2)
    background.call(stage.store.publish_took({"train": 60.0}))

    screen = watch()

    shown = screen.order
    assert shown[:2] == [running[1], running[0]]
    assert shown[2:22] == waiting[:20]
    assert shown[22:] == [ended[1], ended[0]]
    assert (screen.told["total"], screen.told["more"]) == (5_004, home.AFTER_HOME)
    third = screen.rows[waiting[3]]
    assert (third["ahead"], third["starts_at"] > screen.rows[waiting[1]]["starts_at"]) == (3, True)
    assert screen.rows[ended[0]]["note"] == "score 0.921 · loss 0.079"


def test_rows_move_to_their_section_when_a_job_starts_and_ends(stage: Stage, watch: Watch) -> None:
    first, second = stage.submit(), stage.submit()
    screen = watch()
    assert (screen.order, screen.told["more"]) == ([first, second], "")

    stage.start(second)
    wait_until(lambda: faces(screen) == ["running", "running"], what="both to run")
    stage.succeed(first)
    wait_until(lambda: faces(screen) == ["running", "succeeded"], what="the ended one below")
    assert screen.order == [second, first]
    third = stage.submit()
    wait_until(lambda: screen.order == [second, third, first], what="the new one between them")
    stage.kit.delete([first])
    wait_until(lambda: screen.order == [second, third], what="the deleted one to go")


def test_a_browser_that_asks_while_home_is_read_gets_it_when_it_has_been_read(
    stage: Stage, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_reading, go, read = threading.Event(), threading.Event(), home.read_home

    async def slowly(*of: Any) -> Any:
        is_reading.set()
        await asyncio.to_thread(go.wait)
        return await read(*of)

    watch()
    monkeypatch.setattr(home, "read_home", slowly)
    job = stage.submit()
    assert is_reading.wait(PATIENCE_S)
    other = Screen(stage, Query(owner=None), None, HomeFeed)
    background.call(asyncio.sleep(0))  # it has subscribed
    go.set()

    wait_until(lambda: other.told.get("home") and other.order == [job], what="the whole page")
    other.close()


def test_a_batch_is_one_row_in_the_section_of_its_state(stage: Stage, watch: Watch) -> None:
    batch, first, *_ = stage.batch({"n": 1}, {"n": 2}, {"n": 3}, name="first try")
    single = stage.submit()
    screen = watch()
    assert screen.order == [f"batch {batch}", single]

    stage.start(first)

    wait_until(lambda: faces(screen) == ["running", "queued"], what="the batch to run")


def test_the_row_of_a_sweep_names_its_best_value(stage: Stage, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "_BEST_S", 0.1)
    rates = [{"lr": rate} for rate in (0.1, 0.01, 0.001)]
    sweep, *jobs = stage.batch(*rates, axes=("lr",))
    plain, *others = stage.batch(*rates, axes=("lr",))
    study, *trials = stage.batch(*rates, id=stage.study(), size=3, kind="study", direction="maximize")
    screen = watch()

    def note(batch: str) -> str:
        return screen.rows[f"batch {batch}"]["note"]

    for job, loss in zip(jobs[:2], (0.5, 0.25), strict=True):
        stage.start(job)
        stage.succeed(job, summary=f"{{'loss': {loss}, 'epochs': 3}}")
    wait_until(lambda: note(sweep) == "best loss 0.25 (lr=0.01) · 1 queued, 2 succeeded", what="its best value")
    stage.start(jobs[2])
    stage.succeed(jobs[2], summary="{'loss': 0.125, 'epochs': 3}")
    wait_until(lambda: note(sweep) == "best loss 0.125 (lr=0.001) · 3 succeeded", what="a better one")

    for job, value in zip([*others, *trials], (1, 0.5, 3, 4, 7.5, 6), strict=True):
        stage.start(job)
        stage.succeed(job, summary=str(value))
    wait_until(lambda: note(plain) == "value 0.5 to 3 · 3 succeeded", what="values of which no name says the best")
    wait_until(lambda: note(study) == "best value 7.5 (trial 1: lr=0.01) · 3 succeeded", what="the best trial")


def test_a_batch_that_waits_says_what_holds_back_its_next_job(stage: Stage, watch: Watch) -> None:
    batch, *_ = stage.batch({"n": 1}, {"n": 2})
    screen = watch()

    wait_until(lambda: screen.rows[f"batch {batch}"].get("message"), what="the reason")

    assert screen.rows[f"batch {batch}"]["message"] == "no worker serves queue default"


def test_jobs_of_no_batch_that_ended_are_shown_while_a_batch_ends_hundreds(stage: Stage, watch: Watch) -> None:
    single = stage.running()
    stage.fail(single)
    batch, *jobs = stage.batch(*({"n": n} for n in range(102)))
    stage.start(jobs[-1])
    for job in jobs[:-1]:
        stage.succeed(job)

    assert watch().order == [f"batch {batch}", single]


def test_people_who_see_only_their_own_jobs_have_a_home_of_these(stage: Stage, watch: Watch) -> None:
    mine, other, ended = stage.submit(owner="ada"), stage.submit(owner="bob"), stage.submit(owner="ada")
    stage.start(ended)
    stage.succeed(ended)
    later = stage.submit(owner="ada")

    screen = watch("ada")

    assert screen.order == [mine, later, ended]
    assert other not in screen.rows


def test_running_jobs_of_one_user_are_found_among_many_newer_ones(
    stage: Stage, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MOST_RUNNING", 1)
    mine, other = stage.submit(owner="ada"), stage.submit(owner="bob")
    stage.start(other)
    assert watch("ada").order == [mine]


def test_while_the_jobs_of_one_user_are_searched_home_says_so_and_is_read_again(
    stage: Stage, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, verbs, whole = stage.submit(owner="ada"), stage.kit.verbs, stage.kit.verbs.page
    stage.start(mine)
    stage.succeed(mine)

    async def part(_: Query) -> QueryPage:
        return QueryPage((), "", 1)

    monkeypatch.setattr(shared_feed, "_FILLING_S", 0.05)
    monkeypatch.setattr(verbs, "page", part)
    screen = watch("ada")
    assert (screen.order, screen.told["searched"]) == ([], 1)

    monkeypatch.setattr(verbs, "page", whole)
    wait_until(lambda: (screen.order, screen.told["searched"]) == ([mine], None), what="the rest")


def test_no_index_of_very_many_jobs_is_filled_for_the_strip_alone(stage: Stage) -> None:
    verbs = stage.kit.verbs
    verbs._index = Index(verbs.store, stage.kit.hub)
    submit_many(stage, 3)

    assert background.call(verbs.activity(Query(), 60.0, fill_most=2)) is None
    assert not verbs._index.is_begun
    found = background.call(verbs.activity(Query(), 60.0, fill_most=3))
    assert found is not None
    assert found.total == 3


def test_a_job_that_no_worker_serves_says_so_and_has_no_time(stage: Stage, watch: Watch) -> None:
    job = stage.submit(queue="gpu")
    row = watch().rows[job]
    assert (row["message"], row["stuck"], "starts_at" in row) == ("no worker serves queue gpu", True, False)


def test_a_job_that_needs_what_no_worker_has_says_how_to_start_one(stage: Stage, watch: Watch) -> None:
    stage.beat("cpu-1")
    job = stage.submit(resources={"gpu": 1.0})
    background.call(stage.store.claim(WorkerInfo("cpu-1", queues=("default",)), 1))

    row = watch().rows[job]
    assert row["message"] == "no worker offers gpu=1, none has any; `jobkit worker --resources gpu=1`"
    assert row["stuck"]

    stage.beat("gpu-1", has='{"gpu": 1}')
    start = stage.kit.expected_starts([stage.kit.snapshot(job)])[job]
    assert start.why == "waits for gpu=1: all in use"
    assert "stuck" not in row_of(stage.kit.snapshot(job), start=start)


def test_a_cancelled_job_names_the_user_and_the_reason(stage: Stage, watch: Watch) -> None:
    job = stage.submit()
    stage.kit.cancel(job, "wrong data", by="grace")
    assert watch().rows[job]["note"] == "Cancelled by grace: wrong data"


def test_a_card_names_the_start_of_a_waiting_job_and_its_usual_run_time(stage: Stage, card: Card) -> None:
    running, first, second = stage.submit(), stage.submit(), stage.submit()
    stage.start(running)
    stage.beat(slots=1)
    background.call(stage.store.publish_took({"train": 60.0}))

    shown = card(second)

    wait_until(lambda: shown().get("ahead") == 1, what="the forecast")
    assert shown()["starts_at"] > shown()["now"]
    assert shown()["typical_s"] == 60.0
    stage.start(first)
    assert stage.kit.expected_starts([stage.kit.snapshot(second)])[second].ahead == 0


def test_a_job_and_its_retry_name_each_other(stage: Stage, card: Card) -> None:
    old = stage.running()
    stage.fail(old)
    new = stage.running(retry_of=old)
    stage.succeed(new)

    of, by = card(old), card(new)

    wait_until(lambda: of().get("runs_again") == {"as": {"id": new, "face": "succeeded"}}, what="the retry")
    wait_until(lambda: by().get("runs_again") == {"of": {"id": old, "face": "failed"}}, what="the repeated job")


def test_a_card_says_by_which_user_and_why_a_job_was_cancelled(stage: Stage, card: Card) -> None:
    job = stage.submit()
    stage.kit.cancel(job, "wrong data", by="grace")

    shown = card(job)

    wait_until(lambda: shown().get("cancelled") is not None, what="the cancellation")
    assert (shown()["cancelled"]["by"], shown()["cancelled"]["reason"]) == ("grace", "wrong data")
