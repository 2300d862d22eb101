"""The verbs of the store on Redis for groups of failed jobs; see `lua/lib/failures.lua`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from jobkit.model import FailureGroup
from jobkit.store import records
from jobkit.store.redis_part import RedisPart, awaited

#: Number of groups that are read at a time.
_CHUNK = 200


class RedisFailures(RedisPart):
    async def failures(self, states: Sequence[str] = (), task: str = "", limit: int = 100) -> list[FailureGroup]:
        found: list[FailureGroup] = []
        start = 0
        while len(found) < limit:
            with self._reaching():
                ids = await self.redis.zrevrange(f"{self.prefix}groups", start, start + _CHUNK - 1)
            if not ids:
                break
            groups = await self._groups([id.decode() for id in ids])
            gone = [id for id, group in zip(ids, groups, strict=True) if group is None]
            if gone:  # expired, or damaged
                with self._reaching():
                    await self.redis.zrem(f"{self.prefix}groups", *gone)
            found += [
                group
                for group in groups
                if group is not None and (not states or group.state in states) and task in ("", group.task)
            ]
            start += len(ids) - len(gone)
        return found[:limit]

    async def failure(self, group: str) -> FailureGroup | None:
        return (await self._groups([group]))[0]

    async def _groups(self, ids: Sequence[str]) -> list[FailureGroup | None]:
        with self._reaching():
            pipe = self.redis.pipeline(transaction=False)
            for id in ids:
                pipe.hgetall(f"{self.prefix}group:{id}")
                pipe.zcard(f"{self.prefix}failed:{id}")
                pipe.scard(f"{self.prefix}again:{id}")
            pipe.time()
            *replies, (seconds, micros) = await pipe.execute()
        now_ms = seconds * 1000 + micros // 1000
        return [
            records.readable(
                f"the record of group {id}",
                partial(records.failure, id, jobs=replies[3 * i + 1], repeated=replies[3 * i + 2], now_ms=now_ms),
                replies[3 * i],
            )
            for i, id in enumerate(ids)
        ]

    async def failed_jobs(
        self,
        group: str,
        *,
        before: str = "",
        limit: int = 100,
        oldest_first: bool = False,
        is_repeated: bool | None = None,
        until: float | None = None,
    ) -> tuple[list[str], str]:
        key, again = f"{self.prefix}failed:{group}", f"{self.prefix}again:{group}"
        found: list[str] = []
        cursor = before
        while len(found) < limit:
            bound = f"({cursor}" if cursor else ("-inf" if oldest_first else "+inf")
            with self._reaching():
                page: list[tuple[bytes, float]]
                if oldest_first:
                    page = await self.redis.zrangebyscore(
                        key, bound, "+inf" if until is None else until, 0, limit, withscores=True
                    )
                else:
                    page = await self.redis.zrevrangebyscore(key, bound, "-inf", 0, limit, withscores=True)
                if not page:
                    return found, ""
                marks: Any = [0] * len(page)
                if is_repeated is not None:
                    marks = await awaited(self.redis.smismember(again, [id for id, _ in page]))
            for (id, us), mark in zip(page, marks, strict=True):
                cursor = f"{us:.0f}"
                if is_repeated is None or bool(mark) == is_repeated:
                    found.append(id.decode("utf-8", "replace"))
                    if len(found) == limit:
                        break
        return found, cursor

    async def judge(self, groups: Sequence[str], state: str, by: str = "") -> list[bool]:
        options = msgspec.json.encode({"state": state, "by": by})
        with self._reaching():
            return [known == 1 for known in await self.functions.run("judge", [options, *groups])]

    async def groups_of(self, job_ids: Sequence[str]) -> list[str]:
        if not job_ids:
            return []
        with self._reaching():
            found = await awaited(self.redis.hmget(f"{self.prefix}failed", list(job_ids)))
        return [group.decode() if group else "" for group in found]

    async def payloads(self, job_ids: Sequence[str]) -> list[bytes | None]:
        if not job_ids:
            return []
        with self._reaching():
            found: list[bytes | None] = await self.redis.mget([f"{self.prefix}args:{job_id}" for job_id in job_ids])
        return found
