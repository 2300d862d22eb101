"""The verbs of the store on Redis for artifacts and the folders of jobs' files."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from jobkit.store.redis_part import RedisPart, awaited
from jobkit.store.values import ArtifactInfo, Kept
from jobkit.store.wire import keep_args

_json = msgspec.json.encode
_unjson = msgspec.json.decode


class RedisFiles(RedisPart):
    async def keep(self, artifacts: Sequence[Kept]) -> list[bool]:
        with self._reaching():
            return [answer == 1 for answer in await self.functions.run("keep", keep_args(artifacts))]

    async def artifacts(self, job_id: str) -> list[ArtifactInfo]:
        with self._reaching():
            found = await awaited(self.redis.hgetall(f"{self.prefix}artifacts:{job_id}"))
        infos = [ArtifactInfo(name.decode(), **_unjson(meta)) for name, meta in found.items()]
        return sorted(infos, key=lambda info: (info.at_ms, info.name))

    async def artifact(self, job_id: str, name: str) -> bytes | None:
        with self._reaching():
            value: bytes | None = await awaited(self.redis.hget(f"{self.prefix}bodies:{job_id}", name))  # type: ignore[arg-type]  # typed as text
            return value

    async def folder(self, job_id: str) -> str:
        with self._reaching():
            value: Any = await awaited(self.redis.hget(f"{self.prefix}filed", job_id))
        return value.decode() if value else ""

    async def place(self) -> str:
        key = f"{self.prefix}place"
        with self._reaching():
            value: Any = await self.redis.get(key)  # first: a full server accepts no new mark, but has one
            if value is None:
                await self.redis.set(key, secrets.token_hex(8), nx=True)
                value = await self.redis.get(key)
        return str(value.decode())

    async def litter(self, limit: int = 100) -> list[str]:
        with self._reaching():
            found: Any = await awaited(self.redis.srandmember(f"{self.prefix}litter", limit))
        return sorted(folder.decode() for folder in found or ())

    async def swept(self, folders: Sequence[str]) -> None:
        if folders:
            with self._reaching():
                await awaited(self.redis.srem(f"{self.prefix}litter", *folders))

    async def owned(self, submissions: Sequence[tuple[str, int]]) -> list[bool]:
        if not submissions:
            return []
        with self._reaching():
            pipe = self.redis.pipeline(transaction=False)
            for job_id, _ in submissions:
                pipe.hget(f"{self.prefix}job:{job_id}", "us")
            found = await pipe.execute()
        return [raw is not None and int(float(raw)) == us for raw, (_, us) in zip(found, submissions, strict=True)]
