"""Values of user code as others see them: previews for pages, artifacts (`current().save`) as files to keep.

Libraries are recognised in `sys.modules`: a value of theirs can only exist if they are loaded, so nothing is imported
for it. Nothing is pickled: both may be opened without running the job's code.

A preview is JSON: `{"type": class name, "text": ...}` and, if the value has one, `"table"`, `"png"` (base64), `"html"`
(pages show it in a sandbox), `"json"`, `"number"` or what charts have (`charts.py`). Making one never raises.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import importlib.util
import io
import json
import math
import mimetypes
import os
import reprlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from jobkit.model import InvalidParams
from jobkit.model.format import shortened
from jobkit.model.metrics import to_wire
from jobkit.model.terminal import clean
from jobkit.run.inside.charts import add_chart, bokeh_html, holoviews_figure, is_bokeh, matplotlib_figure
from jobkit.run.inside.lines import cut

TIMES = "\N{MULTIPLICATION SIGN}"
TEXT_LIMIT = 20_000
ROWS, COLUMNS, CELL = 50, 20, 100
PNG_LIMIT, HTML_LIMIT, JSON_LIMIT = 500_000, 200_000, 50_000
SUMMARY_LIMIT = 200

# -- previews ----------------------------------------------------------------------------------------------------------

Preview = dict[str, Any]


def preview_of(value: Any, png_limit: int = PNG_LIMIT) -> tuple[Preview, str]:
    """Return `(preview, summary)`; the summary is one line of at most `SUMMARY_LIMIT` characters."""
    kind = type(value)
    if value is None:
        return {"type": "NoneType", "text": "None", "json": None}, "None"
    if kind is int or kind is float or kind is bool:
        return _plain_number(value)
    name = kind.__name__
    preview: Preview = {"type": name, "text": ""}
    for part in (_frame, _array, _figure, partial(_picture, limit=png_limit), _markup, _plain):
        try:
            summary = part(value, preview)
        except Exception:  # a value of the user's may raise from anything; the next way may do
            continue
        if summary is not None:
            break
    else:
        summary = None
    if not preview["text"]:
        preview["text"] = _block(safe_repr(value))
    return preview, _one_line(summary or preview["text"] or name)


def safe_repr(value: Any, limit: int = TEXT_LIMIT) -> str:
    """`repr(value)`, cut; for one that raises or returns nonsense, the name of its class."""
    try:
        kind = type(value)
        text = _short.repr(value) if kind in _CONTAINERS and len(value) > 1_000 else repr(value)
        return cut(text, limit)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException:  # also RecursionError, SystemExit in a __repr__
        return f"<{type(value).__name__} object>"


_CONTAINERS = (list, tuple, dict, set, frozenset)
_short = reprlib.Repr()
_short.maxlist = _short.maxtuple = _short.maxset = _short.maxfrozenset = _short.maxdict = 200
_short.maxstring = _short.maxother = _short.maxlong = 2_000
_short.maxlevel = 4


def _plain_number(value: float) -> tuple[Preview, str]:
    kind = type(value)
    if kind is int and abs(value) >= 2**63:
        # Python refuses (and takes for ever) to write an integer of many thousand digits.
        digits = int(int(value).bit_length() * 0.30103) + 1
        text = repr(value) if digits < 1_000 else f"an integer of about {digits:,} digits"
        return {"type": "int", "text": text}, _one_line(text)
    text = repr(value)
    if kind is float and not math.isfinite(value):  # JSON has no NaN
        return {"type": "float", "text": text}, text
    preview: Preview = {"type": kind.__name__, "text": text, "json": value}
    if kind is not bool:
        preview["number"] = float(value)
    return preview, f"{value:.6g}" if kind is float and len(text) > 10 else text


def _put_table(
    preview: Preview, columns: Iterable[object], rows: Iterable[Iterable[object]], shape: Iterable[int]
) -> None:
    preview["table"] = {
        "columns": [_cell(column) for column in columns],
        "rows": [[_cell(item) for item in row] for row in rows],
        "shape": [int(n) for n in shape],
    }


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
        preview["text"] = _block(str(value))
        return f"Series of {len(value):,}: {_cell(columns[-1])}"
    _put_table(preview, columns, rows, value.shape)
    if arrow is not None and isinstance(value, arrow.Table):
        preview["text"] = _block(str(value.schema))
    else:  # the text of pandas has all rows, that of polars a few, with the shape above
        is_polars = polars is not None and isinstance(value, polars.DataFrame)
        preview["text"] = _block(str(value if is_polars or tuple(value.shape) == tuple(head.shape) else head))
    return f"{type(value).__name__} {value.shape[0]:,} {TIMES} {value.shape[1]:,}"


def _array(value: Any, preview: Preview) -> str | None:
    """NumPy arrays and scalars."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(value, numpy.generic):
        inner, summary = _plain_number(_number(value))
        preview.update(inner, type=type(value).__name__)
        return summary
    if not isinstance(value, numpy.ndarray):
        return None
    shape = f" {TIMES} ".join(f"{n:,}" for n in value.shape)
    preview["text"] = _block(numpy.array2string(value, threshold=1_000, edgeitems=5))
    if value.ndim in (1, 2) and value.size and value.dtype.kind in "biufcSU":
        head = value[:ROWS, None] if value.ndim == 1 else value[:ROWS, :COLUMNS]
        columns = ["value"] if value.ndim == 1 else range(head.shape[1])
        _put_table(preview, columns, head.tolist(), (*value.shape, 1)[:2])
    if value.ndim == 0:
        return _one_line(preview["text"])
    return f"array {shape} of {value.dtype}"


def _number(value: Any) -> float:
    """Return the number in a NumPy scalar, for JSON. Raises TypeError if there is none."""
    numpy = sys.modules.get("numpy")
    plain = value.item() if numpy is not None and isinstance(value, numpy.generic) else None
    if isinstance(plain, (int, float)):  # also a bool; not a longdouble
        return plain
    raise TypeError(f"JSON has no form for a value of type {type(value).__name__}")


def png_of(value: Any, dpis: Sequence[int], sides: Sequence[int] = (0,), limit: float = math.inf) -> bytes | None:
    """The picture of a matplotlib figure (or axes), a PIL image, or whatever draws itself for notebooks.

    Args:
        dpis, sides: resolutions of figures, and sizes of images in pixels (0: as it is), tried in turn.
        limit: of the picture's size (bytes).
    """
    return next((png for png in _pngs(value, dpis, sides) if len(png) <= limit), None)


def _pngs(value: Any, dpis: Sequence[int], sides: Sequence[int]) -> Iterator[bytes]:
    images = sys.modules.get("PIL.Image")
    if (figure := _matplotlib_of(value)) is not None:
        yield from (_drawn(figure, "png", dpi) for dpi in dpis)
    elif images is not None and isinstance(value, images.Image):
        for side in sides:
            image = value
            if side:
                image = value.copy()
                image.thumbnail((side, side))
            if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA") and (side or image.mode != "I;16"):
                image = image.convert("RGB")
            target = io.BytesIO()
            image.save(target, format="PNG")
            yield target.getvalue()
    else:
        draw = getattr(type(value), "_repr_png_", None)
        if callable(draw) and isinstance(png := draw(value), (bytes, bytearray)):
            yield bytes(png)


def _matplotlib_of(value: Any) -> Any:
    """Return a figure of matplotlib, also that of axes; None for other values."""
    figures = sys.modules.get("matplotlib.figure")
    if figures is None:
        return None
    figure = value if isinstance(value, figures.Figure) else getattr(value, "figure", None)
    return figure if isinstance(figure, figures.Figure) else None


def _drawn(figure: Any, kind: str, dpi: int) -> bytes:
    figure.savefig(target := io.BytesIO(), format=kind, dpi=dpi, bbox_inches="tight")
    return target.getvalue()


def _figure(value: Any, preview: Preview) -> str | None:
    """Charts: of HoloViews also as figures of matplotlib."""
    drawn = holoviews_figure(value)
    if drawn is not None and not is_bokeh(drawn):
        preview["text"] = _block(safe_repr(value))
        _picture(drawn, preview)
        return str(preview["text"])
    if summary := add_chart(value, drawn, preview):
        preview["text"] = _block(preview["text"])
        if drawn is not None and "picture" not in preview and importlib.util.find_spec("matplotlib") is not None:
            with contextlib.suppress(Exception):  # an option of Bokeh's, a kind that matplotlib does not draw
                png = png_of(matplotlib_figure(value), dpis=(80, 50), limit=PNG_LIMIT)
                preview["picture"] = f"data:image/png;base64,{base64.b64encode(png or b'').decode()}"
    return summary


def _picture(value: Any, preview: Preview, limit: int = PNG_LIMIT) -> str | None:
    png = png_of(value, dpis=(100, 60, 30), sides=(1200, 600, 300), limit=limit)
    if not png:
        return None
    preview["png"] = base64.b64encode(png).decode("ascii")
    size = getattr(value, "size", None)
    if isinstance(size, tuple) and len(size) == 2:
        return f"{type(value).__name__} {size[0]} {TIMES} {size[1]}"
    return type(value).__name__


def _markup(value: Any, preview: Preview) -> str | None:
    draw = getattr(type(value), "_repr_html_", None)
    if not callable(draw):
        return None
    html = draw(value)
    if not isinstance(html, str) or len(html) > HTML_LIMIT:
        return None
    preview["html"] = html.encode("utf-8", "backslashreplace").decode()
    preview["text"] = _block(safe_repr(value))
    return preview["text"] or type(value).__name__


def _plain(value: Any, preview: Preview) -> str | None:
    """Text and containers."""
    kind = type(value)
    if kind is str:
        preview["text"] = _block(value)
        if len(value) <= 1_000 and "\ud800" not in value and value.isprintable():
            preview["json"] = value
        return repr(value) if _reads_as_other(value.strip()) else value
    if isinstance(value, (bytes, bytearray)):
        preview["text"] = _block(repr(bytes(value[:1_000])))
        return f"{kind.__name__} of {len(value):,}"
    if not isinstance(value, (list, tuple, set, frozenset, Mapping)):
        return None
    size = len(value)
    preview["text"] = _block(safe_repr(value))
    if kind in (list, tuple, dict) and size <= 2_000:
        # Not plain, or not to be sent (file names that are no UTF-8, integers above 64 bits): the text is there by now.
        with contextlib.suppress(TypeError, ValueError, RecursionError, OverflowError):
            text = json.dumps(value, default=_number)
            if len(text) <= JSON_LIMIT:
                plain = json.loads(text, parse_constant=lambda name: str(float(name)))  # "nan", "inf", "-inf"
                msgspec.msgpack.encode(plain)
                preview["json"] = plain
    if size == 0:
        return f"empty {kind.__name__}"
    if size <= 6 and len(preview["text"]) <= 60:
        return str(preview["text"])
    if isinstance(value, Mapping):
        return f"{kind.__name__} of {size:,}: {_some(value)}"
    return f"{kind.__name__} of {size:,}"


def _reads_as_other(text: str) -> bool:
    """Return True if a text looks like nothing, or like a value of another kind: `0.5`, `True`."""
    if not text or text in ("True", "False", "None"):
        return True
    try:
        float(text[:100])
    except ValueError:
        return False
    return True


def _some(value: Mapping[Any, Any]) -> str:
    keys: list[str] = []
    for key in value:
        if len(keys) == 3:
            return ", ".join([*keys, "…"])
        keys.append(key if isinstance(key, str) else safe_repr(key, 30))
    return ", ".join(keys)


def _cell(item: Any) -> str:
    if type(item) is float:
        return f"{item:.6g}"
    text = item if isinstance(item, str) else str(item)
    return cut(clean(text.replace("\n", " ")), CELL - 30) if len(text) > CELL else clean(text.replace("\n", " "))


def _block(text: str) -> str:
    """Text of several lines, each cleaned, cut to the limit."""
    if len(text) > TEXT_LIMIT:
        text = cut(text, TEXT_LIMIT - 40)
    return text if text.isprintable() else "\n".join(clean(line) for line in text.split("\n"))


def _one_line(text: str) -> str:
    return shortened(clean(" ".join(text[:1_000].split())), SUMMARY_LIMIT)


# -- artifacts ---------------------------------------------------------------------------------------------------------

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
        """Raises InvalidParams if `name`, of `size` bytes, is too much beside what is `kept` (name to size)."""
        is_default = self == Bounds()
        hint = "; larger ones need a directory that the workers share with you: set JOBKIT_RESULTS" * is_default
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


def checked_name(name: str) -> str:
    """Return `name` if an artifact may be called so, else raise InvalidParams."""
    is_text = isinstance(name, str) and 0 < len(name) <= NAME_LIMIT and name.isprintable() and name.strip() == name
    if not is_text or "/" in name or "\\" in name or name in (".", ".."):
        shown = repr(name) if len(repr(name)) <= 80 else repr(name)[:77] + "..."
        raise InvalidParams(
            f"the name of an artifact must be 1 to {NAME_LIMIT} printable characters without / and \\, not {shown}",
            "name",
        )
    return name


def render(name: str, obj: Any) -> tuple[str, Body]:
    """Return `(media type, bytes or file)` of something to keep.

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
    found = _table_file(obj) or _array_file(obj) or _figure_file(name, obj)
    if found is not None:
        return found
    try:
        text = json.dumps(obj, default=_number)
        if "NaN" in text or "Infinity" in text:  # which JSON does not have
            text = json.dumps(json.loads(text, parse_constant=lambda constant: to_wire(float(constant))))
        return "application/json", text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        why = f" ({error})" if isinstance(obj, (list, tuple, Mapping)) else ""
    draw = getattr(type(obj), "_repr_html_", None)
    html = draw(obj) if callable(draw) else None
    if isinstance(html, str):
        return "text/html", html.encode("utf-8", "backslashreplace")
    raise InvalidParams(
        f"artifact {name!r}: a value of type {type(obj).__name__} cannot be kept{why}; allowed are {_ALLOWED}", "obj"
    )


def _guessed(name: str, default: str, *, text_only: bool = False) -> str:
    media = mimetypes.guess_type(name)[0] or default
    return default if text_only and not media.startswith(("text/", "application/json")) else media


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


def _figure_file(name: str, obj: Any) -> tuple[str, bytes] | None:
    """Pictures in full size, as the suffix of the name says, else PNG; what is interactive as one HTML file."""
    obj = holoviews_figure(obj) or obj
    html = bokeh_html(obj)
    if html is not None:
        return "text/html", html.encode("utf-8", "backslashreplace")
    media, is_packed = mimetypes.guess_type(name)
    kind, figure, images = Path(name).suffix.lower(), _matplotlib_of(obj), sys.modules.get("PIL.Image")
    if media and not is_packed:
        if figure is not None and kind[1:] in figure.canvas.get_supported_filetypes():
            return media, _drawn(figure, kind[1:], 150)
        if images is not None and isinstance(obj, images.Image):
            with contextlib.suppress(KeyError, OSError, ValueError):  # a format that PIL only reads, or without alpha
                obj.save(target := io.BytesIO(), format=images.registered_extensions()[kind])
                return media, target.getvalue()
    png = png_of(obj, dpis=(150,))
    return None if png is None else ("image/png", png)
