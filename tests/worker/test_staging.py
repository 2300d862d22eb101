"""Files of a worker that has its place for files on another machine: they are staged, and stored at the end."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from jobkit.attempts import ending
from jobkit.codec import HEAD_BYTES, PICKLE, Subject, is_reference
from jobkit.files.file_store import PASSING, FileStore, JobFolder, opened
from jobkit.files.log import LogFile, _give_up, mark_of
from jobkit.files.log_reader import read_log
from jobkit.files.staging import Staging
from jobkit.files.storage import Directory
from jobkit.model import LogFilter
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore
from jobkit.store.values import Claimed, Ending, WorkerInfo
from jobkit.worker.job_files import SWEEP_AGE_S, JobFiles
from jobkit.worker.spool import Spool
from tests.features.sharing.serving import BASE, FileServer
from tests.store.server import Server
from tests.worker.test_job_files import CODEC, claimed, value

Staged = tuple[JobFiles, FileServer]

LINES = [f"line {n}" for n in range(2000)]


@pytest.fixture
async def staged(server: Server, tmp_path: Path) -> AsyncIterator[Staged]:
    """Files of a worker on another machine, and the server that keeps them."""
    keeper = FileServer(tmp_path / "results")
    keeper.start()
    store = RedisStore(Settings(url=server.url, home=tmp_path / "other"))
    files = JobFiles(store.settings, store, CODEC)
    files.file_store = FileStore(keeper.files(tmp_path / "cache"), BASE)
    files._stage(files.file_store)
    yield files, keeper
    keeper.close()
    await store.redis.flushdb()
    await store.close()


def folder_of(files: JobFiles, job: Claimed) -> JobFolder:
    folder = files.folder(job)
    assert folder is not None
    return folder


def at_home(files: JobFiles, server: FileServer) -> JobFiles:
    """Return the files of a worker on the machine that shares its place."""
    home = JobFiles(Settings(url=files._settings.url, results=str(server.root)), files._store, CODEC)
    home.file_store = FileStore(Directory(server.root), BASE)
    return home


def lines_in(store: FileStore | None, folder: JobFolder, *, has_ended: bool = False) -> list[str]:
    """Return the whole log of a job, as a reader of these files has it."""
    assert store is not None
    found = store.log(folder.path, has_ended=has_ended)
    assert found is not None
    return found("").read_text().splitlines()


def log_of(files: JobFiles, job: Claimed) -> LogFile:
    folder = folder_of(files, job)
    path = folder.file_store.log_path(folder.path)
    assert path is not None
    return LogFile(path, folder.owner)


def say(files: JobFiles, job: Claimed, lines: list[str]) -> None:
    log = log_of(files, job)
    log.is_file = True
    log.add(lines, mark_of("stdout"))
    log.flush()


async def again(files: JobFiles, job: Claimed) -> Claimed:
    await files._store.finish([Ending(job.spec.id, job.token, "retried")])
    [found], _ = await files._store.claim(WorkerInfo(id="w"), 1)
    return found


async def second_attempt(files: JobFiles) -> Claimed:
    """Return the attempt after one that has handed in `LINES`."""
    job = await claimed(files, "a")
    say(files, job, LINES)
    await files.hand_in_log(job)
    await files.clear_staging(job)
    return await again(files, job)


async def test_a_later_attempt_continues_the_whole_log_and_no_reader_sees_an_old_one(staged: Staged) -> None:
    files, server = staged
    job = await claimed(files, "a")
    folder = folder_of(files, job)
    here = FileStore(Directory(server.root), BASE)
    there = FileStore(server.files(server.root / "x"), BASE)
    say(files, job, LINES)
    assert here.log(folder.path) is None
    assert await files.hand_in_log(job) == ""
    await files.clear_staging(job)
    assert here.log(folder.path, has_ended=False) is not None

    job = await again(files, job)
    await files.continue_log(job)
    assert here.log(folder.path, has_ended=False) is None, "it grows elsewhere"
    assert there.log(folder.path, has_ended=False) is None
    say(files, job, ["the end"])
    assert await files.hand_in_log(job) == ""
    await files.clear_staging(job)

    for store in (here, there):
        assert lines_in(store, folder, has_ended=store is there) == [*LINES, "the end"]
    assert here.place.names(folder.path) == ["job", "log", "log.marks"]
    assert not log_of(files, job).path.parent.exists()


async def test_the_sharing_machine_continues_a_log_that_a_lost_worker_had_taken(staged: Staged) -> None:
    files, server = staged
    job = await second_attempt(files)
    await files.continue_log(job)  # and then it dies

    home = at_home(files, server)
    job = await again(files, job)
    await home.continue_log(job)
    say(home, job, ["the end"])
    assert lines_in(home.file_store, folder_of(home, job)) == [*LINES, "the end"]


async def test_a_worker_that_has_lost_its_job_does_not_replace_the_log_of_the_next_attempt(staged: Staged) -> None:
    files, server = staged
    lost = await claimed(files, "a")
    say(files, lost, LINES)  # then its link is away for longer than its lease
    home = at_home(files, server)
    job = await again(files, lost)
    await home.continue_log(job)
    say(home, job, ["of the next attempt"])

    assert await files.hand_in_log(lost) is None
    await files._store.finish([Ending("a", job.token, "failed")])
    assert await files.hand_in_log(lost) is None

    assert log_of(home, job).path.read_text() == "of the next attempt\n"


async def test_a_large_result_is_sealed_on_its_way(staged: Staged) -> None:
    files, _ = staged
    job = await claimed(files, "a")
    folder = folder_of(files, job)
    path = log_of(files, job).path.with_name(f"{PASSING}1-0")
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(HEAD_BYTES) + bytes(5_000_000))

    ended = ending(job, replace(value(0), file=str(path)), CODEC, files._settings, folder)

    assert (is_reference(ended.result), ended.folder) == (True, folder.path)
    assert opened(ended.result, Subject("result", "a", "t"), CODEC, files.file_store) == (PICKLE, bytes(5_000_000))
    assert not path.exists()


@pytest.mark.parametrize(("size", "is_kept"), [(5_000_000, True), (51_000_000, False)])
async def test_a_full_disk_of_the_sharing_machine_is_said_with_the_result(
    staged: Staged, size: int, is_kept: bool
) -> None:
    files, server = staged
    server.fill()
    job = await claimed(files, "a")
    path = log_of(files, job).path.with_name(f"{PASSING}1-0")
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(HEAD_BYTES + size)

    ended = ending(job, replace(value(0), file=str(path)), CODEC, files._settings, files.folder(job))

    said = f"the disk of {os.uname().nodename}, which shares its place, is full"
    if is_kept:
        assert CODEC.verify(ended.result, Subject("result", "a", "t")) == (PICKLE, bytes(size))
    else:
        assert ended.result == b""
        assert f"it could not be written to joined://lab ({said})" in ended.problem
    say(files, job, LINES)
    assert await files.hand_in_log(job) == f"its whole log is not kept in joined://lab ({said})"
    assert not path.exists()


async def test_a_sweep_removes_what_dead_workers_have_left_on_its_way(staged: Staged) -> None:
    files, _ = staged
    running, ended = await claimed(files, "a"), await claimed(files, "b")
    for job in (running, ended):
        say(files, job, LINES)
        for path in log_of(files, job).path.parent.iterdir():
            os.utime(path, (time.time() - SWEEP_AGE_S - 60,) * 2)
    await files._store.finish([Ending("b", ended.token, "failed")])

    await files.sweep()

    assert [log_of(files, job).path.exists() for job in (running, ended)] == [True, False]


async def test_a_sweep_leaves_what_workers_of_other_namespaces_have_on_its_way(staged: Staged) -> None:
    files, _ = staged
    staging = files.file_store and files.file_store.staging
    assert isinstance(staging, Staging)
    other = LogFile(staging.root / ("f" * 16) / "ab" / ("c" * 30) / "log", "x 1\n")
    other.is_file = True
    other.add(LINES)
    other.flush()
    for path in other.path.parent.iterdir():
        os.utime(path, (time.time() - SWEEP_AGE_S - 60,) * 2)

    await files.sweep()

    assert other.path.exists()


async def test_a_lost_attempt_leaves_its_folder_to_the_next_attempt_on_its_machine(staged: Staged) -> None:
    files, _ = staged
    lost = await claimed(files, "a")
    say(files, lost, LINES)
    job = await again(files, lost)
    await files.continue_log(job)
    say(files, job, ["the end"])

    await files.clear_lost(lost)

    assert log_of(files, job).path.read_text().splitlines() == [*LINES, "the end"]
    await files._store.finish([Ending("a", job.token, "failed")])
    await files.clear_lost(lost)
    assert not log_of(files, job).path.parent.exists()


async def test_a_log_that_a_dead_worker_has_left_gives_way_to_that_of_a_later_attempt(
    staged: Staged, tmp_path: Path
) -> None:
    files, server = staged
    job = await claimed(files, "a")
    say(files, job, ["of the first"])  # and then its worker dies

    other = JobFiles(dataclasses.replace(files._settings, home=tmp_path / "third"), files._store, CODEC)
    other.file_store = FileStore(server.files(tmp_path / "third" / "cache"), BASE)
    other._stage(other.file_store)
    job = await again(files, job)
    await other.continue_log(job)
    say(other, job, LINES)
    await other.hand_in_log(job)
    await other.clear_staging(job)

    job = await again(files, job)
    await files.continue_log(job)
    say(files, job, ["the end"])
    await files.hand_in_log(job)

    assert lines_in(FileStore(Directory(server.root), BASE), folder_of(files, job)) == [*LINES, "the end"]


async def test_a_log_that_the_disk_did_not_take_does_not_leave_that_of_the_attempt_before(staged: Staged) -> None:
    files, server = staged
    job = await second_attempt(files)
    await files.continue_log(job)
    _give_up(log_of(files, job).path)
    await files.hand_in_log(job)

    assert FileStore(Directory(server.root), BASE).log(folder_of(files, job).path) is None


async def test_a_log_on_a_url_can_be_searched(staged: Staged) -> None:
    files, _ = staged
    job = await claimed(files, "a")
    say(files, job, LINES)
    await files.hand_in_log(job)
    assert files.file_store is not None
    folder = folder_of(files, job)
    found = files.file_store.log(folder.path)
    assert found is not None
    assert [(line.n, line.text, line.source) for line in read_log(found, LogFilter("line 1234")).lines] == [
        (1235, "line 1234", "stdout")
    ]


async def test_endings_are_written_to_disk_while_all_threads_wait_for_the_sharing_machine(tmp_path: Path) -> None:
    spool, is_back = Spool(Settings(home=tmp_path), CODEC, "w"), threading.Event()
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as threads:
        loop.set_default_executor(threads)
        try:
            waiting = loop.run_in_executor(None, is_back.wait, 60)
            async with asyncio.timeout(30):
                await spool.keep((Ending("a", "token", "failed"),), (), ())
            assert not waiting.done()
        finally:
            is_back.set()
    assert len(list(tmp_path.glob("spool/*/w"))) == 1
