"""HTTP and pages in the store, beside jobs: revoked tokens, the audit log."""

from __future__ import annotations

import msgspec

from jobkit.model.person import NAMED, AuditBounds, AuditEntry
from jobkit.store import wire
from jobkit.store.namespace import StorePart
from jobkit.store.values import checked_stream_id


class WebStore(StorePart):
    """Verbs for tokens of HTTP."""

    async def revoke(self, token_id: str, until_s: float) -> None:
        """Revoke an API token, also on a full server; stored until it would have expired (seconds since the epoch)."""
        await self._ns.run("revoke", [token_id, until_s])

    async def is_revoked(self, token_id: str) -> bool:
        return await self._ns.ask("ZSCORE", "revoked", token_id) is not None


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
