"""A pool that grows and shrinks while workers and autoscalers die: `python -m tests.chaos.pool --seconds 60 --seed 1`.

Workers are processes of this machine (engine "local"); two autoscalers run, of which one leads. At random, bursts of
jobs come, workers and autoscalers are killed or frozen, and the pool is paused, resumed, scaled and drained. At the end
every job must have run, no worker may be left, and the worker-hours must be those of the processes that were seen.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import psutil

from jobkit.client.kit import Kit
from jobkit.features.pools.autoscaler import Autoscaler
from jobkit.features.pools.decide import Tempo
from jobkit.features.pools.kit import Pool
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore
from tests.store.server import Server
from tests.support import environment, is_alive, wait_until
from tests.worker import jobs

QUICK = Tempo(
    tick=0.2, list=0.3, grow=0.2, cancel=0.5, well=0.5, backoff=0.1, backoff_most=0.5, failures=1000, lost=6.0
)

#: Seconds by which the counted time of a worker may differ from its observed lifetime: its start is noticed by a list,
#: and its end by the next autoscaler, from the worker's last heartbeat.
_TOLERANCE_S = 3.0


async def _autoscale(settings: Settings) -> None:
    store = RedisStore(settings)
    await Autoscaler(settings, store, tempo=QUICK).run()


class Watch:
    """Lifetimes of the workers of a pool, seen from outside: seconds by process id."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._ends = folder, threading.Event()
        self.seen: dict[int, tuple[float, float]] = {}
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def alive(self) -> list[int]:
        return [pid for pid in self.seen if is_alive(pid)]

    def end(self) -> float:
        """Stop watching; return the sum of all lifetimes."""
        self._ends.set()
        self._thread.join()
        return sum(last - first for first, last in self.seen.values())

    def _look(self) -> None:
        while not self._ends.wait(0.05):
            for path in self._folder.glob("jobkit-pools-*/*/*.pid"):
                with suppress(OSError, IndexError, ValueError, psutil.Error):
                    pid = int(path.read_text().split()[2])
                    if is_alive(pid):
                        first, _ = self.seen.get(pid, (psutil.Process(pid).create_time(), 0.0))
                        self.seen[pid] = first, time.time()


class PoolChaos:
    """One run."""

    def __init__(self, folder: Path, url: str, seed: int) -> None:
        self.rng, self.folder = random.Random(seed), folder
        self.settings = Settings(
            url=url, namespace="chaos", secret="of this run", lease=3.0, heartbeat=0.3, max_losses=100
        ).checked()
        self.kit = Kit(self.settings)
        self.environ = environment(TMPDIR=str(folder))
        self.scalers: list[subprocess.Popen[bytes]] = []
        self.watch = Watch(folder)
        self.jobs: list[str] = []
        self.log = (folder / "scalers.log").open("ab")

    def scaler(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.chaos.pool", "--scale", self.settings.url]
        return subprocess.Popen(command, env=self.environ, stderr=self.log)

    def run(self, seconds: float) -> list[str]:
        """Return the problems."""
        pool = self.kit.pool("work", on="local", max=4, slots=2, idle="800ms", tasks="tests.worker.jobs")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.scalers = [each for each in self.scalers if each.poll() is None]
            while len(self.scalers) < 2:
                self.scalers.append(self.scaler())
            action = self.rng.choice([self._burst, self._burst, self._kill, self._freeze, self._behead, self._steer])
            action(pool)
            time.sleep(self.rng.uniform(0.1, 1.0))
        return self._checked(pool)

    def _burst(self, pool: Pool) -> None:
        for _ in range(self.rng.randint(1, 12)):
            options = self.kit.options(queue="work")
            path = str(self.folder / f"n{len(self.jobs)}")
            self.jobs.append(options.submit(jobs.work, path, self.rng.uniform(0, 0.6)).id)

    def _victim(self) -> int | None:
        alive = self.watch.alive()
        return self.rng.choice(alive) if alive else None

    def _kill(self, pool: Pool) -> None:
        if pid := self._victim():
            with suppress(ProcessLookupError):
                os.kill(pid, self.rng.choice([signal.SIGKILL, signal.SIGTERM]))

    def _freeze(self, pool: Pool) -> None:
        pid = self._victim() if self.rng.random() < 0.5 else self.rng.choice(self.scalers).pid
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                time.sleep(self.rng.choice([0.5, 4.0]))
                os.kill(pid, signal.SIGCONT)

    def _behead(self, pool: Pool) -> None:
        self.rng.choice(self.scalers).kill()

    def _steer(self, pool: Pool) -> None:
        steps: list[Callable[[], object]] = [
            lambda: pool.pause("chaos"),
            pool.resume,
            pool.resume,
            lambda: pool.scale(self.rng.randint(0, 4)),
            lambda: pool.scale(None),
            pool.drain,
        ]
        self.rng.choice(steps)()

    def _checked(self, pool: Pool) -> list[str]:
        self.scalers = [each for each in self.scalers if each.poll() is None] or [self.scaler()]
        for each in self.scalers:
            each.send_signal(signal.SIGCONT)
        pool.resume()
        pool.scale(None)
        states = {id: self.kit.get(id) for id in self.jobs}
        wait_until(lambda: all(job.is_terminal for job in states.values()), 120, "all jobs to end")
        problems = [f"job {id} {job.state}" for id, job in states.items() if job.state != "succeeded"]
        wait_until(lambda: not self.watch.alive(), 60, "idle workers to end")
        wait_until(lambda: not any(unit.phase != "ended" for unit in self.kit.pools.get("work").units), 60, "the units")
        counted_s, seen_s = self.kit.pools.get("work").snapshot.worker_s, self.watch.end()
        workers = len(self.watch.seen)
        print(f"{len(self.jobs)} jobs, {workers} workers, {counted_s:.1f} s counted, {seen_s:.1f} s seen")
        if abs(counted_s - seen_s) > _TOLERANCE_S * workers:
            problems.append(f"{counted_s:.1f} s of workers were counted, but {seen_s:.1f} s were seen")
        pool.remove()
        wait_until(lambda: not self.kit.pools(), 30, "the pool to go")
        return problems

    def close(self) -> None:
        for each in self.scalers:
            each.kill()
            each.wait()
        for pid in self.watch.alive():
            os.kill(pid, signal.SIGKILL)
        self.kit.close()
        self.log.close()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", metavar="URL", help="Run an autoscaler.")
    asked = parser.parse_args()
    if asked.scale:
        settings = Settings(
            url=asked.scale, namespace="chaos", secret="of this run", lease=3.0, heartbeat=0.3, max_losses=100
        )
        asyncio.run(_autoscale(settings.checked()))
        return 0
    with (
        Server() as server,
        tempfile.TemporaryDirectory() as folder,
        closing(PoolChaos(Path(folder), server.url, asked.seed)) as chaos,
    ):
        problems = chaos.run(asked.seconds)
    print("\n".join(problems) or "no problem")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
