"""The verb of the store on Redis that moves waiting jobs; see `lua/move.lua`."""

from __future__ import annotations

from collections.abc import Sequence

from jobkit.store.redis_part import RedisPart


class RedisMove(RedisPart):
    async def move(
        self, job_ids: Sequence[str], queue: str | None = None, priority: int | None = None, reason: str = ""
    ) -> list[str]:
        args = [queue or "", "" if priority is None else priority, reason, *job_ids]
        with self._reaching():
            return [answer.decode() for answer in await self.scripts.run("move", args)]
