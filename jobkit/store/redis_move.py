"""The verb of the store on Redis that moves waiting jobs; see `lua/verbs/move.lua`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from jobkit.store.redis_part import RedisPart


class RedisMove(RedisPart):
    async def move(
        self, job_ids: Sequence[str], queue: str | None = None, priority: int | None = None, reason: str = ""
    ) -> list[str]:
        options: dict[str, Any] = {"reason": reason}
        if queue:
            options["queue"] = queue
        if priority is not None:
            options["priority"] = priority
        with self._reaching():
            replies = await self.functions.run("move", [msgspec.json.encode(options), *job_ids])
        return [answer.decode() for answer in replies]
