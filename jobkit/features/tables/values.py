"""Tables and arrays of pandas, polars, Arrow and NumPy: how pages show them, and as files to keep.

Nothing is imported for a value: it can only exist if its library is loaded.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import sys
from collections.abc import Iterable
from typing import Any

from jobkit.model.terminal import clean
from jobkit.run.inside.lines import cut
from jobkit.run.inside.shown_values import COLUMNS, ROWS, TIMES, Preview, block, number, one_line, plain_number

#: Characters of a cell, at most.
CELL = 100

PARQUET = "application/vnd.apache.parquet"


def preview(value: Any, preview: Preview, png_limit: int) -> str | None:
    """Put a table, and the text of a table or array, into its preview; see `jobkit/feature.py`."""
    return _frame(value, preview) or _array(value, preview)


def file(name: str, obj: Any) -> tuple[str, bytes] | None:
    """Return `(media type, content)` of a table or array."""
    return _table_file(obj) or _array_file(obj)


def _frame(value: Any, preview: Preview) -> str | None:
    """Tables of pandas, polars and Arrow, and series of the first two, which become tables of one column."""
    pandas, polars, arrow = (sys.modules.get(name) for name in ("pandas", "polars", "pyarrow"))
    table, is_series = value, any(module and isinstance(value, module.Series) for module in (pandas, polars))
    if is_series:
        table = value.head(ROWS).to_frame("value" if value.name in (None, "") else value.name)
    columns: list[object]
    rows: Iterable[Iterable[object]]
    if pandas is not None and isinstance(table, pandas.DataFrame):
        head = table.iloc[:ROWS, :COLUMNS]
        has_index = is_series or type(head.index).__name__ != "RangeIndex" or head.index.name is not None
        columns = [*([head.index.name or ""] if has_index else []), *head.columns]
        rows = head.itertuples(index=has_index, name=None)
    elif arrow is not None and isinstance(table, arrow.Table):
        head = table.slice(0, ROWS).select(table.column_names[:COLUMNS])
        columns, rows = head.column_names, zip(*(column.to_pylist() for column in head.columns), strict=True)
    elif polars is not None and isinstance(table, polars.DataFrame):
        head = table[:ROWS, :COLUMNS]
        columns, rows = head.columns, head.iter_rows()
    else:
        return None
    if is_series:
        _put_table(preview, columns, rows, (len(value), 1))
        preview["text"] = block(str(value))
        return f"Series of {len(value):,}: {_cell(columns[-1])}"
    _put_table(preview, columns, rows, value.shape)
    if arrow is not None and isinstance(value, arrow.Table):
        preview["text"] = block(str(value.schema))
    else:  # the text of pandas has all rows, that of polars a few, with the shape above
        is_polars = polars is not None and isinstance(value, polars.DataFrame)
        preview["text"] = block(str(value if is_polars or tuple(value.shape) == tuple(head.shape) else head))
    return f"{type(value).__name__} {value.shape[0]:,} {TIMES} {value.shape[1]:,}"


def _array(value: Any, preview: Preview) -> str | None:
    """NumPy arrays and scalars."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(value, numpy.generic):
        inner, summary = plain_number(number(value))
        preview.update(inner, type=type(value).__name__)
        return summary
    if not isinstance(value, numpy.ndarray):
        return None
    shape = f" {TIMES} ".join(f"{n:,}" for n in value.shape)
    preview["text"] = block(numpy.array2string(value, threshold=1_000, edgeitems=5))
    if value.ndim in (1, 2) and value.size and value.dtype.kind in "biufcSU":
        head = value[:ROWS, None] if value.ndim == 1 else value[:ROWS, :COLUMNS]
        columns = ["value"] if value.ndim == 1 else range(head.shape[1])
        _put_table(preview, columns, head.tolist(), (*value.shape, 1)[:2])
    if value.ndim == 0:
        return one_line(preview["text"])
    return f"array {shape} of {value.dtype}"


def _put_table(
    preview: Preview, columns: Iterable[object], rows: Iterable[Iterable[object]], shape: Iterable[int]
) -> None:
    preview["table"] = {
        "columns": [_cell(column) for column in columns],
        "rows": [[_cell(item) for item in row] for row in rows],
        "shape": [int(n) for n in shape],
    }


def _cell(item: Any) -> str:
    if type(item) is float:
        return f"{item:.6g}"
    text = item if isinstance(item, str) else str(item)
    return cut(clean(text.replace("\n", " ")), CELL - 30) if len(text) > CELL else clean(text.replace("\n", " "))


def _table_file(obj: Any) -> tuple[str, bytes] | None:
    """DataFrames and tables: Parquet where pyarrow is installed, else CSV."""
    pandas, polars, arrow = (sys.modules.get(name) for name in ("pandas", "polars", "pyarrow"))
    target = io.BytesIO()
    if arrow is not None and isinstance(obj, arrow.Table):
        importlib.import_module("pyarrow.parquet").write_table(obj, target)
        return PARQUET, target.getvalue()
    if polars is not None and isinstance(obj, (polars.DataFrame, polars.LazyFrame, polars.Series)):
        frame = obj.to_frame() if isinstance(obj, polars.Series) else obj.lazy().collect()
        frame.write_parquet(target)
        return PARQUET, target.getvalue()
    if pandas is None or not isinstance(obj, (pandas.DataFrame, pandas.Series)):
        return None
    if isinstance(obj, pandas.DataFrame) and importlib.util.find_spec("pyarrow") is not None:
        with contextlib.suppress(Exception):  # columns of mixed types, names that are no text: CSV takes them all
            obj.to_parquet(target, engine="pyarrow")
            return PARQUET, target.getvalue()
    return "text/csv", obj.to_csv().encode("utf-8", "backslashreplace")


def _array_file(obj: Any) -> tuple[str, bytes] | None:
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(obj, numpy.ndarray) or obj.dtype.hasobject:
        return None
    numpy.save(target := io.BytesIO(), obj, allow_pickle=False)
    return "application/x-npy", target.getvalue()
