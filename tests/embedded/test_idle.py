"""Detection of an idle server, also from notebooks, in which an event loop is running already."""

from __future__ import annotations

from dataclasses import replace

from jobkit.embedded import ensure_running
from jobkit.embedded.demand import WORKER_CLIENT, activity, server_url
from jobkit.embedded.home import Home
from jobkit.model import JobSpec, ScheduleSpec
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore

from .conftest import IDLE_WORKER, wait_until


async def test_activity_can_be_queried_inside_a_running_loop(settings: Settings) -> None:
    ensure_running(settings, worker_command=IDLE_WORKER)

    wait_until(lambda: activity(Home.open(settings.home), ["default"]).is_idle, what="all connections to close")


async def test_a_schedule_with_a_future_time_keeps_the_server(settings: Settings) -> None:
    ensure_running(settings, worker_command=IDLE_WORKER)
    home = Home.open(settings.home)
    wait_until(lambda: activity(home, ["default"]).is_idle, what="all connections to close")
    store = RedisStore(replace(settings, url=server_url(home, WORKER_CLIENT)))
    try:
        next_ms = await store.now_ms() + 3_600_000
        await store.schedules.put(ScheduleSpec("hourly", JobSpec("", "t"), every_ms=3_600_000), b"", next_ms)
        assert activity(home, ["default"]).waiting == 1

        await store.schedules.pause("hourly")

        assert activity(home, ["default"]).is_idle
    finally:
        await store.close()
