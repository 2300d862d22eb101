"""Lists and dicts of a kit that print as tables, and show themselves as tables in a notebook.

To code they are the lists and dicts that they are. The command line has the same columns. A table is of the moment at
which it was read; that of jobs has a live card, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from operator import itemgetter
from typing import Any, ClassVar, TypeVar

from jobkit.above import ui
from jobkit.model import JobSnapshot, JobState
from jobkit.model.cells import Cell, Columns, aligned, written
from jobkit.model.format import duration, params_brief, percent, progress_line, shortened, size, value_brief
from jobkit.model.result import ended_text
from jobkit.store.values import Fleet, WorkerInfo
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.shown import Shown
from jobkit.tasks.specs import ParamSpec

T = TypeVar("T")

#: Characters of an id in a sentence, and most characters of a cell of text.
_ID, _CELL = 8, 60

#: Rows that are printed.
_ROWS = 60


class Table(Shown):
    """Base of lists and dicts that print as a table.

    `COLUMNS` are those that it has; of `_rare` ones only those in which an item has something. `EMPTY` is what it
    says without items.
    """

    _internal = frozenset({"COLUMNS", "EMPTY", "cells", "columns_for", "notes"})
    COLUMNS: ClassVar[Columns] = {}
    _rare: ClassVar[frozenset[str]] = frozenset()
    EMPTY: ClassVar[str] = ""

    def _items(self) -> Sequence[Any]:
        """Return what has a row each."""
        return list(self)  # type: ignore[call-overload, no-any-return]  # a subclass is a list too

    def notes(self) -> list[str]:
        """Return lines above the table."""
        return []

    def columns_for(self, items: Sequence[Any]) -> Columns:
        """Return the columns of a table of these items."""
        is_used = {name: any(map(cell, items)) for name, cell in self.COLUMNS.items() if name in self._rare}
        return {name: cell for name, cell in self.COLUMNS.items() if is_used.get(name, True)}

    def cells(self, most: int) -> tuple[list[str], list[list[Cell]], int]:
        """Return headings, the first `most` rows, and the number of the others."""
        items = self._items()
        columns = self.columns_for(items)
        return list(columns), [[cell(each) for cell in columns.values()] for each in items[:most]], len(items) - most

    def __repr__(self) -> str:
        heads, rows, left = self.cells(_ROWS)
        lines = [[shortened(written(cell), _CELL) for cell in row] for row in rows]
        table = ["  ".join(line).rstrip() for line in aligned([heads, *lines])] if rows else [self.EMPTY]
        more = [f"and {left:,} more"] if left > 0 else []
        return "\n".join([*map(written, self.notes()), *table, *more])

    def _cell(self) -> Any:
        return ui().TableDisplay(self)


# -- workers -----------------------------------------------------------------------------------------------------------


def _alive(worker: WorkerInfo) -> str:
    if worker.is_alive:
        return "draining" if worker.is_draining else "yes"
    had = f" with {worker.lost_text}" if worker.lost_jobs else ""
    return f"lost{had}, last seen {duration(worker.beat_age_s)} ago"


def _in_use(worker: WorkerInfo) -> str:
    """Return what is in use of its resources: "gpu 1/2"."""
    return ", ".join(f"{name} {worker.in_use.get(name, 0):g}/{has:g}" for name, has in worker.resources.items())


def _gpus(worker: WorkerInfo) -> str:
    """Return the GPUs of a worker: "2 x NVIDIA A100"."""
    return ", ".join(f"{n} x {name}" if n > 1 else name for name, n in Counter(worker.gpus).items())


class WorkerTable(Table, list[WorkerInfo]):
    """Workers, also those that were lost in the last hour."""

    COLUMNS: ClassVar[Columns] = {
        "Worker": lambda worker: worker.id,
        "Alive": _alive,
        "Busy": lambda worker: f"{worker.running}/{worker.slots}",
        "Done": lambda worker: worker.done,
        "CPU": lambda worker: f"{worker.cpu_percent:.0f} %",
        "Memory": lambda worker: size(worker.rss_bytes),
        "Queues": lambda worker: ", ".join(worker.queues),
        "In use": _in_use,
        "GPUs": _gpus,
        "Pool": lambda worker: worker.pool,
        "Engine": lambda worker: worker.engine,
        "Version": lambda worker: f"{worker.version} / {worker.python}",
    }
    _rare = frozenset({"In use", "GPUs", "Pool", "Engine"})
    EMPTY = "No workers. `jobkit worker` starts one."


# -- tasks, queues, totals ---------------------------------------------------------------------------------------------


def usage(spec: ParamSpec) -> str:
    """Return `n=1000`, or `n=` if it is required."""
    return f"{spec.name}=" if spec.required else f"{spec.name}={value_brief(spec.default)}"


class TaskTable(Table, dict[str, TaskInfo]):
    """Tasks by name."""

    COLUMNS: ClassVar[Columns] = {
        "Task": lambda info: info.name,
        "Arguments": lambda info: " ".join(map(usage, info.params)),
        "Title": lambda info: info.title,
    }
    EMPTY = "No tasks. `@jobkit.task` above a function makes one."

    def _items(self) -> Sequence[Any]:
        return list(self.values())


class QueueTable(Table, dict[str, dict[str, int]]):
    """Numbers of jobs and workers by queue."""

    EMPTY = "No queues have been used yet."

    def _items(self) -> Sequence[Any]:
        return list(self.items())

    def columns_for(self, items: Sequence[Any]) -> Columns:
        return queue_columns(items)


def queue_columns(items: Iterable[tuple[str, Mapping[str, Any]]]) -> Columns:
    """Return the columns of a table of queues, each a name and its numbers."""
    names = dict.fromkeys(name for _, numbers in items for name in numbers)
    return {"Queue": itemgetter(0), **{name.capitalize(): partial(_number, name) for name in names}}


def _number(name: str, item: tuple[str, Mapping[str, Cell]]) -> Cell:
    return item[1].get(name, 0)


class Stats(Table, dict[str, Any]):
    """Totals: jobs by state, workers, and a table of queues."""

    EMPTY = QueueTable.EMPTY

    def _items(self) -> Sequence[Any]:
        return list(self.get("queues", {}).items())

    def columns_for(self, items: Sequence[Any]) -> Columns:
        return queue_columns(items)

    def notes(self) -> list[str]:
        if not self.keys() >= {"jobs", "rejected", "refused", *Fleet.__struct_fields__}:
            return []  # the caller has taken some out
        jobs = ", ".join(f"{n:,} {state}" for state in map(str, JobState) if (n := self["jobs"].get(state)))
        return [jobs or "No jobs.", *totals(self)]


def totals(stats: Mapping[str, Any], more: str = "") -> list[str]:
    """Return sentences about workers, and about what is wrong, from `kit.stats()`; `more` goes behind the first."""
    fleet = Fleet(**{name: stats[name] for name in Fleet.__struct_fields__})
    rejected = stats["rejected"]
    problems = (
        stats["refused"],
        f"{rejected:,} payloads were rejected; see the logs of the workers" if rejected else "",
    )
    return [f"{fleet.sentence}{more}", *filter(None, problems)]


# -- jobs, batches -----------------------------------------------------------------------------------------------------


def _progress(job: JobSnapshot) -> str:
    if job.state is not JobState.RUNNING:
        return ""
    return percent(job.progress) or progress_line(job.completed, job.total)


def _result(job: JobSnapshot) -> str:
    """Return what an ended job says of its end, as in the dashboard."""
    return shortened(ended_text(job), 40)


#: Columns of snapshots.
JOB_COLUMNS: Columns = {
    "Id": lambda job: job.id,
    "State": lambda job: job.state,
    "Task": lambda job: job.spec.task,
    "Progress": _progress,
    "Result": _result,
    "Queue": lambda job: job.spec.queue,
    "Submitted": lambda job: job.submitted_at,
    "Duration": lambda job: duration(job.elapsed_s(datetime.now(UTC))),
    "Arguments": lambda job: params_brief(job.spec.params),
}


def counted(counts: Mapping[str, int]) -> str:
    """Return `8 succeeded, 1 failed, 3 running`."""
    return ", ".join(f"{n:,} {state}" for state, n in counts.items()) or "no jobs"


#: Columns of `BatchInfo`s.
BATCH_COLUMNS: Columns = {
    "Id": lambda batch: batch.id,
    "State": lambda batch: batch.state,
    "Done": lambda batch: percent(batch.progress),
    "Jobs": lambda batch: batch.spec.size,
    "Submitted": lambda batch: batch.submitted_at,
    "Task": lambda batch: batch.spec.task,
    "Name": lambda batch: batch.spec.name,
    "Counts": lambda batch: counted(batch.counts),
}

NO_BATCHES = "No batches. task.map(...) and task.sweep(...) make one."
