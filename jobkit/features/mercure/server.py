"""Publishes updates of jobs to an external Mercure hub: `MERCURE_URL` and `MERCURE_JWT`.

One server of a namespace does it; if it dies, another continues after the last update that the hub accepted. So the hub
gets every change of state at least once, in order, and no progress.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import repeat
from urllib.parse import urlencode

from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.features.notify.notifier import Notifier
from jobkit.features.notify.sinks import DeliveryRefused, NotificationSink, post
from jobkit.http.messages import to_json
from jobkit.model import JobEvent, JobSnapshot
from jobkit.settings import Settings, masked

logger = logging.getLogger("jobkit.http")

#: Seconds between tries while the hub does not answer.
AWAY_S = 2.0


class HubSink(NotificationSink):
    """An external hub. It gets the job's current JSON for each of its events."""

    def __init__(self, settings: Settings, public_url: str) -> None:
        self._url, self._token, self._base = settings.mercure_url, settings.mercure_jwt, public_url
        self.name = masked(self._url)

    async def deliver(self, event: JobEvent, snapshot: JobSnapshot) -> None:
        fields = {
            "topic": f"{self._base}/api/jobs/{event.job_id}",
            "data": to_json(snapshot.to_json()).decode(),
            "private": "on",
            "id": f"urn:jobkit:{event.id}",
        }
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/x-www-form-urlencoded"}
        try:
            await asyncio.to_thread(post, self._url, urlencode(fields).encode(), headers, retried=(401, 403, 408, 429))
        except DeliveryRefused as refused:
            if refused.may_retry:
                logger.warning("updates of jobs wait for %s: %s", self.name, refused)
            raise


async def run(kit: Kit, public_url: str) -> None:
    """Publish to the external hub until cancelled; returns at once if there is no public URL to make topics from."""
    if not public_url:
        logger.warning("MERCURE_URL is set, but JOBKIT_PUBLIC_URL is not, which topics are made from: nothing is sent")
        return
    sink = HubSink(kit.settings, public_url)
    notifier = Notifier(kit.verbs.store, [sink], lock="forwarder", cursor="forwarded", tries_s=repeat(AWAY_S))
    await asyncio.wrap_future(background.spawn(notifier.run()))
