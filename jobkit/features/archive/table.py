"""The columns of an archive.

Most are for queries, of this package and of any other reader of Parquet. `line` has all data of the job, as a line of
`jobkit export`, sealed as it was: `jobkit import` and `Archive.dumps` restore it.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from jobkit.features.moving.dump import Dump
from jobkit.model import InvalidParams
from jobkit.model.plain import dumps, to_ms
from jobkit.store.query import ORDERS, Candidate, text_of, took_ms
from jobkit.store.wire import UNREADABLE

logger = logging.getLogger("jobkit.archive")

#: Column to the value of a job: those that are compared by a query, and others that people want to see.
_VALUES: Mapping[str, Callable[[Candidate], Any]] = {
    "id": lambda one: one.job.id,
    "us": lambda one: one.us,
    "state": lambda one: str(one.job.state),
    "task": lambda one: one.job.spec.task,
    "title": lambda one: one.job.spec.title,
    "queue": lambda one: one.job.spec.queue,
    "owner": lambda one: one.job.spec.owner,
    "tags": lambda one: list(one.job.spec.tags),
    "worker": lambda one: one.job.worker,
    "attempt": lambda one: one.job.attempt,
    "submitted": lambda one: to_ms(one.job.submitted_at) or None,
    "started": lambda one: to_ms(one.job.started_at) or None,
    "finished": lambda one: to_ms(one.job.finished_at) or None,
    "took_ms": lambda one: took_ms(one.job),
    "progress": ORDERS["progress"],
    "error_type": lambda one: one.job.error.type if one.job.error else None,
    "error_kind": lambda one: str(one.job.error.kind) if one.job.error else None,
    "error": lambda one: str(one.job.error)[:2000] if one.job.error else None,
    "summary": lambda one: one.job.summary,
    "retry_of": lambda one: one.job.spec.retry_of,
    "batch": lambda one: one.job.spec.batch,
    "batch_name": lambda one: one.job.spec.batch_name or None,
    "params": lambda one: dumps(one.job.spec.params),
    "metrics": lambda one: dumps(one.job.metrics.newest) if one.job.metrics.newest else None,
    "text": lambda one: text_of(one.job),
}

#: Names of all columns but the last, `line`.
COLUMNS = (*_VALUES, "artifacts", "left_out")

#: Rows, and about how many bytes, are read together at most, so that one of many needs little memory.
GROUP_ROWS, GROUP_BYTES = 5000, 32_000_000

_TIMES = ("submitted", "started", "finished")
_NUMBERS = {"us": "int64", "attempt": "int32", "took_ms": "int64", "progress": "float64", "line": "binary"}


def arrow() -> Any:
    """Return pyarrow with its compute functions and Parquet. Raises InvalidParams if it is not installed."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise InvalidParams(
            f"an archive (JOBKIT_ARCHIVE) needs pyarrow: pip install 'panel-jobkit[archive]' ({error})", "archive"
        ) from None
    return pyarrow


@cache
def schema() -> Any:
    pa = arrow()

    def kind(name: str) -> Any:
        if name in _TIMES:
            return pa.timestamp("ms", "UTC")
        return pa.list_(pa.string()) if name == "tags" else pa.type_for_alias(_NUMBERS.get(name, "string"))

    return pa.schema([(name, kind(name)) for name in (*COLUMNS, "line")])


def to_parquet(jobs: Sequence[Dump]) -> bytes:
    """Return a Parquet file of these jobs. One that cannot be a row is logged and left out."""
    rows = []
    for dump in jobs:
        try:
            one = Candidate(int(dump.record["us"]), dump.snapshot)
            row = {name: _clean(value(one)) for name, value in _VALUES.items()}
            own = {"artifacts": _artifacts(dump), "left_out": dump.left_out or None, "line": dump.to_line()}
            rows.append(row | own)
        except UNREADABLE as error:
            logger.warning("job %s is not archived: %s: %s", dump.id, type(error).__name__, error)
    return file_of([arrow().Table.from_pylist(rows, schema=schema())])


def file_of(tables: Iterable[Any]) -> bytes:
    """Return a Parquet file of tables with these columns."""
    out = io.BytesIO()
    with arrow().parquet.ParquetWriter(out, schema(), compression="zstd") as writer:
        for table in tables:
            rows = min(GROUP_ROWS, len(table) * GROUP_BYTES // (table.nbytes + 1))
            writer.write_table(table, row_group_size=max(1, rows))
    return out.getvalue()


def _artifacts(dump: Dump) -> str | None:
    """Return names, media types and sizes of a job's artifacts as JSON, or None."""
    found = [{"name": name, **msgspec.json.decode(meta)} for name, meta in dump.artifacts.items()]
    return dumps(found) if found else None


def _clean(value: Any) -> Any:
    """Replace what is not UTF-8 in texts."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
