"""Notifications: the people to notify of each job or batch, and messages that wait for their time or their address."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from jobkit.store.namespace import StorePart
from jobkit.store.redis import RedisStore
from jobkit.store.wire import text

#: Seconds that a wish is kept, that the names of people with an address are, and that a held message is.
_WISH_S, REACHABLE_S, _HELD_S = 90 * 86_400, 86_400, 7 * 86_400

#: Messages that wait for one address, at most, and their size in bytes; of more, the newest.
_HELD, _HELD_BYTES = 1000, 10_000_000


class Unsent(msgspec.Struct, frozen=True):
    """State of an address that does not accept its messages, which wait until then.

    Attributes:
        name, why: the address and its last refusal, as in log lines.
        since_ms, due_ms: times of the first refusal and of the next try.
        size: bytes of the messages that were kept since then.
        lost: number of messages that were dropped since then.
    """

    name: str
    why: str
    since_ms: int
    due_ms: int
    tries: int = 1
    size: int = 0
    lost: int = 0


_decoder = msgspec.json.Decoder(Unsent)


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
        """Add a person who will be notified of the end."""
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
        """Delete messages that were sent or given up."""
        await self._ns.ask("ZREM", f"later:{address}", *messages)

    async def keep(self, address: str, state: Unsent, message: bytes, at_ms: int) -> Unsent:
        """Store a message that an address did not accept; return the address's new state, which is stored, too."""
        key = f"later:{address}"
        added, count, _ = await self._ns.many([("ZADD", key, at_ms, message), ("ZCARD", key), ("EXPIRE", key, _HELD_S)])
        size, lost = state.size + len(message) * added, state.lost
        while count > _HELD or (size > _HELD_BYTES and count > 1):
            for oldest in (await self._ns.ask("ZPOPMIN", key, max(1, count - _HELD)))[::2]:
                size, lost, count = max(0, size - len(oldest)), lost + 1, count - 1
        return await self.set_unsent(address, msgspec.structs.replace(state, size=size, lost=lost))

    async def unsent(self) -> dict[str, Unsent]:
        """Return the state of each address that does not accept its messages."""
        found: dict[bytes, bytes] = await self._ns.ask("HGETALL", "unsent")
        read = self._ns.all_readable("unsent", lambda key, raw: (key, _decoder.decode(raw)), found.items())
        return dict(read)

    async def set_unsent(self, address: str, state: Unsent) -> Unsent:
        """Store and return the state of an address."""
        commands = [("HSET", "unsent", address, msgspec.json.encode(state)), ("EXPIRE", "unsent", _HELD_S)]
        await self._ns.many(commands, is_atomic=True)
        return state

    async def forget_unsent(self, addresses: Collection[str]) -> None:
        """Delete the state of addresses: they have accepted what waited, or there is no rule for them any more."""
        await self._ns.ask("HDEL", "unsent", *addresses)


async def read_newest(store: RedisStore) -> None:
    """Read the newest records, which finds damaged ones."""
    await store.part(ToldStore).unsent()
