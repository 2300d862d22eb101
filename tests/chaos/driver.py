"""Driver of a chaos run: submits and watches jobs while parts break, then waits for calm and checks every promise."""

from __future__ import annotations

import contextlib
import random
import re
import secrets
import shutil
import sys
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
from tests.chaos import check, faults, jobs, newer
from tests.chaos.onlookers import EventReader, Window
from tests.chaos.world import LEASE_S, World

#: Submissions: task, arguments, options, and relative frequency.
KINDS: list[tuple[Any, Callable[[random.Random], dict[str, Any]], dict[str, Any], float]] = [
    (jobs.light, lambda rng: {"seconds": rng.choice([0.0, 0.1, 0.5])}, {}, 5),
    (jobs.light, lambda rng: {"seconds": rng.uniform(1, 2) * LEASE_S}, {}, 2.5),
    (jobs.plain, lambda rng: {"seconds": rng.choice([0.0, 0.1, 0.5])}, {}, 5),
    (jobs.plain, lambda rng: {"seconds": rng.uniform(1, 2) * LEASE_S}, {}, 2.5),
    (jobs.light, lambda rng: {"seconds": 0.1}, {"delay": 1.0}, 1),
    (jobs.flaky, lambda rng: {"times": rng.choice([1, 2, 3])}, {"retries": 2, "backoff": 0.1}, 2),
    (jobs.crash, lambda rng: {}, {}, 0.3),
]


#: Once all parts work again, seconds within which another job has to end; the second value is for runs with a fault.
STUCK_S, FAULT_STUCK_S = 45.0, 20.0


@dataclass(slots=True)
class Watch:
    """Changes of one live handle: a line for each, and the states that its watchers were notified of."""

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
    """One submission. `is_accepted`: a submit returned; `ids`: of all returned handles."""

    name: str
    kind: str
    is_accepted: bool = False
    ids: set[str] = field(default_factory=set)
    is_cancelled: bool = False


class Chaos:
    """One run in a separate process, which confines a fault.

    Args:
        seconds: duration of the breakage.
        seed: of the driver's random choices; the outcome also depends on the machine.
        fault: a name in `faults`. only: the one kind of breakage, see `world.WEIGHTS`.
        older: a revision of this repository whose workers serve, too.
    """

    def __init__(
        self,
        seconds: float,
        seed: int,
        *,
        workers: int = 3,
        rate: float = 6.0,
        fault: str = "",
        only: str = "",
        older: str = "",
    ) -> None:
        self.seconds, self.seed, self.rate = seconds, seed, rate
        self.folder = Path(tempfile.mkdtemp(prefix="jkc-"))
        self.path = str(self.folder / "record")
        rng = random.Random(seed)
        self.rng = rng
        self.world = World(self.folder, rng, workers, fault, secrets.token_hex(8), only, older)
        faults.apply(fault)
        self.sent: dict[str, Sent] = {}
        self.watches: list[Watch] = []
        self.events: list[JobEvent] = []
        self.problems: list[str] = []
        self.reader: EventReader | None = None
        self.windows: list[Window] = []
        """The first shows the table and stays; the last shows the card of a recent job."""
        self.looks = self.told = 0
        """Number of comparisons of the table with the records during calm; number of events of the stream."""
        self._pauses_s = (1.0, 2.0) if only else (0.1, 1.4)
        self._shows = faults.FAULTS[fault].shows if fault else ""
        self._stuck_s = FAULT_STUCK_S if fault else STUCK_S
        self._over = threading.Event()
        self._lock = threading.Lock()

    def run(self) -> list[str]:
        """Return each broken promise as one sentence."""
        world = self.world
        try:
            world.start()
            self.kits = [jobkit.connect(**world.settings) for _ in range(3)]
            self._open_dashboard()
            newer.become()  # producers submit as a later version
            threads = [
                *(threading.Thread(target=self._produce, args=(n, random.Random(self.seed * 10 + n))) for n in (0, 1)),
                threading.Thread(target=self._follow, daemon=True),
            ]
            for thread in threads:
                thread.start()
            wait = threading.Event()
            end = time.monotonic() + self.seconds
            while (left := end - time.monotonic()) > 0 and not self.has_shown:
                wait.wait(min(left, self.rng.uniform(*self._pauses_s)))
                world.keep_up()
                world.hurt(lull=self._is_lull(end))
                self._look_around()
            self._over.set()
            for thread in threads[:-1]:
                thread.join()
            world.calm()
            if not self.has_shown:
                self._settle()
                self._await_onlookers()
                self.problems += check.everything(self)
            self.problems += world.stop_workers()
            self._close_dashboard()
            self.problems += check.structure(world.server.url, world.settings["namespace"], has_older=world.has_older)
        finally:
            self._over.set()
            for kit in getattr(self, "kits", ()):
                with contextlib.suppress(Exception):
                    kit.close()
            world.stop_workers()
            self._close_dashboard()
            self.problems += check.said(self.folder / "workers.log")
            self.problems += check.said(self.folder / "dashboard.log")
            self.problems += world.close()
        if not self.problems:
            shutil.rmtree(self.folder, ignore_errors=True)
        return self.problems

    @property
    def has_shown(self) -> bool:
        """True if the effect of the fault was found."""
        return bool(self._shows) and any(re.search(self._shows, problem) for problem in self.problems)

    # -- submitting ---------------------------------------------------------------------------------------------------

    def _produce(self, n: int, rng: random.Random) -> None:
        count = 0
        poisons = 1 if self._shows else 0  # a fault shows sooner without poison jobs
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
        """Collect all events of the namespace from the first on."""
        try:
            for event in self.kits[2].events(after="0-0"):
                self.events.append(event)
        except Exception as error:
            if not self._over.is_set():
                self.problems.append(f"the reader of kit.events() was ended by {type(error).__name__}: {error}")

    def _open_dashboard(self) -> None:
        base = f"http://127.0.0.1:{self.world.port}"
        self.reader = EventReader(f"{base}/api/events")
        self.windows.append(Window(f"{base}/app"))

    def _close_dashboard(self) -> None:
        for onlooker in (*self.windows, self.reader):
            if onlooker is not None:
                onlooker.close()
                self.problems += onlooker.problems
        self.windows, self.reader = [], None

    def _is_lull(self, end: float) -> bool:
        """True in the middle third of each 20 seconds: workers still die, but pages must be up to date."""
        return 7 < (self.seconds - (end - time.monotonic())) % 20 < 15

    def _look_around(self) -> None:
        """Compare the table with the records; sometimes cut the stream and open another job's card."""
        if self.world.is_calm and self.windows[0].is_open:
            self.looks += 1
            self.problems += check.behind(self.windows[0], self.world)[: max(0, 3 - len(self.problems))]
        if self.reader is not None and self.rng.random() < 0.1:
            self.reader.cut()
        if self.rng.random() < 0.15 or len(self.windows) == 1:
            with self._lock:
                sent = [watch.job.id for watch in self.watches[-30:] if not watch.job.is_terminal]
            if sent:
                for window in self.windows[1:]:
                    window.close()
                url = f"{self.windows[0].url}?job={self.rng.choice(sent)}"
                self.windows[1:] = [Window(url)]

    def _await_onlookers(self) -> None:
        """Wait until the dashboard is up to date; report what it still shows wrongly at the end."""
        deadline = time.monotonic() + self._stuck_s
        pause = threading.Event()
        while (found := check.shown(self)) and time.monotonic() < deadline:
            pause.wait(0.3)
        self.problems += found

    def _settle(self) -> None:
        """Wait until every job has ended and all watchers have seen it."""
        moved_at = time.monotonic()
        fewest = sys.maxsize
        last: Any = None
        pause = threading.Event()
        while time.monotonic() < moved_at + self._stuck_s:
            self.world.keep_up()
            try:
                counts = self.kits[2].counts()
                open_ = {state: n for state, n in counts.items() if state in ("scheduled", "queued", "running") and n}
                stale = sum(not watch.job.is_terminal for watch in self.watches)
                last = f"{open_ or 'no'} open jobs in the store, {stale} live handles that have not ended"
                if not open_ and not stale:
                    break
                if sum(open_.values()) + stale < fewest:  # slow is fine while jobs still end: the machine is shared
                    fewest, moved_at = sum(open_.values()) + stale, time.monotonic()
            except StoreUnavailable as error:
                last = str(error)
            pause.wait(0.1)
        else:
            self.problems.append(f"not everything came to its end: {last}")
        pause.wait(1.0)  # for watchers and the reader of events
