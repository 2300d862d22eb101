"""Artifacts of a job (`current().save`): their bytes, names and limits.

Libraries are recognised in `sys.modules`, as in `preview`: a value of theirs can only exist if they are loaded.
Nothing is pickled: an artifact is for people and other programs, and may be opened without running its code.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import mimetypes
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from jobkit.model import InvalidParams
from jobkit.run.inside.preview import bokeh_html, holoviews_figure, png_of

NAME_LIMIT = 200

PARQUET = "application/vnd.apache.parquet"
_ALLOWED = (
    "bytes, str, a pathlib.Path of a file, a DataFrame, an Arrow table, a NumPy array, a figure of matplotlib, Bokeh "
    "or HoloViews, a PIL image, anything that shows itself as HTML, or plain values that JSON can hold"
)

#: How an artifact travels: its bytes, or a file to copy.
Body = bytes | Path


class Bounds(msgspec.Struct, frozen=True):
    """Limits of one attempt's artifacts. The defaults are for a store without a directory for files."""

    count: int = 100
    each_bytes: int = 256_000
    total_bytes: int = 1_000_000

    def check(self, kept: dict[str, int], name: str, size: int) -> None:
        """Raises InvalidParams where `name`, of `size` bytes, is too much beside what is `kept` (name to size)."""
        hint = (
            "; larger ones need a directory that the workers share with you: set JOBKIT_RESULTS"
            if self == Bounds()
            else ""
        )
        if size > self.each_bytes:
            raise InvalidParams(
                f"artifact {name!r} has {size:,} bytes; at most {self.each_bytes:,} are kept{hint}", "name"
            )
        total = sum(kept.values()) - kept.get(name, 0) + size
        if total > self.total_bytes:
            raise InvalidParams(
                f"artifact {name!r} would make {total:,} bytes of this job's artifacts; at most {self.total_bytes:,} "
                f"are kept{hint}",
                "name",
            )
        if name not in kept and len(kept) >= self.count:
            raise InvalidParams(f"artifact {name!r} would be one too many: a job may keep {self.count}", "name")


def checked_name(name: object) -> str:
    """`name` if an artifact may be called so.

    Raises:
        InvalidParams: not 1 to 200 printable characters, or with a path separator, or `.` or `..`.
    """
    if (
        not isinstance(name, str)
        or not 0 < len(name) <= NAME_LIMIT
        or not name.isprintable()
        or name.strip() != name
        or "/" in name
        or "\\" in name
        or name in (".", "..")
    ):
        shown = repr(name) if len(repr(name)) <= 80 else repr(name)[:77] + "..."
        raise InvalidParams(
            f"the name of an artifact must be 1 to {NAME_LIMIT} printable characters without / and \\, not {shown}",
            "name",
        )
    return name


def render(name: str, obj: Any) -> tuple[str, Body]:
    """`(media type, bytes or file)` of something to keep.

    Raises:
        InvalidParams: it is of no kind that can be kept; the message lists those.
        OSError: it is a path that cannot be read.
    """
    if isinstance(obj, (bytes, bytearray, memoryview)):
        return _guessed(name, "application/octet-stream"), bytes(obj)
    if isinstance(obj, str):
        return _guessed(name, "text/plain", text_only=True), obj.encode("utf-8", "backslashreplace")
    if isinstance(obj, os.PathLike):
        path = Path(obj)
        if not path.is_file():
            raise InvalidParams(
                f"artifact {name!r}: {str(path)!r} is not a file (to keep a directory, pack it first)", "obj"
            )
        return mimetypes.guess_type(path.name)[0] or _guessed(name, "application/octet-stream"), path
    found = _table(obj) or _array(obj) or _figure(obj)
    if found is not None:
        return found
    try:
        return "application/json", json.dumps(obj, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        pass
    draw = getattr(type(obj), "_repr_html_", None)
    html = draw(obj) if callable(draw) else None
    if isinstance(html, str):
        return "text/html", html.encode("utf-8", "backslashreplace")
    raise InvalidParams(
        f"artifact {name!r}: a value of type {type(obj).__name__} cannot be kept; allowed are {_ALLOWED}", "obj"
    )


def _guessed(name: str, default: str, *, text_only: bool = False) -> str:
    media = mimetypes.guess_type(name)[0] or default
    return default if text_only and not media.startswith(("text/", "application/json")) else media


def _table(obj: Any) -> tuple[str, bytes] | None:
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
        try:
            obj.to_parquet(target, engine="pyarrow")
        except Exception:  # columns of mixed types, names that are no text: CSV takes them all
            pass
        else:
            return PARQUET, target.getvalue()
    return "text/csv", obj.to_csv().encode("utf-8", "backslashreplace")


def _array(obj: Any) -> tuple[str, bytes] | None:
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(obj, numpy.ndarray) or obj.dtype.hasobject:
        return None
    target = io.BytesIO()
    numpy.save(target, obj, allow_pickle=False)
    return "application/x-npy", target.getvalue()


def _figure(obj: Any) -> tuple[str, bytes] | None:
    """Pictures as PNG in full size; what is interactive as one HTML file that opens without a network."""
    obj = holoviews_figure(obj) or obj
    html = bokeh_html(obj)
    if html is not None:
        return "text/html", html.encode("utf-8", "backslashreplace")
    png = png_of(obj, dpis=(150,))
    return None if png is None else ("image/png", png)
