"""`Notifier`: delivers the events of a namespace to its sinks: webhooks, commands, OpenTelemetry, MLflow, addresses.

One process of a namespace holds the leader lock. If it dies, another one continues after the last delivered event. So
each sink gets every event at least once, in order. A failed delivery is retried. A sink that stays unreachable gets one
try per event until it answers, so that it does not delay the others for long.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial

from jobkit.model import EventsExpired, JobEvent, JobkitError, JobSnapshot
from jobkit.model.batch import BatchInfo
from jobkit.model.plain import to_ms
from jobkit.notify.addresses import Address, batch_message
from jobkit.notify.sinks import Command, DeliveryRefused, NotificationSink, Webhook
from jobkit.settings import Settings
from jobkit.store.leader import ASK_S, HOLD_S, Leader
from jobkit.store.redis import RedisStore
from jobkit.store.told import REACHABLE_S

logger = logging.getLogger("jobkit.notify")

Send = Callable[[], Awaitable[None]]

#: Seconds between the tries of one message.
TRIES_S = (1.0, 5.0, 20.0, 60.0)

#: Maximum number of events that are read at once.
_SLICE = 100


class Notifier:
    """Delivers every event of the store's namespace to `sinks`, and to people what they asked for by "Tell me".

    Args:
        addresses: sinks that are addresses of people; `sinks` are all others.
        lock, cursor: names of the leader lock and of the mark at the last delivered event.
        tries_s: seconds between the tries of one message; may be endless.
    """

    def __init__(
        self,
        store: RedisStore,
        sinks: Sequence[NotificationSink],
        addresses: Sequence[Address] = (),
        *,
        lock: str = "teller",
        cursor: str = "told",
        tries_s: Iterable[float] = TRIES_S,
    ) -> None:
        self._store, self._sinks = store, [*sinks, *addresses]
        self._leader, self._cursor, self._tries_s = Leader(store, lock), cursor, tries_s
        self._away: set[str] = set()
        # Rules may have the same address, of one person or of several: messages go there once, those of "Tell me" by
        # the rule without events.
        self._personal = sorted(addresses, key=lambda each: bool(each.rule.on))
        self._addresses = {address.key: address for address in reversed(self._personal)}
        self._people = {address.person for address in addresses if address.person}
        self._offered_at = float("-inf")
        self._wanted: dict[str, set[str]] = {}
        """People to notify, by the id of a job or batch of the slice."""
        self._batches: dict[str, BatchInfo] = {}
        """Ended batches among them, by the id of the last job of each."""

    async def begin(self) -> None:
        """Start the cursor at the newest event if this namespace has none yet."""
        with contextlib.suppress(JobkitError):  # `run` waits for the store
            if not await self._store.marked(self._cursor):
                await self._store.mark(self._cursor, await self._store.last_event_id())

    async def run(self) -> None:
        """Deliver until cancelled. Then close the sinks."""
        try:
            await self._leader.run(self._deliver_pending, logger, "notifications wait")
        finally:
            for sink in self._sinks:
                await asyncio.to_thread(sink.close)

    async def _deliver_pending(self) -> None:
        """Deliver pending events and held messages, or wait for new events."""
        if self._people and time.monotonic() > self._offered_at + REACHABLE_S / 24:
            await self._store.told.offer(self._people)
            self._offered_at = time.monotonic()
        if self._addresses:
            await self.deliver_held()
            if not await self._leader.is_leader():
                return
        await self.begin()
        last = await self._store.marked(self._cursor)
        try:
            events = await self._store.events(last, _SLICE)
        except EventsExpired as expired:
            logger.warning("some notifications are lost: %s", expired)
            await self._store.mark(self._cursor, "0-0")
            return
        found = await self._store.snapshots(list(dict.fromkeys(event.job_id for event in events)))
        snapshots = {snapshot.id: snapshot for snapshot in found if snapshot is not None}
        if self._people:
            await self._read_wishes([snapshots[event.job_id] for event in events if event.job_id in snapshots])
        for event in events:
            if (snapshot := snapshots.get(event.job_id)) is not None and (sends := self._sends(event, snapshot)):
                about = f"that job {event.job_id} {event.type}"
                await asyncio.gather(*(self._deliver(sink.name, about, send) for sink, send in sends))
                if not await self._leader.is_leader():  # another worker may deliver this event again
                    return
                if event.type.is_end:
                    await self._drop_wishes(event.job_id)
                await self._store.mark(self._cursor, event.id)
        if events:
            await self._store.mark(self._cursor, events[-1].id)
        else:
            await self._store.news(last, ASK_S / 2)

    async def deliver_held(self) -> None:
        """Send held messages whose time has come. What an address does not accept is dropped."""
        told = self._store.told
        for key, held in (await told.held(list(self._addresses), to_ms(datetime.now(UTC)))).items():
            address = self._addresses[key]
            await self._deliver(address.name, f"of {len(held):,} held events", partial(address.send_held, held))
            if not await self._leader.is_leader():  # another worker may send the rest
                return
            await told.release(key, held)

    async def _read_wishes(self, snapshots: Sequence[JobSnapshot]) -> None:
        """Read the people to notify of the ends of these jobs and of their batches."""
        self._batches = {}
        batch_of = {job.id: job.batch for job in snapshots if job.is_terminal}
        self._wanted = await self._store.told.wanted(list({*batch_of, *batch_of.values()} - {""}))
        wanted = [batch for batch in dict.fromkeys(batch_of.values()) if batch in self._wanted]
        for info in await self._store.batches.infos(wanted) if wanted else ():
            if info is not None and info.state.is_terminal:
                last = next(job_id for job_id in reversed(batch_of) if batch_of[job_id] == info.id)
                self._batches[last] = info

    def _sends(self, event: JobEvent, snapshot: JobSnapshot) -> list[tuple[NotificationSink, Send]]:
        """Return the sinks that get an event, and what sends it."""
        wanting = [sink for sink in self._sinks if sink.wants(event, snapshot)]
        sends: list[tuple[NotificationSink, Send]]
        sends = [(sink, partial(sink.deliver, event, snapshot)) for sink in wanting]
        if event.type.is_end:
            keys = {sink.key for sink in wanting if isinstance(sink, Address)}
            for address in self._wanting(event.job_id):
                if address.key not in keys:
                    sends.append((address, partial(address.deliver, event, snapshot)))
            if (info := self._batches.get(event.job_id)) is not None:
                for address in self._wanting(info.id):
                    sends.append((address, partial(address.tell, batch_message(info, event.id))))
        return sends

    def _wanting(self, id: str) -> Iterable[Address]:
        """Return the addresses of the people to notify of the end of a job or batch, each once."""
        people = self._wanted.get(id, ())
        return {each.key: each for each in reversed(self._personal) if each.person in people}.values()

    async def _drop_wishes(self, job_id: str) -> None:
        """Delete the wishes about a job, and about the batch that ended with it."""
        info = self._batches.get(job_id)
        for ended in (job_id, info.id if info is not None else ""):
            if self._wanted.pop(ended, None):
                await self._store.told.done(ended)

    async def _deliver(self, name: str, about: str, send: Send) -> None:
        """Call `send`, with retries; `about` says in the log what the sink of this name was not notified of."""
        waits = iter(() if name in self._away else self._tries_s)
        while True:
            try:
                await send()
            except DeliveryRefused as refused:
                if refused.may_retry:
                    if (wait := next(waits, None)) is not None:
                        if await self._leads_for(wait):
                            continue
                        return  # another worker delivers it
                    self._away.add(name)
                logger.warning("%s was not notified %s: %s", name, about, refused)
            except Exception:
                logger.exception("%s was not notified %s", name, about)
            else:
                self._away.discard(name)
            return

    async def _leads_for(self, seconds: float) -> bool:
        """Wait, and renew the leader lock meanwhile; return False if another process has it."""
        while seconds > 0:
            step = min(seconds, HOLD_S / 3)
            await asyncio.sleep(step)
            seconds -= step
            if not await self._leader.is_leader():
                return False
        return True


def notifier_of(settings: Settings, store: RedisStore) -> Notifier | None:
    """Return the notifier of these settings, or None. Raises JobkitError: a library of a sink is not installed."""
    sinks: list[NotificationSink] = [
        Command(rule) if rule.command else Webhook(rule) for rule in settings.notify if not rule.to
    ]
    if settings.otel:
        from jobkit.notify.otel import Telemetry

        sinks.append(Telemetry(settings.namespace))
    if settings.mlflow:
        from jobkit.notify.mlflow import MlflowRuns

        sinks.append(MlflowRuns(settings.mlflow, store))
    addresses = [Address(rule, settings, store) for rule in settings.notify if rule.to]
    return Notifier(store, sinks, addresses) if sinks or addresses else None
