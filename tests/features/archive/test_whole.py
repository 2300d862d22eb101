"""Redis and the results are gone: the archive is whole, and says what it was not given."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import redis

import jobkit
from tests.support import wait_until
from tests.worker import furnished
from tests.worker.conftest import Bench, bench, shared_server

__all__ = ["bench", "shared_server"]


def wipe(bench: Bench) -> None:
    """Stop the workers, and delete the namespace with all files of its jobs."""
    for process in bench.workers:
        process.terminate()
        process.wait(60)
    with redis.Redis.from_url(bench.place["url"]) as client:
        for key in client.scan_iter(f"jk:{bench.place['namespace']}:*"):
            client.delete(key)
    shutil.rmtree(bench.file("results"))


def test_a_wiped_redis_leaves_an_archive_from_which_jobs_come_back_whole(bench: Bench) -> None:
    where = {"results": bench.file("results"), "archive": bench.file("archive")}
    environ = {f"JOBKIT_{name.upper()}": value for name, value in where.items()}
    bench.worker(**environ)
    with jobkit.connect(**bench.place, **where) as kit:
        job = furnished.furnished(kit)
        size = kit.submit(len, job)
        size.wait(60)
        wait_until(lambda: len(kit.archive()) == 2, what="the archive")
        wipe(bench)

    with jobkit.connect(**bench.place, **where) as kit:
        found = kit.archive("task:furnish")
        assert found["left_out"][job.id] == ""
        assert found["loss"][job.id] == 1 / 3
        assert kit.archive.reopen([size.id]) == {size.id: ""}  # and the job that it needs

        bench.worker(**environ)
        assert kit.retry(size.id).result(60) == len(furnished.DATA) * 2
        furnished.check(kit, job)


@pytest.mark.nightly
def test_what_was_too_large_for_the_archive_is_told_in_history_log_and_errors(bench: Bench) -> None:
    where = {"results": bench.file("results"), "archive": bench.file("archive")}
    environ = {f"JOBKIT_{name.upper()}": value for name, value in where.items()}
    bench.worker(**environ, JOBKIT_ARCHIVE_FILES="1kB")
    with jobkit.connect(**bench.place, **where) as kit:
        job = furnished.furnished(kit)
        wait_until(lambda: len(kit.archive()) == 1, what="the archive")
        wipe(bench)

    with jobkit.connect(**bench.place, **where) as kit:
        left_out = kit.archive()["left_out"][job.id]
        assert left_out == "part of the arguments (1.5 MB), artifact (2.0 MB), result (3.0 MB)"
        assert kit.archive.reopen([job.id]) == {job.id: left_out}
        assert any(left_out in line.text for line in kit.logs(job.id))
        back = kit.get(job.id)
        assert len(back.metrics()) == 3
        assert [kept.value() for kept in back.checkpoints()] == [{"step": 2}, {"step": 3}]
        with pytest.raises(jobkit.JobNotFound, match="large parts of the arguments"):
            back.retry()
        with pytest.raises(jobkit.ResultExpired, match="is a file that cannot be read"):
            back.result()
    assert not list(Path(bench.file("archive")).rglob("parts"))
