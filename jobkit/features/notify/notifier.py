"""`Notifier`: delivers the events of a namespace to its sinks: webhooks, commands, OpenTelemetry, MLflow, addresses.

One process of a namespace holds the leader lock. If it dies, another one continues after the last delivered event. So
each sink gets every event at least once, in order. Messages that a webhook or an address does not accept are kept in
the store and repeated for a day, with growing pauses. The other sinks get some tries, and while they stay unreachable
one per event, so that they do not delay the others for long.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial

import msgspec

from jobkit.features import modules
from jobkit.features.notify.addresses import Address, message_of
from jobkit.features.notify.sinks import DeliveryRefused, KeptSink, NotificationSink
from jobkit.features.notify.store import REACHABLE_S, ToldStore, Unsent
from jobkit.model import EventsExpired, JobEvent, JobkitError, JobSnapshot, JobState
from jobkit.model.plain import to_ms
from jobkit.store.leader import ASK_S, HOLD_S, Leader
from jobkit.store.redis import RedisStore

logger = logging.getLogger("jobkit.notify")

Send = Callable[[], Awaitable[None]]

#: Seconds between the tries of one message that is not kept.
TRIES_S = (1.0, 5.0, 20.0, 60.0)

#: Seconds for which messages that were not accepted are repeated, and the longest pause between two tries.
KEPT_S, LONGEST_PAUSE_S = 86_400.0, 900.0

#: Maximum number of events that are read at once.
_SLICE = 100

#: Seconds for which kept messages are sent to one address before others get theirs.
_REPEAT_S = 5.0


def pause_s(tries: int) -> float:
    """Return the seconds until an address that has refused `tries` (>= 1) in a row is tried again: 1, 2, ..., 900."""
    return min(LONGEST_PAUSE_S, 2.0 ** min(tries - 1, 20))


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _events(count: int) -> str:
    return f"{count:,} event{'s' * (count != 1)}"


class Notifier:
    """Delivers every event of the store's namespace to `sinks`, and to people what they asked for by "Tell me".

    Args:
        addresses: sinks that are addresses of people; `sinks` are all others.
        lock, cursor: names of the leader lock and of the mark at the last delivered event.
        tries_s: seconds between the tries of one message that is not kept; may be endless.
        now: clock of the messages that are kept.
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
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._store, self._told, self._sinks = store, store.part(ToldStore), [*sinks, *addresses]
        self._leader, self._cursor, self._tries_s = Leader(store, lock), cursor, tries_s
        self._away: set[str] = set()
        # Rules may have the same address, of one person or of several: messages go there once, those of "Tell me" by
        # the rule without events.
        self._personal = sorted(addresses, key=lambda each: bool(each.rule.on))
        every = [*self._sinks, *reversed(self._personal)]
        self._keepers = {sink.key: sink for sink in every if isinstance(sink, KeptSink)}
        """Sinks whose messages may wait in the store, by the key of their address."""
        self._unsent: dict[str, Unsent] = {}
        """States of addresses that did not accept their last message."""
        self._now, self._kept_ms = now, 0
        self._people = {address.person for address in addresses if address.person}
        self._offered_at = float("-inf")
        self._wanted: dict[str, set[str]] = {}
        """People to notify, by the id of a job of the slice, or of a group of jobs."""
        self._groups: dict[str, dict[str, tuple[str, JobState]]] = {}
        """Groups that have ended, by the id of the last job of each: sentences and states by their ids."""

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
            await self._told.offer(self._people)
            self._offered_at = time.monotonic()
        if self._keepers:
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
                await asyncio.gather(*(send() for send in sends))
                if not await self._leader.is_leader():  # another worker may deliver this event again
                    return
                if event.type.is_end:
                    await self._drop_wishes(event.job_id)
                await self._store.mark(self._cursor, event.id)
        if events:
            await self._store.mark(self._cursor, events[-1].id)
        else:
            now_ms = to_ms(self._now())
            pauses = [(state.due_ms - now_ms) / 1000 for state in self._unsent.values() if state.due_ms > now_ms]
            await self._store.news(last, min([ASK_S / 2, *pauses]))

    async def deliver_held(self) -> None:
        """Send messages whose time has come, and repeat those that were not accepted."""
        told, now_ms = self._told, to_ms(self._now())
        self._unsent = await told.unsent()
        if former := self._unsent.keys() - self._keepers.keys():
            await told.forget_unsent(former)
            self._unsent = {key: state for key, state in self._unsent.items() if key not in former}
        due = [key for key in self._keepers if key not in self._unsent or self._unsent[key].due_ms <= now_ms]
        # `_kept_ms` may be some milliseconds in the future.
        for key, held in (await told.held(due, max(now_ms, self._kept_ms))).items():
            sink, until = self._keepers[key], time.monotonic() + _REPEAT_S
            while held and time.monotonic() < until:
                part = held if sink.joins else held[:1]
                refused = await self._send(sink, part)
                if not await self._leader.is_leader():  # another worker may send the rest
                    return
                if refused is not None:
                    await self._repeat_later(sink, refused)
                    break
                await told.release(key, part)
                held = held[len(part) :]
            if not held and (state := self._unsent.pop(key, None)) is not None:
                await told.forget_unsent([key])
                lost = f"; {_events(state.lost)} were lost" if state.lost else ""
                logger.info("%s accepts notifications again%s", sink.name, lost)

    async def _hand_over(self, sink: KeptSink, message: bytes) -> None:
        """Send a message, or keep it in the store: until its time, or until its address accepts it."""
        now = self._now()
        if (until := sink.rule.times.until(now)) > now:
            await self._told.hold(sink.key, message, to_ms(until))
            return
        if sink.key not in self._unsent:  # else after those that wait
            if (refused := await self._send(sink, [message])) is None:
                return
            await self._repeat_later(sink, refused)
        # Messages of one time would lose their order.
        self._kept_ms = max(to_ms(now), self._kept_ms + 1)
        state, before = self._unsent[sink.key], self._unsent[sink.key].lost
        state = self._unsent[sink.key] = await self._told.keep(sink.key, state, message, self._kept_ms)
        if state.lost > before == 0:
            logger.warning("too many notifications wait for %s: the oldest are dropped", sink.name)

    async def _send(self, sink: KeptSink, messages: Sequence[bytes]) -> DeliveryRefused | None:
        """Send messages; return why they must be repeated, None if they were accepted or refused for good."""
        try:
            await sink.send(messages)
        except DeliveryRefused as refused:
            if refused.may_retry:
                return refused
            logger.warning("%s was not notified of %s: %s", sink.name, _events(len(messages)), refused)
        except Exception:
            logger.exception("%s was not notified of %s", sink.name, _events(len(messages)))
        return None

    async def _repeat_later(self, sink: KeptSink, refused: DeliveryRefused) -> None:
        """Note that an address did not accept a message, and give up those that have waited for a day."""
        told, now_ms, state = self._told, to_ms(self._now()), self._unsent.get(sink.key)
        if state is None:
            state = Unsent(sink.name, str(refused), now_ms, now_ms + int(pause_s(1) * 1000))
            text = "%s does not accept notifications: %s; they are kept and repeated for a day"
            logger.warning(text, sink.name, refused)
        else:
            due_ms = now_ms + int(pause_s(state.tries + 1) * 1000)
            state = msgspec.structs.replace(state, why=str(refused), tries=state.tries + 1, due_ms=due_ms)
        until_ms = now_ms - int(KEPT_S * 1000)
        if state.since_ms <= until_ms and (old := (await told.held([sink.key], until_ms)).get(sink.key)):
            await told.release(sink.key, old)
            size = max(0, state.size - sum(map(len, old)))
            state = msgspec.structs.replace(state, size=size, lost=state.lost + len(old))
            logger.warning("%s was not notified of %s within a day: %s", sink.name, _events(len(old)), refused)
        self._unsent[sink.key] = await told.set_unsent(sink.key, state)

    async def _read_wishes(self, snapshots: Sequence[JobSnapshot]) -> None:
        """Read the people to notify of the ends of these jobs and of their groups."""
        self._groups = {}
        jobs = [job for job in snapshots if job.is_terminal]
        groups = [(told, {told.of(job): job.id for job in jobs}) for told in modules("told")]  # with their last jobs
        ids = {job.id for job in jobs}.union(*(last for _, last in groups)) - {""}
        self._wanted = await self._told.wanted(list(ids))
        for told, last in groups:
            if wanted := [group for group in last if group in self._wanted]:
                for group, end in (await told.ended(self._store, wanted)).items():
                    self._groups.setdefault(last[group], {})[group] = end

    def _sends(self, event: JobEvent, snapshot: JobSnapshot) -> list[Send]:
        """Return what sends an event to each sink that gets it."""
        about = f"that job {event.job_id} {event.type}"
        wanting = [sink for sink in self._sinks if sink.wants(event, snapshot)]
        keepers = {sink.key: sink for sink in reversed(wanting) if isinstance(sink, KeptSink)}
        sends: list[Send] = [
            partial(self._deliver, sink.name, about, partial(sink.deliver, event, snapshot))
            for sink in wanting
            if not isinstance(sink, KeptSink)
        ]
        if event.type.is_end:
            keepers |= {each.key: each for each in self._wanting(event.job_id) if each.key not in keepers}
            for group, (text, state) in self._groups.get(event.job_id, {}).items():
                message = message_of(event.id, text, state)
                sends += [partial(self._hand_over, address, message) for address in self._wanting(group)]
        ends = [partial(self._hand_over, sink, sink.message(event, snapshot)) for sink in keepers.values()]
        return [*ends, *sends]

    def _wanting(self, id: str) -> Iterable[Address]:
        """Return the addresses of the people to notify of the end of a job or group, each once."""
        people = self._wanted.get(id, ())
        return {each.key: each for each in reversed(self._personal) if each.person in people}.values()

    async def _drop_wishes(self, job_id: str) -> None:
        """Delete the wishes about a job, and about the groups that ended with it."""
        for ended in (job_id, *self._groups.get(job_id, ())):
            if self._wanted.pop(ended, None):
                await self._told.done(ended)

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
