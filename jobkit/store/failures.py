"""Groups of failed jobs in the store; see `lua/lib/failures.lua`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from jobkit.model import FailureGroup
from jobkit.store import wire
from jobkit.store.namespace import RedisNamespace, awaited, to_ms

#: Number of groups that are read at a time.
_CHUNK = 200


class FailureStore:
    """Verbs for groups of failed jobs: the same exception at the same place in one task."""

    def __init__(self, namespace: RedisNamespace) -> None:
        self._ns = namespace

    async def groups(self, states: Sequence[str] = (), task: str = "", limit: int = 100) -> list[FailureGroup]:
        """Return groups in any of these states (empty: all) and of this task, the last failure first."""
        found: list[FailureGroup] = []
        start = 0
        while len(found) < limit:
            with self._ns.reaching():
                ids = await self._ns.redis.zrevrange(f"{self._ns.prefix}groups", start, start + _CHUNK - 1)
            if not ids:
                break
            groups = await self._groups([id.decode() for id in ids])
            gone = [id for id, group in zip(ids, groups, strict=True) if group is None]
            if gone:  # expired, or damaged
                with self._ns.reaching():
                    await self._ns.redis.zrem(f"{self._ns.prefix}groups", *gone)
            found += [
                group
                for group in groups
                if group is not None and (not states or group.state in states) and task in ("", group.task)
            ]
            start += len(ids) - len(gone)
        return found[:limit]

    async def group(self, group: str) -> FailureGroup | None:
        return (await self._groups([group]))[0]

    async def _groups(self, ids: Sequence[str]) -> list[FailureGroup | None]:
        with self._ns.reaching():
            pipe = self._ns.redis.pipeline(transaction=False)
            for id in ids:
                pipe.hgetall(f"{self._ns.prefix}group:{id}")
                pipe.zcard(f"{self._ns.prefix}failed:{id}")
                pipe.scard(f"{self._ns.prefix}again:{id}")
            pipe.time()
            *replies, time = await pipe.execute()
        return [
            wire.readable(
                f"the record of group {id}",
                partial(wire.failure, id, jobs=replies[3 * i + 1], repeated=replies[3 * i + 2], now_ms=to_ms(time)),
                replies[3 * i],
            )
            for i, id in enumerate(ids)
        ]

    async def jobs(
        self,
        group: str,
        *,
        before: str = "",
        limit: int = 100,
        oldest_first: bool = False,
        is_repeated: bool | None = None,
        until: float | None = None,
    ) -> tuple[list[str], str]:
        """Return ids of a group's jobs, the last failure first, and the cursor `before` of the next page, or "".

        Args:
            is_repeated: only jobs that were retried, or only those that were not.
            until: with `oldest_first`, only jobs that failed up to this time (us).
        """
        key, again = f"{self._ns.prefix}failed:{group}", f"{self._ns.prefix}again:{group}"
        found: list[str] = []
        cursor = before
        while len(found) < limit:
            bound = f"({cursor}" if cursor else ("-inf" if oldest_first else "+inf")
            with self._ns.reaching():
                page: list[tuple[bytes, float]]
                if oldest_first:
                    page = await self._ns.redis.zrangebyscore(
                        key, bound, "+inf" if until is None else until, 0, limit, withscores=True
                    )
                else:
                    page = await self._ns.redis.zrevrangebyscore(key, bound, "-inf", 0, limit, withscores=True)
                if not page:
                    return found, ""
                marks: Any = [0] * len(page)
                if is_repeated is not None:
                    marks = await awaited(self._ns.redis.smismember(again, [id for id, _ in page]))
            for (id, us), mark in zip(page, marks, strict=True):
                cursor = f"{us:.0f}"
                if is_repeated is None or bool(mark) == is_repeated:
                    found.append(id.decode("utf-8", "replace"))
                    if len(found) == limit:
                        break
        return found, cursor

    async def judge(self, groups: Sequence[str], state: str, by: str = "") -> list[bool]:
        """Set the status of groups ("open", "muted", "resolved"), or delete those without jobs ("dropped").

        True for known groups. `by` is the user.
        """
        options = msgspec.json.encode({"state": state, "by": by})
        return [known == 1 for known in await self._ns.run("judge", [options, *groups])]

    async def groups_of(self, job_ids: Sequence[str]) -> list[str]:
        """Return the group of each job, or ""."""
        if not job_ids:
            return []
        with self._ns.reaching():
            found = await awaited(self._ns.redis.hmget(f"{self._ns.prefix}failed", list(job_ids)))
        return [group.decode() if group else "" for group in found]
