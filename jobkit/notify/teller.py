"""`Teller`: from the kept events to those who are told of them.

Of all workers of a namespace one has the duty; where it dies, another goes on after the last event that was told. So
each sink is told of every event at least once, in order. One that refuses is tried again; one that stays away gets each
further event once until it answers, so that it holds up nobody for long.
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
from jobkit.notify.sinks import Refused, Sink, sink_of
from jobkit.settings import Settings

logger = logging.getLogger("jobkit.notify")

#: How long the duty is held without a sign of life, and how often another worker asks for it.
HOLD_S, ASK_S = 15.0, 5.0

#: Waits between the tries of one message, in seconds.
TRIES_S = (1.0, 5.0, 20.0)

#: Events that are read at once.
_SLICE = 100


class Events(Protocol):
    """What a teller needs of the store."""

    async def hold(self, name: str, owner: str, for_s: float) -> bool: ...
    async def mark(self, name: str, value: str) -> None: ...
    async def marked(self, name: str) -> str: ...
    async def last_event_id(self) -> str: ...
    async def events(self, after: str = "", limit: int = 1000) -> list[JobEvent]: ...
    async def news(self, after: str, wait_s: float) -> None: ...
    async def snapshots(self, job_ids: Sequence[str]) -> list[JobSnapshot | None]: ...


class Teller:
    """Tells `sinks` of every event of the store's namespace; `run` until it is cancelled, then `close`.

    Args:
        tries_s: waits between the tries of one message.
    """

    def __init__(self, store: Events, sinks: Sequence[Sink], tries_s: Sequence[float] = TRIES_S) -> None:
        self._store, self._sinks, self._tries_s = store, sinks, tries_s
        self._owner = secrets.token_hex(8)
        self._held_until = 0.0
        self._away: set[str] = set()

    async def begin(self) -> None:
        """From now on, where nobody was ever told of anything in this namespace."""
        with contextlib.suppress(JobkitError):  # `run` waits for the store
            if not await self._store.marked("told"):
                await self._store.mark("told", await self._store.last_event_id())

    async def run(self) -> None:
        while True:
            try:
                if await self._has_duty():
                    await self._tell_some()
                else:
                    await asyncio.sleep(ASK_S)
            except (JobkitError, OSError) as error:
                logger.warning("notifications wait: %s", error)
                await asyncio.sleep(ASK_S)

    async def close(self) -> None:
        """Give the duty back, so that another worker need not wait until its time is over."""
        if self._held_until:
            with contextlib.suppress(JobkitError):
                await self._store.hold("teller", self._owner, 0.001)
        for sink in self._sinks:
            await asyncio.to_thread(sink.close)

    async def _has_duty(self) -> bool:
        if time.monotonic() < self._held_until:
            return True
        has = await self._store.hold("teller", self._owner, HOLD_S)
        self._held_until = time.monotonic() + HOLD_S / 3 if has else 0.0
        return has

    async def _tell_some(self) -> None:
        """Tell of the events that are due, or wait for the next."""
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
                    await asyncio.gather(*(self._tell(sink, event, snapshots[event.job_id]) for sink in wanted))
                    await self._store.mark("told", event.id)
                    if not await self._has_duty():
                        return
        if events:
            await self._store.mark("told", events[-1].id)
        else:
            await self._store.news(last, ASK_S / 2)

    async def _tell(self, sink: Sink, event: JobEvent, snapshot: JobSnapshot) -> None:
        waits = [] if sink.name in self._away else list(self._tries_s)
        while True:
            try:
                await sink.tell(event, snapshot)
            except Refused as refused:
                if refused.may_retry and waits:
                    await asyncio.sleep(waits.pop(0))
                    await self._has_duty()  # a sign of life
                    continue
                if refused.may_retry:
                    self._away.add(sink.name)
                logger.warning("%s is not told that job %s %s: %s", sink.name, event.job_id, event.type, refused)
            except Exception:
                logger.exception("%s is not told that job %s %s", sink.name, event.job_id, event.type)
            else:
                self._away.discard(sink.name)
            return


def teller_of(settings: Settings, store: Any) -> Teller | None:
    """The teller that these settings ask for, or None.

    Raises:
        JobkitError: OpenTelemetry is asked for and is not installed.
    """
    sinks: list[Sink] = [sink_of(rule) for rule in settings.notify]
    if settings.otel:
        from jobkit.notify.otel import Telemetry

        sinks.append(Telemetry(settings.namespace))
    return Teller(store, sinks) if sinks else None
