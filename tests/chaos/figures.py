"""Measurements for docs/reliability.md: `python -m tests.chaos.figures [NAME ...]`. All take about six minutes."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

import jobkit
from jobkit.model import StoreUnavailable
from tests.chaos.embedded import Embedded
from tests.store.server import Server
from tests.support import living_with, wait_until
from tests.worker import jobs
from tests.worker.conftest import Bench

pause = threading.Event().wait


@contextmanager
def fresh() -> Iterator[Bench]:
    with Server() as server, closing(Bench(server, Path(tempfile.mkdtemp(prefix="jkf-")))) as bench:
        yield bench


def recovery(times: int, **settings: str) -> list[float]:
    """Return the seconds from SIGKILL of a worker to the start of its job on another worker."""
    took = []
    for _ in range(times):
        with fresh() as bench:
            first = bench.worker(**settings)
            job = bench.kit.submit(jobs.until, bench.file(), bench.file("go"))
            bench.started()
            bench.worker(**settings)
            killed = time.monotonic()
            first.kill()
            wait_until(lambda bench=bench: len(bench.notes()) == 2, what="the second start")
            took.append(time.monotonic() - killed)
            Path(bench.file("go")).touch()
            assert job.result(20) == "done"
    return took


def outage(seconds: float, lease_s: float, count: int) -> tuple[int, int, float]:
    """Return starts and losses of jobs during an outage, and the seconds from its end until all jobs have ended."""
    settings = {"JOBKIT_LEASE": str(lease_s), "JOBKIT_HEARTBEAT": str(lease_s / 3)}
    with fresh() as bench:
        for _ in range(2):
            bench.worker(**settings)
        running = [bench.kit.submit(jobs.wait, bench.file(), seconds) for _ in range(count)]
        wait_until(lambda: len(bench.notes()) == count, what="all to run")
        bench.server.kill()
        pause(seconds + 0.5)
        bench.server.start()
        back = time.monotonic()
        for job in running:
            job.result(60)
        took = time.monotonic() - back
        starts = sum(note.startswith("start") for note in bench.notes())
        return starts, sum(job.snapshot.losses for job in running), took


def handover(times: int) -> list[float]:
    """Return the seconds from SIGTERM of a worker (drain time too short) to the start of its job on another worker."""
    took = []
    for _ in range(times):
        with fresh() as bench:
            first = bench.worker(JOBKIT_DRAIN="0")
            job = bench.kit.submit(jobs.wait, bench.file(), 60.0)
            bench.started()
            bench.worker()
            asked = time.monotonic()
            first.terminate()
            wait_until(
                lambda bench=bench: sum(n.startswith("start") for n in bench.notes()) == 2, what="the second start"
            )
            took.append(time.monotonic() - asked)
            job.cancel()
            assert job.wait(20)
    return took


def answer(times: int) -> list[float]:
    """Return the seconds until a submit says that the server is frozen."""
    took = []
    with fresh() as bench:
        for _ in range(times):
            os.kill(bench.server.pid, signal.SIGSTOP)
            began = time.monotonic()
            try:
                bench.kit.submit(jobs.count_up, 1)
                raise AssertionError("a frozen server has answered")
            except StoreUnavailable:
                took.append(time.monotonic() - began)
            finally:
                os.kill(bench.server.pid, signal.SIGCONT)
    return took


def comeback(times: int, away_s: float) -> list[float]:
    """Return the seconds from the return of Redis to the start of a job that is submitted at once."""
    took = []
    with fresh() as bench:
        bench.worker()
        for n in range(1, times + 1):
            bench.server.kill()
            pause(away_s)
            bench.server.start()
            began = time.monotonic()
            job = bench.kit.submit(jobs.work, bench.file())
            bench.started(times=n)
            took.append(time.monotonic() - began)
            job.result(20)
    return took


def at_home(times: int, name: str) -> list[float]:
    """Return the seconds from an outage of a home to the next start of its job, for which a process waits."""
    took = []
    for n in range(times):
        folder, rng = Path(tempfile.mkdtemp(prefix="jkf-")), Random(n)
        notes, sign = folder / "notes", folder / "go"
        world = Embedded(folder, "", f"figures {n} {name}")
        world.env |= {"JOBKIT_LEASE": "15", "JOBKIT_HEARTBEAT": "5", "JOBKIT_TASKS": "tests.worker.jobs"}
        try:
            world.start(shows=False)
            with jobkit.connect(**world.settings, tasks="tests.worker.jobs") as kit:
                job = kit.submit(jobs.until, str(notes), str(sign))
                wait_until(notes.exists, what="the first start")
                began = time.monotonic()
                if name == "everything":
                    for process in living_with("CHAOS_RUN", world.run):
                        process.kill()
                else:
                    world.begin(name, rng)
                wait_until(lambda notes=notes: notes.read_text().count("start") == 2, what="the second start")
                took.append(time.monotonic() - began)
                sign.touch()
                assert job.result(20) == "done"
        finally:
            world.close()
            shutil.rmtree(folder, ignore_errors=True)
    return took


def deletion(times: int) -> list[float]:
    """Return the seconds from the deletion of a home to the end of its last process."""
    took = []
    for n in range(times):
        folder = Path(tempfile.mkdtemp(prefix="jkf-"))
        world = Embedded(folder, "", f"figures deletion {n}")
        try:
            world.start(shows=False)
            began = time.monotonic()
            shutil.rmtree(world.home, ignore_errors=True)
            wait_until(lambda world=world: not living_with("CHAOS_RUN", world.run), what="all processes to end")
            took.append(time.monotonic() - began)
        finally:
            world.close()
            shutil.rmtree(folder, ignore_errors=True)
    return took


#: What is measured, by its name in the output.
FIGURES: dict[str, Callable[[], list[float]]] = {
    "worker killed, lease 15 s": lambda: recovery(4, JOBKIT_LEASE="15", JOBKIT_HEARTBEAT="5"),
    "worker killed, lease 3 s": lambda: recovery(6, JOBKIT_LEASE="3", JOBKIT_HEARTBEAT="1"),
    "worker stopped, nothing drained": lambda: handover(5),
    "home: worker killed": lambda: at_home(3, "kill"),
    "home: worker and zygote killed": lambda: at_home(3, "family"),
    "home: zygote killed": lambda: at_home(3, "zygote"),
    "home: supervisor killed": lambda: at_home(3, "supervisor"),
    "home: everything killed": lambda: at_home(3, "everything"),
    "home: deleted": lambda: deletion(3),
    "Redis back after 6 s": lambda: comeback(3, 6.0),
    "submit to a frozen server": lambda: answer(3),
}


def main(names: Sequence[str]) -> None:
    for name in names or FIGURES:
        took = FIGURES[name]()
        print(f"{name}: median {statistics.median(took):.2f} s, worst {max(took):.2f} s of {len(took)}", flush=True)
    for seconds, lease_s in () if names else ((8.0, 3.0), (20.0, 3.0)):
        starts, losses, took_s = outage(seconds, lease_s, 8)
        print(f"outage of {seconds:g} s, lease {lease_s:g} s: 8 jobs, {starts} starts, {losses} losses, "
              f"all stored {took_s:.1f} s after it", flush=True)  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
