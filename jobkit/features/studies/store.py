"""Journals of studies in the store."""

from __future__ import annotations

from collections.abc import Sequence

from jobkit.store.namespace import StorePart


class JournalStore(StorePart):
    """Verbs for journals: entries that a running job appends, for its next attempt. They are JSON text."""

    async def entries(self, job_id: str, start: int = 0) -> list[bytes]:
        """Return the entries from the one numbered `start` on."""
        found: list[bytes] = await self._ns.ask("LRANGE", f"journal:{job_id}", start, -1)
        return found

    async def append(self, job_id: str, token: str, known: int, entries: Sequence[str]) -> int:
        """Append entries behind the `known` ones; may be repeated.

        Return the number of entries that there are: fewer than `known` if the server has lost some, and then these
        were not appended; -1 if the attempt with this token has ended.
        """
        count: int = await self._ns.run("journal", [job_id, token, known, *entries])
        return count
