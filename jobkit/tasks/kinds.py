"""The kinds of parameters: one table of their annotations, values, descriptions and JSON Schema.

`hints` finds the kind of an annotation, `params` checks values by it. Both have separate functions for kinds without a
`type`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from numbers import Integral, Real
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from jobkit.model.format import seconds_in


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of parameter.

    Attributes:
        noun, nouns: one and several of its values in an error message.
        schema: JSON Schema without the bounds.
        type: annotation, and type of the values.
        takes: types that `read` converts to `type`. bool, a number in Python, is not one of them.
        read: raises ValueError or ArithmeticError for a value that is not allowed.
        is_exact: values of a subclass of `type` are converted, too.
        bounds: names of both bounds in JSON Schema; empty if it cannot be bounded.
        unit: what the bounds count; "" if they apply to the value itself.
    """

    noun: str
    nouns: str
    schema: Mapping[str, Any]
    type: Any = None
    takes: tuple[Any, ...] = ()
    read: Callable[[Any], Any] = str
    is_exact: bool = False
    bounds: tuple[str, ...] = ()
    unit: str = ""


def number(text: str) -> Any:
    """Return the number in a text, or the text itself if there is none."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _whole(value: Any) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError
    return int(value)


def _path(value: Any) -> Path:
    text = os.fspath(value)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError
    return Path(text)


def _date(value: Any) -> date:
    if isinstance(value, str):
        return date.fromisoformat(value.strip())
    if not isinstance(value, datetime):
        return value  # type: ignore[no-any-return]  # one of `takes`
    if value.time() != time():
        raise ValueError
    return value.date()


def _datetime(value: Any) -> datetime:
    return datetime.fromisoformat(value.strip()) if isinstance(value, str) else datetime.combine(value, time())


def _duration(value: Any) -> timedelta:
    """Convert seconds, "90", "1h" or ISO text."""
    if isinstance(value, str):
        seconds = seconds_in(value)
        value = number(value.strip()) if seconds is None else seconds
    return msgspec.convert(value, timedelta) if isinstance(value, str) else timedelta(seconds=value)


def _text(format: str = "", **more: str) -> dict[str, str]:
    return {"type": "string", **({"format": format} if format else {}), **more}


_NUMBER = (str, int, float)
_LEAST_MOST = ("minimum", "maximum")

#: Every `ParamSpec.kind`.
KINDS: Mapping[str, Kind] = {
    "int": Kind(
        "a whole number", "whole numbers", {"type": "integer"}, int, (Integral, float), _whole, True, _LEAST_MOST
    ),
    "float": Kind("a number", "numbers", {"type": "number"}, float, (Real,), float, True, _LEAST_MOST),
    "bool": Kind("true or false", "true or false", {"type": "boolean"}, bool),
    "str": Kind("text", "texts", _text(), str, bounds=("minLength", "maxLength"), unit=" characters"),
    "choice": Kind("a choice (there are none)", "choices", {}),
    "path": Kind("a path", "paths", _text("path"), Path, (str, os.PathLike), _path),
    "date": Kind("a date like 2026-11-24", "dates like 2026-11-24", _text("date"), date, (date, str), _date, True),
    "datetime": Kind(
        "a date and time like 2026-11-24T16:30",
        "dates and times like 2026-11-24T16:30",
        _text("date-time"), datetime, (date, str), _datetime,
    ),
    "list": Kind("a list", "lists", {"type": "array"}, bounds=("minItems", "maxItems"), unit=" items"),
    "time": Kind(
        "a time like 16:30", "times like 16:30", _text("time"),
        time, (str,), lambda text: time.fromisoformat(text.strip()),
    ),
    "duration": Kind(
        "a duration like 90, 1h or PT1H30M",
        "durations like 90, 1h or PT1H30M",
        {"type": ["string", "number"], "format": "duration"}, timedelta, _NUMBER, _duration,
    ),
    "uuid": Kind("a UUID", "UUIDs", _text("uuid"), UUID, (str,), lambda text: UUID(text.strip())),
    "decimal": Kind(
        "a decimal number", "decimal numbers", {"type": ["string", "number"]},
        Decimal, _NUMBER, lambda value: Decimal(str(value).strip()),
    ),
    "bytes": Kind(
        "bytes as base64", "bytes as base64", _text(contentEncoding="base64"),
        bytes, (str,), lambda text: msgspec.convert(text.strip(), bytes),
    ),
    "dict": Kind("a dictionary", "dictionaries", {"type": "object"}),
    "struct": Kind("an object", "objects", {"type": "object"}),
    "union": Kind("one of several values", "values", {}),
    "table": Kind("a table (a DataFrame)", "tables (DataFrames)", {"type": "array", "items": {"type": "object"}}),
    "any": Kind("any value", "values", {}),
}  # fmt: skip
