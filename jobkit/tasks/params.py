"""Validation of argument values against a `ParamSpec`, before anything is stored. Errors say what is allowed.

`check` accepts Python values and JSON values of forms, `parse_text` the text of a command line. `check` reads no files,
because it also serves HTTP; `parse_text` opens tables, because it acts for the user who typed the path.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import Any, NoReturn
from uuid import UUID

import msgspec

from jobkit.model import InvalidParams
from jobkit.tasks import structs
from jobkit.tasks.limit_options import seconds_in
from jobkit.tasks.references import ids_of
from jobkit.tasks.specs import ParamSpec, short_repr

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_MAX_LISTED = 12

#: Kinds whose text is JSON; lists of them are JSON, too.
_NESTED = frozenset({"dict", "struct", "list", "union"})


def check(spec: ParamSpec, value: Any) -> Any:
    """Return `value` as the task will receive it.

    An int is accepted for a float, and a float without fraction for an int; ISO text for a date; text for a path, an
    enum member (its name or value) or a choice (its label); NumPy scalars for Python scalars; a list of records for a
    table. A bool is not a number.

    Raises:
        InvalidParams: one sentence with the parameter's name, the value and what is allowed.
    """
    if value is None:
        if spec.nullable or spec.kind == "any":
            return None
        _refuse(spec, value)
    return _CHECKS[spec.kind](spec, value)


def describe(spec: ParamSpec) -> str:
    """Return what is allowed, to follow "must be": "a whole number from 1 to 10"."""
    text = _describe(spec)
    return f"{text} or None" if spec.nullable else text


def parse_text(spec: ParamSpec, text: str) -> Any:
    """Return the value in the text of `name=text` on a command line.

    Lists are JSON (`[1, 2]`) or comma-separated, dicts and structures JSON, tables the path of a .csv, .tsv, .parquet
    or .json file; "any" and "union" are JSON if it parses, else the text. `null` means None if that is allowed, as do
    `none` and the empty text for all kinds except "str".

    Raises:
        InvalidParams: see `check`; also if a table's file cannot be read.
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
            items = [spec.item, *spec.parts]
            if text.lstrip().startswith("[") or any(item and item.kind in _NESTED for item in items):
                return check(spec, _json(spec, text))
            parts = [part.strip() for part in text.split(",")] if text.strip() else []
            return check(spec, [parse_text(_item(spec, n), part) for n, part in enumerate(parts)])
        case "dict" | "struct":
            return check(spec, _json(spec, text))
        case "union":
            try:
                return check(spec, json.loads(text))
            except (ValueError, RecursionError):  # not JSON, or rejected (InvalidParams is a ValueError, too)
                return check(spec, text)
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
    """Handle the rare cases of a check: accept references, retry a NumPy scalar as a Python one, else raise."""
    if getattr(type(value), "__jobkit_reference__", False):
        return value  # a job whose result will be the value; checked when it is known
    if again is not None and type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        if type(value).__name__ == "datetime64":
            value = value.astype("datetime64[us]")  # item() of nanoseconds would be an int
        item = value.item()
        if type(item).__module__ != "numpy" and item is not None:
            return again(spec, item)
    _refuse(spec, value)


def _within(spec: ParamSpec, number: float, value: Any) -> None:
    """Reject a number or length out of bounds; NaN is out of any bounds."""
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
        # Compare exact types, since True == 1 == 1.0; `is` first, since `==` of arrays and tables is not a bool.
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
    except Exception:  # user code may raise anything
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
            if not hasattr(value, "tolist"):  # a DataFrame is not a list
                _refuse(spec, value)
            value = value.tolist()
        else:
            return _wrong(spec, value)
    _within(spec, len(value), value)
    item = spec.item
    if spec.parts:
        checked = [check(_item(spec, n), part) for n, part in enumerate(value)]
    elif item is None or item.kind == "any":
        checked = list(value)
    else:
        checked = []
        for n, part in enumerate(value):
            try:
                checked.append(check(item, part))
            except InvalidParams:
                check(_item(spec, n), part)  # raises again, with the name of the item
                raise
    if spec.container is None:
        return checked
    try:
        return spec.container(checked)
    except TypeError:  # unhashable items of a set
        _refuse(spec, value)


def _item(spec: ParamSpec, n: int) -> ParamSpec:
    """Return the spec of item `n`, named `sizes[2]`."""
    item = spec.parts[n] if n < len(spec.parts) else spec.item or ParamSpec(name=spec.name)
    return _inside(spec, item, f"[{n}]")


def _inside(spec: ParamSpec, part: ParamSpec, step: str) -> ParamSpec:
    """Return the spec of a part of a value, with its path as name: `model.lr`."""
    return replace(part, name=f"{spec.name}{step}", is_secret=part.is_secret or spec.is_secret)


def _check_dict(spec: ParamSpec, value: Any) -> Any:
    if not isinstance(value, Mapping):
        is_made = isinstance(spec.container, type) and isinstance(value, spec.container)  # a node of a tree
        return value if is_made else _wrong(spec, value)
    if spec.item is not None:
        return {key: check(_inside(spec, spec.item, f"[{key!r}]"), each) for key, each in value.items()}
    if spec.container is not None and all(isinstance(key, str) for key in value):
        try:
            return msgspec.convert(value, spec.container, strict=False, str_keys=True, dec_hook=_decoded)
        except (msgspec.ValidationError, TypeError, ValueError) as error:
            _refuse(spec, value, f": {error}")
    return value if isinstance(value, dict) else dict(value)


def _decoded(hint: Any, value: Any) -> Any:
    """Convert types that msgspec does not know: paths, and values that already have the type."""
    if isinstance(hint, type) and isinstance(value, hint):
        return value
    if isinstance(hint, type) and issubclass(hint, PurePath) and isinstance(value, str):
        return hint(value)
    if hasattr(hint, "model_validate"):  # pydantic
        return hint.model_validate(value)
    raise TypeError(f"JSON has no form for {getattr(hint, '__name__', hint)}")


def _check_struct(spec: ParamSpec, value: Any) -> Any:
    """Return an instance of the structure if its class is known here, else its values by name."""
    cls = spec.container
    if not isinstance(value, Mapping):
        kind = type(value)
        if cls is not None and isinstance(value, cls):
            return value
        # A class with the same name: defined again in a notebook, or unknown in this process.
        if structs.is_struct(kind) and kind.__name__ == spec.type_name:
            value = structs.values_of(value)
        elif isinstance(value, (list, tuple)) and isinstance(cls, type) and issubclass(cls, tuple):
            _within(replace(spec, max=len(spec.parts)), len(value), value)
            value = dict(zip((part.name for part in spec.parts), value, strict=False))
        else:
            return _wrong(spec, value)
    known = {part.name: part for part in spec.parts}
    if unknown := [name for name in value if name not in known]:
        name = short_repr(unknown[0], 40)
        raise InvalidParams(
            f"{spec.name} has no field {name}; its fields are: {', '.join(known) or 'none'}",
            f"{spec.name}.{unknown[0]}" if isinstance(unknown[0], str) else spec.name,
        )
    checked = {}
    for name, part in known.items():
        if name in value:
            checked[name] = check(_inside(spec, part, f".{name}"), value[name])
        elif part.required:
            raise InvalidParams(f"{spec.name}.{name} is missing: it must be {describe(part)}", f"{spec.name}.{name}")
    # with results of other jobs, the instance is created later
    if cls is None or structs.is_mapping(cls) or ids_of(checked):
        return checked
    try:
        return structs.make(cls, checked)
    except Exception as error:  # the constructor is user code
        path, why = structs.why_refused(error)
        name = f"{spec.name}.{path}" if path else spec.name
        shown = "" if spec.is_secret else f": {short_repr(why, 300).strip(chr(39) + chr(34))}"
        raise InvalidParams(f"{name} was refused by {spec.type_name}{shown}", name) from None


def _check_union(spec: ParamSpec, value: Any) -> Any:
    """Return the value by the first alternative that accepts it unchanged, else by the first that accepts it."""
    found: list[Any] = []
    for part in spec.parts:
        try:
            checked = check(replace(part, name=spec.name), value)
        except InvalidParams:
            continue
        if checked is value and not isinstance(value, (str, dict, list)):
            return checked
        found.append(checked)
    return found[0] if found else _wrong(spec, value, _check_union)


def _duration(value: Any) -> timedelta:
    """Convert seconds, "90", "1h" or ISO text. Raises ValueError or OverflowError."""
    if isinstance(value, str):
        seconds = seconds_in(value)
        value = _number(value.strip()) if seconds is None else seconds
    return msgspec.convert(value, timedelta) if isinstance(value, str) else timedelta(seconds=value)


def _check_text(
    kind: type, read: Callable[[Any], Any], takes: type | tuple[type, ...] = str
) -> Callable[[ParamSpec, Any], Any]:
    """Return a check for a type that JSON represents as text (or as another of the types in `takes`)."""

    def check_text(spec: ParamSpec, value: Any) -> Any:
        if isinstance(value, kind):
            return value
        if not isinstance(value, takes) or isinstance(value, bool):
            return _wrong(spec, value, check_text)
        try:
            return read(value.strip() if isinstance(value, str) else value)
        except (ValueError, ArithmeticError):  # msgspec's ValidationError is a ValueError, Decimal's an ArithmeticError
            _refuse(spec, value)

    return check_text


def _check_table(spec: ParamSpec, value: Any) -> Any:
    if any(cls.__name__ == "DataFrame" for cls in type(value).__mro__):
        return value
    is_records = isinstance(value, list) and all(isinstance(row, Mapping) for row in value)
    is_columns = isinstance(value, dict) and all(isinstance(column, list) for column in value.values())
    if is_records or is_columns:
        import pandas as pd  # import only for tables in JSON

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
    "time": _check_text(time, time.fromisoformat),
    "duration": _check_text(timedelta, _duration, (str, int, float)),
    "uuid": _check_text(UUID, UUID),
    "decimal": _check_text(Decimal, lambda value: Decimal(str(value)), (str, int, float)),
    "bytes": _check_text(bytes, lambda text: msgspec.convert(text, bytes)),
    "dict": _check_dict,
    "struct": _check_struct,
    "union": _check_union,
    "table": _check_table,
    "any": _check_any,
}

_NOUNS: Mapping[str, tuple[str, str]] = {  # singular and plural
    "int": ("a whole number", "whole numbers"),
    "float": ("a number", "numbers"),
    "bool": ("true or false", "true or false"),
    "str": ("text", "texts"),
    "path": ("a path", "paths"),
    "date": ("a date like 2026-11-24", "dates like 2026-11-24"),
    "datetime": ("a date and time like 2026-11-24T16:30", "dates and times like 2026-11-24T16:30"),
    "time": ("a time like 16:30", "times like 16:30"),
    "duration": ("a duration like 90, 1h or PT1H30M", "durations like 90, 1h or PT1H30M"),
    "uuid": ("a UUID", "UUIDs"),
    "decimal": ("a decimal number", "decimal numbers"),
    "bytes": ("bytes as base64", "bytes as base64"),
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
    if spec.kind == "union":
        return " or ".join(_describe(part, many=many) for part in spec.parts)
    if spec.kind == "struct":
        noun = f"{spec.type_name} objects" if many else f"{_article(spec.type_name)} {spec.type_name}"
        return noun if many else f"{noun} with {', '.join(part.name for part in spec.parts) or 'no fields'}"
    noun = _NOUNS[spec.kind][many]
    if spec.kind == "dict" and spec.item is not None:
        return f"{noun} of {_describe(spec.item, many=True)}"
    if spec.kind == "list" and spec.parts:
        return f"{noun} of {', '.join(_describe(part) for part in spec.parts)}"
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


def _article(word: str) -> str:
    return "an" if word[:1].upper() in tuple("AEIOU") else "a"


def _shown(number: float | None) -> str:
    """Return a bound as users write it: 10 instead of 10.0."""
    return str(int(number)) if isinstance(number, float) and number.is_integer() and abs(number) < 1e15 else str(number)


def _number(text: str) -> Any:
    """Return the number in a text, or the text itself, which `check` then rejects with its name."""
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
