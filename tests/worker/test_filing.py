"""What a worker removes: the files of forgotten jobs, and those that nobody ever heard of."""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobkit.attempts import MAX_RESULT_BYTES, Filed, ending, preview_subject
from jobkit.codec import PICKLE, Codec, Subject, is_reference
from jobkit.model import JobSpec, LogLine
from jobkit.run.base import Outcome
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore
from jobkit.store.values import Claimed, Ending, Progress, Submission, WorkerInfo
from jobkit.worker.filing import Filing
from tests.store.server import Server

CODEC = Codec([b"key"])


@pytest.fixture(scope="module")
def filing_server() -> Iterator[Server]:
    server = Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def filing(filing_server: Server, tmp_path: Path) -> AsyncIterator[Filing]:
    settings = Settings(url=filing_server.url, results=str(tmp_path / "results"))
    store = RedisStore(settings)
    filing = Filing(settings, store, CODEC)
    await filing.start()
    yield filing
    await store.redis.flushdb()
    await store.close()


async def claimed(filing: Filing, job_id: str) -> Claimed:
    await filing._store.submit([Submission(JobSpec(id=job_id, task="t"), b"")])
    [found], _ = await filing._store.claim(WorkerInfo(id="w"), 1)
    return found


def filed(filing: Filing, job: Claimed) -> Filed:
    found = filing.filed(job)
    assert found is not None
    found.depot.claim(found.folder, found.owner)
    return found


async def test_a_sweep_removes_what_belongs_to_no_job_and_nothing_else(filing: Filing) -> None:
    """A worker wrote a file and died before it could say so; nobody else will ever ask for it."""
    assert filing.depot is not None
    running = filed(filing, await claimed(filing, "running"))
    gone = filed(filing, await claimed(filing, "gone"))
    await filing._store.redis.delete(f"{filing._store.prefix}job:gone")
    earlier = filing.depot.folder("running", 1)
    filing.depot.claim(earlier, "running 1\n")

    young = await filing.sweep()
    removed = await filing.sweep(min_age_s=0)

    assert (young, removed) == (0, 2)
    assert [filing.depot.has(folder) for folder in (running.folder, gone.folder, earlier)] == [True, False, False]


async def test_litter_is_cleared_once_and_for_all(filing: Filing) -> None:
    assert filing.depot is not None
    job = await claimed(filing, "a")
    folder = filed(filing, job).folder
    await filing._store.finish([Ending("a", job.token, "succeeded", folder=folder)])
    await filing.clear_litter()
    assert filing.depot.has(folder)

    await filing._store.delete(["a"])
    await filing.clear_litter()

    assert not filing.depot.has(folder)
    assert await filing._store.litter() == []


async def test_litter_stays_where_it_cannot_be_removed(filing: Filing, tmp_path: Path) -> None:
    """A disk that refuses just now: the next heartbeat tries again."""
    assert filing.depot is not None
    job = await claimed(filing, "a")
    folder = filed(filing, job).folder
    await filing._store.finish([Ending("a", job.token, "succeeded", folder=folder)])
    await filing._store.delete(["a"])
    shelf = (tmp_path / "results" / folder).parent
    aside = shelf.rename(shelf.with_name("aside"))
    shelf.write_text("in the way")

    with pytest.raises(OSError, match="directory"):
        await filing.clear_litter()

    assert await filing._store.litter() == [folder]
    shelf.unlink()
    aside.rename(shelf)
    await filing.clear_litter()
    assert not filing.depot.has(folder)


async def test_what_an_attempt_said_begins_the_log_of_the_next(filing: Filing) -> None:
    job = await claimed(filing, "a")
    await filing._store.progress([Progress("a", job.token, lines=[LogLine("first"), LogLine("second")])])
    await filing._store.finish([Ending("a", job.token, "retried")])
    [again], _ = await filing._store.claim(WorkerInfo(id="w"), 1)

    await filing.continue_log(again)

    assert filing.depot is not None
    path = filing.depot.log_path(filing.depot.folder("a", again.us))
    assert path is not None
    assert path.read_text() == "first\nsecond\n"


# -- results that are too large, for the store or for the disk ---------------------------------------------------------


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file of this process can grow above 2 MB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def value(size: int) -> Outcome:
    return Outcome("succeeded", form=PICKLE, body=bytes(size), preview={"text": "many zeros"})


def preview(ended: Ending) -> dict[str, Any]:
    """What pages may show of it."""
    shown: dict[str, Any] = msgspec.json.decode(CODEC.verify(ended.preview, preview_subject(ended.job_id))[1])
    return shown


async def test_a_result_above_50_mb_without_a_place_for_files_is_a_success_that_says_what_to_do(filing: Filing) -> None:
    job = await claimed(filing, "a")

    fits = ending(job, value(MAX_RESULT_BYTES), CODEC, filing._settings)
    exceeds = ending(job, value(51_000_000), CODEC, filing._settings)

    assert len(fits.result) > MAX_RESULT_BYTES
    assert (exceeds.outcome, exceeds.result) == ("succeeded", b"")
    shown = preview(exceeds)
    assert shown["text"] == "many zeros"
    assert "takes 51 MB, more than the 50 MB that are kept in Redis; set JOBKIT_RESULTS" in shown["unavailable"]


@pytest.mark.usefixtures("full_disk")
async def test_where_the_disk_is_full_a_large_result_goes_into_the_store_and_leaves_no_half_of_a_file(
    filing: Filing, tmp_path: Path
) -> None:
    job = await claimed(filing, "a")
    place = filed(filing, job)

    stored = ending(job, value(5_000_000), CODEC, filing._settings, place)
    exceeds = ending(job, value(MAX_RESULT_BYTES + 1), CODEC, filing._settings, place)

    assert not is_reference(stored.result)
    assert CODEC.verify(stored.result, Subject("result", "a", "t")) == (PICKLE, bytes(5_000_000))
    shown = preview(exceeds)
    assert "could not be written to" in shown["unavailable"]
    assert "File too large" in shown["unavailable"]
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 1000] == []
