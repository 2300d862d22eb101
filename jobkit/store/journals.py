"""Journals of studies: what their trials are and how they ended, entry by entry; see `lua/verbs/journal.lua`."""

from __future__ import annotations

from collections.abc import Sequence

from jobkit.store.namespace import StorePart


class JournalStore(StorePart):
    """Verbs for journals. The entries are JSON text."""

    async def entries(self, study_id: str, start: int = 0) -> list[bytes]:
        """Return the entries from the one numbered `start` on."""
        found: list[bytes] = await self._ns.ask("LRANGE", f"journal:{study_id}", start, -1)
        return found

    async def append(self, study_id: str, token: str, known: int, entries: Sequence[str]) -> int:
        """Append entries behind the `known` ones; may be repeated.

        Return the number of entries that there are: fewer than `known` if the server has lost some, and then these
        were not appended; -1 if the attempt of the study's job with this token has ended.
        """
        count: int = await self._ns.run("journal", [study_id, token, known, *entries])
        return count
