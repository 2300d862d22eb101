"""Contents that jobs share: large parts of calls, see `lua/lib/blobs.lua`; and facts of what made results."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from jobkit.codec import HEAD_BYTES
from jobkit.model.made import ProcessFacts
from jobkit.store.namespace import StorePart

#: First byte of what is stored: a content follows, or the folder that has it, its size and the name of the storage.
INLINE, FILE = b"r", b"f"


class BlobStore(StorePart):
    """Verbs for large parts of calls, by the SHA-256 of their content."""

    async def missing(self, names: Sequence[str]) -> list[str]:
        """Return which of these are not stored; the others stay for an hour at least."""
        replies = await self._ns.run("blob_keep", [item for name in names for item in (name, b"")])
        return [name for name, reply in zip(names, replies, strict=True) if not reply]

    async def put(self, name: str, stored: bytes) -> bool:
        """Store a content or its folder, for an hour, until a job uses it. False if it was stored before."""
        (reply,) = await self._ns.run("blob_keep", [name, stored])
        return bool(reply == 2)

    async def read(self, names: Sequence[str]) -> list[bytes | None]:
        """Return what is stored under these names."""
        return await self._ns.many([("GET", f"blob:{name}") for name in names])

    async def folders(self, names: Sequence[str]) -> list[str]:
        """Return the folder that has each content, "" for none."""
        found = [raw or b"" for raw in await self._ns.many([("GETRANGE", f"blob:{name}", 0, 200) for name in names])]
        return [raw[1:].split(b" ")[0].decode("utf-8", "replace") if raw[:1] == FILE else "" for raw in found]

    async def where(self, names: Sequence[str]) -> list[tuple[int, str]]:
        """Return the size in bytes and the folder of each content, "" for the store; (-1, "") if unknown."""
        keys = [f"blob:{name}" for name in names]
        if not keys:
            return []
        found = await self._ns.many([item for key in keys for item in (("STRLEN", key), ("GETRANGE", key, 0, 200))])
        return [_located(count, raw or b"") for count, raw in zip(found[::2], found[1::2], strict=True)]


def _located(count: int, raw: bytes) -> tuple[int, str]:
    if raw[:1] != FILE:
        return count - 1, ""
    folder, size, *_ = [*raw[1:].decode("utf-8", "replace").split(" ", 2), ""]
    return (int(size), folder) if size.isdecimal() else (-1, "")


#: Facts are kept two weeks (in ms) longer than the jobs that name them.
_LONGER_MS = 14 * 86_400_000

#: Facts that are larger are not looked into.
_MOST_BYTES = 4_000_000


class MadeStore(StorePart):
    """Verbs for facts of what made results, by the hash of their content.

    No job counts as a user of them: that would cost each submit more than the facts are worth. They expire; submitters
    and workers move that on, so that they are kept for longer than the jobs.
    """

    async def keep(self, sealed: Mapping[str, bytes], ttl_ms: int, worker: str = "", name: str = "") -> None:
        """Store facts by name, for jobs that are kept for `ttl_ms`.

        Args:
            worker, name: the worker that these facts are of, and their name.
        """
        contents: dict[str, bytes] = {f"made:{each}": content for each, content in sealed.items()}
        if worker:
            contents[f"made-on:{worker}"] = name.encode()
        ttl_ms += _LONGER_MS
        new: list[tuple[Any, ...]] = [("SET", key, content, "PX", ttl_ms, "NX") for key, content in contents.items()]
        await self._ns.many([*new, *(("PEXPIRE", key, ttl_ms, "GT") for key in contents)])

    async def touch(self, ttls_ms: Mapping[str, int]) -> None:
        """Keep facts for longer. Durations by name."""
        if ttls_ms:
            await self._ns.many([("PEXPIRE", f"made:{name}", ms + _LONGER_MS, "GT") for name, ms in ttls_ms.items()])

    async def read(self, names: Sequence[str]) -> list[bytes | None]:
        """Return what is kept under these names."""
        return await self._ns.many([("GET", f"made:{name}") for name in names]) if names else []

    async def whole(self, names: Sequence[str]) -> dict[str, bytes]:
        """Return what is kept under these names, and what that names: packages and diff."""
        found = dict(zip(names, await self.read(names), strict=True))
        named = list({each for content in found.values() for each in named_in(content or b"") if each not in found})
        found |= dict(zip(named, await self.read(named), strict=True))
        return {name: content for name, content in found.items() if content}

    async def of_workers(self, workers: Sequence[str]) -> list[str]:
        """Return the names of the facts of workers, "" if they are not kept."""
        found = await self._ns.many([("GET", f"made-on:{worker}") for worker in workers]) if workers else []
        return [(raw or b"").decode("utf-8", "replace") for raw in found]


def named_in(envelope: bytes) -> Iterator[str]:
    """Yield the names in facts, whose seal is not checked."""
    try:
        content = zlib.decompressobj().decompress(envelope[HEAD_BYTES:], _MOST_BYTES)
        facts = msgspec.json.decode(content, type=ProcessFacts)
    except (zlib.error, msgspec.MsgspecError):  # packages, or a diff
        return
    yield from filter(None, (facts.packages, facts.git.diff if facts.git is not None else ""))
