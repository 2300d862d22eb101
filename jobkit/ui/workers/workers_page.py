"""`WorkersPage`: workers by host, their jobs, and queues with why they stand still. Live, read once for all sessions.

Heartbeats are no events, so the store is polled every two seconds while the page is open, and soon after a job has
started or ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

from jobkit.client.losses import lost_jobs
from jobkit.model import JobState
from jobkit.store.values import CONTROL
from jobkit.tasks.info import defaults_of
from jobkit.ui.access.actions import PAUSE_ACTIONS
from jobkit.ui.live.component import FeedPage
from jobkit.ui.live.shared_feed import TextFeed
from jobkit.ui.words import assets
from jobkit.ui.workers.pools_view import POOL_ACTIONS
from jobkit.ui.workers.workers_model import LOST, listed_jobs, picture


class WorkersFeed(TextFeed):
    """Polls as well: heartbeats come as no events."""

    CHANNELS = (None, CONTROL)

    async def data(self) -> dict[str, Any]:
        verbs, store = self.kit.verbs, self.kit.verbs.store
        (queues, workers, running), pauses, infos, pools = await asyncio.gather(
            store.overview(), self.kit.aio.paused(), verbs.tasks(), self.kit.aio.pool_infos()
        )
        blocked, loads, lost = await asyncio.gather(
            store.blocked([name for name, numbers in queues.items() if numbers["queued"]]),
            store.loads([worker.id for worker in workers if worker.is_alive]),
            lost_jobs(store, [worker for worker in workers if not worker.is_alive][:LOST]),
        )
        shown = await store.finder.candidates(listed_jobs(running, loads))
        jobs = [one.job for one in shown if one is not None and one.job.state is JobState.RUNNING]
        return picture(workers, queues, jobs, pauses, defaults_of(infos), blocked, loads, pools, lost)


class WorkersPage(FeedPage):
    """Workers and queues; see `picture`."""

    FEED = WorkersFeed
    ACTIONS = ("drain_worker", *PAUSE_ACTIONS, *POOL_ACTIONS)

    def _details(self, action: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        return {"workers": asked.get("workers", "")} if action == "scale_pool" else {}

    _esm = assets.esm("workers")
    _stylesheets: ClassVar[list[str]] = [assets.css("workers")]
