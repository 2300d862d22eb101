"""A worker dies, freezes, is cut off or delayed directly before or after each reply of the store: all promises hold.

One worker with one fault for each place, all at the same time, each with a job in a separate queue. When all faults
have happened, a worker without faults serves all queues.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from jobkit.client.job import Job
from tests.support import environment, wait_until

from . import jobs
from .conftest import HEARTBEAT_S, LEASE_S, Bench

#: Moments and the pass of the place: the first claim only withdraws the worker's offer, and the heartbeat should come
#: while the job runs.
PLACES = {
    "claim": ("before_send:{}:2", "before_reply:{}:2", "after_reply:{}:2"),
    "progress": ("before_send:{}", "before_reply:{}", "after_reply:{}"),
    "keep": ("before_send:{}", "before_reply:{}", "after_reply:{}"),
    "renew": ("before_send:{}:6", "before_reply:{}:6"),
    "prune": ("before_send:{}:6",),  # after the reply to `renew`
    "finish": ("before_send:{}", "before_reply:{}", "after_reply:{}"),
}

#: Places at which the server has stored the end before the fault.
STORED = {"finish:before_reply", "finish:after_reply"}


@dataclass
class Case:
    """One fault and its job. `queue` is also the name of the file with the job's notes."""

    fault: str
    queue: str
    job: Job
    path: Path
    pid: int = 0

    @property
    def place(self) -> str:
        return ":".join(self.fault.split(":")[:2])

    def notes(self, word: str) -> list[str]:
        """Return the last words of lines that start with `word`."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [line.split()[-1] for line in lines if line.startswith(word)]


class Crew:
    """Workers with one fault each, and their jobs."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.sign = Path(bench.file("go"))
        self.cases: list[Case] = []
        self.statuses: dict[int, int] = {}
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def begin(self, what: str) -> None:
        """Start a job and a worker for every place."""
        words = []
        for script, moments in PLACES.items():
            for moment in moments:
                fault, queue = f"{script}:{moment.format(what)}", f"q{len(self.cases)}"
                options = self.bench.kit.options(queue=queue, isolation="thread")
                job = options.submit(jobs.everything, path=self.bench.file(queue), sign=str(self.sign))
                self.cases.append(Case(fault, queue, job, Path(self.bench.file(queue))))
                words += [fault, queue]
        names = {f"JOBKIT_{name.upper()}": value for name, value in self.bench.place.items()}
        names |= {"JOBKIT_LEASE": str(LEASE_S), "JOBKIT_HEARTBEAT": str(HEARTBEAT_S)}
        with self.bench.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.worker.crew", *words],
                env=environment(**names),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        for case, pid in zip(self.cases, self._process.stdout.readline().split(), strict=True):
            case.pid = int(pid)
        self._reader = threading.Thread(target=self._read, name="crew")
        self._reader.start()

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            pid, status = line.split()
            self.statuses[int(pid)] = int(status)

    def strike(self) -> None:
        """Wait until all faults have happened; for faults of `finish`, let the jobs end first."""
        for case in self.cases:
            if case.place.startswith("finish"):
                wait_until(lambda case=case: case.notes("start"), what=f"the job of {case.fault} to begin")
            else:
                wait_until(lambda case=case: self._is_struck(case), what=f"{case.fault} to happen")
        self.sign.touch()
        for case in self.cases:
            wait_until(lambda case=case: self._is_struck(case), what=f"{case.fault} to happen")

    def _is_struck(self, case: Case) -> bool:
        try:
            return case.pid in self.statuses or psutil.Process(case.pid).status() in ("stopped", "zombie")
        except psutil.NoSuchProcess:  # it was hit and has been reaped
            return True

    def rescue(self) -> None:
        """Start a worker for all queues, and wait for the end of all jobs."""
        self.bench.worker(*(word for case in self.cases for word in ("-q", case.queue)))
        self.await_ends()

    def await_ends(self) -> None:
        for case in self.cases:
            assert case.job.wait(60), f"{case.fault}: {case.job}"

    def close(self) -> None:
        for case in self.cases:
            if case.pid not in self.statuses:
                os.kill(case.pid, signal.SIGCONT)
        if self._process is not None and self._reader is not None:
            self._process.communicate()
            self._reader.join()

    def at(self, case: Case) -> tuple[int, int]:
        """Return attempts and losses of a job."""
        snapshot = self.bench.kit.snapshot(case.job.id)
        return snapshot.attempt, snapshot.losses

    def broken(self) -> Iterator[str]:
        """Yield broken promises."""
        for case in self.cases:
            snapshot = self.bench.kit.snapshot(case.job.id)
            types = [str(event.type) for event in snapshot.history]
            attempts, runs = snapshot.attempt, len(case.notes("start"))
            if types.count("succeeded") != 1 or types[-1] != "succeeded":
                yield f"{case.fault}: {types}"
            if [event.seq for event in snapshot.history] != list(range(1, snapshot.seq + 1)):
                yield f"{case.fault}: events with gaps"
            if attempts != 1 + snapshot.losses + snapshot.releases:
                yield f"{case.fault}: {attempts} attempts, {snapshot.losses} losses, {snapshot.releases} releases"
            if runs > attempts:
                yield f"{case.fault}: {runs} runs in {attempts} attempts"
            if case.job.result(60) not in case.notes("end"):
                yield f"{case.fault}: the result is {case.job.result(60)}, and {case.notes('end')} have ended"
            if case.place in STORED and (attempts, runs) != (1, 1):
                yield f"{case.fault}: the end was stored, and the job ran again"
            if [info.name for info in case.job.artifacts()] != ["kept.txt"]:
                yield f"{case.fault}: artifacts {case.job.artifacts()}"
            if "a line" not in [line.text for line in self.bench.kit.logs(case.job.id)]:
                yield f"{case.fault}: no log"
        if len(self.bench.kit.jobs(limit=100)) != len(self.cases):
            yield f"{len(self.bench.kit.jobs(limit=100))} jobs"


@pytest.fixture
def crew(bench: Bench) -> Iterator[Crew]:
    crew = Crew(bench)
    yield crew
    crew.close()


@pytest.mark.timeout(240)
def test_a_worker_that_dies_before_or_after_any_reply_loses_no_job(crew: Crew) -> None:
    crew.begin("kill")

    crew.strike()
    crew.rescue()

    assert list(crew.broken()) == []
    assert set(crew.statuses.values()) == {-signal.SIGKILL}
    lost = {case.place for case in crew.cases if crew.at(case) == (2, 1)}
    assert lost == {case.place for case in crew.cases} - STORED - {"claim:before_send"}


@pytest.mark.nightly
@pytest.mark.timeout(240)
def test_a_worker_that_freezes_before_or_after_any_reply_changes_nothing_when_it_wakes(crew: Crew) -> None:
    crew.begin("stop")

    crew.strike()
    crew.rescue()
    before = [crew.bench.kit.snapshot(case.job.id) for case in crew.cases]
    for case in crew.cases:
        os.kill(case.pid, signal.SIGCONT)

    wait_until(lambda: {case.pid for case in crew.cases} <= set(crew.bench.alive()), what="the workers to be back")
    later = [crew.bench.kit.options(queue=case.queue).submit(jobs.count_up, 1) for case in crew.cases]
    assert all(job.wait(60) for job in later)
    crew.bench.kit.delete([job.id for job in later])
    assert list(crew.broken()) == []
    assert [crew.bench.kit.snapshot(case.job.id).seq for case in crew.cases] == [one.seq for one in before]


@pytest.mark.nightly
@pytest.mark.timeout(240)
@pytest.mark.parametrize("what", ["drop", "delay=0.5"])
def test_a_worker_survives_a_cut_or_a_delay_before_or_after_any_reply(crew: Crew, what: str) -> None:
    crew.begin(what)

    for case in crew.cases:
        wait_until(lambda case=case: case.notes("start"), what=f"the job of {case.fault} to begin")
    crew.sign.touch()
    crew.await_ends()

    assert list(crew.broken()) == []
    assert crew.statuses == {}
    again = {case.place for case in crew.cases if crew.at(case) != (1, 0)}
    assert again <= ({"claim:before_reply"} if what == "drop" else set()), "the client did not know of its claim"
