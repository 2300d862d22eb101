"""Schedules with real workers: each slot fires once, whatever happens to workers; schedules in code come and go."""

from __future__ import annotations

import itertools
import os
import signal
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from jobkit.client.kit import Kit
from jobkit.model import JobSnapshot
from jobkit.store.query import Query
from tests.support import wait_until
from tests.worker import jobs
from tests.worker.conftest import Bench

#: Set `JOBKIT_TEST_SLOTS=600` for a longer run.
SLOTS = int(os.environ.get("JOBKIT_TEST_SLOTS", "72"))
EVERY_S = 0.25


def fired(kit: Kit, name: str) -> list[JobSnapshot]:
    """Return every job of a schedule, in any state."""
    found: list[JobSnapshot] = []
    cursor = ""
    while True:
        page = kit.page(Query(limit=1000, cursor=cursor))
        found += [snapshot for snapshot in page.jobs if snapshot.spec.schedule == name]
        cursor = page.next_cursor
        if not cursor:
            return found


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_each_slot_fires_once_while_workers_freeze_die_and_have_wrong_clocks(bench: Bench) -> None:
    """Three workers; one clock is an hour ahead, one an hour behind. Again and again a worker is frozen, or killed and
    replaced. The schedule continues, and at the end each slot has one job."""
    clocks = {"right": "0", "ahead": "3600", "behind": "-3600"}

    def start(name: str):  # type: ignore[no-untyped-def]
        return bench.worker("-t", "tests.worker.skewed", JOBKIT_TEST_SKEW=clocks[name])

    workers = {name: start(name) for name in clocks}
    schedule = bench.kit.schedule(
        jobs.work, [bench.file()], every=EVERY_S, count=SLOTS, missed="all", missed_limit=500, name="each-slot"
    )

    for turn in itertools.count():
        if schedule.ended or bench.kit.schedules.get("each-slot").ended:
            break
        assert turn < 2 * SLOTS, f"the schedule goes on for too long: {schedule.snapshot}"
        name = list(clocks)[turn % 3]
        victim = workers[name]
        if turn % 4 == 3:
            bench.kill(victim)
            workers[name] = start(name)
        else:
            victim.send_signal(signal.SIGSTOP)
            goes_on = partial(_goes_on, bench.kit, bench.kit.schedules.get("each-slot").fired)
            wait_until(goes_on, what="more slots with one worker less")
            victim.send_signal(signal.SIGCONT)

    found = fired(bench.kit, "each-slot")
    slots = sorted(snapshot.spec.slot_ms for snapshot in found)
    assert slots == [slots[0] + n * int(EVERY_S * 1000) for n in range(SLOTS)]
    assert all(bench.kit.get(snapshot.id).wait(60) for snapshot in found)
    states = {bench.kit.snapshot(snapshot.id).state for snapshot in found}
    assert states == {"succeeded"}


def _goes_on(kit: Kit, fired_before: int) -> bool:
    """Wait for more slots, with one worker less."""
    schedule = kit.schedules.get("each-slot")
    return schedule.ended or schedule.fired >= fired_before + 4


def test_missed_slots_run_once_when_a_worker_starts(bench: Bench) -> None:
    schedule = bench.kit.schedule(jobs.work, [bench.file()], every=0.2)
    wait_until(lambda: bench.kit.schedules.get(schedule.id).snapshot.overdue_s > 1, what="slots to be missed")

    bench.worker()

    kept = wait_until(lambda: s if (s := bench.kit.schedules.get(schedule.id).snapshot).fired else None, what="a run")
    schedule.pause()
    missed = next(run for run in kept.runs if run.why)
    assert (missed.why, missed.job_id) == ("missed", "")
    assert missed.count >= 4
    assert wait_until(lambda: bench.notes(), what="the run")


def test_a_worker_is_notified_of_a_schedule_at_once(bench: Bench) -> None:
    """It sleeps while nothing is due, and wakes up for an earlier slot."""
    bench.worker()
    bench.kit.schedule(jobs.work, [bench.file("late")], cron="0 3 1 1 *", name="once-a-year")

    soon = bench.kit.schedule(jobs.work, [bench.file()], at=datetime.now(UTC) + timedelta(seconds=0.3))

    (job,) = wait_until(lambda: bench.kit.schedules.get(soon.id).jobs(), what="the job")
    assert job.result(60) == "done"
    assert bench.notes("late") == []


def test_a_burst_worker_fires_due_schedules_and_ends(bench: Bench) -> None:
    """So cron can serve a schedule by starting a worker sometimes."""
    schedule = bench.kit.schedule(jobs.work, [bench.file()], every=0.2)
    wait_until(lambda: bench.kit.schedules.get(schedule.id).snapshot.overdue_s > 0.5, what="a slot")

    worker = bench.worker("--burst", ready=False)

    assert worker.wait(60) == 0
    assert "end" in bench.notes()
    schedule.remove()


def test_a_schedule_of_another_key_is_skipped_with_the_reason(bench: Bench) -> None:
    """Like a job with such arguments, it is rejected unread."""
    bench.worker(JOBKIT_SECRET="another one")

    schedule = bench.kit.schedule(jobs.work, [bench.file()], at=datetime.now(UTC) + timedelta(seconds=0.2))

    [run] = wait_until(lambda: bench.kit.schedules.get(schedule.id).runs, what="its outcome")
    assert run.job_id == ""
    assert "JOBKIT_SECRET must be the same" in run.why
    assert bench.notes() == []


CODE = '''
import jobkit
from pathlib import Path

@jobkit.task(schedule={schedule})
def tidy(n: int = 3) -> int:
    Path({marker!r}).touch()
    return n

@jobkit.task(schedule="0 3 * * *")
def needs(n: int) -> int:
    """Its schedule cannot work: n must be given."""
    return n
'''


@pytest.mark.nightly
def test_a_schedule_in_code_is_added_changed_and_removed_with_the_code(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bench.folder / "code"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))

    def worker_with(schedule: str, *, fires: bool = False) -> None:
        (folder / "coded_tasks.py").write_text(CODE.format(schedule=schedule, marker=bench.file("tidied")))
        process = bench.worker("-t", "coded_tasks", PYTHONDONTWRITEBYTECODE="1")
        yield_to(bench)
        if fires:
            wait_until(Path(bench.file("tidied")).exists, what="a run of it")
        process.terminate()
        process.wait(60)

    worker_with('"30 4 * * *"')
    [schedule] = bench.kit.schedules()
    assert (schedule.id, schedule.task, schedule.cron) == ("tidy", "tidy", "30 4 * * *")
    assert schedule.snapshot.spec.module == "coded_tasks"
    assert "its schedule is left out" in bench.said()
    schedule.pause()

    worker_with('{"every": 3600, "overlap": "skip"}')
    assert (schedule.every, schedule.overlap) == (3600.0, "skip")
    assert schedule.paused  # a pause is not set by the code

    schedule.change(every=7200)
    worker_with('"30 4 * * *"')
    assert bench.kit.schedules.get("tidy").every == 7200  # a change at run time stays
    schedule.remove()

    worker_with("0.5", fires=True)

    worker_with("None")
    assert bench.kit.schedules() == []


def yield_to(bench: Bench) -> None:
    """Wait until the worker has run a job: by then, it has published its schedules."""
    job = bench.kit.submit(jobs.work, bench.file("exchange"))
    assert job.result(60) == "done"
