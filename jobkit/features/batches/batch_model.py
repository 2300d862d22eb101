"""`BatchModel`: the card of many jobs as data: snapshots in, the card's JSON texts out.

Pure: no clock (`now` is an argument), no Panel, no Redis. One row a job: what it was asked for, its state, the numbers
of its result, how long it took. `batch_feed.py` connects it to a batch; the static card reads it too.
"""

from __future__ import annotations

import math
import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from operator import itemgetter
from typing import Any

from jobkit.features import leading
from jobkit.features.batches.batch_curves import BatchCurves
from jobkit.features.batches.batch_plot import Point, layout
from jobkit.model import ENDS, UNSUCCESSFUL, JobSnapshot, JobState
from jobkit.model.batch import BatchSpec
from jobkit.model.format import FACES, Eta, many, number, params_brief, shortened, value_brief
from jobkit.model.metrics import Point as MetricPoint
from jobkit.model.plain import is_number, iso
from jobkit.model.result import ended_text, scalars, told

#: Arguments that are named, at most.
_ARGS_MOST = 20

#: Columns of numbers and texts that are read from the jobs' results.
MAX_VALUES = 12

#: Columns of metrics.
MAX_METRICS = 8

#: Words in names of numbers of which the lowest, or the highest, is the best.
_LOW = frozenset(("loss", "error", "err", "rmse", "mse", "mae", "mape", "perplexity", "latency", "cost", "regret"))
_HIGH = frozenset(("score", "accuracy", "acc", "auc", "f1", "r2", "precision", "recall", "reward", "iou", "throughput"))
_TRAINING = re.compile(r"(?<![a-z])train")

#: Groups of errors.
MAX_ERRORS = 5

#: Seconds of the past from which the rate is told.
_RATE_S = 30.0

#: Faces in the order in which the bar stacks them: what is done first.
ENDED = (ENDS[0], "pruned", *UNSUCCESSFUL)
ORDER = (*ENDED, "running", "retrying", "queued", "scheduled")


class Differing:
    """Arguments that are not the same in all jobs that were read.

    Args:
        axes: arguments that were swept: they differ, and come first.
    """

    def __init__(self, axes: Sequence[str] = ()) -> None:
        self._axes = axes
        self._first: dict[str, Any] = {}
        self._texts: dict[str, str] = {}
        self._having: Counter[str] = Counter()
        self._differ = set(axes)
        self._count = 0
        self._names: list[str] | None = None

    def read(self, params: Mapping[str, Any]) -> None:
        """Read the arguments of one job more."""
        self._count += 1
        self._names = None
        self._having.update(params.keys())
        for name, value in params.items():
            if name not in self._first:
                self._first[name], self._texts[name] = value, repr(value)
            elif name not in self._differ and repr(value) != self._texts[name]:
                self._differ.add(name)

    @property
    def names(self) -> list[str]:
        """Arguments that differ or that some jobs lack, at most 20; all arguments of a single job."""
        if self._names is None:
            found = [name for name in self._axes if name in self._first]
            found += [name for name in self._first if name not in self._axes and self._differs(name)]
            self._names = found[:_ARGS_MOST]
        return self._names

    def _differs(self, name: str) -> bool:
        return self._count == 1 or name in self._differ or self._having[name] < self._count

    @property
    def others(self) -> dict[str, Any]:
        """The other arguments, with their first values."""
        return {name: value for name, value in self._first.items() if name not in self.names}


class BatchModel:
    """The jobs of one batch as its card shows them.

    Args:
        snapshots: the jobs, in their order.
        axes: arguments that were swept; default: those that differ.
        spec: of the batch, without an id if it is not stored.
        is_list: jobs of any task, found and not submitted together: their task is a column, and there is no plot.
    """

    noun = "job"
    leader: JobSnapshot | None = None  # of a led batch
    led: Mapping[str, str] = {}  # of a led one: `word` for the whole, its `jobs`, and the `call` of a kit that finds it

    def __init__(
        self,
        snapshots: Iterable[JobSnapshot],
        *,
        axes: Sequence[str] = (),
        is_list: bool = False,
        spec: BatchSpec | None = None,
    ) -> None:
        self.snapshots = list(snapshots)
        self.spec = spec or BatchSpec("", "", 0)
        self.is_list = is_list
        self.connection = "live"  # see `EventHub.connection`
        self.alert: dict[str, str] | None = None
        self.stopped_by = ""
        self.rule_problem = ""  # see `Batch.rule_problem`
        self.tasks = {snapshot.spec.task for snapshot in self.snapshots}
        self._differing = Differing(axes)
        self.values: list[str] = []
        self.metrics: list[str] = []
        self.curves = BatchCurves()
        self._shown: dict[int, dict[str, Any]] = {}
        self._asked: set[int] = set()
        self._has_reasons = False
        self._dirty: set[int] = set()
        self._columns_sent: list[tuple[str, str]] | None = None
        self.replies = 0
        self._eta = Eta()
        self._ended: deque[tuple[float, int]] = deque()
        for i, snapshot in enumerate(self.snapshots):
            self._differing.read({} if is_list else self._params(snapshot))
            self._read(i)

    @property
    def args(self) -> list[str]:
        """Names of the arguments that have a column: those that differ."""
        return ["task", "arguments"] if self.is_list else self._differing.names

    @property
    def fixed(self) -> str:
        """The other arguments in brief."""
        return params_brief(self._differing.others)

    def _params(self, snapshot: JobSnapshot) -> Mapping[str, Any]:
        """Return the arguments of a job, behind its task if there are several."""
        spec = snapshot.spec
        return {"task": spec.title or spec.task, **spec.params} if len(self.tasks) > 1 else spec.params

    # -- in ---------------------------------------------------------------------------------------------------------

    def take(self, i: int, snapshot: JobSnapshot) -> None:
        """A newer snapshot of the job in place `i`, or a further job behind the last one."""
        if i >= len(self.snapshots):
            self._differing.read({} if self.is_list else self._params(snapshot))
        elif snapshot.id != self.snapshots[i].id:
            self._shown.pop(i, None)
            self._asked.discard(i)
        self.snapshots[i : i + 1] = [snapshot]
        self._dirty.add(i)
        self._read(i)

    def wanting(self, limit: int = 500) -> list[int]:
        """Return places of succeeded jobs whose preview is needed to know the numbers of their result."""
        unknown = (
            i
            for i, snapshot in enumerate(self.snapshots)
            if snapshot.state is JobState.SUCCEEDED and i not in self._shown and i not in self._asked
        )
        found = list(islice(unknown, limit))
        self._asked.update(found)
        return found

    def show(self, i: int, preview: Mapping[str, Any] | None) -> None:
        """The preview of a job's result."""
        plain = (preview or {}).get("json")
        found = scalars(plain) if isinstance(plain, dict) else {}
        self._put(i, found or {"value": self.snapshots[i].summary})
        self._dirty.add(i)

    def _read(self, i: int) -> None:
        snapshot = self.snapshots[i]
        self._has_reasons = self._has_reasons or (self.is_list and bool(self.note_of(i)))
        for name in () if self.is_list else snapshot.metrics.newest:
            if name not in self.metrics and len(self.metrics) < MAX_METRICS:
                self.metrics.append(name)
        if snapshot.state is JobState.SUCCEEDED and i not in self._shown:
            # Results of different tasks have little in common: their line is all that a list shows.
            found = {"result": snapshot.summary} if self.is_list else told(snapshot.summary)
            if found is not None:
                self._put(i, found)

    def _put(self, i: int, values: dict[str, Any]) -> None:
        self._shown[i] = values
        for name in values:
            if name not in self.values and len(self.values) < MAX_VALUES:
                self.values.append(name)

    # -- out --------------------------------------------------------------------------------------------------------

    def read_facts(self, kit: Any) -> None:
        """Read what its leader says of it. Blocks."""

    @property
    def is_terminal(self) -> bool:
        return all(snapshot.is_terminal for snapshot in self.snapshots)

    @property
    def waiting(self) -> list[JobSnapshot]:
        """The jobs that are queued; of a led batch without any job, its leader."""
        jobs = self.snapshots or ([self.leader] if self.leader is not None else [])
        return [job for job in jobs if job.state is JobState.QUEUED]

    def counts(self) -> dict[str, int]:
        """Return the number of jobs by face, in the order of the bar."""
        found = Counter(map(self.face_of, range(len(self.snapshots))))
        return {name: found[name] for name in ORDER if found[name]}

    def face_of(self, i: int) -> str:
        """Return the face of one job."""
        return self.snapshots[i].face

    @property
    def size(self) -> int:
        """The number of jobs that its bar stands for."""
        return len(self.snapshots)

    @property
    def title(self) -> str:
        if self.is_list:
            return many(len(self.snapshots), "job")
        count, size = len(self.snapshots), self.spec.size
        if len(self.tasks) > 1:
            return f"{count:,} jobs of {len(self.tasks)} tasks"
        spec = self.snapshots[0].spec if self.snapshots else None
        task = (spec.title or spec.task) if spec else "No jobs"
        if spec and not self.spec.id:  # chosen, not submitted together
            return f"{many(count, 'job')} of {spec.task if self.is_mixed else task}"
        some = f"{count:,} of {size:,} jobs" if count < size else ""
        return " · ".join(filter(None, (self.spec.name, task, some)))

    @property
    def is_mixed(self) -> bool:
        """True if its jobs are of several tasks or have several titles, so that the run times of some say nothing."""
        return len({(snapshot.spec.task, snapshot.spec.title) for snapshot in self.snapshots}) > 1

    def span(self) -> tuple[datetime | None, datetime | None]:
        """When the first job was started, and when the last one ended (None until all have)."""
        starts = [s.started_at for s in self.snapshots if s.started_at]
        ends = [s.finished_at for s in self.snapshots if s.finished_at]
        return min(starts, default=None), max(ends, default=None) if self.is_terminal else None

    @property
    def face(self) -> str:
        """The state of the batch as a face: running while anything moves, then its worst."""
        counts = self.counts()
        for name in ("running", "retrying", "queued", "scheduled", *UNSUCCESSFUL):
            if counts.get(name):
                return "running" if name in ("queued", "retrying") and self.span()[0] else name
        return "succeeded"

    def head(self, now: datetime) -> dict[str, Any]:
        """Bar, counts, rate and time left."""
        counts = self.counts()
        size = self.size
        ended = sum(counts.get(name, 0) for name in ENDED)
        started, finished = self.span()
        alert = self.alert if self.waiting else None
        if self.rule_problem:
            alert = {"level": "warning", "text": f"Its stop rule failed: {self.rule_problem}"}
        # While others run, waiting is usual: a few words say why.
        waits = alert["text"] if alert is not None and alert["level"] == "info" and counts.get("running") else ""
        done = sum(1.0 if s.is_terminal else s.progress or 0.0 for s in self.snapshots)
        if started is not None:
            self._eta.update(done, float(size), max(0.0, (now - started).total_seconds()))
        return {
            "title": self.title,
            "id": self.spec.id,
            "fixed": self.fixed,
            "is_list": self.is_list,
            "noun": self.noun,
            "face": self.face,
            "size": size,
            "counts": [[name, FACES[name], n] for name, n in counts.items()],
            "ended": ended,
            "open": size - ended,
            "failed": counts.get("failed", 0),
            "progress": done / size if size else 1.0,
            "rate": self.rate(now, ended) if ended < size and not self.is_list else "",
            "eta_s": self._left_s(now, ended),
            "started_at": iso(started),
            "finished_at": iso(finished),
            "stopped_by": self.stopped_by,
            "best": self.best(),
            "better": self.better(),
            "task": ", ".join(sorted(self.tasks)[:5]),
            "errors": self.errors(),
            "alert": None if waits else alert,
            "waits": waits,
            "connection": self.connection,
            "now": iso(now),
        }

    def _left_s(self, now: datetime, ended: int) -> float | None:
        """Return the seconds until its last job ends: of chosen jobs by their own estimates, if all of them run."""
        rest = [snapshot for snapshot in self.snapshots if not snapshot.is_terminal]
        if not self.spec.id and (self.is_mixed or all(job.state is JobState.RUNNING for job in rest)):
            known = [left for job in rest if (left := job.eta_s(now)) is not None]
            return max(known, default=None) if len(known) == len(rest) else None
        # The first few jobs may be the short ones: an early guess is worse than none.
        return self._eta.left_s if ended < self.size and ended >= min(3, self.size - 1) else None

    def best(self) -> list[Any] | None:
        """Return the name of the number that `better` names, or of the first one among the results whose values differ,
        then word, value and arguments of its two ends, the better one first."""
        if self.is_list:
            return None
        for name in [*(self.better() or ())[:1], *self.values]:
            found = [(value, i) for i in self._shown if is_number(value := self._numbers_of(i).get(name))]
            if len({value for value, _ in found}) > 1:
                ends = {"lowest": min(found, key=itemgetter(0)), "highest": max(found, key=itemgetter(0))}
                best = direction_of(name)
                words = sorted(ends, key=lambda word: word != best)
                return [
                    name,
                    *(["best" if word == best else word, ends[word][0], self._point(ends[word][1])] for word in words),
                ]
        return None

    def better(self) -> list[str] | None:
        """Return the column in which the best is marked at first and its direction; None if no name says which.

        Values of training data are taken only if there are no others.
        """
        named = [[name, direction] for name in self.numbers if (direction := direction_of(name))]
        return min(named, key=lambda pair: bool(_TRAINING.search(pair[0].lower())), default=None)

    def best_value(self) -> tuple[str, float] | None:
        """Return the column that `better` says and its best value, to be marked; None if all values are alike."""
        name, direction = self.better() or ("", "")
        places = (i for i in range(len(self.snapshots)) if self.face_of(i) not in UNSUCCESSFUL)
        values = {numbers[name] for numbers in map(self._numbers_of, places) if is_number(numbers.get(name))}
        return (name, (min if direction == "lowest" else max)(values)) if len(values) > 1 else None

    @property
    def numbers(self) -> list[str]:
        """Names of values of the results, then those of metrics that are no such value."""
        return [*self.values, *(name for name in self.metrics if name not in self.values)]

    def _numbers_of(self, i: int) -> dict[str, Any]:
        return {**self.snapshots[i].metrics.newest, **self._shown.get(i, {})}

    def _point(self, i: int) -> str:
        params = self._params(self.snapshots[i])
        return params_brief({name: params[name] for name in self.args if name in params})

    def label_of(self, i: int) -> str:
        """Return what a job is called beside the others."""
        snapshot = self.snapshots[i]
        if self.is_list:
            said = filter(None, (snapshot.spec.title or snapshot.spec.task, params_brief(snapshot.spec.params)))
            return ", ".join(said)
        return self._point(i) or snapshot.id[:8]

    def charts(self) -> dict[str, list[tuple[str, list[MetricPoint]]]]:
        """Return the metrics, see `BatchCurves.charts`."""
        return self.curves.charts(self.snapshots, self.label_of)

    def errors(self) -> list[list[Any]]:
        """Return the errors of the failed jobs in groups, the most frequent first: type, message of one, number."""
        found: dict[tuple[str, str], list[Any]] = {}
        for snapshot in self.snapshots:
            if snapshot.state is JobState.FAILED and (error := snapshot.error) is not None:
                one = found.setdefault((error.type, error.where), [error.type, error.message[:120], 0])
                one[2] += 1
        return sorted(found.values(), key=itemgetter(2), reverse=True)[:MAX_ERRORS]

    def rate(self, now: datetime, ended: int) -> str:
        """Return how many ended lately: `12 jobs/s`, `4.5 jobs/min`."""
        at = now.timestamp()
        self._ended.append((at, ended))
        while len(self._ended) > 2 and self._ended[1][0] < at - _RATE_S:
            self._ended.popleft()
        since, before = self._ended[0]
        if ended <= before or at - since < 0.5:
            return ""
        per_s = (ended - before) / (at - since)
        count, unit = (per_s, "s") if per_s >= 1 else (per_s * 60, "min")
        return f"{number(round(count, 1))} {self.noun}s/{unit}"

    def table(self) -> dict[str, Any]:
        """Return every row, with the names of the columns, as the next text of all cards."""
        self._dirty.clear()
        self._columns_sent = self.columns()
        self.replies += 1
        return self.rows()

    def rows(self) -> dict[str, Any]:
        """Return every row as it is now, with the names of the columns and the number of the last text."""
        return {
            "columns": self.columns(),
            "is_list": self.is_list,
            "n": self.replies,
            "rows": [self.row(i) for i in range(len(self.snapshots))],
        }

    def changes(self) -> tuple[str, dict[str, Any]]:
        """Return `("delta", rows that changed)`, {} for none, or `("table", all rows)` if the columns changed."""
        if self._columns_sent != self.columns():
            return "table", self.table()
        if not self._dirty:
            return "delta", {}
        rows = [self.row(i) for i in sorted(self._dirty)]
        self._dirty.clear()
        self.replies += 1
        return "delta", {"n": self.replies, "rows": rows}

    def columns(self) -> list[tuple[str, str]]:
        """Return name and kind of each column: "arg", "state", "value", "duration" (s), "note" or "id"."""
        args, values = [(name, "arg") for name in self.args], [(name, "value") for name in self.numbers]
        note = [("reason" if self.is_list else "note", "note")] if self.has_notes else []
        columns = [*args, ("state", "state"), *values, ("duration", "duration"), *note, ("id", "id")]
        return [(name.capitalize(), kind) for name, kind in columns] if self.is_list else columns

    @property
    def has_notes(self) -> bool:
        """True if there is a column for `note_of`: in a list only if a job has a reason."""
        return self._has_reasons or not self.is_list

    def row(self, i: int) -> list[Any]:
        """`[place, face, cells, progress, started]`, with a cell for each of `columns`."""
        snapshot = self.snapshots[i]
        shown = self._numbers_of(i)
        spec = snapshot.spec
        if self.is_list:
            args = [spec.title or spec.task, params_brief(spec.params)]
        else:
            params = self._params(snapshot)
            args = [_cell(params.get(name)) for name in self.args]
        face = self.face_of(i)
        started, finished = snapshot.started_at, snapshot.finished_at
        cells = [
            *args,
            face,
            *(_cell(shown.get(name)) for name in self.numbers),
            (finished - started).total_seconds() if started and finished else None,
            *([shortened(self.note_of(i), 160)] if self.has_notes else []),
            snapshot.id,
        ]
        progress = snapshot.progress if snapshot.state is JobState.RUNNING else None
        return [i, face, cells, progress, iso(started)]

    def note_of(self, i: int) -> str:
        """Return one line about a job: its error, or its message unless it succeeded; in a list why it has not."""
        snapshot = self.snapshots[i]
        if self.is_list:
            return ended_text(snapshot) if snapshot.state in UNSUCCESSFUL else ""
        if snapshot.state is JobState.SUCCEEDED:
            return ""
        return snapshot.shown_message if snapshot.error is None else str(snapshot.error)

    def plot(self, chosen: Mapping[str, str] | None = None) -> dict[str, Any] | None:
        """See `batch_plot.layout`; None if there is nothing to plot."""
        if self.is_list:
            return None
        return layout(*self.points(), chosen)

    def points(self) -> tuple[list[Point], list[str], list[str]]:
        """Return the jobs that have numbers, the arguments, and the names of the numbers, that of the best first."""
        points, known = [], dict.fromkeys(self.numbers, False)
        for i, values in sorted(self._shown.items()):  # so that each value has the same colour on every card
            snapshot = self.snapshots[i]
            measured = {name: value for name, value in snapshot.metrics.newest.items() if name in self.metrics}
            numbers = {name: float(value) for name, value in {**measured, **values}.items() if is_number(value)}
            if not numbers:
                continue
            known |= dict.fromkeys(numbers, True)
            if snapshot.started_at and snapshot.finished_at:
                numbers.setdefault("duration (s)", (snapshot.finished_at - snapshot.started_at).total_seconds())
            points.append(Point(i, self._params(snapshot), numbers))
        names = [name for name, has_numbers in known.items() if has_numbers]
        best = (self.better() or [""])[0]
        names.sort(key=lambda name: name != best)
        return points, self.args, [*names, "duration (s)"] if names else []


def model_of(
    spec: BatchSpec, snapshots: Iterable[JobSnapshot], leader: JobSnapshot | None, is_list: bool = False
) -> BatchModel:
    """Return the model of a batch, by what leads it; arguments as of `BatchModel`."""
    card = None if is_list else leading(spec.kind, "led_card")
    if card is not None:
        return card.MODEL(snapshots, leader, spec=spec)  # type: ignore[no-any-return]
    return BatchModel(snapshots, axes=spec.axes, is_list=is_list, spec=spec)


def direction_of(name: str) -> str:
    """Return "lowest" or "highest" if the name of a number says which is the best, else ""."""
    words = set(re.findall(r"[a-z]+\d*", name.lower()))
    return "lowest" if words & _LOW else "highest" if words & _HIGH else ""


def _cell(value: Any) -> Any:
    """Return the value in a form that JSON can hold and a cell can show."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if isinstance(value, str) else value_brief(value, 60)
