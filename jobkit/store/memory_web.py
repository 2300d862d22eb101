"""The verbs of the store in memory that only HTTP needs: tokens that were revoked. Nothing is published here."""

from __future__ import annotations

from jobkit.model import JobkitError


class MemoryWeb:
    """A part of `MemoryStore`, which has the rest."""

    _revoked: dict[str, float]

    async def revoke(self, token_id: str, until_s: float) -> None:
        self._revoked[token_id] = until_s

    async def is_revoked(self, token_id: str) -> bool:
        return token_id in self._revoked

    async def publish(self, update: bytes) -> str:
        raise JobkitError("sync:// has no hub to publish to; set JOBKIT_URL to a Redis")

    async def updates(self, after: str = "", limit: int = 1000) -> list[tuple[str, bytes]]:
        return []

    async def hold(self, name: str, owner: str, for_s: float) -> bool:
        return True

    async def marked(self, name: str) -> str:
        return ""

    async def mark(self, name: str, value: str) -> None:
        """Nothing outlives this process."""
