"""What a worker removes: the files of forgotten jobs, and those that nobody ever heard of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from jobkit.attempts import Filed
from jobkit.codec import Codec
from jobkit.model import JobSpec, LogLine
from jobkit.settings import Settings
from jobkit.store.base import Claimed, Ending, Progress, Submission, WorkerInfo
from jobkit.store.redis import RedisStore
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
