"""The audit trail on Redis: one bounded stream, `audit`."""

from __future__ import annotations

from functools import partial

import msgspec

from jobkit.model.audit import AuditEntry
from jobkit.store import records
from jobkit.store.redis_part import RedisPart

#: Entries that are kept, about.
AUDIT_KEPT = 10_000


class RedisAudit(RedisPart):
    async def note(self, entry: AuditEntry) -> None:
        with self._reaching():
            await self.redis.xadd(
                f"{self.prefix}audit", {"a": msgspec.json.encode(entry.to_wire())}, maxlen=AUDIT_KEPT, approximate=True
            )

    async def audit(self, limit: int = 100, before: str = "") -> list[AuditEntry]:
        with self._reaching():
            found = await self.redis.xrevrange(
                f"{self.prefix}audit", f"({before}" if before else "+", "-", count=max(1, limit)
            )
        read = [
            records.readable(f"entry {id.decode()} of the audit trail", partial(records.audit_entry, id.decode()), raw)
            for id, raw in found
        ]
        return [entry for entry in read if entry is not None]
