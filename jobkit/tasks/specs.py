"""`ParamSpec`: the description of one parameter of a task, as data; `KINDS`: the kinds of them; `Range`: bounds.

A spec is sent as JSON: dashboard, command line and HTTP build forms and check arguments without importing the task's
code. Python objects that JSON cannot represent (objects of choices, container types) exist in this process only.
`spec_of` makes a spec of a type hint; unknown hints become "any", which accepts everything. `params` checks values.
"""

from __future__ import annotations

import inspect
import math
import os
import types
import typing
from collections import abc
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import zip_longest
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

import msgspec
from msgspec import UNSET
from msgspec.structs import force_setattr, replace

from jobkit.model import InvalidParams
from jobkit.model.format import seconds_in
from jobkit.tasks.masking import is_secret
from jobkit.tasks.values import MISSING, fields_of, is_struct, plain, short_repr


class Kind(msgspec.Struct, frozen=True):
    """One kind of parameter. Those without a `type` have separate functions below and in `params`.

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


class Range(msgspec.Struct, frozen=True):
    """Smallest and largest allowed value, both inclusive: `n: Annotated[int, jobkit.Range(1, 100)] = 10`.

    Args:
        min: smallest number, or None for no limit. For text and lists, the minimum length.
        max: largest number, or None for no limit.

    Raises:
        InvalidParams: a bound is not a number, or `min` is above `max`.

    Numbers are bounded by value, text by number of characters, lists and tuples by number of items.

    Example:
        >>> @jobkit.task
        ... def roll(sides: Annotated[int, jobkit.Range(2, 20)] = 6) -> int:
        ...     return random.randint(1, sides)
        >>> roll.submit(sides=1)
        Traceback (most recent call last):
        jobkit.model.errors.InvalidParams: sides must be ...
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
                force_setattr(self, name, None)
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
        if self.kind not in KINDS:  # of a damaged definition
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


# -- from type hints ---------------------------------------------------------------------------------------------------

_KIND_OF = {kind.type: name for name, kind in KINDS.items() if kind.type is not None} | {PurePath: "path"}

#: Maximum depth of described structures; deeper ones are a plain "dict".
_MAX_DEPTH = 6

_LISTS = (list, tuple, set, frozenset, abc.Sequence, abc.Iterable, abc.Collection, abc.MutableSequence)
_DICTS = (dict, abc.Mapping, abc.MutableMapping)


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the type hints of a function with their `Annotated` extras.

    A hint that cannot be evaluated (a name under TYPE_CHECKING, a class of another module) stays a string and does not
    affect the others.
    """
    with suppress(Exception):  # evaluating hints runs user code, which may raise anything
        return typing.get_type_hints(function, include_extras=True)
    raw = getattr(function, "__annotations__", None)
    if not isinstance(raw, dict):
        return {}
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    hints = {}
    for name, hint in raw.items():
        if isinstance(hint, str):
            with suppress(Exception):  # evaluates user code, too
                hint = eval(hint, scope)  # like get_type_hints, one by one
        hints[name] = hint
    return hints


def spec_of(name: str, hint: Any) -> ParamSpec:
    """Return the spec of a parameter with this hint, without default and label.

    Raises:
        InvalidParams: a `Range` on a type that it cannot bound.
    """
    spec = replace(_spec(name, hint, ()), name=name)
    return replace(spec, is_secret=True) if is_secret_kind(name, spec.kind) else spec


def is_secret_kind(name: str, kind: str) -> bool:
    """Return True if values of a parameter are never shown."""
    return is_secret(name, 0 if kind in ("int", "float", "bool") else "")


def with_default(spec: ParamSpec, default: Any) -> ParamSpec:
    """Return `spec` with a default, which makes it optional (and nullable if the default is None)."""
    is_shown = default is None or not spec.is_secret
    value, text = _default_json(spec, default) if is_shown else (None, "***")
    nullable = spec.nullable or default is None
    return replace(spec, required=False, default=value, default_text=text, nullable=nullable)


def choice_of(name: str, values: Collection[Any], labels: Iterable[str] = ()) -> ParamSpec:
    """Return a "choice" of these values; None makes it nullable.

    A value that JSON cannot represent is identified by its label.
    """
    choices, objects = [], []
    for value, given in zip_longest(values, labels):
        if value is None:
            continue
        label = given if given is not None else value.name if isinstance(value, Enum) else str(value)
        try:
            choices.append(Choice(label, plain(value.value if isinstance(value, Enum) else value)))
        except ValueError:
            choices.append(Choice(label, label))
        objects.append(value)
    nullable = len(objects) < len(values)
    return ParamSpec(name=name, kind="choice", nullable=nullable, choices=tuple(choices), objects=tuple(objects))


def _default_json(spec: ParamSpec, default: Any) -> tuple[Any, str]:
    """Return a default as JSON, or None and a short text."""
    for choice, value in zip(spec.choices, spec.objects, strict=False):
        if value is default:
            return choice.label if isinstance(default, Enum) or choice.value != default else choice.value, ""
    try:
        return _without_secrets(plain(default)), ""
    except (ValueError, TypeError, RecursionError):
        return None, short_repr(default)


def _without_secrets(value: Any) -> Any:
    """Remove secrets from a default in JSON, because task definitions are public."""
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {k: _without_secrets(v) for k, v in value.items() if v is None or not is_secret(k, v)}


def _spec(name: str, hint: Any, inside: tuple[type, ...]) -> ParamSpec:
    """Return the spec of a hint. `inside`: the enclosing structures, outermost first."""
    if isinstance(hint, str):  # could not be evaluated: use the last name only
        is_table = hint.replace('"', "").rpartition(".")[2].strip() == "DataFrame"
        return ParamSpec(name=name, kind="table" if is_table else "any")
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *extras = get_args(hint)
        return _annotated(_spec(name, inner, inside), extras)
    if origin in (Union, types.UnionType):
        return _union(name, get_args(hint), inside)
    if origin is Literal:
        return choice_of(name, get_args(hint))
    if origin in (typing.Required, typing.NotRequired, typing.Final):
        return _spec(name, get_args(hint)[0], inside)
    base = origin or hint
    if isinstance(base, typing.NewType):
        return _spec(name, base.__supertype__, inside)
    if isinstance(base, typing.TypeAliasType) if hasattr(typing, "TypeAliasType") else False:
        return _spec(name, base.__value__, inside)
    if base in _LISTS:
        return _list(name, base, get_args(hint), inside)
    if base in _DICTS:
        return _dict(name, hint, get_args(hint), inside)
    if isinstance(base, type) and issubclass(base, Enum):
        return choice_of(name, list(base))
    if is_struct(base):
        return _struct(name, base, inside)
    if not isinstance(base, type):
        return ParamSpec(name=name, kind="any")
    return ParamSpec(name=name, kind="table" if base.__name__ == "DataFrame" else _KIND_OF.get(base, "any"))


def _struct(name: str, cls: Any, inside: tuple[type, ...]) -> ParamSpec:
    spec = ParamSpec(name=name, kind="struct", type_name=cls.__name__, container=cls)
    # recursive, such as a tree: inner nodes are checked when they are created
    if cls in inside or len(inside) >= _MAX_DEPTH:
        return replace(spec, kind="dict")
    parts = []
    for field in fields_of(cls):
        part = replace(_spec(field.name, field.hint, (*inside, cls)), name=field.name)
        part = _annotated(replace(part, help=field.help or part.help), field.extras)
        part = replace(part, is_secret=is_secret_kind(field.name, part.kind), required=field.is_required)
        parts.append(part if field.default is MISSING else with_default(part, field.default))
    return replace(spec, parts=documented(parts, inspect.cleandoc(cls.__doc__ or "")))


def _annotated(spec: ParamSpec, extras: Iterable[Any]) -> ParamSpec:
    """Return `spec` with the help and bounds of `Annotated` extras.

    Bounds are a `Range`, or by attribute names those of `msgspec.Meta`, pydantic's `Field` and `annotated_types`.
    """
    kind = KINDS[spec.kind]
    for extra in extras:
        if isinstance(extra, Range) and not kind.bounds:
            raise InvalidParams(
                f"{spec.name}: a Range bounds numbers, texts and lists, not a parameter of kind {spec.kind!r}",
                spec.name,
            )
        names = ("min_length", "max_length") if kind.unit else ("ge", "le")
        for ours, theirs in zip(("min", "max"), ("min", "max") if isinstance(extra, Range) else names, strict=True):
            bound = getattr(extra, theirs, None)
            if kind.bounds and isinstance(bound, (int, float)):
                spec = replace(spec, **{ours: bound})
        text = extra if isinstance(extra, str) else getattr(extra, "description", None)
        if isinstance(text, str) and text and not spec.help:
            spec = replace(spec, help=text)
    return spec


def _union(name: str, members: tuple[Any, ...], inside: tuple[type, ...]) -> ParamSpec:
    """Return a spec for a union: `X | None` is X, nullable; else a kind that includes all members, or a "union"."""
    specs = [_spec(name, member, inside) for member in members if member is not type(None)]
    nullable = len(specs) < len(members)
    kinds = {spec.kind for spec in specs}
    if len(specs) == 1:
        spec = specs[0]
    elif kinds == {"choice"}:
        spec = choice_of(name, [value for each in specs for value in each.objects])
    elif kinds == {"int", "float"} or kinds == {"path", "str"}:
        spec = ParamSpec(name=name, kind="float" if "float" in kinds else "path")
    elif len(kinds) == 1 and kinds <= {"int", "float", "str", "bool", "table", "date", "datetime"}:
        spec = ParamSpec(name=name, kind=kinds.pop())
    else:
        is_any = "any" in kinds
        spec = ParamSpec(name=name, kind="any" if is_any else "union", parts=() if is_any else tuple(specs))
    return replace(spec, nullable=nullable or spec.nullable)


def _list(name: str, base: Any, arguments: tuple[Any, ...], inside: tuple[type, ...]) -> ParamSpec:
    spec = ParamSpec(name=name, kind="list", container=base if base in (tuple, set, frozenset) else None)
    if base is tuple and arguments and arguments[-1] is not Ellipsis:
        spec = replace(spec, min=len(arguments), max=len(arguments))
        if any(argument != arguments[0] for argument in arguments):
            items = enumerate(arguments, 1)
            return replace(spec, parts=tuple(_spec(f"item {n}", argument, inside) for n, argument in items))
    item = _spec("item", arguments[0] if arguments else Any, inside)
    return spec if item.kind == "any" else replace(spec, item=item)


def _dict(name: str, hint: Any, arguments: tuple[Any, ...], inside: tuple[type, ...]) -> ParamSpec:
    spec = ParamSpec(name=name, kind="dict")
    if len(arguments) != 2:
        return spec
    key, value = (_spec("item", argument, inside) for argument in arguments)
    if key.kind not in ("str", "any"):  # JSON keys are text: the whole dict is converted by its hint
        return replace(spec, container=hint)
    return spec if value.kind == "any" else replace(spec, item=value)
