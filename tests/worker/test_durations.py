"""Estimated time left of a job without progress, from past runs of its task."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobkit.model import JobSpec, StoreUnavailable
from jobkit.worker.about import Durations
from tests.support import until, wait_until

from . import jobs
from .conftest import Bench


class Kept:
    """Durations in the store."""

    def __init__(self, **known: float) -> None:
        self.known = known
        self.stored: list[dict[str, float]] = []

    async def took(self) -> dict[str, float]:
        return dict(self.known)

    async def publish_took(self, seconds: dict[str, float]) -> None:
        self.stored.append(dict(seconds))


def made(store: Any) -> Durations:
    return Durations(store)


async def test_the_median_of_the_last_runs_counts_and_short_tasks_have_none() -> None:
    store = Kept()
    durations = made(store)
    for seconds in (2.0, 90.0, 3.0):
        durations.add("long", seconds)
    for _ in range(3):
        durations.add("short", 0.01)

    assert durations.typical_s("long") == 3.0
    assert durations.typical_s("short") is durations.typical_s("never") is None
    await durations.store()
    await durations.store()
    assert store.stored == [{"long": 3.0}]
    for _ in range(30):
        durations.add("long", 8.0)
    assert durations.typical_s("long") == 8.0


async def test_jobs_whose_name_says_nothing_of_their_code_have_no_usual_time() -> None:
    store = Kept(cell=23.0)
    durations = made(store)
    cell = JobSpec("a", "cell", is_anonymous=True)

    for _ in range(3):
        durations.add(cell.timed_as, 9.0)

    assert durations.typical_s(cell.timed_as) is None
    await durations.store()
    assert store.stored == []
    assert JobSpec("b", "cell").timed_as == "cell"


async def test_durations_of_earlier_workers_are_used() -> None:
    durations = made(Kept(long=10.0))
    keeping = asyncio.create_task(durations.keep(60))
    await until(lambda: durations.typical_s("long"), "what is stored")
    keeping.cancel()

    assert durations.typical_s("long") == 10.0
    durations.add("long", 2.0)
    assert durations.typical_s("long") == 10.0
    for _ in range(3):
        durations.add("long", 2.0)
    assert durations.typical_s("long") == 2.0


async def test_an_unreachable_store_is_retried() -> None:
    class Away(Kept):
        asked = 0

        async def took(self) -> dict[str, float]:
            self.asked += 1
            if self.asked < 3:
                raise StoreUnavailable("away")
            return {"long": 4.0}

    durations = made(Away())
    keeping = asyncio.create_task(durations.keep(0.001))
    await until(lambda: durations.typical_s("long") == 4.0, "what is stored")
    keeping.cancel()


@pytest.mark.nightly
def test_a_job_without_progress_has_an_eta_from_past_runs_also_after_a_restart(bench: Bench) -> None:
    worker = bench.worker()
    first = bench.kit.submit(jobs.work, bench.file("first"), 1.5)
    bench.started("first")
    assert first.eta is None
    assert first.wait(60)
    worker.terminate()
    worker.wait(60)

    bench.worker()
    job = bench.kit.submit(jobs.work, bench.file(), 60.0)
    left = wait_until(lambda: job.eta, what="an estimate")

    assert 0 < left.total_seconds() < 2
    assert job.progress is None
    wait_until(lambda: job.eta is None, what="the end of the usual time")
    job.cancel()
    assert job.wait(60)
