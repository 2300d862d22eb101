"""Translates a query to SQL and chooses the fastest way, by the number of occurrences of each value.

SQLite cannot know these counts; the index counts them. There are three ways to a page: walk the index of the order and
test each row, walk the index of the rarest filter, or walk the hits of the text search. A filter with few rows is
always fast; otherwise the plan is the way that is expected to complete a page soonest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from jobkit.index.schema import COUNTED, REPEATED, pieces
from jobkit.store.query import STATES, Names, Query, is_pattern, is_worker, names, read_cursor

#: Number of rows that can be tested and sorted within a page's time.
FEW = 20_000

#: Maximum number of values of a filter that are walked one by one, each ordered by age.
_WALKS = 8

Counts = Mapping[str, Counter[Any]]

#: Number of rows that match a condition in `source`; `FEW + 1` for more than `FEW`.
Probe = Callable[[str, str, tuple[Any, ...]], int]

#: A statement with its arguments; its rows are `(value, us, id)`.
Statement = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Plan:
    """Statements whose rows together contain the first jobs of a page; to be merged in the query's order.

    `is_in_order`: the rows of each statement come before those of the next, so later statements may be skipped.
    """

    statements: Iterable[Statement] = ()
    is_in_order: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
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


@dataclass(frozen=True, slots=True)
class _SortOrder:
    """Sort order and start position.

    `behind`: conditions of consecutive parts; with `has_rest`, the last part has the rows without a value.
    """

    column: str
    is_down: bool
    behind: tuple[Condition, ...]
    has_rest: bool = False

    @property
    def sql(self) -> str:
        sign = "DESC" if self.is_down else "ASC"
        return (
            f"ORDER BY jobs.us {sign}" if self.column == "us" else f"ORDER BY jobs.{self.column} {sign}, jobs.us DESC"
        )

    def is_rest(self, behind: Condition) -> bool:
        return self.has_rest and behind is self.behind[-1]


def plan_page(query: Query, counts: Counts, now_ms: int, limit: int, probe: Probe, match: str) -> Plan:
    """Return the plan for the first `limit` rows after the query's cursor. `match`: see `match_of`, or ""."""
    total = max(1, sum(counts["state"].values()))
    conditions = conditions_of(query, counts, now_ms, probe)
    if any(not each.rows for each in conditions):
        return Plan()
    order = _order_of(query)
    rarest = min((each for each in conditions if each.column), key=lambda each: each.rows, default=None)
    if match:
        found = probe("grams", "grams MATCH ?", (match,))
        if found <= FEW and (rarest is None or found <= 4 * rarest.rows):
            return Plan(_by_text(query, match, conditions, order, limit))
    share = 1.0
    for each in conditions:
        share *= min(1.0, each.rows / total)
    walk = min(total, limit / max(share, 1e-9))
    by_age = order.column == "us"
    is_walked = by_age and not match and 0 < len(rarest.values if rarest else ()) <= _WALKS
    if rarest is not None and is_walked and rarest.column == "tag" and rarest.rows > FEW:
        return Plan(_along_tags(query, conditions, rarest, order, limit))
    if rarest is not None and (rarest.rows <= FEW or rarest.rows < walk or is_walked):
        return Plan(_by_condition(query, conditions, rarest, order, limit))
    if match and by_age:
        return Plan(_along_text(query, match, conditions, order, limit))
    if order.column in COUNTED:
        return Plan(_along_values(query, conditions, order, counts[order.column], limit), True)
    return Plan(_along_order(query, conditions, order, limit))


def plan_count(query: Query, counts: Counts, now_ms: int, probe: Probe, match: str) -> Statement:
    """Return the statement that counts all rows of a query."""
    conditions = conditions_of(query, counts, now_ms, probe)
    if any(not each.rows for each in conditions):
        return "SELECT 0", ()
    if len(conditions) == 1 and conditions[0].values and conditions[0].column != "tag" and not query.texts:
        return "SELECT ?", (conditions[0].rows,)
    source = "jobs"
    if match:
        source = "grams CROSS JOIN jobs ON jobs.n = grams.rowid"
        conditions = [Condition("grams MATCH ?", (match,)), *conditions]
    conditions += _texts(query)
    arguments = tuple(argument for each in conditions for argument in each.arguments)
    where = f" WHERE {' AND '.join(each.sql for each in conditions)}" if conditions else ""
    return f"SELECT count(*) FROM {source}{where}", arguments


def conditions_of(query: Query, counts: Counts, now_ms: int, probe: Probe) -> list[Condition]:
    """Return a query's filters, without its texts."""
    found: list[Condition] = []
    if query.states:
        states = tuple(STATES.index(state) for state in dict.fromkeys(query.states) if state in STATES)
        found.append(_counted("state", states, counts))
    for column, asked in (("task", query.task), ("queue", query.queue), ("owner", query.owner)):
        found += [_counted(column, _values(counts[column], asked), counts)] if asked else []
    if query.worker:
        workers = tuple(one for one in counts["worker"] if counts["worker"][one] and is_worker(one, query.worker))
        found.append(_counted("worker", workers, counts))
    if query.error:
        errors = tuple(one for one in counts["error"] if one and _values(Counter(one.split("\t")), query.error))
        found.append(_counted("error", errors, counts))
    if query.tag:
        tags = _values(counts["tag"], query.tag)
        sql = f"EXISTS (SELECT 1 FROM tags WHERE tags.tag IN ({_marks(tags)}) AND tags.n = jobs.n)"
        found.append(Condition(sql, tags, sum(counts["tag"][tag] for tag in tags), "tag", tags))
    newest = None if query.older_s is None else int(now_ms - query.older_s * 1000) * 1000 + 999
    oldest = None if query.newer_s is None else int(now_ms - query.newer_s * 1000) * 1000
    found += _between("us", oldest, newest, probe)
    least = None if query.took_min_s is None else query.took_min_s * 1000
    most = None if query.took_max_s is None else query.took_max_s * 1000
    found += _between("took", least, most, probe)
    return found


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


def _values(counter: Counter[Any], asked: Names) -> tuple[str, ...]:
    """Return the requested values that occur."""
    found: dict[str, None] = {}
    for name in names(asked):
        if is_pattern(name):
            pattern = name.replace("[", "[[]").replace("?", "[?]")
            found |= dict.fromkeys(value for value in counter if counter[value] and fnmatchcase(value, pattern))
        elif counter[name]:
            found[name] = None
    return tuple(found)


def match_of(query: Query, usual: Mapping[str, int]) -> str:
    """Return the FTS expression for a query's texts; "" if all texts are shorter than three letters.

    It uses the three rarest trigrams of each text, by the sampled frequencies `usual`: joining long lists is slow.
    """
    chosen = [piece for text in query.texts for piece in sorted(pieces(text), key=lambda each: usual.get(each, 0))[:3]]
    return " AND ".join('"{}"'.format(piece.replace('"', '""')) for piece in dict.fromkeys(chosen))


def _texts(query: Query) -> list[Condition]:
    return [Condition("instr((SELECT text FROM texts WHERE texts.n = jobs.n), ?) > 0", (text,)) for text in query.texts]


def _order_of(query: Query) -> _SortOrder:
    order = query.order or "-submitted"
    name, is_down = order.removeprefix("-"), order.startswith("-")
    column = "us" if name == "submitted" else name
    after = read_cursor(query)
    if column == "us":
        behind = Condition("TRUE") if after is None else Condition(f"jobs.us {'<' if is_down else '>'} ?", after[1:])
        return _SortOrder(column, is_down, (behind,))
    if column == "state":
        present, absent = "TRUE", "FALSE"
    elif column in COUNTED:
        present, absent = f"jobs.{column} > ''", f"jobs.{column} = ''"
    else:
        present, absent = f"jobs.{column} IS NOT NULL", f"jobs.{column} IS NULL"
    rest = Condition(absent)
    if after is None:
        return _SortOrder(column, is_down, (Condition(present), rest), True)
    value, us = after
    if value is None:
        return _SortOrder(column, is_down, (Condition(f"{absent} AND jobs.us < ?", (us,)),), True)
    equal = Condition(f"jobs.{column} = ? AND jobs.us < ?", (value, us))
    beyond = Condition(f"{present} AND jobs.{column} {'<' if is_down else '>'} ?", (value,))
    return _SortOrder(column, is_down, (equal, beyond, rest), True)


def _along_order(query: Query, conditions: Sequence[Condition], order: _SortOrder, limit: int) -> Iterator[Statement]:
    """Walk the index of the order column; jobs without a value come last, newest first."""
    for behind in order.behind:
        wanted = [behind, *conditions, *_texts(query)]
        if order.is_rest(behind):
            yield _select("jobs", order.column, wanted, "ORDER BY jobs.us DESC", limit)
        else:
            index = order.column + ("_up" if order.column in REPEATED and not order.is_down else "")
            yield _select(f"jobs INDEXED BY jobs_{index}", order.column, wanted, order.sql, limit)


def _along_values(
    query: Query, conditions: Sequence[Condition], order: _SortOrder, values: Counter[Any], limit: int
) -> Iterator[Statement]:
    """Walk a column of few different values, value by value; rows without a value come last."""
    rest = [*conditions, *_texts(query)]
    after = read_cursor(query)
    absent = None if order.column == "state" else ""
    ordered = sorted((value for value in values if values[value] and value != absent), reverse=order.is_down)
    if absent is not None:
        ordered.append(absent)
    if after is not None:
        last = absent if after[0] is None else after[0]
        if last in ordered:
            ordered = ordered[ordered.index(last) :]
        else:  # the last row with this value has been deleted since the count
            ordered = [each for each in ordered if each == absent or (each < last if order.is_down else each > last)]
    for value in ordered:
        wanted = [Condition(f"jobs.{order.column} = ?", (value,)), *rest]
        if after is not None and value == (absent if after[0] is None else after[0]):
            wanted.append(Condition("jobs.us < ?", after[1:]))
        source = f"jobs INDEXED BY jobs_{order.column}"
        yield _select(source, order.column, wanted, "ORDER BY jobs.us DESC", limit)


def _along_tags(
    query: Query, conditions: Sequence[Condition], tag: Condition, order: _SortOrder, limit: int
) -> Iterator[Statement]:
    """Walk the rows of a frequent tag, which are in the order of `n`; stray rows are merged in."""
    rest = [*order.behind, *(each for each in conditions if each is not tag), *_texts(query)]
    along = f"ORDER BY tags.n {'ASC' if order.is_down else 'DESC'}"
    source = "tags CROSS JOIN jobs ON jobs.n = tags.n"
    for value in tag.values:
        wanted = [Condition("tags.tag = ?", (value,)), *_from_n("tags.n", query, order), Condition("NOT is_stray")]
        yield _select(source, order.column, [*wanted, *rest], along, limit)
    yield _select("jobs INDEXED BY jobs_stray", order.column, [Condition("is_stray"), tag, *rest], order.sql, limit)


def _from_n(column: str, query: Query, order: _SortOrder) -> list[Condition]:
    """Return where a walk in the order of `n` starts for a page with a cursor."""
    after = read_cursor(query)
    if after is None:
        return []
    compared, first = ("<", "DESC") if order.is_down else (">", "ASC")
    nearest = f"SELECT n FROM jobs WHERE us {compared} ? AND NOT is_stray ORDER BY us {first} LIMIT 1"
    return [Condition(f"{column} {'>=' if order.is_down else '<='} ({nearest})", (after[1],))]


def _by_condition(
    query: Query, conditions: Sequence[Condition], rarest: Condition, order: _SortOrder, limit: int
) -> Iterator[Statement]:
    """Walk the index of one filter; for few values, value by value, since rows of one value are ordered by age."""
    rest = [*(each for each in conditions if each is not rarest), *_texts(query)]
    parts = [rarest]
    source = f"jobs INDEXED BY jobs_{rarest.column}"
    if rarest.column == "tag":
        source = "jobs"
        parts = [Condition(f"jobs.n IN (SELECT n FROM tags WHERE tag IN ({_marks(rarest.values)}))", rarest.values)]
    elif 0 < len(rarest.values) <= _WALKS:
        parts = [Condition(f"jobs.{rarest.column} = ?", (value,)) for value in rarest.values]
    for part in parts:
        for behind in order.behind:
            yield _select(source, order.column, [part, behind, *rest], order.sql, limit)


def _by_text(
    query: Query, match: str, conditions: Sequence[Condition], order: _SortOrder, limit: int
) -> Iterator[Statement]:
    """Sort all hits of the text search."""
    for behind in order.behind:
        wanted = [Condition("grams MATCH ?", (match,)), behind, *conditions, *_texts(query)]
        yield _select("grams CROSS JOIN jobs ON jobs.n = grams.rowid", order.column, wanted, order.sql, limit)


def _along_text(
    query: Query, match: str, conditions: Sequence[Condition], order: _SortOrder, limit: int
) -> Iterator[Statement]:
    """Walk the hits of the text search in the order of age, which is that of `n` except for stray rows."""
    rest = [*order.behind, *conditions, *_texts(query)]
    wanted = [
        Condition("grams MATCH ?", (match,)),
        *_from_n("grams.rowid", query, order),
        Condition("NOT jobs.is_stray"),
        *rest,
    ]
    along = f"ORDER BY grams.rowid {'ASC' if order.is_down else 'DESC'}"  # `n` counts from the newest job
    yield _select("grams CROSS JOIN jobs ON jobs.n = grams.rowid", order.column, wanted, along, limit)
    strays = [Condition("jobs.is_stray"), *rest]
    yield _select("jobs INDEXED BY jobs_stray", order.column, strays, order.sql, limit)


def _select(source: str, column: str, conditions: Sequence[Condition], order: str, limit: int) -> Statement:
    where = " AND ".join(each.sql for each in conditions)
    arguments = tuple(argument for each in conditions for argument in each.arguments)
    return f"SELECT jobs.{column}, jobs.us, jobs.id FROM {source} WHERE {where} {order} LIMIT ?", (*arguments, limit)


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))
