"""Publishes updates of jobs to an external Mercure hub: `MERCURE_URL` and `MERCURE_JWT`.

One server of a namespace does it; if it dies, another continues after the last update that the hub accepted. So the hub
gets every change of state at least once, in order, and no progress.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import Any
from urllib.parse import urlencode

from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from jobkit.client import Kit
from jobkit.client.loop import background
from jobkit.http.core.messages import to_json
from jobkit.http.core.tail import on_loop
from jobkit.model import EventsExpired, JobEvent, JobkitError
from jobkit.settings import masked
from jobkit.store.hub import void

logger = logging.getLogger("jobkit.http")

#: Seconds that a server holds the duty without renewing it.
HOLD_S = 15.0

#: Seconds between tries while the hub or the store does not answer, or another server holds the duty.
AWAY_S = 2.0


class Forwarder:
    """See the module's docstring; `run` until it is cancelled, on the server's loop."""

    def __init__(self, kit: Kit, public_url: str) -> None:
        self._kit = kit
        self._store: Any = kit.verbs.store
        self._owner = secrets.token_hex(8)
        self._url = kit.settings.mercure_url
        self._base = public_url
        self._held_until = 0.0

    async def run(self) -> None:
        try:
            while True:
                try:
                    if await self._has_duty():
                        await self._forward_some()
                        continue
                except (JobkitError, OSError) as error:
                    logger.warning("updates of jobs wait for %s: %s", masked(self._url), error)
                await asyncio.sleep(AWAY_S)
        finally:
            if self._held_until:  # another server need not wait until our hold expires
                background.spawn(self._store.hold("forwarder", self._owner, 0.001))

    async def _has_duty(self) -> bool:
        if time.monotonic() < self._held_until:
            return True
        has = await on_loop(self._store.hold("forwarder", self._owner, HOLD_S))
        self._held_until = time.monotonic() + HOLD_S / 3 if has else 0.0
        return bool(has)

    async def _forward_some(self) -> None:
        """Publish the next events, or wait up to a second for one."""
        last = await on_loop(self._store.marked("forwarded"))
        if not last:
            last = await on_loop(self._store.last_event_id())
            await on_loop(self._store.mark("forwarded", last))
        try:
            events = await on_loop(self._store.events(last, 100))
        except EventsExpired as expired:
            logger.warning("some updates for %s are lost: %s", masked(self._url), expired)
            await on_loop(self._store.mark("forwarded", "0-0"))
            return
        for event in events:
            if not await self._has_duty():
                return
            await self._publish(event)
            await on_loop(self._store.mark("forwarded", event.id))
        if not events:
            await self._news()

    async def _news(self) -> None:
        """Wait for the next event, at most a second."""
        loop, wake = asyncio.get_running_loop(), asyncio.Event()
        stop = self._kit.hub.listen(lambda _: void(loop.call_soon_threadsafe(wake.set)), None)
        try:
            async with asyncio.timeout(1.0):
                await wake.wait()
        except TimeoutError:
            pass
        finally:
            stop()

    async def _publish(self, event: JobEvent) -> None:
        """Publish an event's job. Raises OSError if the hub does not accept it now."""
        (snapshot,) = await on_loop(self._store.snapshots([event.job_id]))
        if snapshot is None:
            return
        fields = {
            "topic": f"{self._base}/api/jobs/{event.job_id}",
            "data": to_json(snapshot.to_json()).decode(),
            "private": "on",
            "id": f"urn:jobkit:{event.id}",
        }
        request = HTTPRequest(
            self._url,
            "POST",
            headers={
                "Authorization": f"Bearer {self._kit.settings.mercure_jwt}",
                "Content-Type": "application/x-www-form-urlencoded",
            },
            body=urlencode(fields),
            request_timeout=10,
            follow_redirects=False,
        )
        answer = await AsyncHTTPClient().fetch(request, raise_error=False)
        if answer.code >= 500 or answer.code in (401, 403, 408, 429):
            raise ConnectionError(f"it answers {answer.code}")
        if answer.code >= 300:
            logger.warning("the hub refused an update of job %s: %s", event.job_id, answer.code)


async def forward(kit: Kit, public_url: str) -> None:
    """Publish to the external hub until cancelled; returns at once if there is no public URL to make topics from."""
    if not public_url:
        logger.warning("MERCURE_URL is set, but JOBKIT_PUBLIC_URL is not, which topics are made from: nothing is sent")
        return
    await Forwarder(kit, public_url).run()
