"""Published updates, for all streams of one server: a ring of the newest ones, and the store behind it.

An update follows an event of a job (see `HubStore.publish`), so both have one order: `(ms, n, k)`, with `k` 0 for the
event itself.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Sequence
from itertools import accumulate
from typing import Any

import msgspec

from jobkit.client.kit import Kit
from jobkit.features.mercure.store import HubStore
from jobkit.features.mercure.update import Place, Update
from jobkit.http.core.tail import on_loop
from jobkit.http.messages import to_json
from jobkit.store.values import event_key, parse_stream_id

#: Protocols 0.x and 1.0, for an update that only one of them gets.
OLD, NEW = "old", "new"

#: Updates after one event, as in `lua/verbs/publish.lua`.
ROOM = 1_000_000

#: Events of one millisecond: an id has 64 bits, of which `ROOM` takes a part.
_MOST_EVENTS = 2**64 // ROOM - 1

#: Updates in the ring.
RING = 2_000

#: Characters of all updates in the ring.
RING_SIZE = 16_000_000

#: Updates of one read, and characters of their data.
UPDATES_PAGE, PAGE_SIZE = 200, 256_000


_decode = msgspec.json.Decoder(Update).decode


class Updates:
    """See the module's docstring; for one event loop, see `Tail.shared`."""

    def __init__(self, kit: Kit) -> None:
        self._store: Any = kit.verbs.store
        self._ring: deque[Update] = deque()
        self._size = 0
        self._floor: Place | None = None
        self._version = -1
        self._reading = asyncio.Lock()

    async def after(self, place: Place, version: int) -> Sequence[Update]:
        """Return the next updates after a place, in order, up to the tail's `version`.

        At most `UPDATES_PAGE`, and no more after `PAGE_SIZE` characters, since each slow client may hold one such page.
        """
        async with self._reading:
            if self._floor is None:
                self._floor = place
            if self._version != version:
                async for update in self._all_after(self._ring[-1].place if self._ring else self._floor):
                    self._keep(update)
                self._version = version
        is_here = place >= self._floor
        found = [update for update in self._ring if update.place > place] if is_here else await self._read(place)
        sizes = accumulate(len(update.data) for update in found)
        room = next((n for n, size in enumerate(sizes, 1) if size >= PAGE_SIZE), UPDATES_PAGE)
        return found[: min(room, UPDATES_PAGE)]

    def _keep(self, update: Update) -> None:
        self._ring.append(update)
        self._size += len(update.data)
        while len(self._ring) > RING or self._size > RING_SIZE:
            oldest = self._ring.popleft()
            self._floor, self._size = oldest.place, self._size - len(oldest.data)

    async def newest(self) -> Place:
        """Return the place of the newest kept event or update."""
        place: Place = (*event_key(await on_loop(self._store.last_event_id())), 0)
        # An update follows an event, so only updates that follow the newest event can be newer than it.
        async for update in self._all_after(place):
            place = update.place
        return place

    async def find(self, id: str) -> Place | None:
        """Return the place of the oldest kept update with this id of its publisher, or None."""
        async for update in self._all_after((0, 0, 0)):
            if update.id == id:
                return update.place
        return None

    async def publish(self, update: Update) -> str:
        """Store an update and notify all streams. Returns the id that subscribers see."""
        id = await on_loop(self._store.part(HubStore).publish(to_json(update), is_presence=bool(update.form)))
        return update.id or id_of(_place_of(id))

    async def _all_after(self, place: Place) -> AsyncIterator[Update]:
        while page := await self._read(place):
            for update in page:
                yield update
            place = page[-1].place

    async def _read(self, place: Place) -> list[Update]:
        ms, n, k = place
        found = []
        for id, raw in await on_loop(self._store.part(HubStore).updates(f"{ms}-{n * ROOM + k}", UPDATES_PAGE)):
            update = _decode(raw)
            update.place = _place_of(id)
            update.id = update.id or id_of(update.place)
            found.append(update)
        return found


def _place_of(id: str) -> Place:
    ms, n = event_key(id)
    return ms, n // ROOM, n % ROOM


def id_of(place: Place) -> str:
    """Return the id that subscribers see: a fragment, which publishers must not use."""
    ms, n, k = place
    return f"#{ms}-{n}.{k}" if k else f"#{ms}-{n}"


def place_in(cursor: str) -> Place | None:
    """Return the place of an id that `id_of` made, or one of `/api/events`; None for any other text."""
    text, _, k = cursor.removeprefix("#").partition(".")
    key = parse_stream_id(text if "-" in text else f"{text}-0")
    if key is None or key[1] >= _MOST_EVENTS or not re.fullmatch(r"\d{0,6}", k, re.ASCII):
        return None
    return (*key, int(k or 0))
