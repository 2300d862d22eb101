"""`Batch`: many jobs of one task, seen as one; and waiting for any of several jobs."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import param

from jobkit.client.job import Job
from jobkit.client.loop import background
from jobkit.model import InvalidParams, JobkitError, JobSnapshot, JobState

if TYPE_CHECKING:
    import pandas as pd

    from jobkit.client.kit import Kit

#: One call may submit at most so many jobs: a range that was meant for something else is noticed here.
MAX_JOBS = 100_000


class Batch(param.Parameterized):
    """The jobs of one `map` or `sweep`. Its parameters move by themselves, like a job's.

    Iterating gives the jobs, `len()` their number, `batch[0]` one of them.
    """

    progress = param.Number(0.0, doc="0..1: the mean of the jobs' progress; an ended job counts as 1.")
    counts = param.Dict({}, doc="Number of jobs by state; states without a job are left out.")

    def __init__(self, kit: Kit, jobs: Sequence[Job]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # param has no types here
        self._kit = kit
        self.jobs = list(jobs)
        self._lock = threading.Lock()
        self._publishing = threading.RLock()
        self._states: dict[str, int] = {}
        self._sum = 0.0
        self._is_due = False
        for job in self.jobs:
            snapshot = job.observe(self._moved)
            with self._lock:
                self._count(snapshot, 1)
        self._publish()

    # -- waiting ------------------------------------------------------------------------------------------------------

    @property
    def is_terminal(self) -> bool:
        """True once every job has ended."""
        return all(job.is_terminal for job in self.jobs)

    def wait(self, timeout: float | timedelta | None = None) -> bool:
        """Wait until every job has ended; True if all have, False when `timeout` seconds were over first."""
        for _ in as_completed(self.jobs, timeout, raises=False):
            pass
        self._publish()
        return self.is_terminal

    def as_completed(self, timeout: float | timedelta | None = None) -> Iterator[Job]:
        """The jobs in the order in which they end. Raises TimeoutError when `timeout` seconds are over first."""
        return as_completed(self.jobs, timeout)

    def results(self) -> pd.DataFrame:
        """One row a job, at any moment: its arguments, `state`, `value` (None until it succeeded) and `error`."""
        import pandas as pd

        rows = []
        for job in self.jobs:
            value, error = None, str(job.snapshot.error or "") if job.state != JobState.SUCCEEDED else ""
            if job.state == JobState.SUCCEEDED:
                try:
                    value = job.result()
                except JobkitError as missing:  # its value is not there; the other rows are
                    error = str(missing)
            rows.append({**job.params, "state": str(job.state), "value": value, "error": error})
        return pd.DataFrame(rows, index=pd.Index([job.id for job in self.jobs], name="id"))

    # -- acting -------------------------------------------------------------------------------------------------------

    def cancel(self, reason: str = "") -> int:
        """Ask every job that has not ended to stop; how many were asked."""
        open_jobs = [job.id for job in self.jobs if not job.is_terminal]
        self._kit.cancel_many(open_jobs, reason)
        return len(open_jobs)

    def retry_failed(self) -> Batch:
        """Run the failed ones once more, as new jobs in a new batch."""
        return Batch(self._kit, [job.retry() for job in self.jobs if job.state == JobState.FAILED])

    def view(self) -> Any:
        """A Panel component with the batch's bar and counts, live."""
        from jobkit.ui.batch_view import batch_view

        return batch_view(self)

    __panel__ = view

    # -- moved by its jobs --------------------------------------------------------------------------------------------

    def _count(self, snapshot: JobSnapshot, step: int) -> None:
        state = str(snapshot.state)
        self._states[state] = self._states.get(state, 0) + step
        self._sum += step * (1.0 if snapshot.is_terminal else snapshot.progress or 0.0)

    def _moved(self, before: JobSnapshot, after: JobSnapshot) -> None:
        with self._lock:
            self._count(before, -1)
            self._count(after, 1)
            was_due, self._is_due = self._is_due, True
        if not was_due:
            background.watchers_do(self._publish)

    def _publish(self) -> None:
        with self._publishing:
            with self._lock:
                self._is_due = False
                counts = {state: n for state in map(str, JobState) if (n := self._states.get(state, 0))}
                progress = min(1.0, max(0.0, self._sum / len(self.jobs))) if self.jobs else 1.0
            self.param.update(progress=progress, counts=counts)

    # -- as a sequence ------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Job]:
        return iter(self.jobs)

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, index: int) -> Job:
        return self.jobs[index]

    def __repr__(self) -> str:
        return f"<Batch of {len(self.jobs)} jobs, {self.progress:.0%}: {told(self.counts)}>"

    __str__ = __repr__


def told(counts: Mapping[str, int]) -> str:
    """ "3 running, 5 succeeded"."""
    return ", ".join(f"{n} {state}" for state, n in counts.items()) or "no jobs"


def as_completed(
    jobs: Iterable[Job], timeout: float | timedelta | None = None, *, raises: bool = True
) -> Iterator[Job]:
    """The jobs in the order in which they end, each as soon as it has.

    Raises:
        TimeoutError: not all have ended within `timeout` seconds (with `raises=False` it just ends).
    """
    ended: queue.SimpleQueue[Job] = queue.SimpleQueue()
    waiting = list(jobs)
    for job in waiting:
        job.when_done(lambda job=job: ended.put(job))  # type: ignore[misc]  # the default binds this job
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    deadline = None if seconds is None else time.monotonic() + seconds
    for left in range(len(waiting), 0, -1):
        try:
            job = ended.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            if raises:
                raise TimeoutError(f"{left} of {len(waiting)} jobs have not ended after {timeout} s") from None
            return
        job.wait(0)
        yield job


def wait(jobs: Iterable[Job], timeout: float | timedelta | None = None) -> tuple[list[Job], list[Job]]:
    """Wait until all have ended or `timeout` seconds are over; `(ended, not ended)`, each in the order given."""
    waiting = list(jobs)
    for _ in as_completed(waiting, timeout, raises=False):
        pass
    return [job for job in waiting if job.is_terminal], [job for job in waiting if not job.is_terminal]


def listed(items: Iterable[Any]) -> list[Any]:
    """The items of a batch.

    Raises:
        InvalidParams: none, or more than `MAX_JOBS`.
    """
    found = list(itertools.islice(items, MAX_JOBS + 1))
    if not found:
        raise InvalidParams("there is nothing to submit: the list of items is empty", "items")
    if len(found) > MAX_JOBS:
        raise InvalidParams(f"more than {MAX_JOBS:,} jobs in one call; submit them in several batches", "items")
    return found


def arguments(item: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """`(args, kwargs)` of one item of a `map`."""
    if isinstance(item, Mapping):
        return (), item
    return (item if isinstance(item, tuple) else (item,)), {}


def grid(axes: Mapping[str, Iterable[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of the axes' values, the last axis fastest.

    Raises:
        InvalidParams: there is no axis, or one is empty or no list of values.
    """
    if not axes:
        raise InvalidParams("a sweep needs at least one axis: sweep(n=[1, 2, 3])")
    values = {}
    for name, axis in axes.items():
        if isinstance(axis, (str, bytes, Mapping)) or not isinstance(axis, Iterable):
            raise InvalidParams(f"axis {name} must be a list of values, not {axis!r}", name)
        values[name] = list(itertools.islice(axis, MAX_JOBS + 1))
        if not values[name]:
            raise InvalidParams(f"axis {name} has no values", name)
    return (dict(zip(values, point, strict=True)) for point in itertools.product(*values.values()))
