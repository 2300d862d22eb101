"""Sentence of each page while jobs wait for the archive for long."""

from __future__ import annotations

from jobkit.features.archive.store import ArchiveStore
from jobkit.store.redis import RedisStore


async def said(store: RedisStore) -> str:
    """Return why jobs wait for the archive, or ""."""
    return (await store.part(ArchiveStore).state()).sentence
