"""The verbs of the store in memory that only HTTP needs: revoked tokens, subscribers. Nothing is published here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from jobkit.model import JobkitError, StoreUnavailable
from jobkit.store.memory_part import MemoryPart


class MemoryWeb(MemoryPart):
    _revoked: dict[str, float]
    _attending: dict[str, tuple[float, bytes]]

    async def revoke(self, token_id: str, until_s: float) -> None:
        self._revoked[token_id] = until_s

    async def is_revoked(self, token_id: str) -> bool:
        return token_id in self._revoked

    async def publish(self, update: bytes, *, is_presence: bool = False) -> str:
        raise JobkitError("sync:// has no hub to publish to; set JOBKIT_URL to a Redis")

    async def updates(self, after: str = "", limit: int = 1000) -> list[tuple[str, bytes]]:
        return []

    async def refused(self) -> StoreUnavailable | None:
        return None

    async def attend(self, records: Mapping[str, bytes], for_s: float) -> dict[str, bytes]:
        now = time.monotonic()
        self._attending |= {id: (now + for_s, record) for id, record in records.items()}
        over = {id: record for id, (until, record) in self._attending.items() if until <= now}
        for id in over:
            del self._attending[id]
        return over

    async def attending(self) -> dict[str, bytes]:
        now = time.monotonic()
        return {id: record for id, (until, record) in self._attending.items() if until > now}

    async def depart(self, ids: Sequence[str]) -> list[bool]:
        return [self._attending.pop(id, None) is not None for id in ids]

    async def hold(self, name: str, owner: str, for_s: float) -> bool:
        return True

    async def marked(self, name: str) -> str:
        return ""

    async def mark(self, name: str, value: str) -> None:
        """Nothing outlives this process."""
