"""Driver of a chaos run: submits and watches jobs while parts break, then waits for calm and checks every promise."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from random import Random
from typing import Any

import jobkit
from jobkit.client.job import Job
from jobkit.client.kit import Kit
from jobkit.model import JobEvent, JobkitError, JobSnapshot, StoreUnavailable, SubmitUnanswered
from tests.chaos import check, faults, newer, plan
from tests.chaos.cases import Case
from tests.chaos.embedded import Embedded
from tests.chaos.jobs import PERSON, reply
from tests.chaos.kinds import FOLLOWER, KINDS, Kind
from tests.chaos.onlookers import EventReader, Window
from tests.chaos.outages import OUTAGES
from tests.chaos.plan import Step
from tests.chaos.team import Team
from tests.chaos.world import World
from tests.support import wait_until

#: Once all parts work again, seconds within which another job has to end; the second value is for runs with a fault.
STUCK_S, FAULT_STUCK_S = 45.0, 20.0

#: Seconds between two looks at the processes and the dashboard.
_LOOK_S = 0.5


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
    """One submission.

    Attributes:
        pays: what may happen to it through outages and other jobs: "losses", "releases", and to end as "lost".
        is_accepted: a submit returned. may_exist: or was not answered. ids: of all returned handles.
    """

    name: str
    kind: Kind
    pays: frozenset[str]
    is_accepted: bool = False
    may_exist: bool = False
    ids: set[str] = field(default_factory=set)
    is_cancelled: bool = False


def _price(outages: Iterable[frozenset[str]], kinds: Iterable[frozenset[str]]) -> frozenset[str]:
    """Return what any job may pay. Only outages may let an innocent job end as lost: other jobs may not."""
    paid = frozenset().union(*outages)
    return paid.union(*kinds, {"lost"} if "losses" in paid else ())


class Chaos:
    """One run in a separate process, which confines a fault.

    Args:
        seconds: duration of the breakage.
        seed: of everything that is chosen; the outcome also depends on the machine.
        case: what breaks where, and what is submitted meanwhile.
        fault: a name in `faults`. workers, appendfsync: see `Team`.
        pairs: break two things at a time, and check the promises after each pair.
    """

    def __init__(
        self,
        seconds: float,
        seed: int,
        case: Case,
        *,
        fault: str = "",
        workers: int = 3,
        appendfsync: str = "no",
        pairs: bool = False,
    ) -> None:
        self.seconds, self.seed, self.rate, self._pairs = seconds, seed, case.rate, pairs
        self.folder = Path(tempfile.mkdtemp(prefix="jkc-"))
        self.path = str(self.folder / "record")
        self.rng = Random(seed)
        run = secrets.token_hex(8)
        self.world: World = (
            Embedded(self.folder, fault, run)
            if case.place == "home"
            else Team(self.folder, fault, run, workers=workers, appendfsync=appendfsync)
        )
        usual = [name for name in self.world.possible() if OUTAGES[name].weight or pairs]
        self.outages = usual if case.outages is None else list(case.outages)
        # Without pills a fault shows sooner, and jobs that pay for nothing are known.
        is_mixed = case.outages is None and not (fault or pairs)
        kinds = [name for name, kind in KINDS.items() if kind.weight and (is_mixed or not kind.costs)]
        self._kinds = [KINDS[name] for name in case.kinds or kinds]
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
        self.pause_s = 0.0
        """The longest time for which this process did not run: a busy machine may cost a lease."""
        self._shows = faults.FAULTS[fault].shows if fault else ""
        self._stuck_s = FAULT_STUCK_S if fault else STUCK_S
        self._looked_at = 0.0
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
            threading.Thread(target=self._follow, daemon=True).start()
            threading.Thread(target=self._answer, daemon=True).start()
            if self._pairs:
                self._break_pairs()
            else:
                self._phase("", list(plan.steps(self.seed, self.seconds, self.outages)), self.seconds)
            self._over.set()
            self.problems += world.stop_workers()
            self._close_dashboard()
            self.problems += check.structure(world.server.url, world.settings["namespace"])
        finally:
            self._over.set()
            for kit in getattr(self, "kits", ()):
                with contextlib.suppress(Exception):
                    kit.close()
            world.stop_workers()
            self._close_dashboard()
            for log in self.world.logs():
                self.problems += check.said(log)
            self.problems += world.close()
        if not self.problems:
            shutil.rmtree(self.folder, ignore_errors=True)
        return self.problems

    def _break_pairs(self) -> None:
        began = time.monotonic()
        in_time = takewhile(lambda _: time.monotonic() < began + self.seconds, plan.pairs(self.seed, self.outages))
        for n, (first, second) in enumerate(in_time):
            wait_until(lambda: any(worker.is_alive for worker in self.kits[2].workers()), what="a worker")
            print(f"{first.name} + {second.name}", flush=True)
            self._phase(f"{n}-", [first, second], second.at_s + 2.0)

    def _phase(self, prefix: str, steps: Sequence[Step], seconds: float) -> None:
        """Submit jobs while a plan is carried out; then wait until all have ended, and check every promise."""
        over = threading.Event()
        self._pays = _price([OUTAGES[step.name].costs for step in steps], [kind.costs for kind in self._kinds])
        producers = [
            threading.Thread(target=self._produce, args=(n, f"{prefix}{n}", Random(f"{self.seed} {prefix}{n}"), over))
            for n in (0, 1)
        ]
        for producer in producers:
            producer.start()
        try:
            began = time.monotonic()
            for step in steps:
                self._pass_time(lambda step=step: time.monotonic() < began + step.at_s)  # type: ignore[misc]
                self.world.begin(step.name, step.rng)
            self._pass_time(lambda: time.monotonic() < began + seconds or (self._pairs and self.world.is_broken))
        finally:
            over.set()
            for producer in producers:
                producer.join()
        self.world.calm()
        if not self.has_shown:
            self._settle()
            self._await_onlookers()
            self.problems += [problem for problem in check.everything(self) if problem not in self.problems]

    def _pass_time(self, goes_on: Callable[[], bool]) -> None:
        """Replace and repair what it is time for, and compare the dashboard with the records."""
        wait = threading.Event()
        while goes_on() and not self.has_shown:
            before = time.monotonic()
            wait.wait(0.1)
            self.pause_s = max(self.pause_s, time.monotonic() - before - 0.1)
            self.world.keep_up()
            if before > self._looked_at + _LOOK_S:
                self._looked_at = before
                self._look_around()

    @property
    def has_shown(self) -> bool:
        """True if the effect of the fault was found."""
        return bool(self._shows) and any(re.search(self._shows, problem) for problem in self.problems)

    # -- submitting ---------------------------------------------------------------------------------------------------

    def _produce(self, n: int, prefix: str, rng: Random, over: threading.Event) -> None:
        count = 0
        weights = [kind.weight or 1.0 for kind in self._kinds]
        while not over.wait(rng.expovariate(self.rate / 2)):
            count += 1
            [kind] = rng.choices(self._kinds, weights)
            name, options, arguments = f"{prefix}-{count}", kind.options, kind.arguments(rng)
            if rng.random() < 0.2 and not kind.costs:  # the same job, by its key, from both producers
                name = f"{prefix[:-1]}key-{rng.randrange(max(1, count // 4))}"
                kind, options, arguments = KINDS["coroutine"], {"key": name}, {"seconds": 0.1}
            job = self._submit(self.kits[n], name, kind, {"name": name, **arguments}, options, rng)
            for m in range(kind.followers if job is not None else 0):
                self._submit(self.kits[n], f"{name}-{m}", FOLLOWER, {"name": f"{name}-{m}", "value": job}, {}, rng)

    def _submit(
        self, kit: Kit, name: str, kind: Kind, arguments: dict[str, Any], options: dict[str, Any], rng: Random
    ) -> Job | None:
        with self._lock:
            sent = self.sent.setdefault(name, Sent(name, kind, self._pays))
        began = time.monotonic()
        try:
            job = kit.options(**options).submit(kind.task, path=self.path, **arguments)
        except SubmitUnanswered as error:
            sent.may_exist = True
            if error.id and rng.random() < 0.7:
                return self._submit(kit, name, kind, arguments, {**options, "id": error.id}, rng)
            return None
        except StoreUnavailable:
            if (took := time.monotonic() - began) > 8:
                self.problems.append(f"a submit took {took:.1f} s to say that the server does not answer")
            return None
        watches = [Watch(job).begin()]
        with self._lock:
            sent.is_accepted = sent.may_exist = True
            sent.ids.add(job.id)
        if rng.random() < 0.2:
            with contextlib.suppress(StoreUnavailable):
                watches.append(Watch(self.kits[2].get(job.id)).begin())
        if rng.random() < 0.08 and not kind.costs:
            sent.is_cancelled = True
            with contextlib.suppress(StoreUnavailable):
                job.cancel("by chaos")
        with self._lock:
            self.watches += watches
        return job

    # -- watching -----------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Collect all events of the namespace from the first on."""
        try:
            for event in self.kits[2].events(after="0-0"):
                self.events.append(event)
        except Exception as error:
            if not self._over.is_set():
                self.problems.append(f"the reader of kit.events() was ended by {type(error).__name__}: {error}")

    def _answer(self) -> None:
        """Answer the questions of jobs, as a person does."""
        while not self._over.wait(0.1):
            with self._lock:
                asking = [(watch.job.id, one) for watch in self.watches for one in watch.job.asking]
            for job_id, one in asking:
                with contextlib.suppress(JobkitError):  # it was answered or has ended, or the server is away
                    self.kits[2].questions.answer(job_id, reply(one.text), by=PERSON, key=one.key)

    def _open_dashboard(self) -> None:
        base = f"http://127.0.0.1:{self.world.port}"
        self.reader = EventReader(f"{base}/api/events")
        self.windows.append(Window(f"{base}/app?sort=-submitted"))
        # On a busy machine the dashboard would start for longer than the run lasts, and its table never be compared.
        wait_until(lambda: self.windows[0].is_open, 120, "the dashboard's page")

    def _close_dashboard(self) -> None:
        for onlooker in (*self.windows, self.reader):
            if onlooker is not None:
                onlooker.close()
                self.problems += onlooker.problems
        self.windows, self.reader = [], None

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
                url = f"{self.windows[0].url}&job={self.rng.choice(sent)}"
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
