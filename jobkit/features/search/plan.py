"""Translates a query to SQL and chooses the fastest way, by the number of occurrences of each value.

SQLite cannot know these counts; the index counts them. There are three ways to a page: walk the index of the order and
test each row, walk the index of the rarest filter, or walk the hits of the text search. A filter with few rows is
always fast; otherwise the plan is the way that is expected to complete a page soonest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from jobkit.features.search.schema import COUNTED, REPEATED, pieces
from jobkit.store.query import (
    FILTERS,
    STATES,
    Query,
    alternatives,
    change_bounds,
    fits,
    patterns,
    read_cursor,
    submit_bounds,
)

#: Number of rows that can be tested and sorted within a page's time.
FEW = 20_000

#: Maximum number of values of a filter that are walked one by one, each ordered by age.
_WALKS = 8

#: Jobs that the text search finds.
_GRAMS = "grams CROSS JOIN jobs ON jobs.n = grams.rowid"

Counts = Mapping[str, Counter[Any]]

#: Number of rows that match a condition in `source`; `FEW + 1` for more than `FEW`.
Probe = Callable[[str, str, tuple[Any, ...]], int]

#: A statement with its arguments; its rows are `(value, us, id)`.
Statement = tuple[str, tuple[Any, ...]]


class Plan(msgspec.Struct, frozen=True):
    """Statements whose rows together contain the first jobs of a page; to be merged in the query's order.

    `is_in_order`: the rows of each statement come before those of the next, so later statements may be skipped.
    """

    statements: Iterable[Statement] = ()
    is_in_order: bool = False


class Condition(msgspec.Struct, frozen=True):
    """A condition on a row.

    Attributes:
        rows: maximum number of rows that match.
        column: column whose index finds them; "" for none. values: values of a counted column.
    """

    sql: str
    arguments: tuple[Any, ...] = ()
    rows: float = float("inf")
    column: str = ""
    values: tuple[Any, ...] = ()


class _SortOrder(msgspec.Struct, frozen=True):
    """Sort order and start position.

    Attributes:
        after: `(value, us)` of the last row of the page before, or None.
        behind: conditions of consecutive parts; unless by age, the last part has the rows without a value.
    """

    column: str
    is_down: bool
    after: tuple[Any, int] | None
    behind: tuple[Condition, ...]

    @property
    def sql(self) -> str:
        sign = "DESC" if self.is_down else "ASC"
        return (
            f"ORDER BY jobs.us {sign}" if self.column == "us" else f"ORDER BY jobs.{self.column} {sign}, jobs.us DESC"
        )


class QueryPlanner:
    """Plans the statements for one query at one time (ms). `match`: see `match_of`, or ""."""

    def __init__(self, query: Query, counts: Counts, now_ms: int, probe: Probe, match: str) -> None:
        self._query, self._counts, self._probe, self._match = query, counts, probe, match
        self._conditions = conditions_of(query, counts, now_ms, probe)

    def page(self, limit: int) -> Plan:
        """Return the plan for the first `limit` rows after the query's cursor."""
        conditions, match = self._conditions, self._match
        if any(not each.rows for each in conditions):
            return Plan()
        total = max(1, sum(self._counts["state"].values()))
        order = _order_of(self._query)
        rarest = min((each for each in conditions if each.column), key=lambda each: each.rows, default=None)
        others = [each for each in conditions if each is not rarest]
        matched = [Condition("grams MATCH ?", (match,))]
        if match:
            found = self._probe("grams", "grams MATCH ?", (match,))
            if found <= FEW and (rarest is None or found <= 4 * rarest.rows):
                return Plan(_sorted(_GRAMS, matched, conditions, order, limit))
        share = 1.0
        for each in conditions:
            share *= min(1.0, each.rows / total)
        walk = min(total, limit / max(share, 1e-9))
        by_age = order.column == "us"
        is_walked = by_age and not match and 0 < len(rarest.values if rarest else ()) <= _WALKS
        if rarest is not None and is_walked and rarest.column == "tag" and rarest.rows > FEW:
            tags = [Condition("tags.tag = ?", (value,)) for value in rarest.values]
            source = "tags CROSS JOIN jobs ON jobs.n = tags.n"
            return Plan(_along_n(source, "tags.n", tags, [rarest], others, order, limit))
        if rarest is not None and (rarest.rows <= FEW or rarest.rows < walk or is_walked):
            return Plan(_sorted(*_parts(rarest), others, order, limit))
        if match and by_age:
            return Plan(_along_n(_GRAMS, "grams.rowid", matched, [], conditions, order, limit))
        if order.column in COUNTED:
            return Plan(_along_values(conditions, order, self._counts[order.column], limit), True)
        return Plan(_along_order(conditions, order, limit))

    def count(self) -> Statement:
        """Return the statement that counts all rows of the query."""
        conditions = self._conditions
        if any(not each.rows for each in conditions):
            return "SELECT 0", ()
        if len(conditions) == 1 and conditions[0].values and conditions[0].column != "tag":
            return "SELECT ?", (conditions[0].rows,)
        return self.summary("count(*)")

    def summary(self, columns: str) -> Statement:
        """Return the statement that computes `columns` of all rows of the query."""
        matched = [Condition("grams MATCH ?", (self._match,))] if self._match else []
        source = _GRAMS if self._match else "jobs"
        return _statement(columns, source, [*matched, *self._conditions, Condition("TRUE")])


def conditions_of(query: Query, counts: Counts, now_ms: int, probe: Probe) -> list[Condition]:
    """Return a query's filters, the texts last: they are the slowest to test."""
    found: list[Condition] = []
    if query.states:
        states = tuple(STATES.index(state) for state in dict.fromkeys(query.states) if state in STATES)
        found.append(_counted("state", states, counts))
    for name in FILTERS:
        asked = patterns(query, name)
        if not asked:
            continue
        values = tuple(one for one in counts[name] if fits(one.split("\t"), asked))
        if name == "tag":
            sql = f"EXISTS (SELECT 1 FROM tags WHERE tags.tag IN ({_marks(values)}) AND tags.n = jobs.n)"
            found.append(Condition(sql, values, sum(counts["tag"][tag] for tag in values), "tag", values))
        else:
            found.append(_counted(name, values, counts))
    for name, value in query.excluded:
        values = tuple(one for one in counts[name] if fits(one.split("\t"), alternatives(name, (value,))))
        sql = f"tags.tag IN ({_marks(values)}) AND tags.n = jobs.n"
        is_other = (
            f"jobs.{name} NOT IN ({_marks(values)})"
            if name != "tag"
            else f"NOT EXISTS (SELECT 1 FROM tags WHERE {sql})"
        )
        found.append(Condition(is_other, values))
    oldest, newest = submit_bounds(query, now_ms)
    found += _between("us", None if query.newer_s is None else oldest, None if query.older_s is None else newest, probe)
    found += _between("changed", *change_bounds(query, now_ms), probe)
    least = None if query.took_min_s is None else query.took_min_s * 1000
    most = None if query.took_max_s is None else query.took_max_s * 1000
    found += _between("took", least, most, probe)
    has_text = "instr((SELECT text FROM texts WHERE texts.n = jobs.n), ?) > 0"
    return [*found, *(Condition(has_text, (text,)) for text in query.texts)]


def _between(column: str, least: float | None, most: float | None, probe: Probe) -> list[Condition]:
    bounds = [(f"jobs.{column} >= ?", least), (f"jobs.{column} <= ?", most)]
    given = [(sql, value) for sql, value in bounds if value is not None]
    if not given:
        return []
    sql, arguments = " AND ".join(part for part, _ in given), tuple(value for _, value in given)
    rows = probe(f"jobs INDEXED BY jobs_{column}", sql, arguments)
    return [Condition(sql, arguments, rows if rows <= FEW else float("inf"), column)]


def _counted(column: str, values: tuple[Any, ...], counts: Counts) -> Condition:
    rows = sum(counts[column][value] for value in values)
    return Condition(f"jobs.{column} IN ({_marks(values)})", values, rows, column, values)


def match_of(query: Query, usual: Mapping[str, int]) -> str:
    """Return the FTS expression for a query's texts; "" if all texts are shorter than three letters.

    It uses the three rarest trigrams of each text, by the sampled frequencies `usual`: joining long lists is slow.
    """
    chosen = [piece for text in query.texts for piece in sorted(pieces(text), key=lambda each: usual.get(each, 0))[:3]]
    return " AND ".join('"{}"'.format(piece.replace('"', '""')) for piece in dict.fromkeys(chosen))


def _order_of(query: Query) -> _SortOrder:
    order = query.order or "-submitted"
    name, is_down = order.removeprefix("-"), order.startswith("-")
    column = "us" if name == "submitted" else name
    after = read_cursor(query)
    if column == "us":
        behind = Condition("TRUE") if after is None else Condition(f"jobs.us {'<' if is_down else '>'} ?", after[1:])
        return _SortOrder(column, is_down, after, (behind,))
    if column == "state":
        present, absent = "TRUE", "FALSE"
    elif column in COUNTED:
        present, absent = f"jobs.{column} > ''", f"jobs.{column} = ''"
    else:
        present, absent = f"jobs.{column} IS NOT NULL", f"jobs.{column} IS NULL"
    parts: tuple[Condition, ...]
    if after is None:
        parts = Condition(present), Condition(absent)
    elif after[0] is None:
        parts = (Condition(f"{absent} AND jobs.us < ?", after[1:]),)
    else:
        equal = Condition(f"jobs.{column} = ? AND jobs.us < ?", after)
        beyond = Condition(f"{present} AND jobs.{column} {'<' if is_down else '>'} ?", after[:1])
        parts = equal, beyond, Condition(absent)
    return _SortOrder(column, is_down, after, parts)


def _along_order(conditions: Sequence[Condition], order: _SortOrder, limit: int) -> Iterator[Statement]:
    """Walk the index of the order column; jobs without a value come last, newest first."""
    for behind in order.behind:
        if order.column != "us" and behind is order.behind[-1]:
            yield _select("jobs", order, [behind, *conditions], limit, "ORDER BY jobs.us DESC")
        else:
            index = order.column + ("_up" if order.column in REPEATED and not order.is_down else "")
            yield _select(f"jobs INDEXED BY jobs_{index}", order, [behind, *conditions], limit)


def _along_values(
    conditions: Sequence[Condition], order: _SortOrder, values: Counter[Any], limit: int
) -> Iterator[Statement]:
    """Walk a column of few different values, value by value; rows without a value come last."""
    absent = None if order.column == "state" else ""
    ordered = sorted((value for value in values if values[value] and value != absent), reverse=order.is_down)
    if absent is not None:
        ordered.append(absent)
    last = None
    if order.after is not None:
        last = absent if order.after[0] is None else order.after[0]
        if last in ordered:
            ordered = ordered[ordered.index(last) :]
        else:  # the last row with this value has been deleted since the count
            ordered = [each for each in ordered if each == absent or (each < last if order.is_down else each > last)]
    for value in ordered:
        wanted = [Condition(f"jobs.{order.column} = ?", (value,)), *conditions]
        if order.after is not None and value == last:
            wanted.append(Condition("jobs.us < ?", order.after[1:]))
        yield _select(f"jobs INDEXED BY jobs_{order.column}", order, wanted, limit, "ORDER BY jobs.us DESC")


def _along_n(
    source: str,
    column: str,
    parts: Sequence[Condition],
    strays: Sequence[Condition],
    conditions: Sequence[Condition],
    order: _SortOrder,
    limit: int,
) -> Iterator[Statement]:
    """Walk rows in the order of age, which is that of `n` (in `column`) except for stray rows; those are merged in.

    `parts` select rows of the source one after the other, `strays` the same rows among the stray ones.
    """
    rest = [*order.behind, *conditions]
    start: list[Condition] = []
    if order.after is not None:  # `n` counts from the newest job
        compared, first = ("<", "DESC") if order.is_down else (">", "ASC")
        nearest = f"SELECT n FROM jobs WHERE us {compared} ? AND NOT is_stray ORDER BY us {first} LIMIT 1"
        start = [Condition(f"{column} {'>=' if order.is_down else '<='} ({nearest})", order.after[1:])]
    along = f"ORDER BY {column} {'ASC' if order.is_down else 'DESC'}"
    for part in parts:
        yield _select(source, order, [part, *start, Condition("NOT jobs.is_stray"), *rest], limit, along)
    yield _select("jobs INDEXED BY jobs_stray", order, [Condition("jobs.is_stray"), *strays, *rest], limit)


def _parts(filter: Condition) -> tuple[str, list[Condition]]:
    """Return the source and conditions that find the rows of a filter by its index.

    A few values are looked up one by one, because rows of one value are ordered by age.
    """
    source = f"jobs INDEXED BY jobs_{filter.column}"
    if filter.column == "tag":
        sql = f"jobs.n IN (SELECT n FROM tags WHERE tag IN ({_marks(filter.values)}))"
        return "jobs", [Condition(sql, filter.values)]
    if 0 < len(filter.values) <= _WALKS:
        return source, [Condition(f"jobs.{filter.column} = ?", (value,)) for value in filter.values]
    return source, [filter]


def _sorted(
    source: str, parts: Sequence[Condition], conditions: Sequence[Condition], order: _SortOrder, limit: int
) -> Iterator[Statement]:
    """Find the rows of each part, and sort them."""
    for part in parts:
        for behind in order.behind:
            yield _select(source, order, [part, behind, *conditions], limit)


def _select(source: str, order: _SortOrder, conditions: Sequence[Condition], limit: int, along: str = "") -> Statement:
    sql, arguments = _statement(f"jobs.{order.column}, jobs.us, jobs.id", source, conditions)
    return f"{sql} {along or order.sql} LIMIT ?", (*arguments, limit)


def _statement(columns: str, source: str, conditions: Sequence[Condition]) -> Statement:
    where = " AND ".join(each.sql for each in conditions)
    arguments = tuple(argument for each in conditions for argument in each.arguments)
    return f"SELECT {columns} FROM {source} WHERE {where}", arguments


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))
