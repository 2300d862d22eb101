"""Converts a type hint to a `ParamSpec`. Unknown hints become "any", which accepts everything."""

from __future__ import annotations

import collections.abc
import inspect
import re
import types
import typing
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from jobkit.model import InvalidParams
from jobkit.tasks import structs
from jobkit.tasks.specs import Choice, ParamSpec, Range, documented, plain, short_repr

_SECRET = re.compile(r"(^|_)(secret|token|password|passwd|passphrase|api_?key|private_key|credentials?)s?($|_)", re.I)

#: Scalars. Order matters: a bool is an int, and a datetime is a date.
_SCALARS: tuple[tuple[type, str], ...] = (
    (bool, "bool"),
    (int, "int"),
    (float, "float"),
    (str, "str"),
    (datetime, "datetime"),
    (date, "date"),
    (time, "time"),
    (timedelta, "duration"),
    (UUID, "uuid"),
    (Decimal, "decimal"),
    (bytes, "bytes"),
)

#: Maximum depth of described structures; deeper ones are a plain "dict".
_MAX_DEPTH = 6

_LISTS: tuple[Any, ...] = (
    list,
    tuple,
    set,
    frozenset,
    collections.abc.Sequence,
    collections.abc.Iterable,
    collections.abc.Collection,
    collections.abc.MutableSequence,
)
_DICTS: tuple[Any, ...] = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """True for names whose values are never shown: token, password, api_key, ..."""
    return _SECRET.search(name) is not None


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the type hints of a function with their `Annotated` extras.

    A hint that cannot be evaluated (a name under TYPE_CHECKING, a class of another module) stays a string and does not
    affect the others.
    """
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # evaluating hints runs user code, which may raise anything
        pass
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
    return replace(spec, is_secret=True) if is_secret_name(name) else spec


def with_default(spec: ParamSpec, default: Any) -> ParamSpec:
    """Return `spec` with a default, which makes it optional (and nullable if the default is None)."""
    nullable = spec.nullable or default is None
    if spec.is_secret and default is not None:
        return replace(spec, required=False, has_default=True, default=None, default_text="***", nullable=nullable)
    value, text = _default_json(spec, default)
    return replace(spec, required=False, has_default=True, default=value, default_text=text, nullable=nullable)


def choices_of(values: list[Any], labels: list[str] | None = None) -> tuple[Choice, ...]:
    """Return choices for these values; a value that JSON cannot represent is identified by its label."""
    labels = labels or [value.name if isinstance(value, Enum) else str(value) for value in values]
    choices = []
    for label, value in zip(labels, values, strict=True):
        try:
            choices.append(Choice(label, plain(value.value if isinstance(value, Enum) else value)))
        except ValueError:
            choices.append(Choice(label, label))
    return tuple(choices)


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
    return {k: _without_secrets(v) for k, v in value.items() if v is None or not is_secret_name(k)}


def _spec(name: str, hint: Any, inside: tuple[type, ...]) -> ParamSpec:
    """Return the spec of a hint. `inside`: the enclosing structures, outermost first."""
    any_value = ParamSpec(name=name)
    if isinstance(hint, str):  # could not be evaluated: use the last name only
        is_table = hint.replace('"', "").rpartition(".")[2].strip() == "DataFrame"
        return replace(any_value, kind="table") if is_table else any_value
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *extras = get_args(hint)
        return _annotated(_spec(name, inner, inside), extras)
    if origin in (Union, types.UnionType):
        return _union(name, get_args(hint), inside)
    if origin is Literal:
        return _literal(name, get_args(hint))
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
    if not isinstance(base, type):
        return any_value
    if issubclass(base, Enum):
        members = list(base)
        return replace(any_value, kind="choice", choices=choices_of(members), objects=tuple(members))
    if base in (Path, PurePath):
        return replace(any_value, kind="path")
    for scalar, kind in _SCALARS:
        if base is scalar:
            return replace(any_value, kind=kind)
    if structs.is_struct(base):
        return _struct(name, base, inside)
    if base.__name__ == "DataFrame":
        return replace(any_value, kind="table")
    return any_value


def _struct(name: str, cls: Any, inside: tuple[type, ...]) -> ParamSpec:
    spec = ParamSpec(name=name, kind="struct", type_name=cls.__name__, container=cls)
    # recursive, such as a tree: inner nodes are checked when they are created
    if cls in inside or len(inside) >= _MAX_DEPTH:
        return replace(spec, kind="dict")
    parts = []
    for field in structs.fields_of(cls):
        part = replace(_spec(field.name, field.hint, (*inside, cls)), name=field.name)
        part = _annotated(replace(part, help=field.help or part.help), list(field.extras))
        part = replace(part, is_secret=is_secret_name(field.name), required=field.is_required)
        parts.append(part if field.default is structs.MISSING else with_default(part, field.default))
    return replace(spec, parts=documented(parts, inspect.cleandoc(cls.__doc__ or "")))


def _annotated(spec: ParamSpec, extras: list[Any]) -> ParamSpec:
    for extra in extras:
        if isinstance(extra, Range):
            if spec.kind not in ("int", "float", "str", "list"):
                raise InvalidParams(
                    f"{spec.name}: a Range bounds numbers, texts and lists, not a parameter of kind {spec.kind!r}",
                    spec.name,
                )
            spec = replace(spec, min=extra.min, max=extra.max)
        elif isinstance(extra, str) and not spec.help:
            spec = replace(spec, help=extra)
        else:
            spec = _constrained(spec, extra)
    return spec


def _constrained(spec: ParamSpec, extra: Any) -> ParamSpec:
    """Return `spec` with the bounds of `msgspec.Meta`, pydantic's `Field` or `annotated_types`, by attribute names."""
    low, high = ("min_length", "max_length") if spec.kind in ("str", "list") else ("ge", "le")
    if spec.kind in ("int", "float", "str", "list"):
        least, most = getattr(extra, low, None), getattr(extra, high, None)
        if isinstance(least, (int, float)):
            spec = replace(spec, min=least)
        if isinstance(most, (int, float)):
            spec = replace(spec, max=most)
    text = getattr(extra, "description", None)
    return replace(spec, help=text) if isinstance(text, str) and text and not spec.help else spec


def _union(name: str, members: tuple[Any, ...], inside: tuple[type, ...]) -> ParamSpec:
    """Return a spec for a union: `X | None` is X, nullable; else a kind that includes all members, or a "union"."""
    specs = [_spec(name, member, inside) for member in members if member is not type(None)]
    nullable = len(specs) < len(members)
    kinds = {spec.kind for spec in specs}
    if len(specs) == 1:
        spec = specs[0]
    elif kinds == {"int", "float"}:
        spec = ParamSpec(name=name, kind="float")
    elif kinds == {"path", "str"}:
        spec = ParamSpec(name=name, kind="path")
    elif kinds == {"choice"}:
        choices = tuple(choice for spec in specs for choice in spec.choices)
        spec = ParamSpec(name=name, kind="choice", choices=choices, objects=tuple(o for s in specs for o in s.objects))
    elif len(kinds) == 1 and kinds <= {"int", "float", "str", "bool", "table", "date", "datetime"}:
        spec = ParamSpec(name=name, kind=kinds.pop())
    elif "any" in kinds:
        spec = ParamSpec(name=name)
    else:
        spec = ParamSpec(name=name, kind="union", parts=tuple(specs))
    return replace(spec, nullable=nullable or spec.nullable)


def _literal(name: str, values: tuple[Any, ...]) -> ParamSpec:
    picked = [value for value in values if value is not None]
    return ParamSpec(
        name=name,
        kind="choice",
        nullable=len(picked) < len(values),
        choices=choices_of(picked),
        objects=tuple(picked),
    )


def _list(name: str, base: Any, arguments: tuple[Any, ...], inside: tuple[type, ...]) -> ParamSpec:
    container = base if base in (tuple, set, frozenset) else None
    spec = ParamSpec(name=name, kind="list", container=container)
    if base is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            arguments = arguments[:1]
        elif arguments:
            fixed = len(arguments)
            items = tuple(_spec(f"item {n}", argument, inside) for n, argument in enumerate(arguments, 1))
            if all(argument == arguments[0] for argument in arguments):
                item = None if items[0].kind == "any" else replace(items[0], name="item")
                return replace(spec, min=fixed, max=fixed, item=item)
            return replace(spec, min=fixed, max=fixed, parts=items)
    if arguments and not isinstance(arguments[0], typing.TypeVar):
        item = _spec("item", arguments[0], inside)
        return spec if item.kind == "any" else replace(spec, item=item)
    return spec


def _dict(name: str, hint: Any, arguments: tuple[Any, ...], inside: tuple[type, ...]) -> ParamSpec:
    spec = ParamSpec(name=name, kind="dict")
    if len(arguments) != 2:
        return spec
    key, value = (_spec("item", argument, inside) for argument in arguments)
    if key.kind not in ("str", "any"):  # JSON keys are text: the whole dict is converted by its hint
        return replace(spec, container=hint)
    return spec if value.kind == "any" else replace(spec, item=value)
