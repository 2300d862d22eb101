"""Whether anybody needs the server is also asked from notebooks, where an event loop is running already."""

from __future__ import annotations

from jobkit.embedded import ensure_running
from jobkit.embedded.home import Home
from jobkit.embedded.idle import activity
from jobkit.settings import Settings

from .conftest import IDLE_WORKER, wait_until


async def test_activity_can_be_asked_inside_a_running_loop(settings: Settings) -> None:
    ensure_running(settings, worker_command=IDLE_WORKER)

    wait_until(lambda: activity(Home.open(settings.home), ["default"]).is_idle, what="nobody to be connected")
