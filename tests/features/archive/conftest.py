"""The store of `tests/store` with an archive in a directory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobkit.features.archive.search import ArchiveReader
from jobkit.features.archive.store import ArchiveStore
from jobkit.features.archive.writer import Archiver
from jobkit.files.storage import Directory
from jobkit.store.redis import RedisStore
from tests.store.conftest import lease_s, redis_url, settings_for, store

__all__ = ["lease_s", "redis_url", "store"]

pytest.importorskip("pyarrow")


@pytest.fixture
def archive(store: RedisStore, tmp_path: Path) -> ArchiveReader:
    return ArchiveReader(Directory(tmp_path / "archive", "archive"), store.settings.namespace)


@pytest.fixture
async def archiver(store: RedisStore, archive: ArchiveReader) -> AsyncIterator[Archiver]:
    made = Archiver(store, archive)
    await made.begin()
    yield made
    await write_all(store, archive)


async def write_all(store: RedisStore, archive: ArchiveReader) -> None:
    """ArchiveReader all jobs that wait, by another worker."""
    other = Archiver(store, archive)
    other.every_s = 0.0
    await other.append()
    while (await store.part(ArchiveStore).state()).waiting:
        await other.append()


__all__ += ["settings_for"]
