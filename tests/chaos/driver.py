"""Submits jobs and watches them while the world breaks; then all becomes calm, and everything is checked."""

from __future__ import annotations

import contextlib
import random
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jobkit
from jobkit.client.job import Job
from jobkit.client.kit import Kit
from jobkit.model import JobEvent, JobSnapshot, StoreUnavailable
from tests.chaos import check, faults, jobs
from tests.chaos.world import LEASE_S, World

#: What is submitted: task, arguments, options, and how often compared to others.
KINDS: list[tuple[Any, Callable[[random.Random], dict[str, Any]], dict[str, Any], float]] = [
    (jobs.light, lambda rng: {"seconds": rng.choice([0.0, 0.1, 0.5])}, {}, 5),
    (jobs.light, lambda rng: {"seconds": rng.uniform(1, 2) * LEASE_S}, {}, 2.5),
    (jobs.plain, lambda rng: {"seconds": rng.choice([0.0, 0.1, 0.5])}, {}, 5),
    (jobs.plain, lambda rng: {"seconds": rng.uniform(1, 2) * LEASE_S}, {}, 2.5),
    (jobs.light, lambda rng: {"seconds": 0.1}, {"delay": 1.0}, 1),
    (jobs.flaky, lambda rng: {"times": rng.choice([1, 2, 3])}, {"retries": 2, "backoff": 0.1}, 2),
    (jobs.crash, lambda rng: {}, {}, 0.3),
]


@dataclass(slots=True)
class Watch:
    """What one live handle has shown: a line for each change, and each state that its watchers were told of."""

    job: Job
    changes: list[tuple[int, str]] = field(default_factory=list)
    states: list[str] = field(default_factory=list)

    def begin(self) -> Watch:
        self.job.param.watch(lambda event: self.states.append(str(event.new)), "state")

        def changed(before: JobSnapshot, after: JobSnapshot) -> None:
            if after.seq != before.seq:
                self.changes.append((after.seq, str(after.state)))

        first = self.job.observe(changed)
        self.changes.insert(0, (first.seq, str(first.state)))
        return self


@dataclass(slots=True)
class Sent:
    """One submission. `is_accepted`: a submit returned; `ids` are those of all handles that came back."""

    name: str
    kind: str
    is_accepted: bool = False
    ids: set[str] = field(default_factory=set)
    is_cancelled: bool = False


class Chaos:
    """One run, in a process of its own: a fault stays in it.

    Args:
        seconds: how long things break.
        seed: of everything that the driver chooses; what comes of it also depends on the machine.
        fault: on purpose, see `faults`. only: the one thing that goes wrong, see `world.WEIGHTS`.
    """

    def __init__(
        self, seconds: float, seed: int, *, workers: int = 3, rate: float = 6.0, fault: str = "", only: str = ""
    ) -> None:
        self.seconds, self.seed, self.rate = seconds, seed, rate
        self.folder = Path(tempfile.mkdtemp(prefix="jkc-"))
        self.path = str(self.folder / "record")
        rng = random.Random(seed)
        self.rng = rng
        self.world = World(self.folder, rng, workers, fault, secrets.token_hex(8), only)
        faults.apply(fault)
        self.sent: dict[str, Sent] = {}
        self.watches: list[Watch] = []
        self.events: list[JobEvent] = []
        self.problems: list[str] = []
        self._pauses_s = (1.0, 2.0) if only else (0.1, 1.4)
        self._over = threading.Event()
        self._lock = threading.Lock()

    def run(self) -> list[str]:
        """Every broken promise, each as one sentence; none are best."""
        world = self.world
        try:
            world.start()
            self.kits = [jobkit.connect(**world.settings) for _ in range(3)]
            threads = [
                *(threading.Thread(target=self._produce, args=(n, random.Random(self.seed * 10 + n))) for n in (0, 1)),
                threading.Thread(target=self._follow, daemon=True),
            ]
            for thread in threads:
                thread.start()
            wait = threading.Event()
            end = time.monotonic() + self.seconds
            while (left := end - time.monotonic()) > 0:
                wait.wait(min(left, self.rng.uniform(*self._pauses_s)))
                world.keep_up()
                world.hurt()
            self._over.set()
            for thread in threads[:-1]:
                thread.join()
            world.calm()
            self._settle()
            self.problems += check.everything(self)
            self.problems += world.stop_workers()
            self.problems += check.structure(world.server.url, world.settings["namespace"])
        finally:
            self._over.set()
            for kit in getattr(self, "kits", ()):
                with contextlib.suppress(Exception):
                    kit.close()
            world.stop_workers()
            self.problems += check.said(self.folder / "workers.log")
            self.problems += world.close()
        if not self.problems:
            shutil.rmtree(self.folder, ignore_errors=True)
        return self.problems

    # -- submitting ---------------------------------------------------------------------------------------------------

    def _produce(self, n: int, rng: random.Random) -> None:
        count = 0
        poisons = 0
        began = time.monotonic()
        while not self._over.wait(rng.expovariate(self.rate / 2)):
            count += 1
            task, arguments, options, _ = rng.choices(KINDS, [kind[3] for kind in KINDS])[0]
            if poisons < 1 and time.monotonic() - began > self.seconds * 0.2 and n < 2:
                poisons += 1
                task, arguments, options = (jobs.poison, jobs.poison_async)[n], lambda _: {}, {}
            name = f"{n}-{count}"
            if rng.random() < 0.2:  # the same job, by its key, from both producers
                name = f"key-{rng.randrange(max(1, count // 4))}"
                task, arguments, options = jobs.light, lambda _: {"seconds": 0.1}, {"key": name}
            with self._lock:
                sent = self.sent.setdefault(name, Sent(name, task.name))
            self._submit(self.kits[n], sent, task, {"path": self.path, "name": name, **arguments(rng)}, options, rng)

    def _submit(
        self, kit: Kit, sent: Sent, task: Any, arguments: dict[str, Any], options: dict[str, Any], rng: random.Random
    ) -> None:
        began = time.monotonic()
        try:
            job = kit.options(**options).submit(task, **arguments)
        except StoreUnavailable:
            if (took := time.monotonic() - began) > 8:
                self.problems.append(f"a submit took {took:.1f} s to say that the server does not answer")
            return
        watches = [Watch(job).begin()]
        with self._lock:
            sent.is_accepted = True
            sent.ids.add(job.id)
        if rng.random() < 0.2:
            with contextlib.suppress(StoreUnavailable):
                watches.append(Watch(self.kits[2].get(job.id)).begin())
        if rng.random() < 0.08 and task is not jobs.poison and task is not jobs.poison_async:
            sent.is_cancelled = True
            with contextlib.suppress(StoreUnavailable):
                job.cancel("by chaos")
        with self._lock:
            self.watches += watches

    # -- watching -----------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """All events of the namespace, from the first on."""
        try:
            for event in self.kits[2].events(after="0-0"):
                self.events.append(event)
        except Exception as error:
            if not self._over.is_set():
                self.problems.append(f"the reader of kit.events() was ended by {type(error).__name__}: {error}")

    def _settle(self) -> None:
        """Wait until every job has ended and everybody has seen it."""
        deadline = time.monotonic() + 45 + self.seconds / 4
        last: Any = None
        pause = threading.Event()
        while time.monotonic() < deadline:
            self.world.keep_up()
            try:
                counts = self.kits[2].counts()
                open_ = {state: n for state, n in counts.items() if state in ("scheduled", "queued", "running") and n}
                stale = sum(not watch.job.is_terminal for watch in self.watches)
                last = f"{open_ or 'no'} open jobs in the store, {stale} live handles that have not ended"
                if not open_ and not stale:
                    break
            except StoreUnavailable as error:
                last = str(error)
            pause.wait(0.1)
        else:
            self.problems.append(f"not everything came to its end: {last}")
        pause.wait(1.0)  # for watchers, and the reader of events
