"""Files that a worker removes: files of deleted jobs, and files that no record names."""

from __future__ import annotations

import os
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from jobkit.attempts import MAX_RESULT_BYTES, artifact_subject, ending, preview_subject
from jobkit.codec import HEAD_BYTES, PICKLE, Blob, Codec, Subject, is_reference
from jobkit.features.archive.store import ArchiveStore
from jobkit.files.file_store import PASSING, JobFolder, opened
from jobkit.model import JobSpec, LogLine
from jobkit.run.attempt import Outcome
from jobkit.run.inside.pictures import PICTURE
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore
from jobkit.store.values import AttemptNews, Claimed, Ending, Submission, WorkerInfo
from jobkit.worker.attempt import RunningAttempt
from jobkit.worker.job_files import JobFiles
from tests.store.server import Server

CODEC = Codec([b"key"])


@pytest.fixture
async def job_files(server: Server, tmp_path: Path) -> AsyncIterator[JobFiles]:
    settings = Settings(url=server.url, results=str(tmp_path / "results"))
    store = RedisStore(settings)
    job_files = JobFiles(settings, store, CODEC)
    await job_files.start()
    yield job_files
    await store.redis.flushdb()
    await store.close()


async def claimed(job_files: JobFiles, job_id: str) -> Claimed:
    await job_files._store.submit([Submission(JobSpec(id=job_id, task="t"), b"")])
    [found], _ = await job_files._store.claim(WorkerInfo(id="w"), 1)
    return found


def folder_of(job_files: JobFiles, job: Claimed) -> JobFolder:
    found = job_files.folder(job)
    assert found is not None
    found.file_store.claim(found)
    return found


async def test_a_sweep_removes_only_files_without_a_job(job_files: JobFiles) -> None:
    """A worker wrote a file and died before it recorded the file, so no job refers to it."""
    assert job_files.file_store is not None
    running = folder_of(job_files, await claimed(job_files, "running"))
    gone = folder_of(job_files, await claimed(job_files, "gone"))
    await job_files._store.redis.delete(f"{job_files._store.prefix}job:gone")
    earlier = job_files.file_store.folder("running", 1)
    job_files.file_store.claim(earlier)

    young = await job_files.sweep()
    removed = await job_files.sweep(min_age_s=0)

    assert (young, removed) == (0, 2)
    assert [job_files.file_store.has(folder.path) for folder in (running, gone, earlier)] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("is_older", [False, True])
async def test_a_sweep_leaves_the_files_of_a_deleted_job_that_waits_for_the_archive(
    job_files: JobFiles, is_older: bool
) -> None:
    """`is_older`: the worker that archives it, which leaves the name of its folder."""
    store = job_files._store
    await store.part(ArchiveStore).open("an archive that is away", "")
    job = await claimed(job_files, "a")
    folder = folder_of(job_files, job)
    await store.finish([Ending("a", job.token, "succeeded", result=b"", ttl_ms=60_000, folder=folder.path)])
    await store.delete(["a"])

    assert await job_files.sweep(min_age_s=0) == 0

    part = await store.part(ArchiveStore).next_part(10)
    if is_older:
        await store.redis.delete(f"{store.prefix}job:!{part.entries[0][0]}")
        assert await job_files.sweep(min_age_s=0) == 1
    else:
        await store.part(ArchiveStore).done(part)
        await job_files.clear_litter()
    assert not folder.file_store.has(folder.path)
    assert not await store.redis.exists(f"{store.prefix}filed")


async def test_orphaned_files_are_removed_once(job_files: JobFiles) -> None:
    assert job_files.file_store is not None
    job = await claimed(job_files, "a")
    folder = folder_of(job_files, job).path
    await job_files._store.finish([Ending("a", job.token, "succeeded", folder=folder)])
    await job_files.clear_litter()
    assert job_files.file_store.has(folder)

    await job_files._store.delete(["a"])
    await job_files.clear_litter()

    assert not job_files.file_store.has(folder)
    assert await job_files._store.orphaned() == []


async def test_files_that_cannot_be_removed_stay_listed(job_files: JobFiles, tmp_path: Path) -> None:
    """The disk refuses for a moment: the next heartbeat retries."""
    assert job_files.file_store is not None
    job = await claimed(job_files, "a")
    folder = folder_of(job_files, job).path
    await job_files._store.finish([Ending("a", job.token, "succeeded", folder=folder)])
    await job_files._store.delete(["a"])
    group = (tmp_path / "results" / folder).parent
    aside = group.rename(group.with_name("aside"))
    group.write_text("in the way")

    with pytest.raises(OSError, match="directory"):
        await job_files.clear_litter()

    assert await job_files._store.orphaned() == [folder]
    group.unlink()
    aside.rename(group)
    await job_files.clear_litter()
    assert not job_files.file_store.has(folder)


async def test_output_of_a_lost_attempt_begins_the_log_of_the_next(job_files: JobFiles) -> None:
    job = await claimed(job_files, "a")
    await job_files._store.progress([AttemptNews("a", job.token, lines=[LogLine("first"), LogLine("second")])])
    await job_files._store.finish([Ending("a", job.token, "retried")])
    [again], _ = await job_files._store.claim(WorkerInfo(id="w"), 1)

    await job_files.continue_log(again)

    assert job_files.file_store is not None
    path = job_files.file_store.log_path(job_files.file_store.folder("a", again.us).path)
    assert path is not None
    assert path.read_text() == "first\nsecond\n"


async def test_large_artifacts_that_a_killed_worker_left_on_their_way_are_removed(
    job_files: JobFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    job = await claimed(job_files, "a")
    folder = tmp_path / "results" / folder_of(job_files, job).path
    left, other, remote = folder / f"{PASSING}1-1", folder / "artifact.1", tmp_path / f"{PASSING}2-1"
    for path in (left, other, remote):
        path.touch()

    await job_files.continue_log(job)
    await job_files.sweep()

    assert [path.exists() for path in (left, other, remote)] == [False, True, True]
    os.utime(remote, (1, 1))
    await job_files.sweep()
    assert not remote.exists()


# -- results that are too large, for the store or for the disk ---------------------------------------------------------


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Limit files of this process to 2 MB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def value(size: int) -> Outcome:
    return Outcome("succeeded", form=PICKLE, body=bytes(size), preview={"text": "many zeros"})


def preview(ended: Ending) -> dict[str, Any]:
    """Return the preview of the result."""
    shown: dict[str, Any] = msgspec.json.decode(CODEC.verify(ended.preview, preview_subject(ended.job_id))[1])
    return shown


async def test_a_result_above_50_mb_without_a_file_store_is_a_success_that_says_what_to_do(
    job_files: JobFiles,
) -> None:
    job = await claimed(job_files, "a")

    fits = ending(job, value(MAX_RESULT_BYTES), CODEC, job_files._settings)
    exceeds = ending(job, value(51_000_000), CODEC, job_files._settings)

    assert len(fits.result) > MAX_RESULT_BYTES
    assert (exceeds.outcome, exceeds.result) == ("succeeded", b"")
    shown = preview(exceeds)
    assert shown["text"] == "many zeros"
    assert exceeds.problem == shown["unavailable"]
    assert exceeds.summary.startswith("(not kept) ")
    assert "takes 51 MB, more than the 50 MB that are kept in Redis; set JOBKIT_RESULTS" in shown["unavailable"]


async def test_a_result_in_a_file_of_its_folder_is_sealed_there(job_files: JobFiles, tmp_path: Path) -> None:
    job = await claimed(job_files, "a")
    place = folder_of(job_files, job)
    path = tmp_path / "results" / place.path / f"{PASSING}1-0"
    path.write_bytes(bytes(HEAD_BYTES) + bytes(5_000_000))
    outcome = replace(value(0), file=str(path))

    ended = ending(job, outcome, CODEC, job_files._settings, place)

    assert not path.exists()
    assert opened(ended.result, Subject("result", "a", "t"), CODEC, job_files.file_store) == (PICKLE, bytes(5_000_000))
    lost = ending(job, outcome, CODEC, job_files._settings, place)
    assert (lost.outcome, lost.result, lost.summary) == ("succeeded", b"", "(not kept) ")
    assert "its result is lost" in lost.problem


@pytest.mark.usefixtures("full_disk")
async def test_on_a_full_disk_a_large_result_is_stored_in_redis_and_no_partial_file_stays(
    job_files: JobFiles, tmp_path: Path
) -> None:
    job = await claimed(job_files, "a")
    place = folder_of(job_files, job)

    stored = ending(job, value(5_000_000), CODEC, job_files._settings, place)
    exceeds = ending(job, value(MAX_RESULT_BYTES + 1), CODEC, job_files._settings, place)

    assert not is_reference(stored.result)
    assert CODEC.verify(stored.result, Subject("result", "a", "t")) == (PICKLE, bytes(5_000_000))
    shown = preview(exceeds)
    assert "could not be written to" in shown["unavailable"]
    assert "File too large" in shown["unavailable"]
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 1000] == []


async def test_a_sweep_removes_large_parts_that_the_store_does_not_know(job_files: JobFiles) -> None:
    file_store, blobs = job_files.file_store, job_files._store.blobs
    assert file_store is not None
    kept, orphaned = (file_store.put_blob(Blob.of(content)) for content in (b"kept", b"orphaned"))
    twice = file_store.put_blob(Blob.of(b"kept"))  # two processes may upload one content at once
    assert await blobs.put(Blob.of(b"kept").name, f"f{kept} 4 here".encode())

    assert await job_files.sweep(3600.0) == 0
    assert await job_files.sweep(0.0) == 2

    assert Path(str(file_store.blob(kept))).read_bytes() == b"kept"
    for folder in (orphaned, twice):
        with pytest.raises(FileNotFoundError):
            file_store.blob(folder)


async def test_what_a_job_replaces_before_the_next_exchange_does_not_fill_the_worker(job_files: JobFiles) -> None:
    job = await claimed(job_files, "a")
    unused: Any = None
    attempt = RunningAttempt(job, lambda: None, job_files, unused, unused, unused, None)

    for number in range(300):
        attempt.artifact("show:figure", PICTURE, b"%d" % number)
        if number < 100:
            attempt.artifact("other", "text/plain", b"%d" % number)
    await attempt.settle()

    assert [(one.info.name, one.number) for one in attempt.kept] == [("other", 200), ("show:figure", 400)]
    await job_files._store.exchange([], [], None, attempt.kept)
    sealed = await job_files._store.artifact("a", "show:figure")
    assert sealed is not None
    subject = artifact_subject(job.spec, "show:figure", PICTURE)
    assert job_files._codec.verify(sealed, subject)[1] == b"299"
