"""Detection of an idle server, also from notebooks, in which an event loop is running already."""

from __future__ import annotations

from dataclasses import replace

from jobkit.embedded import ensure_running
from jobkit.embedded.home import Home
from jobkit.embedded.launch import WORKER_CLIENT, open_jobs, other_clients, server_url
from jobkit.features.schedules.model import ScheduleSpec
from jobkit.features.schedules.store import ScheduleStore
from jobkit.model import JobSpec
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore

from .conftest import IDLE_WORKER, wait_until


async def test_jobs_can_be_counted_inside_a_running_loop(settings: Settings) -> None:
    ensure_running(settings, worker_command=IDLE_WORKER)
    home = Home.open(settings.home)

    assert open_jobs(home, ["default"]) == (0, 0)
    wait_until(lambda: not other_clients(home), what="all connections to close")


async def test_a_schedule_with_a_future_time_keeps_the_server(settings: Settings) -> None:
    ensure_running(settings, worker_command=IDLE_WORKER)
    home = Home.open(settings.home)
    store = RedisStore(replace(settings, url=server_url(home, WORKER_CLIENT)))
    try:
        next_ms = await store.now_ms() + 3_600_000
        await store.part(ScheduleStore).put(ScheduleSpec("hourly", JobSpec("", "t"), every_ms=3_600_000), b"", next_ms)
        assert open_jobs(home, ["default"]) == (1, 0)

        await store.part(ScheduleStore).pause("hourly")

        assert open_jobs(home, ["default"]) == (0, 0)
    finally:
        await store.close()
