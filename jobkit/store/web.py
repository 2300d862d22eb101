"""Verbs of the store for HTTP: updates, subscribers, revoked tokens; part of `jobkit.store.base.Store`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Web(Protocol):
    """The verbs of a store for HTTP's hub and its tokens."""

    async def revoke(self, token_id: str, until_s: float) -> None:
        """Revoke an API token; stored until it would have expired (seconds since the epoch)."""
        ...

    async def is_revoked(self, token_id: str) -> bool: ...

    async def publish(self, update: bytes, *, is_presence: bool = False) -> str:
        """Store an update (JSON) for HTTP's subscribers, and notify subscribers of "updates".

        Updates about the subscribers themselves (`is_presence`) have separate bounds and evict no others. The id is
        `ms-n`, where `ms` and `n // 1_000_000` are those of the newest event, which precedes it.
        """
        ...

    async def updates(self, after: str = "", limit: int = 1000) -> Sequence[tuple[str, bytes]]:
        """Return updates of both kinds after an update's id, oldest first."""
        ...

    async def attend(self, records: Mapping[str, bytes], for_s: float) -> dict[str, bytes]:
        """Register or renew subscribers of HTTP's hub, by id, for so many seconds.

        Return the records of expired subscribers, once: they are then deleted.
        """
        ...

    async def attending(self) -> dict[str, bytes]:
        """Return the records of current subscribers by id; at most 20,000."""
        ...

    async def depart(self, ids: Sequence[str]) -> Sequence[bool]:
        """Remove subscribers; False for unknown ones."""
        ...
