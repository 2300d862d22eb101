"""Files of jobs where workers and clients share a directory, or a bucket, and nothing else."""

from __future__ import annotations

from pathlib import Path

import jobkit
from tests.support import wait_until
from tests.worker import places
from tests.worker.conftest import Bench


def test_two_homes_that_share_a_directory_share_all_files(bench: Bench, tmp_path: Path) -> None:
    results = str(tmp_path / "mounted")
    bench.worker(JOBKIT_RESULTS=results, JOBKIT_HOME=str(tmp_path / "one"))
    with jobkit.connect(**bench.place, results=results, home=str(tmp_path / "two")) as kit:
        job = places.submit(kit)
        job.wait(60)
        places.check(kit, job.id)
        assert not list(tmp_path.glob("*/cache/*"))

        kit.delete([job.id])
        wait_until(lambda: not list(tmp_path.glob("mounted/*/??/*/*")), what="the files to go")
