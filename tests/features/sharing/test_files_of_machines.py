"""Files of jobs that another machine runs: all machines have them, though only the sharing one keeps them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy
import pytest

import jobkit
from jobkit.embedded.home import Home
from jobkit.features.executors.joblib import mapped
from jobkit.features.sharing.gateway import read_status
from jobkit.features.sharing.rights import MemberRole
from jobkit.model import InvalidParams, JobFailed, SignatureError
from jobkit.settings import Settings
from tests.features.sharing.conftest import member_of, running
from tests.support import wait_until
from tests.worker import jobs, places


def test_a_job_on_a_joined_machine_leaves_its_files_on_the_sharing_one(
    shared: Settings, other: Path, tmp_path: Path
) -> None:
    place, sign = member_of(shared, other), tmp_path / "sign"
    third = member_of(shared, tmp_path / "third")
    with (
        running("worker", "-q", "far", "-t", "tests.worker.jobs", home=other, JOBKIT_URL=place.url),
        jobkit.connect(home=shared.home) as here,
        jobkit.connect(third.url, home=tmp_path / "third") as there,
    ):
        job = places.submit(there.options(queue="far"), 10_000_000, str(sign))
        wait_until(lambda: here.get(job.id).snapshot.saved, what="the first checkpoint")
        gateway = read_status(Home(shared.home))["pid"]
        os.kill(gateway, signal.SIGKILL)
        sign.touch()
        places.check(here, job.id, 10_000_000)
        places.check(there, job.id, 10_000_000)
        assert job.snapshot.attempt == 1
        assert read_status(Home(shared.home))["pid"] != gateway
        assert list((tmp_path / "third" / "cache").glob("*/??/*"))
        wait_until(lambda: not list((other / "staging").rglob("log*")), what="what was on its way to be deleted")
        here.delete([job.id])
        wait_until(lambda: not list((shared.home / "results").glob("*/??/*/*")), what="the files to go")


def test_a_job_goes_on_from_its_checkpoint_on_another_machine_when_its_own_dies(
    shared: Settings, other: Path, tmp_path: Path
) -> None:
    third, notes = tmp_path / "third", tmp_path / "notes"
    environ = {"JOBKIT_LEASE": "2", "JOBKIT_HEARTBEAT": "0.3"}
    command = ("worker", "-q", "dies", "-t", "tests.worker.jobs")
    urls = [member_of(shared, home).url for home in (other, third)]
    with (
        jobkit.connect(home=shared.home) as here,
        running(*command, home=other, JOBKIT_URL=urls[0], **environ) as first,
    ):
        job = here.options(queue="dies").submit(jobs.count, str(notes), 4, stays_at=2)
        wait_until(lambda: job.snapshot.saved == "step 2", what="the checkpoint")
        first.kill()
        with running(*command, home=third, JOBKIT_URL=urls[1], **environ):
            assert job.result(60)["sum"] == 6
        assert job.snapshot.resumed == "resumed at step 2"


def test_a_log_that_could_not_be_stored_waits_for_the_next_attempt(
    shared: Settings, other: Path, tmp_path: Path
) -> None:
    def talk() -> int:
        print("\n".join(f"line {n}" for n in range(5000)), flush=True)
        while not sign.exists():
            time.sleep(0.05)
        return 1

    place, sign, results = member_of(shared, other), tmp_path / "sign", shared.home / "results"
    environ = {"JOBKIT_URL": place.url, "JOBKIT_DRAIN": "0"}

    def staged() -> list[Path]:
        return list((other / "staging").rglob("log"))

    with jobkit.connect(home=shared.home) as here:
        with running("worker", "-q", "talks", home=other, **environ):
            job = here.options(queue="talks").submit(talk)
            wait_until(lambda: any(b"line 4999\n" in log.read_bytes() for log in staged()), what="its log")
            results.mkdir(exist_ok=True)
            results.rename(tmp_path / "aside")
            results.touch()  # nothing can be stored now
        results.unlink()
        (tmp_path / "aside").rename(results)
        assert staged()
        sign.touch()
        with running("worker", "-q", "talks", home=other, **environ):
            assert job.result(60) == 1
        file = job.log_file()
        assert file is not None
        assert file.read_text().count("line 4999\n") == 2
        wait_until(lambda: not staged(), what="what was on its way to be deleted")


def test_an_array_of_joblib_on_the_sharing_machine_is_mapped_by_a_job_on_a_joined_one(
    shared: Settings, other: Path
) -> None:
    def total(mode: str) -> tuple[bool, int]:
        found = mapped(f"/home/of/another/{path}", mode)
        return isinstance(found, numpy.memmap), int(found.sum())

    place = member_of(shared, other)
    with (
        running("worker", "-q", "far", home=other, JOBKIT_URL=place.url),
        jobkit.connect(home=shared.home) as here,
    ):
        path = f"{here.connection.call(here.verbs.store.place)}/arrays/{'a' * 16}/0.npy"
        file = shared.home / "results" / path
        file.parent.mkdir(parents=True)
        numpy.save(file, numpy.arange(100_000))
        far = here.options(queue="far")
        assert far.submit(total, "r").result(60) == (True, numpy.arange(100_000).sum())
        with pytest.raises(JobFailed, match="cannot be read here"):
            far.submit(total, "r+").result(60)


def test_history_on_a_joined_machine_names_the_machine_that_has_the_archive(shared: Settings, other: Path) -> None:
    place = member_of(shared, other)
    with (
        jobkit.connect(place.url, home=other) as there,
        pytest.raises(InvalidParams, match=f"there is no archive: read it on {place.machine}, which shares this place"),
    ):
        there.archive()


def test_a_viewer_reads_whole_logs(shared: Settings, other: Path) -> None:
    viewer = member_of(shared, other, MemberRole.VIEWER)
    with jobkit.connect(home=shared.home) as here, jobkit.connect(viewer.url, home=other) as there:
        job = here.submit(lambda: print("\n".join(map(str, range(5000)))))
        job.wait(60)
        file = there.get(job.id).log_file()
        assert file is not None
        assert file.read_text().count("\n") >= 5000
        with pytest.raises(SignatureError, match="joined as a viewer"):
            there.get(job.id).result()
