"""The hub in the store: updates and subscribers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobkit.store import wire
from jobkit.store.namespace import StorePart
from jobkit.store.values import event_key

#: Approximate bounds of the streams of updates: entries and bytes.
_KEPT = {"updates": (10_000, 32_000_000), "presence": (2_000, 4_000_000)}


class HubStore(StorePart):
    """Verbs for the hub."""

    async def publish(self, update: bytes, *, is_presence: bool = False) -> str:
        """Store an update (JSON) for subscribers, and notify subscribers of "updates". Return its id.

        Updates about the subscribers themselves (`is_presence`) have separate bounds and evict no others. The id is
        `ms-n`, where `ms` and `n // 1_000_000` are those of the newest event, which precedes it.
        """
        stream = "presence" if is_presence else "updates"
        kept, kept_bytes = _KEPT[stream]
        options = wire.options(stream=stream, kept=kept, kept_bytes=kept_bytes)
        id: bytes = await self._ns.run("publish", [update, options])
        return id.decode()

    async def updates(self, after: str = "", limit: int = 1000) -> list[tuple[str, bytes]]:
        """Return updates of both kinds after an update's id, oldest first."""
        start = f"({after}" if after else "-"
        pages = await self._ns.many(
            [("XRANGE", stream, start, "+", "COUNT", limit) for stream in _KEPT], is_atomic=True
        )
        found = [
            pair
            for stream, page in zip(_KEPT, pages, strict=True)
            for pair in self._ns.all_readable(stream, lambda id, entry: (id, entry[b"u"]), page)
        ]
        return sorted(found, key=lambda pair: event_key(pair[0]))[:limit]

    async def attend(self, records: Mapping[str, bytes], for_s: float) -> dict[str, bytes]:
        """Register or renew subscribers of the hub, by id, for so many seconds.

        Return the records of expired subscribers, once: they are then deleted.
        """
        given = [part for pair in records.items() for part in pair]
        left = await self._ns.run("attend", [int(for_s * 1000), *given])
        return {wire.text(id): record for id, record in zip(left[::2], left[1::2], strict=True)}

    async def attending(self) -> dict[str, bytes]:
        """Return the records of current subscribers by id; at most 20,000."""
        alive = ("ZRANGEBYSCORE", "subs:ends", f"({await self._ns.now_ms()}", "+inf", "LIMIT", 0, 20_000)
        records, ids = await self._ns.many([("HGETALL", "subs"), alive], is_atomic=True)
        return {wire.text(id): records[id] for id in ids if id in records}

    async def depart(self, ids: Sequence[str]) -> list[bool]:
        """Remove subscribers; False for unknown ones."""
        if not ids:
            return []
        *removed, _ = await self._ns.many(
            [*(("ZREM", "subs:ends", id) for id in ids), ("HDEL", "subs", *ids)], is_atomic=True
        )
        return [bool(reply) for reply in removed]
