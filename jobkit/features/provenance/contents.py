"""Facts of what made results: contents in the store, which go with jobs to an export or the archive."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from jobkit.codec import HEAD_BYTES
from jobkit.features.provenance.made_by import ProcessFacts
from jobkit.store.namespace import StorePart

#: Kind of these contents, and their names.
KIND, NAME = "made", re.compile(r"[0-9a-f]{32}")

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
        """Return the contents that are kept under these names, and the packages and diffs that these contents name."""
        found = dict(zip(names, await self.read(names), strict=True))
        named = list({each for content in found.values() for each in named_in(content or b"") if each not in found})
        found |= dict(zip(named, await self.read(named), strict=True))
        return {name: content for name, content in found.items() if content}

    async def of_workers(self, workers: Sequence[str]) -> list[str]:
        """Return the names of the facts of workers, "" if they are not kept."""
        found = await self._ns.many([("GET", f"made-on:{worker}") for worker in workers]) if workers else []
        return [(raw or b"").decode("utf-8", "replace") for raw in found]


CONTENTS = MadeStore


def names(dump: Any) -> set[str]:
    """Return the names that a job has: of the facts of its submitter and of its worker."""
    return {name for name in (dump.snapshot.spec.made, dump.ran) if name}


def named_in(envelope: bytes) -> Iterator[str]:
    """Yield the names in facts, whose seal is not checked."""
    try:
        content = zlib.decompressobj().decompress(envelope[HEAD_BYTES:], _MOST_BYTES)
        facts = msgspec.json.decode(content, type=ProcessFacts)
    except (zlib.error, msgspec.MsgspecError):  # packages, or a diff
        return
    yield from filter(None, (facts.packages, facts.git.diff if facts.git is not None else ""))
