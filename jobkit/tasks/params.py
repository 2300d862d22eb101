"""Checking values against a `ParamSpec`: before anything is stored, with one sentence that says what is allowed.

`check` takes Python values and the values of JSON forms, `parse_text` the text of a command line. Neither reads a
file for `check`, since it also serves HTTP; only `parse_text`, which acts for the person who typed it, opens one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NoReturn

from jobkit.model import InvalidParams
from jobkit.tasks.specs import KINDS, Choice, ParamSpec, json_schema, plain, short_repr

__all__ = ["KINDS", "Choice", "ParamSpec", "check", "describe", "json_schema", "parse_text", "plain"]

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_MAX_LISTED = 12


def check(spec: ParamSpec, value: Any) -> Any:
    """`value` as the task will get it.

    An int passes for a float and a float without fraction for an int; ISO text for a date; text for a path, an enum
    member (its name or value) or a choice (its label); NumPy scalars for their Python counterparts; a list of records
    for a table. A bool is not a number.

    Raises:
        InvalidParams: one sentence with the parameter's name, the value and what is allowed.
    """
    if value is None:
        if spec.nullable or spec.kind == "any":
            return None
        _refuse(spec, value)
    return _CHECKS[spec.kind](spec, value)


def describe(spec: ParamSpec) -> str:
    """What is allowed, as it follows "must be": "a whole number from 1 to 10"."""
    text = _describe(spec)
    return f"{text} or None" if spec.nullable else text


def parse_text(spec: ParamSpec, text: str) -> Any:
    """The value in the text of `name=text` on a command line.

    Lists are JSON (`[1, 2]`) or comma-separated, dicts JSON, tables the path of a .csv, .tsv, .parquet or .json file;
    "any" is JSON where it parses, else the text. `null` is None where that is allowed, and for other kinds than "str"
    also `none` and nothing.

    Raises:
        InvalidParams: see `check`; also a table's file that cannot be read.
    """
    if spec.nullable and (text == "null" or (spec.kind != "str" and text.lower() in ("none", ""))):
        return None
    match spec.kind:
        case "int" | "float":
            return check(spec, _number(text))
        case "bool":
            word = text.strip().lower()
            if word not in _TRUE + _FALSE:
                _refuse(spec, text)
            return word in _TRUE
        case "list":
            if text.lstrip().startswith("["):
                return check(spec, _json(spec, text))
            item = spec.item or ParamSpec(name=spec.name)
            parts = [part.strip() for part in text.split(",")] if text.strip() else []
            return check(spec, [parse_text(_item(spec, item, n), part) for n, part in enumerate(parts)])
        case "dict":
            return check(spec, _json(spec, text))
        case "table":
            return check(spec, _read_table(spec, Path(text).expanduser()))
        case "any":
            try:
                return json.loads(text)
            except (ValueError, RecursionError):
                return text
    return check(spec, text)


def _refuse(spec: ParamSpec, value: Any, why: str = "") -> NoReturn:
    shown = "the value given" if spec.is_secret else short_repr(value)
    raise InvalidParams(f"{spec.name} must be {describe(spec)}, not {shown}{why}", spec.name)


def _wrong(spec: ParamSpec, value: Any, again: Callable[[ParamSpec, Any], Any] | None = None) -> Any:
    """The slow way out of a check: what stands for a value passes, a NumPy scalar is tried as a Python one."""
    if getattr(type(value), "__jobkit_reference__", False):
        return value  # a job whose result takes its place; checked when it is known
    if again is not None and type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        if type(value).__name__ == "datetime64":
            value = value.astype("datetime64[us]")  # from nanoseconds, item() would be an int
        item = value.item()
        if type(item).__module__ != "numpy" and item is not None:
            return again(spec, item)
    _refuse(spec, value)


def _within(spec: ParamSpec, number: float, value: Any) -> None:
    """Refuse a number (or length) out of bounds; NaN is out of any bounds."""
    if (spec.min is not None and not number >= spec.min) or (spec.max is not None and not number <= spec.max):
        _refuse(spec, value)


def _check_int(spec: ParamSpec, value: Any) -> Any:
    if type(value) is not int:
        if isinstance(value, bool):
            _refuse(spec, value)
        if (isinstance(value, float) and value.is_integer()) or isinstance(value, Integral):
            number = int(value)
        else:
            return _wrong(spec, value, _check_int)
        _within(spec, number, value)
        return number
    _within(spec, value, value)
    return value


def _check_float(spec: ParamSpec, value: Any) -> Any:
    if type(value) is not float:
        if isinstance(value, bool):
            _refuse(spec, value)
        if not isinstance(value, Real):
            return _wrong(spec, value, _check_float)
        try:
            number = float(value)
        except (OverflowError, ValueError):
            _refuse(spec, value, ", which is too large")
        _within(spec, number, value)
        return number
    _within(spec, value, value)
    return value


def _check_bool(spec: ParamSpec, value: Any) -> Any:
    return value if type(value) is bool else _wrong(spec, value, _check_bool)


def _check_str(spec: ParamSpec, value: Any) -> Any:
    if not isinstance(value, str):
        return _wrong(spec, value)
    _within(spec, len(value), value)
    return value


def _check_choice(spec: ParamSpec, value: Any) -> Any:
    kind = type(value)
    for index, choice in enumerate(spec.choices):
        picked = spec.objects[index] if spec.objects else choice.value
        # An exact type, since True == 1 == 1.0; `is` first, since objects may compare oddly (arrays, tables).
        if picked is value or (type(picked) is kind and _same(picked, value)):
            return picked
    if isinstance(value, str):
        for attribute in ("label", "value"):
            for index, choice in enumerate(spec.choices):
                if getattr(choice, attribute) == value:
                    return spec.objects[index] if spec.objects else choice.value
    elif kind in (int, float, bool):  # the value of an enum member
        for index, choice in enumerate(spec.choices):
            if type(choice.value) is kind and choice.value == value:
                return spec.objects[index] if spec.objects else choice.value
    return _wrong(spec, value, _check_choice)


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # user code: a comparison may raise anything
        return False


def _check_path(spec: ParamSpec, value: Any) -> Any:
    if isinstance(value, Path):
        return value
    if isinstance(value, (str, os.PathLike)):
        text = os.fspath(value)
        if isinstance(text, str) and text and "\0" not in text:
            return Path(text)
    return _wrong(spec, value)


def _check_date(spec: ParamSpec, value: Any) -> Any:
    if isinstance(value, datetime):
        if value.time() == time():
            return value.date()
    elif isinstance(value, date):
        return value
    elif isinstance(value, str):
        try:
            return date.fromisoformat(value.strip())
        except ValueError:
            _refuse(spec, value)
    return _wrong(spec, value, _check_date)


def _check_datetime(spec: ParamSpec, value: Any) -> Any:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.combine(value, time())
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value.strip())
        except ValueError:
            _refuse(spec, value)
    return _wrong(spec, value, _check_datetime)


def _check_list(spec: ParamSpec, value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        if isinstance(value, (set, frozenset, range)):
            value = list(value)
        elif type(value).__module__.partition(".")[0] in ("numpy", "pandas") and getattr(value, "ndim", 0) >= 1:
            if not hasattr(value, "tolist"):  # a DataFrame is no list
                _refuse(spec, value)
            value = value.tolist()
        else:
            return _wrong(spec, value)
    _within(spec, len(value), value)
    item = spec.item
    if item is None or item.kind == "any":
        checked = list(value)
    else:
        checked = []
        for n, part in enumerate(value):
            try:
                checked.append(check(item, part))
            except InvalidParams:
                check(_item(spec, item, n), part)  # the same refusal, and now it names the item
                raise
    return spec.container(checked) if spec.container is not None else checked


def _item(spec: ParamSpec, item: ParamSpec, n: int) -> ParamSpec:
    """The spec of item `n`, under a name that says so: `sizes[2]`."""
    from dataclasses import replace

    return replace(item, name=f"{spec.name}[{n}]", is_secret=item.is_secret or spec.is_secret)


def _check_dict(spec: ParamSpec, value: Any) -> Any:
    if isinstance(value, dict):
        return value
    return dict(value) if isinstance(value, Mapping) else _wrong(spec, value)


def _check_table(spec: ParamSpec, value: Any) -> Any:
    if any(cls.__name__ == "DataFrame" for cls in type(value).__mro__):
        return value
    is_records = isinstance(value, list) and all(isinstance(row, Mapping) for row in value)
    is_columns = isinstance(value, dict) and all(isinstance(column, list) for column in value.values())
    if is_records or is_columns:
        import pandas as pd  # only where a table comes as JSON

        try:
            return pd.DataFrame(value)
        except ValueError as error:  # columns of different lengths
            _refuse(spec, value, f": {error}")
    return _wrong(spec, value)


def _check_any(spec: ParamSpec, value: Any) -> Any:
    return value


_CHECKS: Mapping[str, Callable[[ParamSpec, Any], Any]] = {
    "int": _check_int,
    "float": _check_float,
    "bool": _check_bool,
    "str": _check_str,
    "choice": _check_choice,
    "path": _check_path,
    "date": _check_date,
    "datetime": _check_datetime,
    "list": _check_list,
    "dict": _check_dict,
    "table": _check_table,
    "any": _check_any,
}

_NOUNS: Mapping[str, tuple[str, str]] = {  # one, and many
    "int": ("a whole number", "whole numbers"),
    "float": ("a number", "numbers"),
    "bool": ("true or false", "true or false"),
    "str": ("text", "texts"),
    "path": ("a path", "paths"),
    "date": ("a date like 2026-11-24", "dates like 2026-11-24"),
    "datetime": ("a date and time like 2026-11-24T16:30", "dates and times like 2026-11-24T16:30"),
    "list": ("a list", "lists"),
    "dict": ("a dictionary", "dictionaries"),
    "table": ("a table (a DataFrame)", "tables (DataFrames)"),
    "any": ("any value", "values"),
}


def _describe(spec: ParamSpec, *, many: bool = False) -> str:
    if spec.kind == "choice":
        labels = [choice.label for choice in spec.choices]
        more = f", ... ({len(labels)} in all)" if len(labels) > _MAX_LISTED else ""
        return f"one of {', '.join(labels[:_MAX_LISTED])}{more}" if labels else "a choice (there are none)"
    noun = _NOUNS[spec.kind][many]
    if spec.kind == "list" and spec.item is not None and spec.item.kind != "any":
        noun = f"{noun} of {_describe(spec.item, many=True)}"
    low, high = spec.min, spec.max
    if low is None and high is None:
        return noun
    unit = {"str": " characters", "list": " items"}.get(spec.kind, "")
    if unit:
        if low == high:
            return f"{noun} of {_shown(low)}{unit}" if spec.kind == "str" else f"{noun} with {_shown(low)}{unit}"
        noun = f"{noun} with"
        if low is None:
            return f"{noun} at most {_shown(high)}{unit}"
        return (
            f"{noun} {_shown(low)}{unit} or more" if high is None else f"{noun} {_shown(low)} to {_shown(high)}{unit}"
        )
    if low is None:
        return f"{noun}, at most {_shown(high)}"
    return f"{noun}, {_shown(low)} or more" if high is None else f"{noun} from {_shown(low)} to {_shown(high)}"


def _shown(number: float | None) -> str:
    """A bound as people write it: 10 and not 10.0."""
    return str(int(number)) if isinstance(number, float) and number.is_integer() and abs(number) < 1e15 else str(number)


def _number(text: str) -> Any:
    """The number in a text, or the text itself, which `check` then refuses by its name."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _json(spec: ParamSpec, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        _refuse(spec, text, f", which is not JSON: {error}")


def _read_table(spec: ParamSpec, path: Path) -> Any:
    import pandas as pd

    readers: dict[str, Callable[[Path], Any]] = {
        ".csv": pd.read_csv,
        ".tsv": lambda file: pd.read_csv(file, sep="\t"),
        ".parquet": pd.read_parquet,
        ".json": pd.read_json,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InvalidParams(
            f"{spec.name} must be the path of a table ({', '.join(readers)}), not {str(path)!r}", spec.name
        )
    try:
        return reader(path)
    except (OSError, ValueError, ImportError) as error:
        raise InvalidParams(f"{spec.name}: {path} could not be read as a table: {error}", spec.name) from None
