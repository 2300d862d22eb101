"""Copies of what jobs have beside their records: all of them, and nowhere else than in the archive."""

from __future__ import annotations

import zlib
from pathlib import Path

import msgspec
import pytest

from jobkit.codec import HEAD_BYTES
from jobkit.features.archive.search import ArchiveReader
from jobkit.features.archive.writer import Archiver
from jobkit.features.moving.belongings import Belongings
from jobkit.features.moving.dump import Dump, read_dumps, restore
from jobkit.features.provenance.made_by import ProcessFacts
from jobkit.files.file_store import FileStore
from jobkit.files.storage import Directory
from jobkit.model import JobkitError
from jobkit.model.plain import now_ms
from jobkit.store.query import Query
from jobkit.store.redis import RedisStore
from tests.store.support import claim, ending, submit

from .conftest import write_all

FACTS, PACKAGES = "a" * 32, "b" * 32


def facts(packages: str) -> bytes:
    return b"." * HEAD_BYTES + zlib.compress(msgspec.json.encode(ProcessFacts(packages=packages)))


async def end(store: RedisStore, id: str, made: str = "") -> None:
    await submit(store, id, made=made)
    await store.finish([ending(one) for one in await claim(store)])


async def archived(archive: ArchiveReader) -> Dump:
    (dump,), _ = archive.dumps(Query(limit=10), now_ms())
    return dump


@pytest.mark.parametrize("from_facts", [False, True])
async def test_facts_with_the_name_of_a_path_are_neither_written_nor_read_there(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver, tmp_path: Path, from_facts: bool
) -> None:
    """The names of facts are not sealed, so any client that writes to Redis may choose them."""
    path = "../../../stolen"
    await store.redis.set(f"{store.prefix}made:{path}", b"of a stranger", ex=60)
    await store.redis.set(f"{store.prefix}made:{FACTS}", facts(path), ex=60)
    await end(store, "a", FACTS if from_facts else path)

    await write_all(store, archive)

    assert not (tmp_path / "stolen").exists()
    (tmp_path / "stolen").write_bytes(b"of the user")
    found = archive.contents(await archived(archive))
    assert [b"".join(one.chunks()) for one in found] == ([facts(path)] if from_facts else [])


async def test_facts_that_name_themselves_are_read_once(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver
) -> None:
    await store.redis.set(f"{store.prefix}made:{FACTS}", facts(FACTS), ex=60)
    await end(store, "a", FACTS)
    await write_all(store, archive)

    assert [one.name for one in archive.contents(await archived(archive))] == [FACTS]


async def test_large_parts_with_the_name_of_a_path_are_neither_written_nor_read_there(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver, tmp_path: Path
) -> None:
    path = "../../../stolen"
    await end(store, "a")
    await store.redis.hset(f"{store.prefix}blobs", "a", path)
    await store.redis.set(f"{store.prefix}blob:{path}", b"rof a stranger", ex=60)

    await write_all(store, archive)

    assert not (tmp_path / "stolen").exists()
    (tmp_path / "stolen").write_bytes(b"of the user")
    assert archive.contents(await archived(archive)) == []
    await store.redis.hdel(f"{store.prefix}blobs", "a")


@pytest.mark.parametrize("base", ["..", ""])
async def test_an_import_creates_no_folder_outside_of_the_results(store: RedisStore, tmp_path: Path, base: str) -> None:
    await end(store, "a")
    (dump,) = await read_dumps(store, ["a"])
    assert dump is not None
    await store.delete(["a"])
    dump = msgspec.structs.replace(dump, folder=FileStore.path_of(base, "a", int(dump.record["us"])))
    file_store = FileStore(Directory(tmp_path / "inner" / "results"), "0" * 16)

    adopted, has_files = await Belongings(store, lambda: file_store).adopted(dump)

    assert (adopted.folder, has_files) == ("", False)
    assert not [*tmp_path.rglob("job")]


async def test_a_job_that_was_deleted_and_imported_keeps_its_files_when_it_is_archived(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver
) -> None:
    folder = f"{'0' * 16}/ab/{'c' * 30}"
    await submit(store, "a")
    (claimed,) = await claim(store)
    await store.finish([ending(claimed, folder=folder)])
    (dump,) = await read_dumps(store, ["a"])
    assert dump is not None
    await store.delete(["a"])
    assert await restore(store, [dump]) == [True]

    await write_all(store, archive)

    assert await store.orphaned() == []
    await store.delete(["a"])
    await write_all(store, archive)
    assert await store.orphaned() == [folder]
    await store.cleaned_up([folder])


async def test_an_import_says_that_the_results_cannot_be_read(
    store: RedisStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await end(store, "a")
    (dump,) = await read_dumps(store, ["a"])
    assert dump is not None
    await store.delete(["a"])
    file_store = FileStore(Directory(tmp_path / "results"), "0" * 16)
    dump = msgspec.structs.replace(dump, folder=FileStore.path_of("0" * 16, "a", int(dump.record["us"])))

    def away(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Directory, "sizes", away)
    with pytest.raises(JobkitError, match=r"files of jobs in .*results cannot be read: Input/output error"):
        await Belongings(store, lambda: file_store).adopted(dump)


async def test_what_facts_name_is_copied_after_an_outage_of_the_archive(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.redis.set(f"{store.prefix}made:{FACTS}", facts(PACKAGES), ex=60)
    await store.redis.set(f"{store.prefix}made:{PACKAGES}", b"numpy==2.4", ex=60)
    await end(store, "a", FACTS)
    write, archiver.every_s = Directory.write, 0.0

    def full(storage: Directory, path: str, *args: object, **options: object) -> None:
        if path.endswith(PACKAGES):
            raise OSError(28, "No space left on device")
        write(storage, path, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Directory, "write", full)
        with pytest.raises(JobkitError, match="No space left"):
            await archiver.append()

    await archiver.append()

    assert {one.name for one in archive.contents(await archived(archive))} == {FACTS, PACKAGES}
