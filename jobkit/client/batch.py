"""`Batch`: many jobs of one task, seen as one; and waiting for any of several jobs."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn

import msgspec

from jobkit.above import ui
from jobkit.client import checks
from jobkit.client.awaiting import as_completed, wait
from jobkit.client.handle import EndingHandle, from_snapshot, named_by_id
from jobkit.client.job import Job, R
from jobkit.client.loop import background
from jobkit.client.outputs import column_of
from jobkit.client.stop_rules import rule_of
from jobkit.client.sweep import MAX_JOBS
from jobkit.client.tables import BATCH_COLUMNS, NO_BATCHES, Table, counted
from jobkit.model import InvalidParams, JobCancelled, JobFailed, JobkitError, JobSnapshot, JobState
from jobkit.model.batch import MAX_NAME, NO_BATCH, BatchInfo, was_stopped
from jobkit.tasks.params import checked
from jobkit.tasks.shown import Shown

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("jobkit.client")


class BatchSnapshot(msgspec.Struct, frozen=True):
    """The values of a batch's parameters."""

    progress: float = 1.0
    counts: Mapping[str, int] = {}


@named_by_id
class Batch(Shown, EndingHandle[BatchSnapshot], Generic[R]):
    """The jobs of one `map` or `sweep`. Its parameters move by themselves, like a job's.

    It is stored: `kit.batches.get(id)` gives it in any process.

    `Batch[R]` is one whose jobs return an `R`. Iterating gives the jobs, `len()` their number, `batch[0]` one of them.

    Attributes:
        id: its id; "" for jobs that were put together otherwise, which are not stored.
        name: the name that it was given, or "".
        owner: user name of its submitter.
        axes: of a sweep, the names of the arguments that were swept; else ().
        seed: of a random sweep, the seed that gives the same points again; else None.

    Example:
        >>> batch = train.sweep(lr=[0.1, 0.2], depth=[1, 2])
        >>> batch.wait(), batch.counts["succeeded"]
        (True, 4)
        >>> rows = batch.results()
        >>> slow = rows[rows["lr"] == 0.1]
    """

    _OTHER_NAMES = (
        "a Batch",
        {
            **dict.fromkeys(("get", "gather", "join", "compute", "exception"), "batch.result()"),
            **dict.fromkeys(("ready", "is_finished"), "batch.done()"),
            **dict.fromkeys(("status", "state", "successful", "failed", "completed_count"), "batch.counts"),
            **dict.fromkeys(("revoke", "abort"), "batch.cancel()"),
            **dict.fromkeys(("best", "best_job", "best_estimator_"), "max(batch, key=lambda job: job.result())"),
            **dict.fromkeys(("best_params", "best_params_"), "max(batch, key=lambda job: job.result()).params"),
            "retry": "batch.retry_failed()",
        },
    )

    progress: float = from_snapshot("progress", "0..1: the mean of the jobs' progress; an ended job counts as 1.")
    counts: Mapping[str, int] = from_snapshot("counts", "Number of jobs by state; states without a job are left out.")

    _internal = frozenset({
        "follower", "info", "judge", "judge_by", "listen", "problem", "rule_problem", "spec",
        "stopping_job", "take_jobs"
    })  # fmt: skip

    def __init__(
        self,
        kit: Any,
        jobs: Sequence[Job[R]] | None,
        info: BatchInfo | None = None,
        *,
        axes: Sequence[str] = (),
    ) -> None:
        super().__init__(BatchSnapshot())
        self.kit = kit
        self._is_inline = kit.settings.scheme == "sync"  # then the submit calls `judge` after each job
        self._jobs: list[Job[R]] | None = None  # read at the first use
        self.follower: object = None  # what follows them in the store, see `BatchVerbs.load`
        self.info = info
        self.spec = info.spec if info is not None else msgspec.structs.replace(NO_BATCH, axes=tuple(axes))
        self.id, self.owner, self.axes, self.seed = (
            self.spec.id, self.spec.owner, self.spec.axes, self.spec.seed,
        )  # fmt: skip
        self.stopping_job: Job[R] | None = None
        self._rule: Callable[[Job[R]], object] | None = None  # that is applied here
        self.problem: Exception | None = None
        self._to_judge: deque[Job[R]] = deque()
        self._judging = threading.RLock()
        self._listeners: tuple[Callable[[int, JobSnapshot], None], ...] = ()
        self._states: dict[str, int] = {}
        self._sum = 0.0
        if jobs is not None:
            self.take_jobs(jobs)
        elif info is not None:
            self.advance(BatchSnapshot(info.progress, info.counts))

    @property
    def _own_name(self) -> str:
        return self.spec.name

    @property
    def jobs(self) -> list[Job[R]]:
        """The jobs, in the order in which they were submitted. Of a batch of `kit.batches()`: read at the first use."""
        if self._jobs is None:
            self.kit.batches.verbs.load(self)
        return self._jobs or []

    def take_jobs(self, jobs: Sequence[Job[R]]) -> None:
        """Have these jobs from now on: further ones, or others in the places of some."""
        with self._lock:
            mine = self._jobs = [] if self._jobs is None else self._jobs
            others = [(i, job) for i, job in enumerate(jobs) if i >= len(mine) or mine[i] is not job]
            for i, job in others:
                if i < len(mine):
                    self._count(mine[i].snapshot, -1)
                    mine[i] = job
                else:
                    mine.append(job)
            if self._rule is not None:
                self._to_judge += [job for _, job in others if job.is_terminal]
        for i, job in others:
            with self._lock:
                self._count(job.observe(partial(self._moved, i)), 1)
            self._notify(i, job.snapshot)
        self._recount()

    # -- waiting ------------------------------------------------------------------------------------------------------

    @property
    def is_terminal(self) -> bool:
        """True once every job has ended."""
        return all(job.is_terminal for job in self.jobs)

    def wait(self, timeout: checks.Timeout = None) -> bool:
        """Wait until every job has ended; True if all have, False when `timeout` seconds were over first."""
        wait(self.jobs, timeout)
        self._settle()
        return self.is_terminal

    def as_completed(self, timeout: checks.Timeout = None) -> Iterator[Job[R]]:
        """The jobs in the order in which they end. Raises TimeoutError when `timeout` seconds are over first."""
        return as_completed(self.jobs, timeout)

    def result(self, timeout: checks.Timeout = None) -> list[R]:
        """Return the values of all jobs, in their order; waits for them. `await batch` does the same.

        Raises:
            JobFailed, JobCancelled: a job has not succeeded; raised at once, the others go on.
            TimeoutError, ResultUnavailable: see `Job.result`.
        """
        jobs = list(self.jobs)
        for job in as_completed(jobs, timeout):
            if job.snapshot.state != JobState.SUCCEEDED:
                job.result()
        self._settle()
        return [job.result() for job in jobs]

    values = result

    def __await__(self) -> Generator[Any, None, list[R]]:
        try:
            values: list[R] = yield from self.kit.aio.outcomes(self).__await__()
        except (JobFailed, JobCancelled) as error:
            raise error.with_traceback(None)  # noqa: B904  # as `Job.result` does
        return values

    def results(self) -> pd.DataFrame:
        """One row a job, at any moment, with the job's id as index.

        Columns: its arguments, `state`, `value` (None until it succeeded), `duration_s` (seconds of its last attempt;
        None until it has ended) and `error` ("" unless something went wrong). An argument that is called like one of
        these has "(argument)" behind its name.
        """
        import pandas as pd

        rows = []
        for job in self.jobs:
            value, snapshot = None, job.snapshot
            error = str(snapshot.error or "") if snapshot.state != JobState.SUCCEEDED else ""
            if snapshot.state == JobState.SUCCEEDED:
                try:
                    value = job.result()
                except JobkitError as missing:  # its value is not there; the other rows are
                    error = str(missing)
            duration_s = snapshot.elapsed_s(datetime.now(UTC)) if snapshot.is_terminal else None
            own = {"state": str(snapshot.state), "value": value, "duration_s": duration_s, "error": error}
            rows.append({**{column_of(k, own, "argument"): v for k, v in job.params.items()}, **own})
        return pd.DataFrame(rows, index=pd.Index([job.id for job in self.jobs], name="id"))

    def metrics(self) -> pd.DataFrame:
        """Return the metrics of all jobs: `job` (its id), a column for each argument, and those of `Job.metrics`."""
        return self.kit.metrics_of(self.jobs)  # type: ignore[no-any-return]  # a kit is above this room

    # -- acting -------------------------------------------------------------------------------------------------------

    def cancel(self, reason: str = "") -> int:
        """Ask every job that has not ended to stop; how many were asked."""
        open_jobs = [job.id for job in self.jobs if not job.is_terminal]
        leader = [self.id] if self.spec.kind else []  # first: it submits further ones
        self.kit.cancel_many([*leader, *open_jobs], reason)
        return len(open_jobs)

    def retry_failed(self, *, replace: bool = False) -> Batch[R]:
        """Run the failed ones once more, as new jobs in a new batch.

        Args:
            replace: also replace the failed jobs of this batch by the new ones, so that its `results()` are
                whole in the end. The card's button does that.
        """
        failed = [i for i, job in enumerate(self.jobs) if job.state == JobState.FAILED]
        again = self.kit.retry_all([self.jobs[i].id for i in failed])
        if replace:
            renewed = dict(zip(failed, again, strict=True))
            self.take_jobs([renewed.get(i, job) for i, job in enumerate(self.jobs)])
        return Batch(self.kit, again, axes=self.axes)

    def stop_when(self, rule: Callable[[Job[R]], object] | str) -> Batch[R]:
        """Cancel the rest as soon as a rule holds for a job that has succeeded or failed; returns this batch.

        Args:
            rule: called with each such job: `lambda job: job.result() < 1e-3`. It holds when it returns something true;
                if it reads the result of a failed job, it does not apply. It is sent to a worker, where a separate job
                applies it, also when this process has ended. Or "failed", "3 failed", "10 succeeded": the store counts.

        Raises:
            InvalidParams: it is neither a function nor one of these texts, or cannot be sent.
        """
        found = rule_of(rule)
        if not self.id or not self.kit.batches.verbs.give_rule(self, found):
            enough = found.function or (lambda _: self.counts.get(found.state, 0) >= found.count)
            self.judge_by(enough)
        return self

    @property
    def stopped_by(self) -> Job[R] | None:
        """The job for which the `stop_when` rule held, or None; also None if nothing was left to cancel."""
        if self.stopping_job is None and self.id and not self.spec.kind and self.counts.get("cancelled"):
            with contextlib.suppress(JobkitError):
                found = self.kit.batches.info(self.id).stopped_by
                self.stopping_job = next((job for job in self.jobs if job.id == found), None)
        return self.stopping_job if was_stopped(self.counts) else None

    @property
    def rule_problem(self) -> str:
        """The error of its `stop_when` rule, which raised: "TypeError: ..."; "" if it did not."""
        if self.problem is None and self.id and not self.spec.kind:
            with contextlib.suppress(JobkitError):
                return str(self.kit.batches.info(self.id).rule_problem)
        return "" if self.problem is None else f"{type(self.problem).__name__}: {self.problem}"

    def judge_by(self, rule: Callable[[Job[R]], object]) -> None:
        """Apply a rule in this process."""
        self._rule = rule
        self._to_judge += [job for job in self.jobs if job.is_terminal]
        self.judge()

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write one HTML file for a colleague without jobkit: the batch's card, and the cards of its first 50 jobs.

        Jobs that failed come first. It loads nothing from elsewhere. Return its path.

        Raises:
            InvalidParams: the file cannot be written.
        """
        written: Path = ui().batch_report(self, path)
        return written

    def view(self) -> Any:
        """A Panel component with the batch's card, live: bar, counts, plot and table."""
        return ui().BatchCard(self)

    __panel__ = view

    # -- moved by its jobs --------------------------------------------------------------------------------------------

    def listen(self, listener: Callable[[int, JobSnapshot], None]) -> Callable[[], None]:
        """Call `listener(place in the batch, snapshot)` with every change, in a thread of ours; returns how to stop.
        It must not block and must not raise."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

        def stop() -> None:
            with self._lock:
                self._listeners = tuple(each for each in self._listeners if each is not listener)

        return stop

    def _count(self, snapshot: JobSnapshot, step: int) -> None:
        state = str(snapshot.state)
        self._states[state] = self._states.get(state, 0) + step
        self._sum += step * (1.0 if snapshot.is_terminal else snapshot.progress or 0.0)

    def _join(self) -> None:
        for job in self._jobs or ():
            job.come_along()

    def _moved(self, i: int, before: JobSnapshot, after: JobSnapshot) -> None:
        self._touch()
        with self._lock:
            self._count(before, -1)
            self._count(after, 1)
            self._recount()
            is_end = after.is_terminal and self._rule is not None
            if is_end:
                self._to_judge.append(self.jobs[i])
        self._notify(i, after)
        if is_end and not self._is_inline:
            background.watchers_do(self.judge)

    def _notify(self, i: int, snapshot: JobSnapshot) -> None:
        for listener in self._listeners:
            listener(i, snapshot)

    def judge(self) -> None:
        """Ask the rule about the jobs that have ended since the last time."""
        with self._judging:  # who judges afterwards knows what was found
            self._judge()

    def _judge(self) -> None:
        while self._rule is not None and self._to_judge:
            job = self._to_judge.popleft()
            if job.snapshot.state == JobState.CANCELLED:
                continue
            try:
                is_enough = self._rule(job)
            except (JobFailed, JobCancelled):
                continue
            except Exception as problem:
                logger.exception(
                    "the stop_when rule of a batch raised for job %s; the batch goes on without it", job.id
                )
                self._rule, self.problem = None, problem
                if self.id:
                    self.kit.batches.verbs.rule_failed(self)
                return
            if is_enough:
                self._rule, self.stopping_job = None, job
                try:
                    if not self.id or not self.kit.batches.stop(self.id, job.id):
                        self.cancel(f"stop_when held for job {job.id}")
                except JobkitError as error:
                    logger.warning("the rest of a batch could not be cancelled: %s", error)

    def _recount(self) -> None:
        with self._lock:
            counts = {state: n for state in map(str, JobState) if (n := self._states.get(state, 0))}
            size = len(self._jobs or ())
            progress = min(1.0, max(0.0, self._sum / size)) if size else 1.0
            self.advance(BatchSnapshot(progress, counts))

    # -- as a sequence ------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Job[R]]:
        return iter(self.jobs)

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, index: int) -> Job[R]:
        return self.jobs[index]

    def __reduce__(self) -> NoReturn:
        raise InvalidParams(
            "a batch cannot travel inside of another object: give it as an argument itself, or in a list, tuple or "
            "dict, and the list of its results takes its place"
        )

    def __repr__(self) -> str:
        own = " ".join(filter(None, (self.id[:8], repr(self.name) if self.name else "")))
        size = self.spec.size if self._jobs is None else len(self._jobs)
        return f"<Batch {own}{' ' if own else ''}of {size} jobs, {self.progress:.0%}: {counted(self.counts)}>"

    def _cell(self) -> Any:
        return ui().BatchDisplay(self)


class Batches(Table, list[Batch[Any]]):
    """Batches that were found: a list that prints and shows itself as a table."""

    COLUMNS, EMPTY = BATCH_COLUMNS, NO_BATCHES

    def _items(self) -> Sequence[Any]:
        return [each.info for each in self]


def named(name: object) -> str:
    """Return the checked `name=` of a batch."""
    text = str(checked("name", name, "str", max=MAX_NAME))
    if not text.isprintable():
        raise InvalidParams(f"name must be one line of printable text, not {text!r:.60}", "name")
    return text.strip()


def listed(items: Iterable[Any], most: int = MAX_JOBS) -> list[Any]:
    """Return the checked items of a batch."""
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable):
        raise InvalidParams(f"items must be a list with the arguments of each job, not {items!r:.60}", "items")
    found = list(itertools.islice(items, most + 1))
    if not found:
        raise InvalidParams("there is nothing to submit: the list of items is empty", "items")
    if len(found) > most:
        raise InvalidParams(f"more than {most:,} jobs in one call; submit them in several batches", "items")
    return found


def arguments(item: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """`(args, kwargs)` of one item of a `map`."""
    if isinstance(item, Mapping):
        return (), item
    return (item if isinstance(item, tuple) else (item,)), {}
