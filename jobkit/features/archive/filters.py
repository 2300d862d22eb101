"""A `Query` on the columns of an archive: which rows match, and their order.

The meaning is that of `store/query.py`: names and patterns are compared by its `fits`, on the distinct values of a
column; `tests/features/archive/test_meaning.py` compares both on the same jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

from jobkit.features.archive.table import arrow
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

#: Columns with the values of each filter, one of which must fit; a job without an error has no value.
_COLUMNS: Mapping[str, tuple[str, ...]] = {name: (name,) for name in FILTERS} | {
    "error": ("error_type", "error_kind"),
    "tag": ("tags",),
    "batch": ("batch", "batch_name"),
    "flag": (),  # not kept here: the search grammar refuses it
}

#: Column with the sort value of each order, if it has another name.
_ORDERED = {"submitted": "us", "took": "took_ms", "changed": "finished"}


def columns_of(query: Query) -> list[str]:
    """Return the columns that `matching` and `in_order` need, without the ids of jobs."""
    asked = [*(name for name in FILTERS if getattr(query, name)), *(name for name, _ in query.excluded)]
    names = [column for name in asked for column in _COLUMNS[name]]
    names += ["state"] * bool(query.states) + ["text"] * bool(query.texts)
    names += ["took_ms"] * (query.took_min_s is not None or query.took_max_s is not None)
    names += ["finished"] * (query.since is not None or query.before is not None)
    return list(dict.fromkeys(["us", order_column(query), *names]))


def order_column(query: Query) -> str:
    name = query.order.removeprefix("-") or "submitted"
    return _ORDERED.get(name, name)


def in_order(found: Any, query: Query, ids_of: Callable[[Any], Any]) -> Any:
    """Return found rows (`us`, and `value` of the order's column) in the query's order, each job once.

    Args:
        ids_of: returns the ids of rows. Only those that were submitted in the same microsecond are asked for, which
            mostly are copies of one job: an archive of a million jobs has a million ids.
    """
    pa = arrow()
    pc = pa.compute
    column = order_column(query)
    if column == "state":
        value = pc.index_in(found["value"], value_set=pa.array(STATES))
        found = found.set_column(found.column_names.index("value"), "value", value)
    elif pa.types.is_timestamp(found["value"].type):
        found = found.set_column(found.column_names.index("value"), "value", found["value"].cast(pa.int64()))
    elif pa.types.is_string(found["value"].type) or column == "attempt":  # what is empty has no place in an order
        nothing = pa.scalar(0 if column == "attempt" else "", found["value"].type)
        value = pc.if_else(pc.equal(found["value"], nothing), None, found["value"])
        found = found.set_column(found.column_names.index("value"), "value", value)
    direction = "ascending" if query.order and not query.order.startswith("-") else "descending"
    # Those without a value come last.
    keys = [("value", direction), ("us", "descending")]
    shared = _shared(found["us"])
    if any_shared := pc.any(shared).as_py():
        ids = ids_of(found.filter(shared)).combine_chunks()
        ids = pc.replace_with_mask(pa.nulls(len(found), pa.string()), shared, ids)
        found, keys = found.append_column("id", ids), [*keys, ("id", "ascending")]
    found = found.take(pc.sort_indices(found, keys))
    return found.filter(_firsts(found)).drop_columns("id") if any_shared else found


def _shared(column: Any) -> Any:
    """Return for each value whether it is there twice."""
    pa = arrow()
    pc = pa.compute
    values = column.combine_chunks()
    ordered = values.take(pc.sort_indices(values))
    again = ordered.slice(1).filter(pc.equal(ordered.slice(1), ordered.slice(0, max(0, len(ordered) - 1))))
    return pc.is_in(values, value_set=again)


def _firsts(found: Any) -> Any:
    """Return for each row whether none before it has its `us` and `id`; rows without an id are alone."""
    seen = set[tuple[int, str]]()
    is_first = []
    for us, job_id in zip(found["us"].to_pylist(), found["id"].to_pylist(), strict=True):
        is_first.append(job_id is None or (us, job_id) not in seen)
        if job_id is not None:
            seen.add((us, job_id))
    return arrow().array(is_first)


def after_cursor(found: Any, query: Query) -> Any:
    """Return the rows of `in_order` after the query's cursor."""
    pc = arrow().compute
    cursor = read_cursor(query)
    if cursor is None:
        return found
    last, last_us = cursor
    is_older = pc.less(found["us"], last_us)
    if last is None:
        return found.filter(pc.and_(pc.is_null(found["value"]), is_older))
    is_after = (pc.less if query.order.startswith("-") or not query.order else pc.greater)(found["value"], last)
    is_after = pc.or_(is_after, pc.and_(pc.equal(found["value"], last), is_older))
    return found.filter(pc.fill_null(is_after, True))  # those without a value come last


def matching(table: Any, query: Query, now_ms: int) -> Any:
    """Return for each row whether it matches."""
    pa = arrow()
    pc = pa.compute
    oldest_us, newest_us = submit_bounds(query, now_ms)
    masks = [pc.and_(pc.greater_equal(table["us"], oldest_us), pc.less_equal(table["us"], newest_us))]
    if query.states:
        masks.append(_among(table["state"], lambda state: state in query.states))
    masks += [_any(table, _COLUMNS[name], asked) for name in FILTERS if (asked := patterns(query, name))]
    masks += [
        pc.invert(pc.fill_null(_any(table, _COLUMNS[name], alternatives(name, (value,))), False))
        for name, value in query.excluded
    ]
    for compare, bound in zip((pc.greater_equal, pc.less_equal), change_bounds(query, now_ms), strict=True):
        if bound is not None:  # the jobs here have ended
            masks.append(compare(pc.cast(table["finished"], pa.int64()), bound))
    if query.took_min_s is not None or query.took_max_s is not None:
        most_ms = float("inf") if query.took_max_s is None else query.took_max_s * 1000
        took = pc.cast(table["took_ms"], pa.float64())
        masks.append(pc.and_(pc.greater_equal(took, (query.took_min_s or 0) * 1000), pc.less_equal(took, most_ms)))
    masks += [pc.match_substring(table["text"], text) for text in query.texts]
    return pc.fill_null(reduce(pc.and_kleene, masks), False)


def _any(table: Any, columns: Sequence[str], asked: Sequence[str]) -> Any:
    pa = arrow()
    pc = pa.compute

    def fit(value: str) -> bool:
        return fits((value,), asked)

    if columns == ("tags",):
        tags = table["tags"].combine_chunks()
        tags = tags if isinstance(tags, pa.Array) else pa.concat_arrays(tags.chunks)
        parents = pc.list_parent_indices(tags).filter(_among(pc.list_flatten(tags), fit))
        return pc.is_in(pa.array(range(len(table)), parents.type), value_set=parents)
    nowhere = pc.is_null(table["us"])
    return reduce(pc.or_, (pc.fill_null(_among(table[column], fit), False) for column in columns), nowhere)


def _among(column: Any, is_wanted: Callable[[str], bool]) -> Any:
    pa = arrow()
    wanted = [value for value in pa.compute.unique(column).to_pylist() if value is not None and is_wanted(value)]
    return pa.compute.is_in(column, value_set=pa.array(wanted, pa.string()))
