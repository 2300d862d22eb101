"""The verbs of the store in memory that only the HTTP API needs: tokens that were revoked."""

from __future__ import annotations


class MemoryWeb:
    """A part of `MemoryStore`, which has the rest."""

    _revoked: dict[str, float]

    async def revoke(self, token_id: str, until_s: float) -> None:
        self._revoked[token_id] = until_s

    async def is_revoked(self, token_id: str) -> bool:
        return token_id in self._revoked
