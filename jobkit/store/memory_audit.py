"""The audit trail in memory."""

from __future__ import annotations

from collections import deque

import msgspec

from jobkit.model.audit import AuditEntry
from jobkit.store.memory_part import MemoryPart
from jobkit.store.values import event_key

#: As in Redis.
AUDIT_KEPT = 10_000


class MemoryAudit(MemoryPart):
    _audit: deque[AuditEntry]

    async def note(self, entry: AuditEntry) -> None:
        msgspec.json.encode(entry.to_wire())  # what Redis could not keep is no entry here either
        last = event_key(self._audit[-1].id) if self._audit else (0, 0)
        ms = int(self._clock() * 1000)
        id = f"{ms}-0" if ms > last[0] else f"{last[0]}-{last[1] + 1}"
        self._audit.append(AuditEntry.from_wire(id, entry.to_wire()))

    async def audit(self, limit: int = 100, before: str = "") -> list[AuditEntry]:
        found = [e for e in reversed(self._audit) if not before or event_key(e.id) < event_key(before)]
        return found[: max(1, limit)]
