"""Schedules as users have them: created, changed, paused, run manually, and found again."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Annotated

import pytest

import jobkit
from jobkit.client.kit import Kit
from tests.support import wait_until


@jobkit.task(name="client-scheduled")
def add(a: Annotated[int, jobkit.Range(0, 100)] = 1, b: int = 2) -> int:
    return a + b


@jobkit.task(name="client-length")
def length(text: str) -> int:
    return len(text)


@pytest.fixture(autouse=True)
def _no_schedule_left(kit: Kit):  # type: ignore[no-untyped-def]
    yield
    for schedule in kit.schedules():
        schedule.remove()


def test_a_schedule_runs_its_task_when_its_time_comes(kit: Kit) -> None:
    schedule = kit.schedule(add, {"a": 20, "b": 22}, at=datetime.now(UTC) + timedelta(seconds=0.3))

    is_sync = kit.settings.scheme == "sync"  # without a worker
    [job] = wait_until(lambda: kit.schedules.fire() if is_sync else schedule.jobs(), what="the job")

    assert job.result(60) == 42
    assert job.id.startswith("s")
    [run] = wait_until(
        lambda: [r for r in kit.schedules.get(schedule.id).runs if r.state == "succeeded"], what="its end"
    )
    assert run.job_id == job.id
    assert kit.schedules.get(schedule.id).ended


def test_scheduling_again_changes_the_schedule_instead_of_making_a_second_one(kit: Kit) -> None:
    first = kit.schedule(add, {"a": 1}, cron="0 3 * * *")
    again = kit.schedule(add, {"a": 1}, cron="0 4 * * *", tz="Europe/Berlin")
    other = kit.schedule(add, {"a": 2}, cron="0 3 * * *")
    named = kit.schedule(add, cron="0 3 * * *", name="nightly")

    assert again.id == first.id
    assert first.cron == "0 4 * * *"  # the same handle, or another one that is up to date
    assert first.sentence == "Every day at 04:00 Europe/Berlin"
    assert {schedule.id for schedule in kit.schedules()} == {first.id, other.id, "nightly"}
    assert named.task == "client-scheduled"
    assert first.next_at.utcoffset() in (timedelta(hours=1), timedelta(hours=2))


def test_the_next_times_can_be_read(kit: Kit) -> None:
    schedule = kit.schedule(add, cron="0 */6 * * *", count=3)

    times = schedule.next(5)

    assert len(times) == 3
    assert {b - a for a, b in itertools.pairwise(times)} == {timedelta(hours=6)}
    assert times[0] == schedule.next_at
    with pytest.raises(jobkit.InvalidParams, match="n must be"):
        schedule.next(0)


def test_run_now_returns_the_job_and_does_not_move_the_next_slot(kit: Kit) -> None:
    schedule = kit.schedule(add, {"a": 5}, cron="0 3 1 1 *")
    next_at = schedule.next_at
    schedule.pause()

    assert schedule.run_now().result(60) == 7

    assert schedule.paused
    schedule.resume()
    assert schedule.next_at == next_at
    assert len(wait_until(lambda: kit.schedules.get(schedule.id).runs, what="the run")) == 1


def test_pause_and_resume_update_a_handle_and_its_watchers(kit: Kit) -> None:
    schedule = kit.schedule(add, every=3600)
    seen: list[bool] = []
    schedule.param.watch(lambda event: seen.append(event.new), "paused")

    schedule.pause()
    assert (schedule.paused, schedule.next_at) == (True, None)
    assert schedule.next(2)  # what it would be
    schedule.resume()

    assert not schedule.paused
    wait_until(lambda: seen == [True, False] or seen == [], what="the watcher")


def test_a_handle_shows_changes_by_others(place: dict[str, str], kit: Kit) -> None:
    schedule = kit.schedule(add, every=3600)

    with jobkit.connect(**place) as other:
        other.schedules.get(schedule.id).pause()

    wait_until(lambda: schedule.paused, what="the word of the pause")


def test_a_change_keeps_other_fields(kit: Kit) -> None:
    schedule = kit.schedule(add, {"a": 20, "b": 1}, every=3600, overlap="skip", queue="default", tags=["x"], count=9)

    schedule.change(cron="0 4 * * *", missed="all")

    assert (schedule.cron, schedule.every, schedule.overlap, schedule.missed) == ("0 4 * * *", None, "skip", "all")
    assert schedule.count == 9
    assert schedule.run_now().result(60) == 21
    schedule.change({"a": 30})
    job = schedule.run_now()
    assert job.result(60) == 32
    assert job.tags == ["x"]


def test_a_change_may_make_arguments_large(kit: Kit) -> None:
    schedule = kit.schedule(length, {"text": "abc"}, every=3600)
    assert not schedule.run_now().snapshot.spec.has_parts

    schedule.change({"text": "x" * 3_000_000})

    assert schedule.run_now().result(60) == 3_000_000


def test_any_callable_can_be_scheduled_and_options_are_kept(kit: Kit) -> None:
    factor = 3
    schedule = kit.schedule(lambda x: x * factor, [14], every=3600, name="by-value", priority=7, timeout=60)

    job = schedule.run_now()

    assert job.result(60) == 42
    assert (job.snapshot.spec.priority, job.snapshot.spec.timeout_s) == (7, 60)
    assert job.snapshot.spec.schedule == "by-value"


def test_a_scheduled_job_can_be_retried_and_rerun_like_any_other(kit: Kit) -> None:
    job = kit.schedule(add, {"a": 40}, every=3600).run_now()
    job.result(60)

    assert job.retry().result(60) == 42
    assert job.rerun(b=3).result(60) == 43


def test_errors_are_raised_before_anything_is_stored(kit: Kit) -> None:
    done = kit.submit(add)
    for wrong, says in [
        ({"params": {"a": 1000}, "every": 5}, "a must be"),
        ({"params": {"c": 1}, "every": 5}, "'c'"),
        ({"params": 5, "every": 5}, "a dict by name"),
        ({"cron": "0 0 30 2 *"}, "never fires"),
        ({"every": 5, "delay": 3}, "delay is for one job"),
        ({"every": 5, "missed": "some"}, "missed must be one of once, skip, all"),
        ({"every": 5, "missed_limit": 0}, "missed_limit must be a whole number from 1 to 500"),
        ({"every": 5, "count": 0}, "count must be"),
        ({"every": 5, "name": "a name"}, "name must be 1 to 200 characters"),
        ({"every": 5, "colour": "red"}, "'colour' is no option of a schedule"),
        ({"params": {"a": done}, "every": 5}, "cannot be a job"),
    ]:
        with pytest.raises(jobkit.InvalidParams, match=says):
            kit.schedule(add, **wrong)  # type: ignore[arg-type]
    with pytest.raises(jobkit.UnknownTask):
        kit.schedule("no-such-task", every=5)
    with pytest.raises(jobkit.InvalidParams, match="there is no schedule 'nightl'"):
        kit.schedules.get("nightl")

    assert kit.schedules() == []


def test_the_same_verbs_are_coroutines(kit: Kit) -> None:
    async def use() -> str:
        schedule = await kit.aio.schedule(add, every=3600, name="async")
        await kit.aio.schedules.pause("async")
        assert [each.id for each in await kit.aio.schedules()] == ["async"]
        return repr(schedule)

    assert asyncio.run(use()) == "<Schedule async client-scheduled: Every 1 h; paused>"


def test_a_schedules_html_escapes_its_texts(kit: Kit) -> None:
    schedule = kit.schedule(lambda x: x, ["<script>"], every=3600, name="shown")

    page = schedule._repr_html_()

    assert "Every 1 h" in page
    assert "<script" not in page
    assert page.count("<li>") == 5
