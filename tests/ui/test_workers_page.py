"""The page of workers and queues, and the keys that act on jobs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from jobkit.client.losses import LostJob
from jobkit.client.tables import WorkerTable
from jobkit.model import JobSnapshot, JobSpec, JobState, Pause
from jobkit.model.load import Spark, Usage, WorkerLoad
from jobkit.store.queues import RunningAt
from jobkit.store.values import Fleet, WorkerInfo
from jobkit.ui.live.shared_feed import open_feeds
from jobkit.ui.workers.workers_page import WorkersFeed, listed_jobs, picture
from tests.support import wait_until
from tests.ui.conftest import CANARY, Window, text_of
from tests.ui.stage import Stage

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def snapshot(id: str, task: str, **facts: Any) -> JobSnapshot:
    return JobSnapshot(JobSpec(id, task), **{"seq": 1, "state": JobState.QUEUED, "submitted_at": T0, **facts})


def test_queues_say_in_one_word_and_one_sentence_why_they_stand_still_and_stuck_ones_come_first() -> None:
    lines = {
        "default": {"queued": 0, "scheduled": 0, "running": 0, "workers": 1},
        "gpu": {"queued": 3, "scheduled": 0, "running": 0, "workers": 0},
        "later": {"queued": 0, "scheduled": 2, "running": 0, "workers": 0},
    }

    rows = picture([WorkerInfo("a")], lines, [], [Pause("queue", "later")])["queues"]

    assert [(row["name"], row["state"]) for row in rows] == [("gpu", "stuck"), ("default", "idle"), ("later", "paused")]
    [why] = rows[0]["why"]
    assert why == {"text": "3 wait; no worker serves queue gpu: run `jobkit worker -q gpu`", "level": "warning"}


def test_workers_are_listed_by_host_with_one_number_of_busy_slots() -> None:
    known = [
        WorkerInfo("b.1", host="b", slots=2, running=1, cpu_percent=20, rss_bytes=5, memory_bytes=100),
        WorkerInfo("b.2", host="b", slots=2, rss_bytes=7, is_alive=False),
        WorkerInfo("a.1", host="a", slots=4, running=3, is_draining=True),
        WorkerInfo("c.1", host="c", is_alive=False),
    ]

    shown = picture(known, {}, [])

    assert shown["sum"] == Fleet.of(known).sentence == "2 workers, 4 of 5 slots busy, 2 lost in the last hour"
    assert [(host["name"], host["sum"]) for host in shown["hosts"]] == [
        ("a", "1 worker, 3 of 3 slots busy"),
        ("b", "1 worker, 1 of 2 slots busy, 1 lost in the last hour"),
        ("c", "0 workers, no worker takes jobs, 1 lost in the last hour"),
    ]
    first, second, _ = shown["hosts"]
    assert [worker["state"] for worker in (*first["workers"], *second["workers"])] == ["draining", "working", "lost"]
    assert (second["cpu_percent"], second["rss_bytes"], second["memory_bytes"]) == (20, 5, 100)


def test_a_lost_worker_says_the_state_of_its_jobs_since() -> None:
    again = snapshot("again", "train", worker="b.2", attempt=2, state=JobState.RUNNING)
    unnoticed = snapshot("unnoticed", "train", worker="b.1", state=JobState.RUNNING)
    lost = [LostJob("again", 1, again), LostJob("gone", 1)]

    shown = picture([WorkerInfo("b.1", host="b", is_alive=False)], {}, [unnoticed], lost={"b.1": lost})

    [worker] = shown["hosts"][0]["workers"]
    assert [(job["id"], job["became"]) for job in worker["jobs"]] == [
        ("unnoticed", "waits until a worker notices"),
        ("again", "runs again on b.2"),
        ("gone", "was deleted"),
    ]
    many_lost = WorkerInfo("b.1", is_alive=False, lost_jobs={f"j{n}": 1 for n in range(20)})
    [worker] = picture([many_lost], {}, [], lost={"b.1": lost * 4})["hosts"][0]["workers"]
    assert worker["lost"] == "20 jobs or more"
    assert "lost with 20 jobs or more, last seen" in repr(WorkerTable([many_lost]))
    assert LostJob("a", 1, snapshot("a", "train", attempt=1, state=JobState.FAILED)).sentence == "failed with it"
    assert LostJob("a", 1, snapshot("a", "train", attempt=2, state=JobState.FAILED)).sentence == "failed in attempt 2"
    assert LostJob("a", 1, snapshot("a", "train", state=JobState.CANCELLED)).sentence == "was cancelled"


def test_jobs_with_the_most_memory_are_listed_of_a_worker_that_runs_many() -> None:
    oldest = [f"j{n}" for n in range(8)]
    running = [RunningAt("w1", "default", 20, oldest), RunningAt("w2", "default", 1, ["k"])]
    use = {"j19": Usage(memory=Spark(300)), "j3": Usage(memory=Spark(50))}
    loads = {"w1": WorkerLoad(jobs=use)}

    listed = listed_jobs(running, loads)

    assert listed == ["j19", "j3", "j0", "j1", "j2", "j4", "j5", "j6", "k"]
    shown = picture(
        [WorkerInfo("w1", host="box")],
        {},
        [snapshot(id, "train", worker="w1", state=JobState.RUNNING) for id in ("j3", "j19")],
        loads=loads,
    )
    assert (shown["heaviest"]["id"], shown["heaviest"]["rss_bytes"], shown["heaviest"]["host"]) == (
        "j19",
        300 * 2**20,
        "box",
    )
    assert len(listed_jobs([RunningAt(f"w{n}", "q", 10, oldest) for n in range(300)], {})) == 300


@pytest.mark.nightly
@pytest.mark.browser
def test_the_page_shows_the_jobs_of_workers_and_opens_them(stage: Stage, url: str, window: Window) -> None:
    page = window.open(f"{url}?page=workers", width=1440)
    page.wait_for_selector("text=No worker runs")
    job = stage.submit("train", {"n": 3}, title="Train a model")

    stage.start(job, "gpu-1")
    stage.beat("gpu-1")

    page.wait_for_selector(".worker:has-text('gpu-1') .chip:has-text('Working')")
    assert text_of(page, ".sum") == "1 worker, 1 of 4 slots busy"
    assert text_of(page, ".queues").strip() == "default"
    page.click(".worker .job:has-text('Train a model')")
    page.wait_for_selector(".jk-card .title:has-text('Train a model')")
    assert "page=workers" in page.url
    page.locator(".jk-drawer button:has-text('Close')").click()
    stage.succeed(job)
    stage.beat("gpu-1")
    page.wait_for_selector(".worker:has-text('gpu-1') .chip:has-text('Ready')")


@pytest.mark.nightly
@pytest.mark.browser
def test_a_worker_is_asked_to_end_after_a_question(stage: Stage, url: str, window: Window) -> None:
    stage.beat("gpu-1")
    page = window.open(f"{url}?page=workers")

    page.click(".worker:has-text('gpu-1') button:has-text('Drain…')")
    page.click(".worker:has-text('gpu-1') button:has-text('End when idle')")

    asked = wait_until(stage.kit.audit, what="the request")
    assert [(entry.action, entry.targets, entry.outcome) for entry in asked] == [("drain_worker", ("gpu-1",), "done")]


@pytest.mark.nightly
@pytest.mark.browser
def test_the_table_of_queues_fits_a_narrow_window(stage: Stage, url: str, window: Window) -> None:
    stage.submit("train", queue="gpu", resources={"gpu": 4.0})
    stage.beat("gpu-1", "gpu", has='{"gpu": 1}')
    page = window.open(f"{url}?page=workers")
    page.wait_for_selector("td .resource")
    page.wait_for_selector(".why")

    for width in (390, 640, 768):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.locator(".scroll").first.evaluate("el => el.scrollWidth <= el.clientWidth"), width


@pytest.mark.nightly
@pytest.mark.browser
def test_a_hidden_page_does_not_read_workers(stage: Stage, url: str, window: Window) -> None:
    page = window.open(f"{url}?page=workers")
    page.wait_for_selector("text=No worker runs")
    assert open_feeds(stage.kit, WorkersFeed)

    page.click(".tab:has-text('Jobs')")

    wait_until(lambda: not open_feeds(stage.kit, WorkersFeed), what="the reading to end")
    page.click(".tab:has-text('Workers')")
    wait_until(lambda: open_feeds(stage.kit, WorkersFeed), what="the reading to begin")


@pytest.mark.nightly
@pytest.mark.browser
def test_what_a_worker_calls_itself_is_text(stage: Stage, url: str, window: Window) -> None:
    stage.start(stage.submit("train", {CANARY: CANARY}, title=CANARY, queue=CANARY), CANARY, CANARY)
    stage.beat(CANARY, CANARY)
    page = window.open(f"{url}?page=workers")

    page.wait_for_selector(".worker .job")

    assert page.evaluate("window.boom === undefined")


@pytest.mark.nightly
@pytest.mark.browser
def test_r_retries_and_c_cancels_the_job_that_is_open(stage: Stage, url: str, window: Window) -> None:
    failed, running = stage.kit.options(title="Old").submit(len, 5).id, stage.submit("train", title="New")
    stage.start(running)
    stage.kit.queues.pause("default")
    page = window.open(f"{url}?job={failed}", width=1440)
    page.wait_for_selector(".jk-card .chip:has-text('Failed')")

    page.keyboard.press("r")

    page.wait_for_selector(".jk-card .chip:has-text('Queued')")
    wait_until(lambda: stage.kit.counts()["queued"] == 1, what="the new job")
    page.click(".row:has-text('New')")
    page.wait_for_selector(".jk-card .chip:has-text('Running')")
    page.keyboard.press("c")
    page.wait_for_selector(".jk-card button:has-text('Cancel job')")
    assert stage.kit.snapshot(running).cancel_requested_at is None
    page.keyboard.press("c")
    wait_until(lambda: stage.kit.snapshot(running).is_cancelling, what="the request")
    page.keyboard.press("/")
    page.keyboard.type("r c")  # these are words now
    wait_until(lambda: page.locator(".search").input_value() == "r c", what="the search")
    assert stage.kit.counts()["queued"] == 1


@pytest.mark.nightly
@pytest.mark.browser
def test_c_on_a_row_asks_before_it_cancels(stage: Stage, url: str, window: Window) -> None:
    job = stage.running("train", title="Train a model")
    page = window.open(url, width=1440)
    page.wait_for_selector(".row[data-face=running]")

    page.keyboard.press("j")
    page.keyboard.press("c")

    page.wait_for_selector(".bulk button.danger:has-text('Cancel 1')")
    assert stage.kit.snapshot(job).cancel_requested_at is None
    page.keyboard.press("Enter")
    wait_until(lambda: stage.kit.snapshot(job).is_cancelling, what="the request")
