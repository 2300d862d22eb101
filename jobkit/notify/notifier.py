"""`Notifier`: delivers the events of a namespace to its sinks.

One worker of a namespace holds the leader lock. If it dies, another one continues after the last delivered event. So
each sink gets every event at least once, in order. A failed delivery is retried. A sink that stays unreachable gets one
try per event until it answers, so that it does not delay the others for long.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Sequence
from typing import Any, Protocol

from jobkit.model import EventsExpired, JobEvent, JobkitError, JobSnapshot
from jobkit.notify.sinks import DeliveryRefused, NotificationSink, sink_of
from jobkit.settings import Settings

logger = logging.getLogger("jobkit.notify")

#: Seconds until the leader lock expires without renewal, and interval at which other workers try to acquire it.
HOLD_S, ASK_S = 15.0, 5.0

#: Seconds between the tries of one message.
TRIES_S = (1.0, 5.0, 20.0)

#: Maximum number of events that are read at once.
_SLICE = 100


class Events(Protocol):
    """The methods of the store that a notifier uses."""

    async def hold(self, name: str, owner: str, for_s: float) -> bool: ...
    async def mark(self, name: str, value: str) -> None: ...
    async def marked(self, name: str) -> str: ...
    async def last_event_id(self) -> str: ...
    async def events(self, after: str = "", limit: int = 1000) -> list[JobEvent]: ...
    async def news(self, after: str, wait_s: float) -> None: ...
    async def snapshots(self, job_ids: Sequence[str]) -> list[JobSnapshot | None]: ...


class Notifier:
    """Delivers every event of the store's namespace to `sinks`: `run` until it is cancelled, then `close`.

    Args:
        tries_s: seconds between the tries of one message.
    """

    def __init__(self, store: Events, sinks: Sequence[NotificationSink], tries_s: Sequence[float] = TRIES_S) -> None:
        self._store, self._sinks, self._tries_s = store, sinks, tries_s
        self._owner = secrets.token_hex(8)
        self._leads_until = 0.0
        self._away: set[str] = set()

    async def begin(self) -> None:
        """Start the cursor at the newest event if this namespace has none yet."""
        with contextlib.suppress(JobkitError):  # `run` waits for the store
            if not await self._store.marked("told"):
                await self._store.mark("told", await self._store.last_event_id())

    async def run(self) -> None:
        while True:
            try:
                if await self._is_leader():
                    await self._deliver_pending()
                else:
                    await asyncio.sleep(ASK_S)
            except (JobkitError, OSError) as error:
                logger.warning("notifications wait: %s", error)
                await asyncio.sleep(ASK_S)

    async def close(self) -> None:
        """Release the leader lock, so that another worker need not wait until it expires; close the sinks."""
        if self._leads_until:
            with contextlib.suppress(JobkitError):
                await self._store.hold("teller", self._owner, 0.001)
        for sink in self._sinks:
            await asyncio.to_thread(sink.close)

    async def _is_leader(self) -> bool:
        if time.monotonic() < self._leads_until:
            return True
        has = await self._store.hold("teller", self._owner, HOLD_S)
        self._leads_until = time.monotonic() + HOLD_S / 3 if has else 0.0
        return has

    async def _deliver_pending(self) -> None:
        """Deliver pending events, or wait for new ones."""
        await self.begin()
        last = await self._store.marked("told")
        try:
            events = await self._store.events(last, _SLICE)
        except EventsExpired as expired:
            logger.warning("some notifications are lost: %s", expired)
            await self._store.mark("told", "0-0")
            return
        found = await self._store.snapshots(list(dict.fromkeys(event.job_id for event in events)))
        snapshots = {snapshot.id: snapshot for snapshot in found if snapshot is not None}
        for event in events:
            if event.job_id in snapshots:
                wanted = [sink for sink in self._sinks if sink.wants(event, snapshots[event.job_id])]
                if wanted:
                    await asyncio.gather(*(self._deliver(sink, event, snapshots[event.job_id]) for sink in wanted))
                    await self._store.mark("told", event.id)
                    if not await self._is_leader():
                        return
        if events:
            await self._store.mark("told", events[-1].id)
        else:
            await self._store.news(last, ASK_S / 2)

    async def _deliver(self, sink: NotificationSink, event: JobEvent, snapshot: JobSnapshot) -> None:
        waits = [] if sink.name in self._away else list(self._tries_s)
        while True:
            try:
                await sink.deliver(event, snapshot)
            except DeliveryRefused as refused:
                if refused.may_retry and waits:
                    await asyncio.sleep(waits.pop(0))
                    await self._is_leader()  # renews the leader lock
                    continue
                if refused.may_retry:
                    self._away.add(sink.name)
                logger.warning("%s was not notified that job %s %s: %s", sink.name, event.job_id, event.type, refused)
            except Exception:
                logger.exception("%s was not notified that job %s %s", sink.name, event.job_id, event.type)
            else:
                self._away.discard(sink.name)
            return


def notifier_of(settings: Settings, store: Any) -> Notifier | None:
    """Return the notifier that these settings configure, or None.

    Raises:
        JobkitError: OpenTelemetry is configured but not installed.
    """
    sinks: list[NotificationSink] = [sink_of(rule) for rule in settings.notify]
    if settings.otel:
        from jobkit.notify.otel import Telemetry

        sinks.append(Telemetry(settings.namespace))
    return Notifier(store, sinks) if sinks else None
