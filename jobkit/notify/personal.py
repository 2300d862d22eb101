"""`PersonalNotifier`: also tells people what they have asked for by "Tell me", and what was held for later."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial

from jobkit.model import JobEvent, JobSnapshot
from jobkit.model.batch import BatchInfo
from jobkit.model.plain import to_ms
from jobkit.notify.addresses import Address, batch_message
from jobkit.notify.notifier import TRIES_S, NotificationSink, Notifier, Send
from jobkit.store.redis import RedisStore
from jobkit.store.told import REACHABLE_S


class PersonalNotifier(Notifier):
    """A notifier with addresses. `sinks`: all others."""

    def __init__(
        self,
        store: RedisStore,
        sinks: Sequence[NotificationSink],
        addresses: Sequence[Address],
        *,
        tries_s: Iterable[float] = TRIES_S,
    ) -> None:
        super().__init__(store, [*sinks, *addresses], tries_s=tries_s)
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

    async def _deliver_pending(self) -> None:
        if self._people and time.monotonic() > self._offered_at + REACHABLE_S / 24:
            await self._store.told.offer(self._people)
            self._offered_at = time.monotonic()
        await self.deliver_held()
        if await self._leader.is_leader():
            await super()._deliver_pending()

    async def deliver_held(self) -> None:
        """Send held messages whose time has come. What an address does not accept is dropped."""
        told = self._store.told
        for key, held in (await told.held(list(self._addresses), to_ms(datetime.now(UTC)))).items():
            address = self._addresses[key]
            await self._deliver(address.name, f"of {len(held):,} held events", partial(address.send_held, held))
            if not await self._leader.is_leader():  # another worker may send the rest
                return
            await told.release(key, held)

    async def _begin_slice(self, snapshots: Sequence[JobSnapshot]) -> None:
        self._batches = {}
        if not self._people:
            return
        batch_of = {job.id: job.batch for job in snapshots if job.is_terminal}
        self._wanted = await self._store.told.wanted(list({*batch_of, *batch_of.values()} - {""}))
        wanted = [batch for batch in dict.fromkeys(batch_of.values()) if batch in self._wanted]
        for info in await self._store.batches.infos(wanted) if wanted else ():
            if info is not None and info.state.is_terminal:
                last = next(job_id for job_id in reversed(batch_of) if batch_of[job_id] == info.id)
                self._batches[last] = info

    def _sends(self, event: JobEvent, snapshot: JobSnapshot) -> list[tuple[NotificationSink, Send]]:
        sends = super()._sends(event, snapshot)
        if event.type.is_end:
            keys = {sink.key for sink, _ in sends if isinstance(sink, Address)}
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

    async def _end_event(self, event: JobEvent) -> None:
        if event.type.is_end:
            info = self._batches.get(event.job_id)
            for ended in (event.job_id, info.id if info is not None else ""):
                if self._wanted.pop(ended, None):
                    await self._store.told.done(ended)
