"""Large parts of calls as files that submitters and workers share."""

from __future__ import annotations

from pathlib import Path

from tests.support import wait_until

from .conftest import Bench

MB = 1_000_000


def files(bench: Bench) -> list[Path]:
    return sorted((bench.folder / "results").glob("*/blobs/*/content"))


def test_jobs_share_one_file_which_is_deleted_after_the_last(sharing: Bench) -> None:
    sharing.worker()
    data = bytes(3 * MB)
    batch = sharing.kit.map(lambda n: len(data) + n, [{"n": n} for n in range(8)])
    single = sharing.kit.submit(len, data)

    assert batch.result(60) == [3 * MB + n for n in range(8)]
    assert single.result(60) == 3 * MB
    assert len(files(sharing)) == 2
    sharing.kit.delete([job.id for job in sharing.kit.jobs()])

    wait_until(lambda: not files(sharing), what="the files to be deleted")


def test_a_changed_file_is_refused_before_it_is_unpickled(sharing: Bench) -> None:
    job = sharing.kit.submit(len, bytes(3 * MB))
    [file] = files(sharing)
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    sharing.worker()

    assert job.wait(60)
    assert "a large part of its arguments is not what was submitted" in str(job.error)


def test_a_worker_without_the_directory_says_where_the_file_is(sharing: Bench) -> None:
    job = sharing.kit.submit(len, bytes(3 * MB))
    sharing.worker(JOBKIT_RESULTS="")

    assert job.wait(60)
    assert f"is a file in {sharing.folder}/results, and no directory for results is set here" in str(job.error)


def test_a_worker_with_another_directory_says_so(sharing: Bench) -> None:
    job = sharing.kit.submit(len, bytes(3 * MB))
    sharing.worker(JOBKIT_RESULTS=str(sharing.folder / "other"))

    assert job.wait(60)
    assert "cannot be read from" in str(job.error)
    assert f"it was written to {sharing.folder}/results" in str(job.error)
