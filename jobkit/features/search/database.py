"""The index's database and its thread: reads and writes rows, and counts values. Does not know the store.

One connection on one thread: SQLite needs no locks, and a query waits for at most one small write.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, NamedTuple, ParamSpec, TypeVar

from jobkit.features.search.plan import FEW, QueryPlanner, match_of
from jobkit.features.search.schema import (
    COLUMNS,
    COUNTED,
    INDEXED,
    SAMPLE_EVERY,
    SAMPLED,
    open_index,
    pieces,
    row_of,
)
from jobkit.store.activity import Activity, Grouped, measured
from jobkit.store.query import MAX_US, NEWEST, STATES, Candidate, Query, ordered, text_of

P = ParamSpec("P")
T = TypeVar("T")

#: Priorities: queries before writes, writes before counts.
ASK, WRITE, COUNT = 0, 1, 2

_COUNTED = ", ".join(COUNTED)
_INSERT = f"INSERT INTO jobs({', '.join(COLUMNS)}) VALUES({', '.join('?' * len(COLUMNS))})"
_UPDATE = f"UPDATE jobs SET seq=?, {', '.join(f'{column}=?' for column in INDEXED)} WHERE n=?"

#: Number of SQLite virtual machine steps between two checks of a query's deadline.
_STEPS = 20_000


class Hit(NamedTuple):
    """A job of a page: its sort value, time of submit (microseconds) and id."""

    value: Any
    us: int
    id: str


class IndexDatabase:
    """Database of the index; see the module's docstring. Methods other than `do`, `call`, `close` run on its thread."""

    def __init__(self) -> None:
        self._calls: queue.PriorityQueue[tuple[int, int, Callable[[], None] | None]] = queue.PriorityQueue()
        self._order = itertools.count()
        self._deadline = float("inf")
        self.counts: dict[str, Counter[Any]] = {column: Counter() for column in (*COUNTED, "tag")}
        self.size = 0
        self._usual: Counter[str] = Counter()
        self._texts = 0
        self._first, self._last = 1, 0  # `n` of the newest and the oldest row
        self._newest_us, self._oldest_us = -1, MAX_US  # of all jobs; of those that the filling has reached
        threading.Thread(target=self._run, name="jobkit-index", daemon=True).start()
        self._db, self.has_grams = self.do(WRITE, open_index).result()
        self._db.set_progress_handler(lambda: time.monotonic() > self._deadline, _STEPS)

    def do(self, urgency: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call `function` on the database's thread; may be called from any thread."""
        future: Future[T] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        self._calls.put((urgency, next(self._order), call))
        return future

    async def call(self, urgency: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do the same from an event loop, and return the result."""
        return await asyncio.wrap_future(self.do(urgency, function, *args, **kwargs))

    def close(self) -> None:
        """Close the database when the current call is done."""
        self._calls.put((-1, next(self._order), None))

    def _run(self) -> None:
        while (call := self._calls.get()[2]) is not None:
            call()
        self._db.close()

    # -- in -----------------------------------------------------------------------------------------------------------

    def put(self, jobs: Iterable[Candidate], gone: Iterable[str] = (), *, is_fill: bool = False) -> None:
        """Insert or update jobs in any order, and delete those in `gone`; states older than the known ones are ignored.

        A job may be among them twice: it was read for itself and as the job that another one repeats.

        Args:
            is_fill: part of the first filling, newest jobs first: what is older than all others goes behind them.
        """
        self._db.execute("BEGIN")
        added: dict[str, Candidate] = {}
        for one in jobs:
            if (twin := added.get(one.job.id)) is not None:
                added[one.job.id] = max(twin, one, key=lambda each: (each.us, each.job.seq))
                continue
            known = self._db.execute("SELECT n, us, seq FROM jobs WHERE id = ?", (one.job.id,)).fetchone()
            if known is None or one.us > known[1]:
                self._remove(one.job.id)  # an earlier job with the same id
                added[one.job.id] = one
            elif (one.us, one.job.seq) >= known[1:]:
                self._change(known[0], one)
        new = sorted(added.values(), key=lambda one: one.us)
        older = [one for one in reversed(new) if is_fill and one.us < self._oldest_us]
        newer = new[len(older) :]
        self._insert([(self._last + i, one, False) for i, one in enumerate(older, 1)])
        self._insert([(self._first - i, one, one.us <= self._newest_us) for i, one in enumerate(newer, 1)])
        self._last += len(older)
        self._first -= len(newer)
        if older:
            self._oldest_us = older[-1].us
        for job_id in gone:
            self._remove(job_id)
        self._db.execute("COMMIT")

    def _insert(self, jobs: Sequence[tuple[int, Candidate, bool]]) -> None:
        """Insert rows with `n` and `is_stray`."""
        rows, texts, tags = [], [], []
        for n, one, is_stray in jobs:
            row = row_of(one)
            rows.append((n, *row, is_stray))
            texts.append((n, text_of(one.job)))
            tags += [(tag, n) for tag in dict.fromkeys(one.job.spec.tags)]
            self._count(row[3:], 1)
            self._newest_us = max(self._newest_us, one.us)
        for tag, _ in tags:
            self._add("tag", tag, 1)
        self.size += len(rows)
        self._db.executemany(_INSERT, rows)
        self._write_texts(texts)
        self._db.executemany("INSERT INTO tags VALUES(?, ?)", tags)

    def _change(self, n: int, one: Candidate) -> None:
        self._count(self._db.execute(f"SELECT {_COUNTED} FROM jobs WHERE n = ?", (n,)).fetchone(), -1)
        _, _, seq, *values = row_of(one)
        self._db.execute(_UPDATE, (seq, *values, n))
        self._count(values, 1)
        (text,) = self._db.execute("SELECT text FROM texts WHERE n = ?", (n,)).fetchone()
        if text != (new := text_of(one.job)):
            self._drop_text(n, text)
            self._write_texts([(n, new)])

    def _remove(self, job_id: str) -> None:
        found = self._db.execute(f"SELECT n, {_COUNTED} FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if found is None:
            return
        n, *values = found
        self._count(values, -1)
        for (tag,) in self._db.execute("SELECT tag FROM tags WHERE n = ?", (n,)).fetchall():
            self._add("tag", tag, -1)
        (text,) = self._db.execute("SELECT text FROM texts WHERE n = ?", (n,)).fetchone()
        self._drop_text(n, text)
        self._db.execute("DELETE FROM tags WHERE n = ?", (n,))
        self._db.execute("DELETE FROM jobs WHERE n = ?", (n,))
        self.size -= 1

    def _write_texts(self, texts: Sequence[tuple[int, str]]) -> None:
        self._db.executemany("INSERT INTO texts VALUES(?, ?)", texts)
        if self.has_grams:
            for _, text in texts:
                self._texts += 1
                if self._texts < SAMPLED or self._texts % SAMPLE_EVERY == 0:
                    self._usual.update(pieces(text))
            self._db.executemany("INSERT INTO grams(rowid, text) VALUES(?, ?)", texts)

    def _drop_text(self, n: int, text: str) -> None:
        if self.has_grams:
            self._db.execute("INSERT INTO grams(grams, rowid, text) VALUES('delete', ?, ?)", (n, text))
        self._db.execute("DELETE FROM texts WHERE n = ?", (n,))

    def _count(self, values: Sequence[Any], by: int) -> None:
        """Count the values of a row, which begin with those of `COUNTED`."""
        for column, value in zip(COUNTED, values, strict=False):
            self._add(column, value, by)

    def _add(self, column: str, value: Any, by: int) -> None:
        counter = self.counts[column]
        counter[value] += by
        if not counter[value]:
            del counter[value]  # else ids of old workers would accumulate

    # -- out ----------------------------------------------------------------------------------------------------------

    def page(self, query: Query, now_ms: int, limit: int) -> list[Hit]:
        """Return up to `limit` jobs after the query's cursor, in its order."""
        hits: dict[str, Hit] = {}
        plan = self._planner(query, now_ms).page(limit)
        for sql, arguments in plan.statements:
            for value, us, job_id in self._db.execute(sql, arguments):
                hits[job_id] = Hit(None if value == "" else value, us, job_id)
            if plan.is_in_order and len(hits) >= limit:
                break
        return ordered(hits.values(), query.order or NEWEST, lambda hit: (hit.value, hit.us))[:limit]

    def count(self, query: Query, now_ms: int, for_s: float) -> int | None:
        """Return the number of jobs that match, or None if counting takes longer than `for_s` seconds."""
        with self._within(for_s):
            (found,) = self._db.execute(*self._planner(query, now_ms).count()).fetchone()
            return int(found)
        return None

    def activity(self, query: Query, now_ms: int, for_s: float) -> Activity | None:
        """Return when the jobs that match changed last, or None if counting takes longer than `for_s` seconds."""

        def group(length_ms: int) -> Grouped:
            found: dict[int, list[int]] = {}
            for n, state, count in self._summary(
                query, now_ms, f"jobs.changed / {length_ms}, jobs.state, count(*)", "GROUP BY 1, 2"
            ):
                found.setdefault(n, [0] * len(STATES))[state] = count
            return found

        with self._within(for_s):
            shown = "min(jobs.changed), max(jobs.changed), count(*)"
            ((first_ms, last_ms, total),) = self._summary(query, now_ms, shown)
            return measured(group, first_ms or 0, last_ms or 0, total)
        return None

    def tally(self, query: Query, columns: Sequence[str], now_ms: int, for_s: float) -> list[tuple[Any, ...]] | None:
        """Return `(*values, number)` of the jobs that match by the values of columns, or None if that takes longer."""
        if query == Query() and len(columns) == 1:
            return [(value, number) for value, number in self.counts[columns[0]].items()]
        with self._within(for_s):
            if tuple(columns) == ("tag",):
                sql, arguments = self._planner(query, now_ms).summary("jobs.n")
                rows = self._db.execute(f"SELECT tag, count(*) FROM tags WHERE n IN ({sql}) GROUP BY 1", arguments)
                return rows.fetchall()
            shown = ", ".join(f"jobs.{column}" for column in columns)
            return self._summary(query, now_ms, f"{shown}, count(*)", f"GROUP BY {shown}")
        return None

    def _summary(self, query: Query, now_ms: int, columns: str, grouping: str = "") -> list[Any]:
        sql, arguments = self._planner(query, now_ms).summary(columns)
        return self._db.execute(f"{sql} {grouping}", arguments).fetchall()

    @contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        """Leave the block if its statements take longer than `seconds`."""
        self._deadline = time.monotonic() + seconds
        try:
            yield
        except sqlite3.OperationalError:
            if time.monotonic() < self._deadline:
                raise
        finally:
            self._deadline = float("inf")

    def versions(self, from_us: int, below_us: int) -> dict[str, tuple[int, int]]:
        """Return `id: (us, seq)` of the jobs submitted between `from_us` (included) and `below_us` (excluded)."""
        found = self._db.execute("SELECT id, us, seq FROM jobs WHERE us >= ? AND us < ?", (from_us, below_us))
        return {job_id: (us, seq) for job_id, us, seq in found}

    def _planner(self, query: Query, now_ms: int) -> QueryPlanner:
        match = match_of(query, self._usual) if self.has_grams else ""
        return QueryPlanner(query, self.counts, now_ms, self._probe, match)

    def _probe(self, source: str, condition: str, arguments: tuple[Any, ...]) -> int:
        sql = f"SELECT count(*) FROM (SELECT 1 FROM {source} WHERE {condition} LIMIT {FEW + 1})"
        (found,) = self._db.execute(sql, arguments).fetchone()
        return int(found)
