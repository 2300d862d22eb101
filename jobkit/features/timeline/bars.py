"""`TimelineModel`: events of jobs in, bars out; `series`: counts over a range. Pure: no store, no clock, no browser.

A *bar* is one attempt on one lane; a *lane* is one slot of a worker, given to an attempt when it starts. All times are
milliseconds since the epoch, by the store's clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from msgspec.structs import replace

from jobkit.model import ENDS, EventType, JobEvent, JobSnapshot, JobState, apply
from jobkit.model.format import params_brief
from jobkit.model.plain import to_ms
from jobkit.model.snapshot import attempts_of
from jobkit.store.query import Query, matches
from jobkit.tasks.info import Defaults

#: Attempts that are kept.
ATTEMPTS = 2_000

#: Lanes of one worker; with more jobs at once, the rest shares the last.
LANES = 16

#: Jobs that are never shown are remembered as such, so that they are not read again with each event.
FOREIGN = 10_000

#: Seconds of which endings and the queues' comings and goings are counted.
COUNTED_S = 86_400

#: Steps of a series.
STEPS = 60

#: Tasks with separate times.
TASKS = 8

#: Colours (`--jk-series-1` and so on in `tokens.css`), and textures that tell tasks of one colour apart.
COLOURS, TEXTURES = 8, 3

_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)

_ALL = Query()

#: What may be looked at, beside the range that fits the data.
RANGES_MS: Mapping[str, int] = {"15m": 900_000, "1h": 3_600_000, "6h": 21_600_000, "24h": 86_400_000}


class TaskColours:
    """Numbers of tasks: `number % COLOURS` is the colour, `number // COLOURS` the texture, 0 for none.

    A task has the colour of the hash of its name. If another task has that already, it has the next free one; with more
    tasks than colours, textures are used. All tasks of a kit are numbered first, in one order, whichever of them a page
    shows.
    """

    def __init__(self, tasks: Iterable[str] = ()) -> None:
        self._numbers: dict[str, int] = {}
        for task in sorted(tasks):
            self.of(task)

    def of(self, task: str) -> int:
        """Return the number of a task: 0 to `COLOURS * TEXTURES - 1`."""
        if task not in self._numbers:
            self._numbers[task] = self._free(int.from_bytes(sha256(task.encode("utf-8", "replace")).digest()[:4]))
        return self._numbers[task]

    def _free(self, hashed: int) -> int:
        taken = set(self._numbers.values())
        plain = ((hashed + n) % COLOURS + texture * COLOURS for texture in range(TEXTURES) for n in range(COLOURS))
        return next((number for number in plain if number not in taken), hashed % (COLOURS * TEXTURES))


class AttemptBar(NamedTuple):
    """One attempt, in the order in which the browser gets it: a list, so that 2,000 of them stay small.

    Attributes:
        lane: slot of the worker, from 0.
        ready_ms: since when the job could have run, None if unknown. started_ms, ended_ms: of the attempt; the latter
            is None while it runs.
        outcome: see `model.snapshot.Attempt`. reason: at most 200 characters. batch: its name, or id; "" for none.
    """

    job_id: str
    attempt: int
    task: str
    name: str
    args: str
    worker: str
    lane: int
    ready_ms: int | None
    started_ms: int
    ended_ms: int | None
    outcome: str
    reason: str = ""
    batch: str = ""

    @property
    def key(self) -> str:
        return f"{self.job_id}/{self.attempt}"


def bars_of(snapshot: JobSnapshot, defaults: Defaults | None = None) -> list[AttemptBar]:
    """Return the attempts of a job, oldest first, all in the first lane; `defaults` by task."""
    spec = snapshot.spec
    args = params_brief(spec.params, (defaults or {}).get(spec.task), limit=60)
    return [
        AttemptBar(
            job_id=snapshot.id,
            attempt=attempt.number,
            task=spec.task,
            name=spec.title or spec.task,
            args=args,
            worker=attempt.worker,
            lane=0,
            ready_ms=to_ms(attempt.ready_at) or None,
            started_ms=to_ms(attempt.started_at),
            ended_ms=to_ms(attempt.ended_at) or None,
            outcome=attempt.outcome,
            reason=attempt.reason[:200],
            batch=(spec.batch_name or spec.batch) if snapshot.batch else "",
        )
        for attempt in attempts_of(snapshot.history)
    ]


class TimelineModel:
    """The newest attempts of a kit's jobs, and what has changed since the last delta. Not thread-safe.

    Args:
        query: which jobs, by what they are now; limit, cursor and order mean nothing here.
        only: whose jobs; everybody's unless given.
        limit: attempts that are kept; of more, those that ended first go.
    """

    def __init__(self, query: Query = _ALL, only: str | None = None, limit: int = ATTEMPTS) -> None:
        self.limit = limit
        self.only = only
        self.query = replace(query, limit=0, cursor="", order="")
        self.is_narrow = only is not None or self.query != Query(limit=0)
        """Return whether some jobs are not shown: then each is read before it is counted."""
        self._lasting = Query(task=query.task, owner=query.owner, tag=query.tag, queue=query.queue)
        self.defaults: Defaults = {}
        """Arguments that equal them are not named."""
        self.colours = TaskColours()
        self._reading: set[str] = set()
        self._deleted: set[str] = set()  # of those, meanwhile
        self._foreign: dict[str, None] = {}
        self.load((), None)

    # -- in -----------------------------------------------------------------------------------------------------------

    def load(
        self, snapshots: Iterable[JobSnapshot], since_ms: int | None, queued: int = 0, depth_since_ms: int = 0
    ) -> None:
        """Start anew from what was read."""
        self.jobs = {snapshot.id: snapshot for snapshot in snapshots if self.only in (None, snapshot.spec.owner)}
        self.bars: dict[str, list[AttemptBar]] = {}
        """By job, for those that have started at least once."""
        self.unknown: dict[str, int] = {}
        """Ids of jobs to read and `learn`, newest last, with the number of the newest event of each."""
        self.since_ms = since_ms
        """Time (ms) before which attempts are missing; None if none is missing."""
        self.depth_since_ms = depth_since_ms
        """Time (ms) before which it is not known who came into a queue."""
        self.queued = queued
        """Jobs that wait in a queue now, as the store counts them."""
        self._seconds: dict[int, list[int]] = {}
        """By second, how many jobs succeeded, failed, were cancelled, came into a queue and left it."""
        self._busy: dict[tuple[str, int], str] = {}
        """Key of the bar that runs on a worker's lane."""
        self._changed: dict[str, None] = {}
        for snapshot in self.jobs.values():
            self._note_all(snapshot)
        # Lanes are given in the order of starts, whichever order the jobs were read in.
        made = {snapshot.id: bars_of(snapshot, self.defaults) for snapshot in self.jobs.values()}
        bars = [bar for each in made.values() for bar in each]
        lanes: dict[str, int] = {}
        ends: dict[tuple[str, int], int] = {}  # worker, lane: busy until
        for bar in sorted(bars, key=lambda bar: bar.started_ms):
            own = (lanes[each.key] for each in made[bar.job_id] if each.worker == bar.worker and each.key in lanes)
            free = (n for n in (*own, *range(LANES)) if ends.get((bar.worker, n), 0) <= bar.started_ms)
            lane = next(free, LANES - 1)
            ends[bar.worker, lane] = bar.ended_ms if bar.ended_ms is not None else 1 << 60
            lanes[bar.key] = lane
            if bar.ended_ms is None:
                self._busy[bar.worker, lane] = bar.key
        for bar in bars:
            self.bars.setdefault(bar.job_id, []).append(bar._replace(lane=lanes[bar.key]))
        self._forget_old()
        self._changed.clear()

    def take(self, event: JobEvent) -> None:
        """Apply an event of any job."""
        if event.type.is_news:
            return
        known = self.jobs.get(event.job_id)
        if event.type is EventType.DELETED:
            self.unknown.pop(event.job_id, None)
            self._deleted |= self._reading & {event.job_id}
            if known is not None or not self.is_narrow:
                self._drop(event.job_id)
            return
        if known is not None and event.seq <= known.seq:
            return
        if self.is_narrow and known is None:
            if self._may_be(event):
                self._ask_for(event)
            return
        if not self.is_narrow:
            self._note(event, event.type is EventType.STARTED or (known is not None and known.state is JobState.QUEUED))
        moved = apply(known, event) if known is not None else None
        if moved is None:
            self._ask_for(event)
        elif moved is not known:
            self._put_or_leave(moved, event.at_ms)

    def to_read(self, limit: int) -> list[str]:
        """Return the newest ids to read; call `learn` with their snapshots before the next ones."""
        ids = list(self.unknown)[-limit:]
        for job_id in ids:
            del self.unknown[job_id]
        self._reading = set(ids)
        return ids

    def learn(self, snapshots: Iterable[JobSnapshot | None], now_ms: int) -> None:
        """Add jobs that were unknown, as they were read; None for deleted ones."""
        deleted, self._deleted, self._reading = self._deleted, set(), set()
        for snapshot in filter(None, snapshots):
            if snapshot.id in deleted:
                continue
            # What happened while it was read may be missing in it: then it is to be read once more.
            if self.unknown.get(snapshot.id, 0) <= snapshot.seq:
                self.unknown.pop(snapshot.id, None)
            known = self.jobs.get(snapshot.id)
            if known is None or snapshot.seq > known.seq:
                self._put_or_leave(snapshot, now_ms)
        while len(self._foreign) > FOREIGN:
            del self._foreign[next(iter(self._foreign))]
        self._forget_old()

    def skip(self, now_ms: int) -> None:
        """Give up on new jobs, of which there are too many to read: from now on they are missing."""
        self.unknown = {}
        self.since_ms = now_ms

    # -- out ----------------------------------------------------------------------------------------------------------

    def whole(self, now_ms: int) -> dict[str, Any]:
        """Return everything: `bars` (see `AttemptBar`), `colours` of their tasks (see `TaskColours`), `due` (jobs that
        wait for a time), `since`, `now`, and `start`, the time from which every attempt is seen."""
        return self._told(now_ms, self.all_bars())

    def delta(self, now_ms: int) -> dict[str, Any]:
        """Return the changes since the last delta: `bars` of the jobs that moved, `gone` ids; {} for none."""
        changed, self._changed = self._changed, {}
        if not changed:
            return {}
        bars = [bar for job_id in changed for bar in self.bars.get(job_id, ())]
        return {**self._told(now_ms, bars), "gone": sorted(changed.keys() - self.jobs.keys())}

    def all_bars(self) -> list[AttemptBar]:
        return [bar for bars in self.bars.values() for bar in bars]

    def ended(self, start_ms: int, end_ms: int) -> list[tuple[int, list[int]]]:
        """Each second of the range in which jobs ended, and how many succeeded, failed and were cancelled."""
        seconds = [(second, counts[:3]) for second, counts in self._seconds.items() if any(counts[:3])]
        return [(second, counts) for second, counts in seconds if start_ms <= second * 1000 <= end_ms]

    def depth(self, edges: Sequence[float]) -> list[int | None]:
        """Return jobs in a queue at each of these times, in ascending order; None before that is known.

        Counted back from now: jobs that have left since then are added, jobs that have come since then are subtracted.
        """
        flow = sorted(self._seconds.items(), reverse=True)
        found: list[int | None] = []
        now, n = self.queued, 0
        for edge in reversed(edges):
            while n < len(flow) and flow[n][0] * 1000 >= edge:
                come, gone = flow[n][1][3:]
                now += gone - come
                n += 1
            found.append(None if edge < self.depth_since_ms else max(0, now))
        return found[::-1]

    # -- inside -------------------------------------------------------------------------------------------------------

    def _ask_for(self, event: JobEvent) -> None:
        newest = max(event.seq, self.unknown.pop(event.job_id, 0))
        self.unknown[event.job_id] = newest

    def _may_be(self, event: JobEvent) -> bool:
        """Return whether a hidden job may have to be shown after this event, as far as known without reading."""
        if event.job_id in self.unknown or event.job_id in self._reading:
            return True  # what is being read may be from before it
        if event.job_id in self._foreign and event.type is not EventType.MOVED:
            return False
        state = event.data.get("state")
        return not self.query.states or state is None or state in self.query.states

    def _put_or_leave(self, snapshot: JobSnapshot, at_ms: int) -> None:
        is_own = self.only in (None, snapshot.spec.owner)
        if is_own and matches(snapshot, self.query, at_ms):
            self._put(snapshot)
        elif snapshot.id in self.jobs:
            self._note_all(self.jobs[snapshot.id], -1)
            self._drop(snapshot.id)
        elif not is_own or not matches(snapshot, self._lasting, at_ms):
            self._foreign[snapshot.id] = None

    def _put(self, snapshot: JobSnapshot) -> None:
        if self.is_narrow:
            if snapshot.id in self.jobs:
                self._note_all(self.jobs[snapshot.id], -1)
            self._note_all(snapshot)
        self.jobs[snapshot.id] = snapshot
        self._changed[snapshot.id] = None
        before = self.bars.get(snapshot.id, ())
        lanes = {bar.attempt: bar.lane for bar in before}
        bars = []
        for bar in bars_of(snapshot, self.defaults):
            lane = lanes.get(bar.attempt)
            if lane is None:
                own = (each.lane for each in before if each.worker == bar.worker)
                lane = next((n for n in (*own, *range(LANES)) if (bar.worker, n) not in self._busy), LANES - 1)
                if bar.ended_ms is None:
                    self._busy[bar.worker, lane] = bar.key
            bars.append(bar._replace(lane=lane))
            if bar.ended_ms is not None:
                self._free(bars[-1])
        if bars:
            self.bars[snapshot.id] = bars

    def _free(self, bar: AttemptBar) -> None:
        """Give the lane of an attempt back, unless another one has it by now."""
        if self._busy.get((bar.worker, bar.lane)) == bar.key:
            del self._busy[bar.worker, bar.lane]

    def _told(self, now_ms: int, bars: list[AttemptBar]) -> dict[str, Any]:
        waiting = [s for s in self.jobs.values() if s.state is JobState.SCHEDULED and s.due_at is not None]
        waiting.sort(key=lambda s: to_ms(s.due_at))
        due = [[s.id, s.spec.title or s.spec.task, to_ms(s.due_at)] for s in waiting[:100]]
        start_ms = fit(self.all_bars(), now_ms, self.since_ms)
        colours = {task: self.colours.of(task) for task in sorted({bar.task for bar in bars})}
        facts = {"start": start_ms, "since": self.since_ms, "now": now_ms}
        return {"bars": bars, "colours": colours, "due": due, **facts}

    def _drop(self, job_id: str) -> None:
        self.jobs.pop(job_id, None)
        for bar in self.bars.pop(job_id, ()):
            self._free(bar)
        self._changed[job_id] = None

    def _forget_old(self) -> None:
        excess = sum(map(len, self.bars.values())) - self.limit
        if excess > 0:
            last = ((bars[-1].ended_ms, job_id) for job_id, bars in self.bars.items())
            for ended_ms, job_id in sorted((ended_ms, job_id) for ended_ms, job_id in last if ended_ms is not None):
                if excess <= 0:
                    break
                excess -= len(self.bars[job_id])
                self._drop(job_id)
                self.since_ms = max(self.since_ms or 0, ended_ms)
        idle = [i for i, s in self.jobs.items() if i not in self.bars and (s.is_terminal or s.state is JobState.QUEUED)]
        for job_id in idle[: max(0, len(idle) - self.limit)]:
            del self.jobs[job_id]

    def _note_all(self, snapshot: JobSnapshot, by: int = 1) -> None:
        was_queued = False
        for event in snapshot.history:
            was_queued = self._note(event, was_queued, by)

    def _note(self, event: JobEvent, was_queued: bool, by: int = 1) -> bool:
        """Count an event into the seconds, or out of them; return whether the job is queued after it."""
        state = str(event.data.get("state", ""))
        is_queued = state == "queued" if state else was_queued
        columns = [_ENDS.index(event.type)] if event.type in _ENDS else []
        if is_queued != was_queued:
            columns.append(3 if is_queued else 4)
        second = event.at_ms // 1000
        if columns and by > 0:
            self._seconds.setdefault(second, [0] * 5)
        if second in self._seconds:  # else it is not kept any more
            for column in columns:
                self._seconds[second][column] += by
        if len(self._seconds) > COUNTED_S:
            del self._seconds[min(self._seconds)]
        return is_queued


_ENDS = tuple(map(EventType, ENDS))


# -- counts over a range -----------------------------------------------------------------------------------------------


def fit(bars: Sequence[AttemptBar], now_ms: int, since_ms: int | None = None) -> int:
    """Return the begin of the range until now that shows every attempt: 1 minute to 1 day, with a tenth of it for
    waiting times before. A job that waited for hours would leave the picture empty otherwise.
    """
    first = min([now_ms - 60_000, *(bar.started_ms for bar in bars)])
    waited = min((bar.ready_ms for bar in bars if bar.ready_ms is not None), default=first)
    first = max(min(first, waited), first - (now_ms - first) // 10)
    return min(max(first, since_ms or 0, now_ms - RANGES_MS["24h"]), now_ms - 60_000)


def series(timeline: TimelineModel, start_ms: int, end_ms: int, steps: int = STEPS) -> dict[str, Any]:
    """Count attempts in equal steps of a range.

    Returns:
        `edges` (steps + 1 times); by step the jobs that ended so (`succeeded`, `failed`, ...), `depth` (jobs in a
        queue at its end) and `busy` (attempts that ran at once, on average); None in steps before everything is
        known. `tasks`: the most frequent, each with `count` and the quantiles (10, 25, 50, 75, 90 %) of seconds
        that its attempts `waited` and `ran`.
    """
    width = max(1.0, (end_ms - start_ms) / steps)
    edges = [start_ms + width * n for n in range(steps + 1)]
    bars = timeline.all_bars()
    ended = [[0] * steps for _ in ENDS]
    for second, counts in timeline.ended(start_ms, end_ms):
        n = min(steps - 1, max(0, int((second * 1000 - start_ms) / width)))
        for column, count in zip(ended, counts, strict=True):
            column[n] += count
    busy = [0.0] * steps
    for bar in bars:
        _spread(busy, start_ms, width, bar.started_ms, end_ms if bar.ended_ms is None else bar.ended_ms)
    known = timeline.since_ms or 0
    return {
        "edges": edges,
        **dict(zip(ENDS, ended, strict=True)),
        "depth": timeline.depth(edges[1:]),
        "busy": [None if edges[n + 1] < known else round(value / width, 3) for n, value in enumerate(busy)],
        "tasks": times_by_task(bars, start_ms, end_ms),
    }


def _spread(columns: list[float], start_ms: int, width: float, begin_ms: int, end_ms: int) -> None:
    """Add the milliseconds of an interval to each step that it touches."""
    first = max(0, int((begin_ms - start_ms) / width))
    last = min(len(columns) - 1, int((end_ms - start_ms) / width))
    for n in range(first, last + 1):
        left = start_ms + n * width
        columns[n] += max(0.0, min(end_ms, left + width) - max(begin_ms, left))


def times_by_task(bars: Sequence[AttemptBar], start_ms: int, end_ms: int) -> list[dict[str, Any]]:
    """Return waiting and run times of the attempts that ended in the range, for the tasks with the most of them."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for bar in bars:
        if bar.ended_ms is None or not start_ms <= bar.ended_ms <= end_ms:
            continue
        waited, ran = found.setdefault(bar.task, ([], []))
        ran.append((bar.ended_ms - bar.started_ms) / 1000)
        if bar.ready_ms is not None:
            waited.append((bar.started_ms - bar.ready_ms) / 1000)
    most = sorted(found.items(), key=lambda item: (-len(item[1][1]), item[0]))[:TASKS]
    return [
        {"task": task, "count": len(ran), "waited": quantiles(waited), "ran": quantiles(ran)}
        for task, (waited, ran) in most
    ]


def quantiles(values: list[float]) -> list[float]:
    """10, 25, 50, 75 and 90 %, by the nearest value; [] for none."""
    ordered = sorted(values)
    return [ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in _QUANTILES] if ordered else []
