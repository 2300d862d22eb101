"""What a store keeps for HTTP: updates, subscribers, refused tokens; part of `jobkit.store.base.Store`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Web(Protocol):
    """The verbs of a store for HTTP's hub and its tokens."""

    async def revoke(self, token_id: str, until_s: float) -> None:
        """Refuse an API token from now on; remembered until it would have ended (seconds since the epoch)."""
        ...

    async def is_revoked(self, token_id: str) -> bool: ...

    async def publish(self, update: bytes, *, is_presence: bool = False) -> str:
        """Keep an update (JSON) for HTTP's subscribers, and wake those who listen to "updates".

        Updates about the subscribers themselves (`is_presence`) have bounds of their own, and push out no others.
        Its id is `ms-n`, where `n // 1_000_000` and `ms` are those of the newest event, behind which it stands.
        """
        ...

    async def updates(self, after: str = "", limit: int = 1000) -> Sequence[tuple[str, bytes]]:
        """Updates of both kinds after an update's id, oldest first."""
        ...

    async def attend(self, records: Mapping[str, bytes], for_s: float) -> dict[str, bytes]:
        """Say that subscribers of HTTP's hub are there, each under an id of its own, for so many seconds.

        Returns the records of those whose time was over, once: they are forgotten with that.
        """
        ...

    async def attending(self) -> dict[str, bytes]:
        """Records of the subscribers that are there, by id; at most 20,000."""
        ...

    async def depart(self, ids: Sequence[str]) -> Sequence[bool]:
        """Forget subscribers; False for one that was not there any more."""
        ...
