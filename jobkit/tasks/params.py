"""Validation of argument values against a `ParamSpec`, before anything is stored. Errors say what is allowed.

`check` accepts Python values and JSON values of forms, `parse_text` texts. `check` reads no files, because it also
serves HTTP; `parse_text` opens tables on a command line, because it acts for the user who typed the path.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePath
from typing import IO, Any, NoReturn, is_typeddict

import msgspec
from msgspec.structs import replace

from jobkit.model import InvalidParams
from jobkit.tasks.references import Reference, ids_of
from jobkit.tasks.specs import KINDS, Choice, ParamSpec, number
from jobkit.tasks.values import is_struct, short_repr, struct_of, values_of, why_refused

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
    return _CHECKS.get(spec.kind, _check_scalar)(spec, value)


def checked(name: str, value: Any, kind: str, **more: Any) -> Any:
    """Return a value checked as a parameter of this name and kind: `checked("limit", 5, "int", min=1)`."""
    return check(ParamSpec(name=name, kind=kind, **more), value)


def one_of(name: str, value: Any, allowed: Iterable[str]) -> str:
    """Return a text that must be one of these."""
    return str(checked(name, value, "choice", choices=tuple(Choice(each, str(each)) for each in allowed)))


def describe(spec: ParamSpec) -> str:
    """Return what is allowed, to follow "must be": "a whole number from 1 to 10"."""
    text = _describe(spec)
    return f"{text} or None" if spec.nullable else text


def parse_text(spec: ParamSpec, text: str, *, opens_files: bool = True) -> Any:
    """Return the value in the text of `name=text` on a command line.

    Lists are JSON (`[1, 2]`) or comma-separated, dicts and structures JSON, tables the path of a .csv, .tsv, .parquet
    or .json file; "any" and "union" are JSON if it parses, else the text. `null` means None if that is allowed, as do
    `none` and the empty text for all kinds except "str".

    Args:
        opens_files: False if the text comes from a user who must not read files here: tables are then refused.

    Raises:
        InvalidParams: see `check`; also if a table's file cannot be read.
    """
    if spec.nullable and (text == "null" or (spec.kind != "str" and text.lower() in ("none", ""))):
        return None
    value: Any = text
    is_json = text.lstrip().startswith("[") or any(part and part.kind in _NESTED for part in (spec.item, *spec.parts))
    match spec.kind:
        case "int" | "float":
            value = number(text)
        case "bool":
            word = text.strip().lower()
            value = word in _TRUE if word in _TRUE + _FALSE else text
        case "list" if not is_json:
            parts = [part.strip() for part in text.split(",")] if text.strip() else []
            value = [parse_text(_item(spec, n), part, opens_files=opens_files) for n, part in enumerate(parts)]
        case "list" | "dict" | "struct":
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                _refuse(spec, text, f", which is not JSON: {error}")
        case "union" | "any":
            try:
                return check(spec, json.loads(text))
            except (ValueError, RecursionError):  # not JSON, or rejected (InvalidParams is a ValueError, too)
                pass
        case "table" if opens_files:
            path = Path(text).expanduser()
            value = read_table(spec, str(path), path)
    return check(spec, value)


def _refuse(spec: ParamSpec, value: Any, why: str = "") -> NoReturn:
    shown = "the value given" if spec.is_secret else short_repr(value)
    raise InvalidParams(f"{spec.name} must be {describe(spec)}, not {shown}{why}", spec.name)


def _wrong(spec: ParamSpec, value: Any) -> Any:
    """Handle the rare cases of a check: accept references, retry a NumPy scalar as a Python one, else raise."""
    if isinstance(value, Reference):
        return value  # the result will be checked when it is known
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        if type(value).__name__ == "datetime64":
            value = value.astype("datetime64[us]")  # item() of nanoseconds would be an int
        item = value.item()
        if type(item).__module__ != "numpy" and item is not None:
            return check(spec, item)
    _refuse(spec, value)


def _within(spec: ParamSpec, number: float, value: Any) -> None:
    """Reject a number or length out of bounds; NaN is out of any bounds."""
    if (spec.min is not None and not number >= spec.min) or (spec.max is not None and not number <= spec.max):
        _refuse(spec, value)


def _check_scalar(spec: ParamSpec, value: Any) -> Any:
    """Check a kind whose values have one type."""
    kind, checked = KINDS[spec.kind], value
    if type(value) is not kind.type and (kind.is_exact or not isinstance(value, kind.type)):
        if not isinstance(value, kind.takes) or isinstance(value, bool):
            return _wrong(spec, value)
        try:
            checked = kind.read(value)
        except OverflowError:
            _refuse(spec, value, ", which is too large")
        except (ValueError, ArithmeticError):  # msgspec's ValidationError is a ValueError, Decimal's an ArithmeticError
            _refuse(spec, value)
    if kind.bounds:
        _within(spec, len(checked) if kind.unit else checked, value)
    return checked


def _check_choice(spec: ParamSpec, value: Any) -> Any:
    kind = type(value)
    objects = spec.objects or [choice.value for choice in spec.choices]
    for picked in objects:
        # Compare exact types, since True == 1 == 1.0; `is` first, since `==` of arrays and tables is not a bool.
        if picked is value or (type(picked) is kind and _same(picked, value)):
            return picked
    # JSON has labels, and the values of enum members.
    for attribute in ("label", "value") if isinstance(value, str) else ("value",) if kind in (int, float, bool) else ():
        for choice, picked in zip(spec.choices, objects, strict=True):
            found = getattr(choice, attribute)
            if found == value and (kind is type(found) or isinstance(value, str)):
                return picked
    return _wrong(spec, value)


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # user code may raise anything
        return False


def _check_list(spec: ParamSpec, value: Any) -> Any:
    given = value
    if isinstance(value, (set, frozenset, range)):
        value = list(value)
    elif type(value).__module__.partition(".")[0] in ("numpy", "pandas") and getattr(value, "ndim", 0) >= 1:
        value = value.tolist() if hasattr(value, "tolist") else value  # a DataFrame is not a list
    if not isinstance(value, (list, tuple)):
        return _wrong(spec, value)
    _within(spec, len(value), given)
    checked = []
    for n, part in enumerate(value):
        item = spec.parts[n] if n < len(spec.parts) else spec.item
        if item is not None and item.kind != "any":
            try:
                part = check(item, part)
            except InvalidParams:
                check(_item(spec, n), part)  # raises again, with the name of the item
                raise
        checked.append(part)
    if spec.container is None:
        return checked
    try:
        return spec.container(checked)
    except TypeError:  # unhashable items of a set
        _refuse(spec, value)


def _item(spec: ParamSpec, n: int) -> ParamSpec:
    """Return the spec of item `n`, named `sizes[2]`."""
    item = spec.parts[n] if n < len(spec.parts) else spec.item or ParamSpec(name=spec.name, kind="any")
    return _inside(spec, item, f"[{n}]")


def _inside(spec: ParamSpec, part: ParamSpec, step: str) -> ParamSpec:
    """Return the spec of a part of a value, with its path as name: `model.lr`."""
    return replace(part, name=f"{spec.name}{step}", is_secret=part.is_secret or spec.is_secret)


def field_of(spec: ParamSpec, name: object) -> ParamSpec:
    """Return the spec of a field of a structure, named by its path: `model.lr`. Raises InvalidParams if it has none."""
    parts = spec.parts if spec.kind == "struct" else ()
    for part in parts:
        if part.name == name:
            return _inside(spec, part, f".{name}")
    fields = ", ".join(part.name for part in parts) or "none"
    path = f"{spec.name}.{name}" if isinstance(name, str) else spec.name
    raise InvalidParams(f"{spec.name} has no field {short_repr(name, 40)}; its fields are: {fields}", path)


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
        if is_struct(kind) and kind.__name__ == spec.type_name:
            value = values_of(value)
        elif isinstance(value, (list, tuple)) and isinstance(cls, type) and issubclass(cls, tuple):
            _within(replace(spec, max=len(spec.parts)), len(value), value)
            value = dict(zip((part.name for part in spec.parts), value, strict=False))
        else:
            return _wrong(spec, value)
    known = {part.name for part in spec.parts}
    if unknown := [name for name in value if name not in known]:
        field_of(spec, unknown[0])  # raises
    checked = {}
    for part in spec.parts:
        if (name := part.name) in value:
            checked[name] = check(_inside(spec, part, f".{name}"), value[name])
        elif part.required:
            raise InvalidParams(f"{spec.name}.{name} is missing: it must be {describe(part)}", f"{spec.name}.{name}")
    # with results of other jobs, the instance is created later
    if cls is None or is_typeddict(cls) or ids_of(checked):
        return checked
    try:
        return struct_of(cls, checked)
    except Exception as error:  # the constructor is user code
        path, why = why_refused(error)
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
    return found[0] if found else _wrong(spec, value)


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


_CHECKS: Mapping[str, Callable[[ParamSpec, Any], Any]] = {
    "choice": _check_choice,
    "list": _check_list,
    "dict": _check_dict,
    "struct": _check_struct,
    "union": _check_union,
    "table": _check_table,
    "any": lambda spec, value: value,
}


def _describe(spec: ParamSpec, *, many: bool = False) -> str:
    kind = KINDS[spec.kind]
    noun = kind.nouns if many else kind.noun
    match spec.kind:
        case "choice" if spec.choices:
            labels = [choice.label for choice in spec.choices]
            more = f", ... ({len(labels)} in all)" if len(labels) > _MAX_LISTED else ""
            return f"one of {', '.join(labels[:_MAX_LISTED])}{more}"
        case "union":
            return " or ".join(_describe(part, many=many) for part in spec.parts)
        case "struct":
            if many:
                return f"{spec.type_name} objects"
            article = "an" if spec.type_name[:1].upper() in tuple("AEIOU") else "a"
            return f"{article} {spec.type_name} with {', '.join(part.name for part in spec.parts) or 'no fields'}"
        case "list" if spec.parts:
            return f"{noun} of {', '.join(map(_describe, spec.parts))}"
        case "list" | "dict" if spec.item is not None and spec.item.kind != "any":
            noun = f"{noun} of {_describe(spec.item, many=True)}"
    low, high = (bound if bound is None else _shown(bound) for bound in (spec.min, spec.max))
    if not kind.bounds or (low is None and high is None):
        return noun
    if not kind.unit:
        if low is None:
            return f"{noun}, at most {high}"
        return f"{noun}, {low} or more" if high is None else f"{noun} from {low} to {high}"
    if low == high:
        return f"{noun} {'of' if spec.kind == 'str' else 'with'} {low}{kind.unit}"
    if low is None:
        return f"{noun} with at most {high}{kind.unit}"
    return f"{noun} with {low}{kind.unit} or more" if high is None else f"{noun} with {low} to {high}{kind.unit}"


def _shown(number: float) -> str:
    """Return a bound as users write it: 10 instead of 10.0."""
    return str(int(number)) if isinstance(number, float) and number.is_integer() and abs(number) < 1e15 else str(number)


def read_table(spec: ParamSpec, name: str, source: Path | IO[str]) -> Any:
    """Return the DataFrame in a file; the suffix of `name` says its format.

    Raises:
        InvalidParams: another format, or it cannot be read.
    """
    import pandas as pd

    readers: dict[str, Callable[[Any], Any]] = {
        ".csv": pd.read_csv,
        ".tsv": lambda file: pd.read_csv(file, sep="\t"),
        ".parquet": pd.read_parquet,
        ".json": pd.read_json,
    }
    reader = readers.get(PurePath(name).suffix.lower())
    if reader is None:
        raise InvalidParams(f"{spec.name} must be the path of a table ({', '.join(readers)}), not {name!r}", spec.name)
    try:
        return reader(source)
    except (OSError, ValueError, ImportError) as error:  # pandas's ParserError is a ValueError
        raise InvalidParams(f"{spec.name}: {name} could not be read as a table: {error}", spec.name) from None
