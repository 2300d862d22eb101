"""Measurements for docs/reliability.md: `python -m tests.chaos.figures`. Takes about four minutes."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.store.server import Server
from tests.support import wait_until
from tests.worker import jobs
from tests.worker.conftest import Bench

pause = threading.Event().wait


@contextmanager
def fresh() -> Iterator[Bench]:
    server = Server()
    server.start()
    bench = Bench(server, Path(tempfile.mkdtemp(prefix="jkf-")))
    try:
        yield bench
    finally:
        bench.close()
        server.stop()


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


def main() -> None:
    usual = {"JOBKIT_LEASE": "15", "JOBKIT_HEARTBEAT": "5"}
    for name, took in (
        ("SIGKILL to next start, lease 15 s", recovery(4, **usual)),
        ("SIGKILL to next start, lease 3 s", recovery(6, JOBKIT_LEASE="3", JOBKIT_HEARTBEAT="1")),
        ("SIGTERM to next start, nothing drained", handover(5)),
    ):
        print(f"{name}: median {statistics.median(took):.2f} s, worst {max(took):.2f} s of {len(took)}", flush=True)
    for seconds, lease_s in ((8.0, 3.0), (20.0, 3.0)):
        starts, losses, took = outage(seconds, lease_s, 8)
        print(f"outage of {seconds:g} s, lease {lease_s:g} s: 8 jobs, {starts} starts, {losses} losses, "
              f"all stored {took:.1f} s after it", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
