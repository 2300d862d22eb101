"""The audit trail in memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import msgspec

from jobkit.model.audit import AuditBounds, AuditEntry
from jobkit.store.memory_part import MemoryPart
from jobkit.store.values import checked_stream_id, event_key


class MemoryAudit(MemoryPart):
    #: Other bounds only in tests.
    audit_bounds = AuditBounds()

    _audit: dict[str, AuditEntry]
    _audit_last: tuple[int, int]
    _audit_kinds: dict[str, tuple[int, str, float]]

    async def note(self, entry: AuditEntry) -> None:
        msgspec.json.encode(entry.to_wire())  # what Redis could not keep is no entry here either
        with self._lock:
            self._add(entry)
            self._keep_bounds(entry.person)

    def _add(self, entry: AuditEntry) -> None:
        """The entry, or one in the place of the last of its kind; as in `lua/note.lua`."""
        now = self._clock()
        n, last, until = self._audit_kinds.get(entry.kind, (0, "", 0.0))
        if now >= until:
            n, last, until = 0, "", now + self.audit_bounds.fold_s
        if n >= self.audit_bounds.alone(entry) and last in self._audit:
            entry = self._audit.pop(last).folded(entry)
        ms, newest = int(now * 1000), self._audit_last
        self._audit_last = (ms, 0) if ms > newest[0] else (newest[0], newest[1] + 1)
        id = "{}-{}".format(*self._audit_last)
        wire = AuditEntry.from_wire(id, entry.to_wire())
        self._audit[id] = replace(wire, since=entry.since)
        self._audit_kinds[entry.kind] = n + 1, id, until

    def _keep_bounds(self, person: str) -> None:
        held = Counter(entry.person for entry in self._audit.values())
        if held[person] > self.audit_bounds.per_person:
            self._drop_oldest(person)
        elif len(self._audit) > self.audit_bounds.kept:
            self._drop_oldest(held.most_common(1)[0][0])

    def _drop_oldest(self, person: str) -> None:
        del self._audit[next(id for id, entry in self._audit.items() if entry.person == person)]

    async def audit(self, limit: int = 100, before: str = "") -> list[AuditEntry]:
        below = checked_stream_id("before", before) if before else None
        found = [entry for id, entry in reversed(self._audit.items()) if below is None or event_key(id) < below]
        return found[: max(1, limit)]
