"""Jobs move from one server to another with all that they need."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

import jobkit
from jobkit.client.kit import Kit
from jobkit.features.moving.transfer import JobExport, JobImport
from tests.support import wait_until
from tests.worker import furnished, jobs
from tests.worker.conftest import Bench


def exported(kit: Kit, *ids: str, **options: bool) -> tuple[JobExport, io.BytesIO]:
    job_export = JobExport(kit, **options)
    return job_export, io.BytesIO(b"".join(job_export.lines(ids)))


def imported(kit: Kit, source: io.BytesIO) -> JobImport:
    job_import = JobImport(kit, source, waiting=True)
    job_import.check()
    job_import.store()
    return job_import


def test_jobs_move_with_all_that_they_need(bench: Bench, other: Bench) -> None:
    """Files, large parts of calls, checkpoints, metrics, facts; and a job that waits."""
    bench.worker(JOBKIT_RESULTS=bench.file("results"))
    with (
        jobkit.connect(**bench.place, results=bench.file("results")) as kit,
        jobkit.connect(**other.place, results=other.file("results")) as there,
    ):
        job = furnished.furnished(kit)
        waits = kit.options(queue="later").submit(jobs.furnish, furnished.DATA, 1)

        job_export, lines = exported(kit, waits.id, job.id)
        kit.cancel(waits.id)
        kit.delete([job.id, waits.id])
        done = imported(there, lines)

        assert (job_export.count, job_export.missing) == (2, [])
        assert len(lines.getvalue()) < 15_000_000  # the argument of both is there once
        assert (done.stored, done.submitted, list(done.problems)) == (1, 1, [])
        other.worker("-q", "default", "-q", "later", JOBKIT_RESULTS=other.file("results"))
        furnished.check(there, job)
        assert there.get(waits.id).result(60) == furnished.DATA * 2
        again = imported(there, lines)
        assert (again.stored, again.submitted) == (0, 0)

        there.delete([one.id for one in there.jobs()])
        results = Path(other.file("results"))
        wait_until(lambda: not _kept(results), what="the files to go")


def test_a_running_job_goes_on_at_another_server_from_its_checkpoint(bench: Bench, other: Bench) -> None:
    worker = bench.worker(JOBKIT_RESULTS=bench.file("results"))
    with (
        jobkit.connect(**bench.place, results=bench.file("results")) as kit,
        jobkit.connect(**other.place, results=bench.file("results")) as there,
    ):
        job = kit.submit(jobs.count, bench.file(), 40, pause_s=0.05)
        wait_until(lambda: job.snapshot.saved, what="the checkpoint to be known")
        _, lines = exported(kit, job.id)
        worker.kill()

        done = imported(there, lines)

        assert (done.stored, done.submitted, list(done.problems)) == (0, 1, [])
        assert there.get(job.id).state == "cancelled"
        other.worker(JOBKIT_RESULTS=bench.file("results"))
        (later,) = [one for one in there.jobs() if one.id != job.id]
        assert later.result(60)["sum"] == sum(range(40))
        assert later.snapshot.resumed.startswith("resumed at step ")
        assert imported(there, lines).submitted == 0
        kit.cancel(job.id)


def test_files_in_a_shared_directory_stay_those_of_the_server_that_made_them(bench: Bench, other: Bench) -> None:
    bench.worker(JOBKIT_RESULTS=bench.file("results"))
    with (
        jobkit.connect(**bench.place, results=bench.file("results")) as kit,
        jobkit.connect(**other.place, results=bench.file("results")) as there,
    ):
        job = furnished.furnished(kit)

        done = imported(there, exported(kit, job.id)[1])
        assert done.stored == 1
        assert there.get(job.id).result(60) == furnished.DATA * 2
        assert there.checkpoints(job.id)[-1].value() == {"step": 3}
        there.delete([job.id])

        assert there.verbs.store is not kit.verbs.store
        orphaned = there.connection.call(there.verbs.store.orphaned)
        assert [folder for folder in orphaned if "blobs" not in folder] == []
        assert job.result(60) == furnished.DATA * 2


def test_what_an_export_lacks_is_named(bench: Bench) -> None:
    bench.worker(JOBKIT_RESULTS=bench.file("results"))
    with jobkit.connect(**bench.place, results=bench.file("results")) as kit:
        job = furnished.furnished(kit)
        without, lines = exported(kit, job.id, has_files=False)

    kinds = {"part of the arguments", "result", "artifact", "checkpoint"}
    assert {one.what for one in without.missing} == kinds
    assert b"large.bin" in lines.getvalue()
    assert len(lines.getvalue()) < 100_000
    unreached, _ = exported(bench.kit, job.id)  # it has no JOBKIT_RESULTS
    assert {one.what for one in unreached.missing} == {"part of the arguments", "folder of files"}


@pytest.mark.parametrize("cut", ["in a part", "damaged"])
def test_a_content_that_is_not_whole_is_left_out(bench: Bench, other: Bench, cut: str) -> None:
    job = bench.kit.options(queue="later").submit(jobs.furnish, furnished.DATA)
    _, source = exported(bench.kit, job.id)
    lines = source.getvalue().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if b'"piece":"part"' in line)
    lines[at:] = lines[at : at + 1] if cut == "in a part" else [lines[at].replace(b'"content":"', b'"content":"AAAA')]
    done = imported(other.kit, io.BytesIO(b"".join(lines)))

    assert done.submitted == 0
    assert any("not whole" in said or "damaged" in said for said in done.problems)
    assert f"job {job.id} was left out: large parts of its arguments are missing" in done.problems
    bench.kit.cancel(job.id)


def test_an_import_says_that_jobs_are_signed_with_another_key(bench: Bench) -> None:
    job = bench.kit.submit(len, "abc")
    job.cancel()
    _, lines = exported(bench.kit, job.id)
    bench.kit.delete([job.id])

    assert not imported(bench.kit, lines).problems
    lines.seek(0)
    with jobkit.connect(**{**bench.place, "secret": "another"}) as other:
        [said] = imported(other, lines).problems
    assert "they are signed with another key" in said


def _kept(folder: Path) -> list[str]:
    """Return the names of results and large values below a folder, from which a worker may just delete some."""
    found = [name for _, folders, files in os.walk(folder) for name in (*folders, *files)]
    return [name for name in found if name == "content" or name.startswith("result")]
