"""Values of user code as others see them: previews for pages, artifacts (`current().save`) as files to keep.

Libraries are recognised in `sys.modules`: a value of theirs can only exist if they are loaded, so nothing is imported
for it. Nothing is pickled: both may be opened without running the job's code.

A preview is JSON: `{"type": class name, "text": ...}` and, if the value has one, `"table"`, `"png"` (base64), `"html"`
(pages show it in a sandbox), `"json"`, `"number"` or what charts have (`charts.py`). Making one never raises.
"""

from __future__ import annotations

import contextlib
import json
import math
import mimetypes
import os
import reprlib
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from jobkit.features import modules
from jobkit.model import InvalidParams
from jobkit.model.format import shortened
from jobkit.model.metrics import to_wire
from jobkit.model.terminal import clean
from jobkit.run.inside.lines import cut

TIMES = "\N{MULTIPLICATION SIGN}"
TEXT_LIMIT = 20_000
#: Of a table in a preview, at most.
ROWS, COLUMNS = 50, 20
PNG_LIMIT, HTML_LIMIT, JSON_LIMIT = 500_000, 200_000, 50_000
SUMMARY_LIMIT = 200

#: Media types of the specifications of charts (`spec`) that front ends draw.
PLOTLY, VEGA = "application/vnd.plotly.v1+json", "application/vnd.vegalite.v5+json"

# -- previews ----------------------------------------------------------------------------------------------------------

Preview = dict[str, Any]


@cache
def libraries() -> tuple[Any, ...]:
    """Return what features have for values of libraries; see `values.py` in `jobkit/feature.py`."""
    return tuple(modules("values"))


def render_exactly(value: Any, preview: Preview, limit: int) -> None:
    """Replace the simple drawing of a value by the exact picture, of at most `limit` bytes, which may take seconds."""
    for library in libraries():
        if hasattr(library, "render"):
            library.render(value, preview, limit)


def preview_of(value: Any, png_limit: int = PNG_LIMIT) -> tuple[Preview, str]:
    """Return `(preview, summary)`; the summary is one line of at most `SUMMARY_LIMIT` characters."""
    kind = type(value)
    if value is None:
        return {"type": "NoneType", "text": "None", "json": None}, "None"
    if kind is int or kind is float or kind is bool:
        return plain_number(value)
    name = kind.__name__
    preview: Preview = {"type": name, "text": ""}
    for part in (*(library.preview for library in libraries()), _markup, _plain):
        try:
            summary = part(value, preview, png_limit)
        except Exception:  # a value of the user's may raise from anything; the next way may do
            continue
        if summary is not None:
            break
    else:
        summary = None
    if not preview["text"]:
        preview["text"] = block(safe_repr(value))
    return preview, one_line(summary or preview["text"] or name)


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


def plain_number(value: float) -> tuple[Preview, str]:
    kind = type(value)
    if kind is int and abs(value) >= 2**63:
        # Python refuses (and takes for ever) to write an integer of many thousand digits.
        digits = int(int(value).bit_length() * 0.30103) + 1
        text = repr(value) if digits < 1_000 else f"an integer of about {digits:,} digits"
        return {"type": "int", "text": text}, one_line(text)
    text = repr(value)
    if kind is float and not math.isfinite(value):  # JSON has no NaN
        return {"type": "float", "text": text}, text
    preview: Preview = {"type": kind.__name__, "text": text, "json": value}
    if kind is not bool:
        preview["number"] = float(value)
    return preview, f"{value:.6g}" if kind is float and len(text) > 10 else text


def number(value: Any) -> float:
    """Return the number in a NumPy scalar, for JSON. Raises TypeError if there is none."""
    numpy = sys.modules.get("numpy")
    plain = value.item() if numpy is not None and isinstance(value, numpy.generic) else None
    if isinstance(plain, (int, float)):  # also a bool; not a longdouble
        return plain
    raise TypeError(f"JSON has no form for a value of type {type(value).__name__}")


def _markup(value: Any, preview: Preview, png_limit: int) -> str | None:
    draw = getattr(type(value), "_repr_html_", None)
    if not callable(draw):
        return None
    html = draw(value)
    if not isinstance(html, str) or len(html) > HTML_LIMIT:
        return None
    preview["html"] = html.encode("utf-8", "backslashreplace").decode()
    preview["text"] = block(safe_repr(value))
    return preview["text"] or type(value).__name__


def _plain(value: Any, preview: Preview, png_limit: int) -> str | None:
    """Text and containers."""
    kind = type(value)
    if kind is str:
        preview["text"] = block(value)
        if len(value) <= 1_000 and "\ud800" not in value and value.isprintable():
            preview["json"] = value
        return repr(value) if _reads_as_other(value.strip()) else value
    if isinstance(value, (bytes, bytearray)):
        preview["text"] = block(repr(bytes(value[:1_000])))
        return f"{kind.__name__} of {len(value):,}"
    if not isinstance(value, (list, tuple, set, frozenset, Mapping)):
        return None
    size = len(value)
    preview["text"] = block(safe_repr(value))
    if kind in (list, tuple, dict) and size <= 2_000:
        # Not plain, or not to be sent (file names that are no UTF-8, integers above 64 bits): the text is there by now.
        with contextlib.suppress(TypeError, ValueError, RecursionError, OverflowError):
            text = json.dumps(value, default=number)
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


def block(text: str) -> str:
    """Text of several lines, each cleaned, cut to the limit."""
    if len(text) > TEXT_LIMIT:
        text = cut(text, TEXT_LIMIT - 40)
    return text if text.isprintable() else "\n".join(clean(line) for line in text.split("\n"))


def one_line(text: str) -> str:
    return shortened(clean(" ".join(text[:1_000].split())), SUMMARY_LIMIT)


# -- artifacts ---------------------------------------------------------------------------------------------------------

NAME_LIMIT = 200

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
    for library in libraries():
        if (found := library.file(name, obj)) is not None:
            return found  # type: ignore[no-any-return]  # a feature's module
    try:
        text = json.dumps(obj, default=number)
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
