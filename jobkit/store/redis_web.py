"""The verbs of the store on Redis for HTTP and notifications: revoked tokens, updates, leader locks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from jobkit.store.redis_part import RedisPart
from jobkit.store.values import event_key

#: Approximate bounds of the streams of updates: entries and bytes.
_KEPT = {"updates": (10_000, 32_000_000), "presence": (2_000, 4_000_000)}


class RedisWeb(RedisPart):
    async def revoke(self, token_id: str, until_s: float) -> None:
        with self._reaching():
            pipe = self.redis.pipeline(transaction=False)
            pipe.zremrangebyscore(f"{self.prefix}revoked", 0, time.time() - 3600)
            pipe.zadd(f"{self.prefix}revoked", {token_id: until_s})
            await pipe.execute()

    async def is_revoked(self, token_id: str) -> bool:
        with self._reaching():
            score: Any = await self.redis.zscore(f"{self.prefix}revoked", token_id)
        return score is not None

    async def publish(self, update: bytes, *, is_presence: bool = False) -> str:
        stream = "presence" if is_presence else "updates"
        kept, kept_bytes = _KEPT[stream]
        options = {"stream": stream, "kept": kept, "kept_bytes": kept_bytes}
        with self._reaching():
            id: bytes = await self.functions.run("publish", [update, msgspec.json.encode(options)])
        return id.decode()

    async def updates(self, after: str = "", limit: int = 1000) -> list[tuple[str, bytes]]:
        start = f"({after}" if after else "-"
        with self._reaching():
            pipe = self.redis.pipeline()
            for stream in _KEPT:
                pipe.xrange(f"{self.prefix}{stream}", start, "+", count=limit)
            pages = await pipe.execute()
        found = [(id.decode(), entry[b"u"]) for page in pages for id, entry in page]
        return sorted(found, key=lambda pair: event_key(pair[0]))[:limit]

    async def news(self, after: str, wait_s: float) -> None:
        """Return when there is an event after this event id, at the latest after `wait_s`; uses a separate
        connection.
        """
        with self._reaching():
            await self.redis.xread({f"{self.prefix}events": after}, count=1, block=max(1, int(wait_s * 1000)))

    async def attend(self, records: Mapping[str, bytes], for_s: float) -> dict[str, bytes]:
        given = [part for pair in records.items() for part in pair]
        with self._reaching():
            return _pairs(await self.functions.run("attend", [int(for_s * 1000), *given]))

    async def attending(self) -> dict[str, bytes]:
        with self._reaching():
            return _pairs(await self.functions.run("attending", []))

    async def depart(self, ids: Sequence[str]) -> list[bool]:
        if not ids:
            return []
        with self._reaching():
            pipe = self.redis.pipeline()
            for id in ids:
                pipe.zrem(f"{self.prefix}subs:ends", id)
            pipe.hdel(f"{self.prefix}subs", *ids)
            replies: list[int] = await pipe.execute()
        return [bool(reply) for reply in replies[:-1]]

    async def hold(self, name: str, owner: str, for_s: float) -> bool:
        key, for_ms = f"{self.prefix}{name}", int(for_s * 1000)
        with self._reaching():
            if await self.redis.set(key, owner, nx=True, px=for_ms):
                return True
            if await self.redis.get(key) != owner.encode():
                return False
            await self.redis.pexpire(key, for_ms)
            return True

    async def marked(self, name: str) -> str:
        with self._reaching():
            value: Any = await self.redis.get(f"{self.prefix}{name}")
        return value.decode() if value else ""

    async def mark(self, name: str, value: str) -> None:
        with self._reaching():
            await self.redis.set(f"{self.prefix}{name}", value)


def _pairs(reply: list[bytes]) -> dict[str, bytes]:
    return {id.decode(): record for id, record in zip(reply[::2], reply[1::2], strict=True)}
