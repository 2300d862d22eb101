"""HTTP and pages in the store, beside jobs: updates, subscribers, revoked tokens, the audit log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from jobkit.model.people import NAMED, AuditBounds, AuditEntry
from jobkit.store import wire
from jobkit.store.namespace import StorePart
from jobkit.store.values import checked_stream_id, event_key

#: Approximate bounds of the streams of updates: entries and bytes.
_KEPT = {"updates": (10_000, 32_000_000), "presence": (2_000, 4_000_000)}


class WebStore(StorePart):
    """Verbs for HTTP's hub and its tokens."""

    async def revoke(self, token_id: str, until_s: float) -> None:
        """Revoke an API token, also on a full server; stored until it would have expired (seconds since the epoch)."""
        await self._ns.run("revoke", [token_id, until_s])

    async def is_revoked(self, token_id: str) -> bool:
        return await self._ns.ask("ZSCORE", "revoked", token_id) is not None

    async def publish(self, update: bytes, *, is_presence: bool = False) -> str:
        """Store an update (JSON) for HTTP's subscribers, and notify subscribers of "updates". Return its id.

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
        """Register or renew subscribers of HTTP's hub, by id, for so many seconds.

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


class AuditLog(StorePart):
    """Actions of users: the stream `audit`, bounded by `lua/verbs/note.lua`."""

    #: Other bounds are for tests only.
    bounds = AuditBounds()

    async def note(self, entry: AuditEntry) -> None:
        """Add an entry, within the bounds."""
        bounds = self.bounds
        options = wire.options(
            person=entry.person,
            kind=entry.kind,
            alone=bounds.alone(entry),
            fold_ms=max(1, int(bounds.fold_s * 1000)),
            per_person=bounds.per_person,
            kept=bounds.kept,
            named=NAMED,
        )
        await self._ns.run("note", [msgspec.json.encode(entry.to_wire()), options])

    async def entries(self, limit: int = 100, before: str = "") -> list[AuditEntry]:
        """Return up to `limit` entries, newest first; with `before`, an entry's id, older ones.

        Raises:
            InvalidParams: `before` is not the id of an entry.
        """
        if before and checked_stream_id("before", before) == (0, 0):
            return []  # Redis rejects a range before the first possible id
        found = await self._ns.ask("XREVRANGE", "audit", f"({before}" if before else "+", "-", "COUNT", max(1, limit))
        return self._ns.all_readable("audit", lambda id, raw: AuditEntry.read(id, wire.mapping(raw[b"a"])), found)
