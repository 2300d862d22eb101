"""Workers are replaced by those of the next version one after the other, while clients of both submit."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobkit
from jobkit.client.kit import Kit
from tests.store.server import Server, running_server
from tests.support import ROOT, environment, wait_until

from .tasks import note_run

pytestmark = pytest.mark.nightly

server = pytest.fixture(running_server, name="server")

#: Commits between this version and the earlier one.
_BACK = 300

#: Submits jobs until its standard input ends, and prints their ids.
_SUBMITTER = """
import sys, threading, time
import jobkit
from tests.upgrade.tasks import note_run
is_over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), is_over.set()), daemon=True).start()
with jobkit.connect() as kit:
    print(jobkit.__file__, flush=True)
    while not is_over.is_set():
        print(kit.submit(note_run, sys.argv[1]).id, flush=True)
        time.sleep(0.03)
"""


@pytest.fixture(params=["another library", "an earlier commit"])
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a folder with the code of another version."""
    folder = tmp_path / "other"
    folder.mkdir()
    if request.param == "an earlier commit":
        archive = subprocess.run(["git", "archive", f"HEAD~{_BACK}", "jobkit"], cwd=ROOT, capture_output=True)
        if archive.returncode != 0:
            pytest.skip(f"this checkout has no {_BACK} commits")
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        return folder
    shutil.copytree(ROOT / "jobkit", folder / "jobkit", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "jobkit" / "store" / "lua" / "verbs" / "stop.lua").open("a") as lua:
        lua.write("-- of another version\n")
    return folder


class Rollout:
    """Workers and submitters of two versions on one server."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.place = {"url": server.url, "namespace": f"t{secrets.token_hex(4)}", "secret": "of these tests"}
        self._folder = folder
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, version: Path, *command: str) -> subprocess.Popen[str]:
        names = {f"JOBKIT_{name.upper()}": value for name, value in self.place.items()}
        process = subprocess.Popen(
            [sys.executable, "-P", *command],
            env=environment(**names) | {"PYTHONPATH": f"{version}:{ROOT}"},
            cwd=self._folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def worker(self, kit: Kit, version: Path) -> subprocess.Popen[str]:
        """Start a worker, and return when it takes jobs."""
        process = self.start(version, "-m", "jobkit", "worker", "-c", "2", "-t", "tests.upgrade.tasks")
        wait_until(lambda: process.pid in [one.pid for one in kit.workers() if one.takes_jobs], what="the worker")
        return process

    @contextlib.contextmanager
    def submitter(self, version: Path, runs: str) -> Iterator[list[str]]:
        """Submit in a process of this version meanwhile; the list has the jobs' ids."""
        process, ids = self.start(version, "-c", _SUBMITTER, runs), list[str]()
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().startswith(str(version))
        reader = threading.Thread(target=lambda: ids.extend(line.strip() for line in process.stdout or ()))
        reader.start()
        yield ids
        process.stdin.close()
        reader.join()
        assert process.wait(60) == 0

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in filter(None, (process.stdin, process.stdout)):
                pipe.close()


@pytest.fixture
def rollout(server: Server, tmp_path: Path) -> Iterator[Rollout]:
    rollout = Rollout(server, tmp_path)
    yield rollout
    rollout.close()


@pytest.mark.parametrize("way", ["upgrade", "downgrade"])
def test_a_rolling_restart_under_load_runs_each_job_once(
    rollout: Rollout, other: Path, tmp_path: Path, way: str
) -> None:
    before, after = (other, ROOT) if way == "upgrade" else (ROOT, other)
    runs = tmp_path / "runs"
    with jobkit.connect(**rollout.place) as kit:
        old = [rollout.worker(kit, before) for _ in range(2)]
        with rollout.submitter(other, str(runs)) as theirs, rollout.submitter(ROOT, str(runs)) as ours:
            waiting = [kit.options(delay=1 + n * 0.1).submit(note_run, str(runs)).id for n in range(20)]
            new = []
            for worker in old:
                wait_until(lambda: len(theirs) > 20 and len(ours) > 20, what="the load")
                new.append(rollout.worker(kit, after))
                worker.send_signal(signal.SIGTERM)
                assert worker.wait(60) == 0
        ids = [*theirs, *ours, *waiting]
        found = [kit.get(job_id) for job_id in ids]
        results = Counter(job.result(60) for job in found)
        for worker in new:
            worker.terminate()
            assert worker.wait(60) == 0

    assert set(results) == {str(before), str(after)}
    assert Counter(runs.read_text().split()) == Counter(ids)
    assert {(job.state, job.attempt) for job in found} == {("succeeded", 1)}
