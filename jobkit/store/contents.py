"""Contents that jobs share: large parts of calls, see `lua/lib/blobs.lua`."""

from __future__ import annotations

from collections.abc import Sequence

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
