"""Notifications of people: the people to notify of each job or batch, and messages that wait for their time."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from jobkit.store.namespace import StorePart
from jobkit.store.wire import text

#: Seconds that a wish is kept, that the names of people with an address are, and that a held message is.
_WISH_S, REACHABLE_S, _HELD_S = 90 * 86_400, 86_400, 7 * 86_400

#: Messages that wait for one address, at most; of more, the newest.
_HELD = 1000


class ToldStore(StorePart):
    """Verbs for "Tell me" and for held messages. An `id` is that of a job or batch."""

    async def offer(self, people: Collection[str]) -> None:
        """Store the names of people with an address, for a day."""
        await self._ns.many(
            [("DEL", "reachable"), ("SADD", "reachable", *people), ("EXPIRE", "reachable", REACHABLE_S)], is_atomic=True
        )

    async def state(self, id: str, person: str) -> str:
        """Return "told" if this person is notified of the end, "offer" if not yet, "" if they have no address."""
        is_reachable, is_told = await self._ns.many(
            [("SISMEMBER", "reachable", person), ("SISMEMBER", f"tell:{id}", person)]
        )
        return "" if not is_reachable else "told" if is_told else "offer"

    async def want(self, id: str, person: str) -> None:
        """Add a person to notify of the end."""
        await self._ns.many([("SADD", f"tell:{id}", person), ("EXPIRE", f"tell:{id}", _WISH_S)], is_atomic=True)

    async def unwant(self, id: str, person: str) -> None:
        """Remove such a person."""
        await self._ns.ask("SREM", f"tell:{id}", person)

    async def wanted(self, ids: Sequence[str]) -> dict[str, set[str]]:
        """Return the people to notify of the end of each; ids without any are left out."""
        found = await self._ns.many([("SMEMBERS", f"tell:{id}") for id in ids]) if ids else []
        return {id: set(map(text, people)) for id, people in zip(ids, found, strict=True) if people}

    async def done(self, id: str) -> None:
        """Delete the wishes about a job or batch that has ended."""
        await self._ns.ask("DEL", f"tell:{id}")

    async def hold(self, address: str, message: bytes, until_ms: int) -> None:
        """Store a message for an address (any short name of it) until a time."""
        key = f"later:{address}"
        await self._ns.many(
            [("ZADD", key, until_ms, message), ("ZREMRANGEBYRANK", key, 0, -_HELD - 1), ("EXPIRE", key, _HELD_S)],
            is_atomic=True,
        )

    async def held(self, addresses: Sequence[str], now_ms: int) -> dict[str, list[bytes]]:
        """Return messages whose time has come by address; addresses without any are left out."""
        found = await self._ns.many([("ZRANGEBYSCORE", f"later:{address}", "-inf", now_ms) for address in addresses])
        return {address: held for address, held in zip(addresses, found, strict=True) if held}

    async def release(self, address: str, messages: Sequence[bytes]) -> None:
        """Delete messages that were sent."""
        await self._ns.ask("ZREM", f"later:{address}", *messages)
