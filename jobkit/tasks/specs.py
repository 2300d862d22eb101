"""`ParamSpec`: the description of one parameter of a task, as data; `KINDS`: the kinds of them; `Range`: bounds.

A spec is sent as JSON: dashboard, command line and HTTP build forms and check arguments without importing the task's
code. Python objects that JSON cannot represent (objects of choices, container types) exist in this process only.
`hints` makes specs of annotations, `params` checks values by them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from numbers import Integral, Real
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET
from msgspec.structs import force_setattr, replace

from jobkit.model import InvalidParams
from jobkit.model.format import seconds_in


class Kind(msgspec.Struct, frozen=True):
    """One kind of parameter. Those without a `type` have separate functions in `hints` and `params`.

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


@dataclass(frozen=True, slots=True)  # not a struct: jobs of earlier versions have pickled ones
class Range:
    """Smallest and largest allowed value, both inclusive: `n: Annotated[int, jobkit.Range(1, 100)] = 10`.

    Args:
        min: smallest number, or None for no limit. For text and lists, the minimum length.
        max: largest number, or None for no limit.

    Raises:
        InvalidParams: a bound is not a number, or `min` is above `max`.

    Numbers are bounded by value, text by number of characters, lists and tuples by number of items.
    """

    min: float | None = None
    max: float | None = None

    def __post_init__(self) -> None:
        for name in ("min", "max"):
            bound = getattr(self, name)
            if bound is None:
                continue
            if isinstance(bound, bool) or not isinstance(bound, (int, float)) or math.isnan(bound):
                raise InvalidParams(f"Range {name} must be a number or None, not {bound!r}", name)
            if math.isinf(bound):  # no limit; JSON has no infinity
                object.__setattr__(self, name, None)
        if self.min is not None and self.max is not None and self.min > self.max:
            raise InvalidParams(f"Range min must not be above max, but {self.min!r} is above {self.max!r}", "min")


class Choice(msgspec.Struct, frozen=True, array_like=True):
    """One allowed value of a "choice": its label, and the value as JSON (the label if JSON cannot represent it)."""

    label: str
    value: Any


class ParamSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One parameter of a task.

    Attributes:
        name: the parameter's name in the function.
        kind: "int", "float", "bool", "str", "choice", "path", "date", "datetime", "time", "duration" (a `timedelta`),
            "uuid", "decimal", "bytes", "list", "dict", "struct" (a dataclass or the like), "union" (one of several
            kinds), "table" (a DataFrame) or "any" (accepted unchanged).
        required: False if there is a default.
        default: its JSON, or UNSET: dates as ISO text, paths as text, choices by label; None if JSON cannot represent
            it, and then `default_text` is a short text for display.
        nullable: None is allowed.
        min, max: inclusive bounds, or None: of the number; of the length for "str" and "list".
        choices: for "choice".
        item: spec of the items of a "list" and of the values of a "dict"; None for anything.
        parts: fields of a "struct", alternatives of a "union", items of a "list" of fixed length with different items.
        type_name: Python name of a "struct": "Model".
        label: label of the field in a form.
        help: one or two sentences, from the annotation or the docstring, or "".
        is_secret: its value is never shown (password, token, ...).
        objects: Python objects of `choices`, in the same order; empty in other processes.
        container: Python type of the value: `tuple`, `set` or `frozenset` for a "list", the class for a "struct", the
            hint for a "dict" with keys that are not text; None for a list, a dict, and in other processes.
    """

    name: str
    kind: str
    required: bool = True
    default: Any = UNSET
    default_text: str = ""
    nullable: bool = False
    min: int | float | None = None
    max: int | float | None = None
    choices: tuple[Choice, ...] = ()
    item: ParamSpec | None = None
    parts: tuple[ParamSpec, ...] = ()
    type_name: str = ""
    label: str = ""
    help: str = ""
    is_secret: bool = False
    objects: tuple[Any, ...] = ()
    container: Any = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:  # of a newer version
            force_setattr(self, "kind", "any")

    @property
    def has_default(self) -> bool:
        return self.default is not UNSET

    def to_json(self) -> dict[str, Any]:
        """Return JSON of everything except Python objects, without fields that are the default, for msgspec to read."""
        out: dict[str, Any] = msgspec.to_builtins(self._as_data())
        return out

    def _as_data(self) -> ParamSpec:
        item, parts = self.item and self.item._as_data(), tuple(part._as_data() for part in self.parts)
        return replace(self, item=item, parts=parts, objects=(), container=None)


def json_schema(specs: Iterable[ParamSpec], *, allow_extra: bool = False) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of an object with these parameters.

    Args:
        specs: the parameters.
        allow_extra: the function accepts further keyword arguments.
    """
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_object(list(specs), allow_extra)}


def _object(specs: Sequence[ParamSpec], allow_extra: bool) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {spec.name: _property(spec) for spec in specs},
        "required": [spec.name for spec in specs if spec.required],
        "additionalProperties": allow_extra,
    }


def _property(spec: ParamSpec) -> dict[str, Any]:
    kind = KINDS[spec.kind]
    schema: dict[str, Any] = dict(kind.schema)
    if spec.kind == "choice":
        schema["enum"] = [choice.value for choice in spec.choices]
    schema |= {name: bound for name, bound in zip(kind.bounds, (spec.min, spec.max), strict=False) if bound is not None}
    if spec.kind == "struct" and spec.parts:
        schema |= _object(spec.parts, False)
    elif spec.kind == "union":
        schema["anyOf"] = [_property(part) for part in spec.parts]
    elif spec.kind == "list" and spec.parts:
        schema["prefixItems"] = [_property(part) for part in spec.parts]
    elif spec.item is not None:
        schema["items" if spec.kind == "list" else "additionalProperties"] = _property(spec.item)
    if spec.nullable and schema:
        schema = {"anyOf": [schema, {"type": "null"}]}
    if spec.label:
        schema["title"] = spec.label
    if spec.help:
        schema["description"] = spec.help
    if spec.has_default and not spec.default_text and not spec.is_secret:
        schema["default"] = spec.default
    if spec.is_secret:
        schema["writeOnly"] = True
    return schema


def documented(params: Sequence[ParamSpec], doc: str) -> tuple[ParamSpec, ...]:
    """Return the parameters with labels, and with help from a docstring (Google, NumPy, reST or Epydoc style)."""
    helps: dict[str, str] = {}
    if doc:
        import docstring_parser

        with suppress(docstring_parser.ParseError):
            for entry in docstring_parser.parse(doc).params:
                for name in entry.arg_name.split(","):
                    helps[name.strip().lstrip("*")] = " ".join((entry.description or "").split())
    return tuple(
        replace(
            spec,
            help=spec.help or helps.get(spec.name, ""),
            label=spec.label or spec.name.strip("_").replace("_", " ") or spec.name,
        )
        for spec in params
    )
