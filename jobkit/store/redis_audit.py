"""The audit log on Redis: the stream `audit`, bounded by `lua/verbs/note.lua`."""

from __future__ import annotations

from functools import partial

import msgspec

from jobkit.model.audit import NAMED, AuditBounds, AuditEntry
from jobkit.store import records
from jobkit.store.redis_part import RedisPart
from jobkit.store.values import checked_stream_id


class RedisAudit(RedisPart):
    #: Other bounds are for tests only.
    audit_bounds = AuditBounds()

    async def note(self, entry: AuditEntry) -> None:
        bounds = self.audit_bounds
        wire = msgspec.json.encode(entry.to_wire())
        fold_ms = max(1, int(bounds.fold_s * 1000))
        options = {
            "person": entry.person,
            "kind": entry.kind,
            "alone": bounds.alone(entry),
            "fold_ms": fold_ms,
            "per_person": bounds.per_person,
            "kept": bounds.kept,
            "named": NAMED,
        }
        with self._reaching():
            await self.functions.run("note", [wire, msgspec.json.encode(options)])

    async def audit(self, limit: int = 100, before: str = "") -> list[AuditEntry]:
        if before and checked_stream_id("before", before) == (0, 0):
            return []  # Redis rejects a range before the first possible id
        with self._reaching():
            found = await self.redis.xrevrange(
                f"{self.prefix}audit", f"({before}" if before else "+", "-", count=max(1, limit)
            )
        read = [
            records.readable(f"entry {id.decode()} of the audit trail", partial(records.audit_entry, id.decode()), raw)
            for id, raw in found
        ]
        return [entry for entry in read if entry is not None]
