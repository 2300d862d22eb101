"""Each job that ends is in the archive exactly once, whatever happens to workers, archive and Redis meanwhile."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from jobkit.features.archive import folder, writer
from jobkit.features.archive import store as archive_store
from jobkit.features.archive.folder import MERGED, files_of
from jobkit.features.archive.search import ArchiveReader
from jobkit.features.archive.store import ArchivePart, ArchiveStore
from jobkit.features.archive.table import arrow
from jobkit.features.archive.writer import Archiver
from jobkit.features.moving import dump as export
from jobkit.features.moving.dump import Dump
from jobkit.files.file_store import FileStore
from jobkit.files.storage import Directory
from jobkit.model import JobkitError
from jobkit.model.plain import now_ms
from jobkit.store.query import Query
from jobkit.store.redis import RedisStore
from tests.store.support import claim, ending, job, started, submit
from tests.support import until

from .conftest import write_all

ALL = Query(limit=100_000)


async def end(store: RedisStore, *ids: str, ttl_ms: int = 600_000) -> None:
    await submit(store, *ids)
    claimed = await claim(store, len(ids))
    await store.finish([ending(one, result=b"42", summary="a number", ttl_ms=ttl_ms) for one in claimed])


async def end_each(store: RedisStore, archive: ArchiveReader, *ids: str) -> None:
    """End jobs, and archive each in a separate file."""
    for id in ids:
        await end(store, id)
        await write_all(store, archive)


async def dumps_of(store: RedisStore, part: ArchivePart) -> list[Dump]:
    return [dump async for some in store.part(ArchiveStore).read(part, writer.RESULT_BYTES) for dump in some]


def ids(archive: ArchiveReader) -> list[str]:
    """Return the id of every row of every file that readers see, oldest first."""
    tables, _ = archive._retried(lambda: archive._hits(["us", "id"], lambda table: table["us"].is_valid(), value="id"))
    return [id for file, id in sorted(zip(tables["file"].to_pylist(), tables["value"].to_pylist(), strict=True))]


async def test_what_ends_is_archived_with_everything_but_files(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver
) -> None:
    await end(store, "good")
    await submit(store, "waits")
    await store.cancel(["waits"])
    await write_all(store, archive)

    dumps, found = archive.dumps(ALL, now_ms())

    assert [dump.id for dump in dumps] == ["waits", "good"]
    assert found.total == 2
    assert (dumps[1].args, dumps[1].result) == (b"arguments of good", b"42")
    assert [event.type for event in dumps[1].snapshot.history] == ["submitted", "started", "succeeded"]


async def test_without_an_archive_no_job_waits_for_it(store: RedisStore, archive: ArchiveReader) -> None:
    await end(store, "good")

    assert (await store.part(ArchiveStore).state()).waiting == 0
    assert not await store.redis.exists(f"{store.prefix}archive:waiting")
    assert not await store.redis.hexists(f"{store.prefix}job:good", "_archive")


async def test_a_worker_killed_between_file_and_cursor_leaves_no_job_twice(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver
) -> None:
    await end(store, "a", "b")
    part = await store.part(ArchiveStore).next_part(500)
    writer.write(archive, await store.place(), part, await dumps_of(store, part))  # killed here
    await end(store, "c")

    await write_all(store, archive)

    assert Counter(ids(archive)) == Counter(["a", "b", "c"])


async def test_a_worker_frozen_with_the_old_lock_writes_nothing_twice_even_after_a_merge(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver
) -> None:
    await end(store, "a", "b")
    part, place = await store.part(ArchiveStore).next_part(500), await store.place()
    dumps = await dumps_of(store, part)  # frozen here
    await write_all(store, archive)
    await end_each(store, archive, *(f"c{n}" for n in range(MERGED)))
    writer.merge(archive, place)
    assert len(archive.files()) == 2
    await store.delete(["a", "b"])

    writer.write(archive, place, part, dumps)
    await store.part(ArchiveStore).done(part)

    assert Counter(ids(archive)) == Counter(["a", "b", *(f"c{n}" for n in range(MERGED))])
    writer.merge(archive, place)
    assert len(files_of(archive.storage, archive.namespace)) == 2


async def test_two_workers_at_once_archive_each_job_once(store: RedisStore, archive: ArchiveReader) -> None:
    both = [Archiver(store, archive), Archiver(store, archive)]
    await both[0].begin()
    for one in both:
        one.every_s = 0.0
    for n in range(6):
        await end(store, *(f"j{n}.{i}" for i in range(5)))
        await asyncio.gather(*(one.append() for one in both))
    await write_all(store, archive)

    assert Counter(ids(archive)) == Counter(f"j{n}.{i}" for n in range(6) for i in range(5))


@pytest.mark.parametrize("how", ["deleted", "expired"])
async def test_a_job_that_goes_before_it_is_archived_is_archived_all_the_same(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver, how: str
) -> None:
    await end(store, "a", ttl_ms=1 if how == "expired" else 600_000)
    if how == "deleted":
        assert await store.delete(["a"]) == [True]
    else:
        await until(store.prune, "its time to be over")
    assert await store.snapshots(["a"]) == [None]
    await end(store, "a")  # its id may be used again

    await write_all(store, archive)

    assert ids(archive) == ["a", "a"]
    dumps, _ = archive.dumps(ALL, now_ms())
    assert [dump.args for dump in dumps] == [b"arguments of a"] * 2
    assert [dump.snapshot.history[-1].type for dump in dumps] == ["succeeded"] * 2


async def test_an_archived_job_goes_when_its_time_is_over(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver
) -> None:
    await end(store, "a")
    held_ms = await store.redis.pttl(f"{store.prefix}job:a")

    await write_all(store, archive)

    for kind in ("job", "args", "result"):
        assert 0 < await store.redis.pttl(f"{store.prefix}{kind}:a") <= 600_000 < held_ms


async def test_while_the_archive_is_away_jobs_wait_and_it_is_told(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver, tmp_path: Path
) -> None:
    (tmp_path / "archive").write_text("no folder")
    await end(store, "a", "b")

    with pytest.raises(JobkitError, match="archive: it cannot be written: Not a directory"):
        await archiver.append()
    assert "2 ended jobs wait for the archive" in (await store.part(ArchiveStore).state()).sentence
    (tmp_path / "archive").unlink()
    archiver.every_s = 0.0
    await archiver.append()

    assert ids(archive) == ["a", "b"]
    assert (await store.part(ArchiveStore).state()).sentence == ""


async def test_jobs_that_ended_before_there_was_an_archive_are_added(
    store: RedisStore, archive: ArchiveReader, tmp_path: Path
) -> None:
    await end(store, "a", "b")
    await Archiver(store, archive).begin()
    await end(store, "c")

    await write_all(store, archive)
    await write_all(store, archive)  # scans again

    assert sorted(ids(archive)) == ["a", "b", "c"]


async def test_more_jobs_than_may_wait_are_added_later(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver
) -> None:
    entries = f"{store.prefix}archive:waiting"
    fill = "for i = 1, 100000 do redis.call('XADD', KEYS[1], '*', 'id', 'gone') end"
    await store.redis.eval(fill, 1, entries)  # type: ignore[misc]  # its type allows for no await
    await end(store, "a")
    assert not await store.redis.hexists(f"{store.prefix}job:a", "_archive")
    await store.redis.delete(entries)

    await write_all(store, archive)

    assert ids(archive) == ["a"]


async def test_many_small_files_become_one_and_readers_see_each_job_once_meanwhile(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = await store.place()
    await end_each(store, archive, *(f"j{n}" for n in range(MERGED)))
    seen: list[list[str]] = []
    delete = Directory.delete

    def look_and_delete(self: Directory, path: str) -> None:
        seen.append(ids(archive))
        delete(self, path)

    monkeypatch.setattr(Directory, "delete", look_and_delete)
    writer.merge(archive, place)

    assert len(files_of(archive.storage, archive.namespace)) == 1
    assert len(seen) == MERGED
    assert all(one == [f"j{n}" for n in range(MERGED)] for one in (sorted(s, key=lambda i: int(i[1:])) for s in seen))


async def test_a_reader_lists_again_if_a_file_is_merged_away(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await end_each(store, archive, *(f"j{n}" for n in range(MERGED)))
    place, listed = await store.place(), []

    def listing(*args: object) -> object:
        files = files_of(*args)  # type: ignore[arg-type]
        if not listed:
            writer.merge(archive, place)
        listed.append(len(files))
        return files

    monkeypatch.setattr("jobkit.features.archive.search.files_of", listing)

    assert archive.find(ALL, now_ms()).total == MERGED
    assert listed == [MERGED, 1]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: os.path.getsize(path) // 2])


def drop_a_column(path: Path) -> None:
    """As another version may have written it."""
    parquet = arrow().parquet
    parquet.write_table(parquet.read_table(path).drop_columns(["tags"]), path)


@pytest.mark.parametrize(
    ("damage", "why"), [(cut, ""), (drop_a_column, "another version of jobkit, with other columns")]
)
async def test_a_damaged_file_is_named_and_stays_and_the_rest_is_read_and_merged(
    store: RedisStore,
    archive: ArchiveReader,
    archiver: Archiver,
    tmp_path: Path,
    damage: Callable[[Path], None],
    why: str,
) -> None:
    await end_each(store, archive, *(f"j{n}" for n in range(2 * MERGED + 1)))
    damaged = tmp_path / "archive" / files_of(archive.storage, archive.namespace)[MERGED].path
    damage(damaged)
    (damaged.parent / "notes.txt").write_text("foreign")
    (damaged.parent / "README.parquet").write_text("foreign")

    writer.merge(archive, await store.place())
    found = archive.find(ALL, now_ms())

    assert found.total == 2 * MERGED
    assert len(found.problems) == 1
    assert damaged.name in found.problems[0]
    assert why in found.problems[0]
    assert len(files_of(archive.storage, archive.namespace)) == 3


async def test_a_merged_file_that_was_not_written_to_its_end_hides_nothing(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver, tmp_path: Path
) -> None:
    await end_each(store, archive, *(f"j{n}" for n in range(MERGED)))
    files = files_of(archive.storage, archive.namespace)
    torn = tmp_path / "archive" / folder.merged_path(files)
    torn.write_bytes(b"PAR1 and no more")  # by a worker that died, on storage that does not rename

    assert archive.find(ALL, now_ms()).total == MERGED
    again = ArchiveReader(archive.storage, archive.namespace)
    writer.merge(again, await store.place())

    assert [tmp_path / "archive" / file.path for file in files_of(archive.storage, archive.namespace)] == [torn]
    assert archive.find(ALL, now_ms()).total == MERGED


async def test_jobs_wait_while_their_files_cannot_be_read_and_those_that_are_gone_are_named(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = await started(store, "a")
    path = FileStore.path_of(await store.place(), "a", claimed.us)
    await store.finish([replace(ending(claimed), folder=path)])
    other = Archiver(replace_results(store, tmp_path / "results"), archive)
    other.every_s = 0.0
    monkeypatch.setattr(FileStore, "files", unreached)

    with pytest.raises(JobkitError, match="the network is down"):
        await other.append()
    assert (await store.part(ArchiveStore).state()).waiting == 1
    monkeypatch.undo()
    await other.append()

    [dump], _ = archive.dumps(ALL, now_ms())
    assert dump.left_out == "folder of files"


def unreached(*args: object) -> dict[str, int]:
    raise OSError("the network is down")


def replace_results(store: RedisStore, folder: Path) -> RedisStore:
    """Return a store whose settings have a directory for files."""
    store.settings = dataclasses.replace(store.settings, results=str(folder))
    return store


async def test_two_namespaces_share_a_directory_and_see_their_own_jobs(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver
) -> None:
    await end(store, "a")
    await write_all(store, archive)

    assert ArchiveReader(archive.storage, "other").find(ALL, now_ms()).total == 0
    assert folder.path_of("..", "0" * 16, "1-1", "1-2").startswith("namespace=../")


async def test_a_wiped_redis_continues_the_archive(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver
) -> None:
    await end(store, "a")
    await write_all(store, archive)
    keys = [key async for key in store.redis.scan_iter(f"{store.prefix}*")]
    await store.redis.delete(*keys)
    again = Archiver(store, archive)
    await again.begin()
    await end(store, "b")

    await write_all(store, archive)

    assert sorted(ids(archive)) == ["a", "b"]


async def test_a_large_result_is_copied_beside_the_rows(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver
) -> None:
    claimed = await started(store, "a")
    await store.finish([ending(claimed, result=b"x" * 1_000_001)])

    await write_all(store, archive)

    [dump], _ = archive.dumps(ALL, now_ms())
    assert (dump.result, dump.args, dump.left_out) == (b"", job("a").payload, "")
    assert archive.whole(dump).result == b"x" * 1_000_001


@pytest.mark.parametrize("how", ["deleted", "expired"])
async def test_what_waits_for_an_archive_that_was_away_for_days_is_archived_although_its_time_is_over(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver, how: str
) -> None:
    await end(store, "a", ttl_ms=1 if how == "expired" else 600_000)
    await store.redis.delete(f"{store.prefix}archive")  # no worker had one for a day
    if how == "deleted":
        assert await store.delete(["a"]) == [True]
    else:
        await until(store.prune, "its time to be over")

    await write_all(store, archive)

    assert ids(archive) == ["a"]


async def test_a_job_that_is_deleted_while_it_is_read_is_archived_whole(
    store: RedisStore, archive: ArchiveReader, archiver: Archiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await end(store, "a")
    read, is_deleted = export.read_keys, list[Any]()

    async def read_slowly(*args: Any) -> list[Any]:
        found = await read(*args)
        if not is_deleted:
            is_deleted.append(await store.delete(["a"]))
            found[0] = [found[0][0], None, None, None, *found[0][4:]]  # the job went between two commands
        return found

    monkeypatch.setattr(archive_store, "read_keys", read_slowly)
    await write_all(store, archive)

    [dump], _ = archive.dumps(ALL, now_ms())
    assert (dump.args, dump.result) == (b"arguments of a", b"42")
