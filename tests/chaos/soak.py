"""A soak: hours of ordinary work with cut connections, in which nothing may grow.

`python -m tests.chaos.soak --minutes 30`, or `make soak MINUTES=30`. Jobs of all harmless kinds are submitted, watched
and expire; connections are cut, pages and streams are opened and closed; no process is killed, since that would free
what it leaks. Every few seconds memory, open files and threads of each process are read, and keys and memory of Redis.
The table shows each of them. It fails if the line through the later two thirds of the readings rises.

It begins with so many jobs that all that is bounded is full when it measures: the events that Redis keeps (20,000), and
the newest jobs and events that a server of pages remembers for its streams (5,000 each, 5 MB together).
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import random
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError
from itertools import combinations
from pathlib import Path
from statistics import median

import psutil

import jobkit
from jobkit.client.job import Job
from jobkit.client.kit import Kit
from jobkit.model import StoreUnavailable
from tests.chaos import check, jobs
from tests.chaos.kinds import KINDS
from tests.chaos.onlookers import EventReader, Window
from tests.chaos.team import Team
from tests.chaos.world import World

#: What breaks: only what leaves all processes alive.
_OUTAGES = ("cut", "swallow", "kill_subscribers", "forget_functions")

#: Seconds between two readings, between two outages, and until a page is closed and opened again.
_READ_S, _BREAK_S, _PAGE_S = 5.0, 15.0, 60.0

#: Seconds for which an ended job is kept, so that the number of keys has a level.
_KEPT_S = 30

#: Jobs at the beginning, each with two events.
_FILL = 10_000

#: Free memory of glibc is not ours. With constant objects its heaps (one for each of some threads) grew by 9 MB in 7
#: minutes here and in 20 minutes in the dashboard; it also gives back less and less of blocks above 128 kB. So all
#: processes have one heap and fixed limits (bytes).
_ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}

#: By quantity: the growth during the run that is noise, as a number and as a share of the level.
NOISE = {"MB": (4.0, 0.04), "files": (3.0, 0.0), "threads": (1.5, 0.0), "keys": (60.0, 0.04)}

#: Time of a reading (s), and its value.
Readings = list[tuple[float, float]]


def growth(readings: Readings) -> float:
    """Return by how much the line through the later two thirds rises within them (Theil-Sen: the median slope)."""
    later = readings[len(readings) // 3 :]
    thin = later[:: max(1, len(later) // 150)]
    slopes = [(b - a) / (t - s) for (s, a), (t, b) in combinations(thin, 2)]
    return median(slopes) * (later[-1][0] - later[0][0]) if slopes else 0.0


def rises(quantity: str, readings: Readings) -> bool:
    """Return True if the growth is more than noise."""
    number, share = NOISE[quantity]
    return growth(readings) > max(number, share * median(value for _, value in readings))


def processes(world: World) -> Iterator[tuple[str, psutil.Process]]:
    """Yield the long-lived processes with their roles; children of a zygote are jobs."""
    yield "client", psutil.Process()
    if world.dashboard is not None:
        yield "dashboard", psutil.Process(world.dashboard.pid)
    for n, worker in enumerate(world.workers, 1):
        yield f"worker {n}", psutil.Process(worker.pid)
        for m, child in enumerate(psutil.Process(worker.pid).children(), 1):
            yield f"worker {n}, child {m}", child


def read(world: World) -> Iterator[tuple[str, str, float]]:
    """Yield role, quantity and value."""
    gc.collect()  # this process's pages leave cycles, which Python collects rarely: 15 MB in 20 minutes
    for role, process in processes(world):
        try:
            yield role, "MB", process.memory_full_info().uss / 1e6
            yield role, "files", process.num_fds()
            yield role, "threads", process.num_threads()
        except psutil.Error:  # a child has just ended
            continue
    info, keys = world.ask("INFO", "memory"), world.ask("DBSIZE")
    if info is not None and keys is not None:
        # The stream of all events is bounded, and not full yet.
        events = world.ask("MEMORY", "USAGE", f"jk:{world.settings['namespace']}:events") or 0
        yield "redis", "MB", (info["used_memory"] - events) / 1e6
        yield "redis", "keys", keys
    yield "home", "files", sum(len(names) for _, _, names in os.walk(world.disk))


class Load:
    """Clients: they submit, wait for results, cancel, follow events, and open and close pages."""

    def __init__(self, world: World, rate: float, path: str) -> None:
        self.count = 0
        self._rate, self._path, self._base = rate, path, f"http://127.0.0.1:{world.port}"
        self._kits = [jobkit.connect(**world.settings) for _ in range(2)]
        self._over, self.filled = threading.Event(), threading.Event()
        self._open: deque[Job] = deque()
        self._threads = [threading.Thread(target=self._submit, args=(self._kits[0],))]
        self._follower = threading.Thread(target=self._follow, args=(self._kits[1],), daemon=True)
        for thread in (*self._threads, self._follower):
            thread.start()
        self._pages: list[Window | EventReader] = []
        self._opened_at = float("-inf")

    def look(self) -> None:
        """Close the pages and open others when it is time."""
        if time.monotonic() > self._opened_at + _PAGE_S:
            self._close_pages()
            self._opened_at = time.monotonic()
            self._pages = [Window(f"{self._base}/app"), EventReader(f"{self._base}/api/events", most=0)]

    def _fill(self, kit: Kit) -> None:
        """Submit and cancel many jobs, in steps."""
        each = {"path": self._path, "name": "filling", "seconds": 0.0}
        for _ in range(_FILL // 500):
            with contextlib.suppress(StoreUnavailable):
                kit.options(delay=3600).map(jobs.light, [each] * 500).cancel()

    def close(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._close_pages()
        for kit in self._kits:
            kit.close()

    def _close_pages(self) -> None:
        for page in self._pages:
            page.close()
        self._pages = []

    def _submit(self, kit: Kit) -> None:
        rng = random.Random(1)
        kinds = [kind for kind in KINDS.values() if kind.weight and not kind.costs]
        self._fill(kit)
        self.filled.set()
        while not self._over.wait(rng.expovariate(self._rate)):
            kind = rng.choices(kinds, [kind.weight for kind in kinds])[0]
            self.count += 1
            try:
                job = kit.options(**kind.options).submit(
                    kind.task, path=self._path, name=str(self.count), **kind.arguments(rng)
                )
                if rng.random() < 0.1:
                    job.cancel("by the soak")
                self._open.append(job)
                while len(self._open) > 50:
                    self._open.popleft().wait(30)
            except StoreUnavailable:
                continue

    def _follow(self, kit: Kit) -> None:
        with contextlib.suppress(jobkit.JobkitError, CancelledError):  # the kit is closed
            for _ in kit.events():
                if self._over.is_set():
                    return


def soak(seconds: float, *, workers: int, rate: float) -> tuple[dict[tuple[str, str], Readings], list[str]]:
    """Return the readings by role and quantity, and other problems."""
    folder = Path(tempfile.mkdtemp(prefix="jks-"))
    world = Team(folder, "", secrets.token_hex(8), workers=workers)
    world.env["JOBKIT_RESULT_TTL"] = str(_KEPT_S)
    world.env |= _ALLOCATOR
    readings: dict[tuple[str, str], Readings] = {}
    rng, pause = random.Random(1), threading.Event()
    problems: list[str] = []
    try:
        world.start()
        world.settings["result_ttl"] = _KEPT_S
        load = Load(world, rate, os.devnull)
        try:
            load.look()  # a page, so that its server remembers the first jobs
            load.filled.wait()
            began = read_at = break_at = time.monotonic()
            while (now := time.monotonic()) < began + seconds:
                pause.wait(0.2)
                world.keep_up()
                load.look()
                if now > break_at + _BREAK_S:
                    break_at = now
                    world.begin(rng.choice(_OUTAGES), rng)
                if now > read_at + _READ_S:
                    read_at = now
                    for role, quantity, value in read(world):
                        readings.setdefault((role, quantity), []).append((now - began, value))
        finally:
            load.close()
        world.calm()
        print(f"{load.count} jobs, {dict(world.counts)}")
    finally:
        problems += world.stop_workers()
        for log in world.logs():
            problems += check.said(log)
        problems += world.close()
        shutil.rmtree(folder, ignore_errors=True)
    return readings, problems


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description="See what grows in a long run.")
    parser.add_argument("--minutes", type=float, default=30.0, help="duration (30)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rate", type=float, default=4.0, help="submits a second (4)")
    given = parser.parse_args()
    if not _ALLOCATOR.items() <= os.environ.items():
        os.environ |= _ALLOCATOR
        os.execv(sys.executable, [sys.executable, "-m", "tests.chaos.soak", *sys.argv[1:]])
    readings, problems = soak(given.minutes * 60, workers=given.workers, rate=given.rate)
    print(f"{'':24}{'':8}{'first':>10}{'last':>10}{'growth':>10}")
    for (role, quantity), values in sorted(readings.items()):
        if len(values) < 10:  # a process of a few jobs
            continue
        is_rising = rises(quantity, values)
        line = f"{role:24}{quantity:8}{values[0][1]:10.1f}{values[-1][1]:10.1f}{growth(values):10.2f}"
        print(line + "  GROWS" * is_rising)
        problems += [f"{quantity} of {role} grow by {growth(values):.1f}"] if is_rising else []
    for problem in problems:
        print("PROBLEM", problem)
    print("nothing grows" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
