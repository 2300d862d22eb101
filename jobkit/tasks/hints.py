"""Converts a type hint to a `ParamSpec`. Unknown hints become "any", which accepts everything."""

from __future__ import annotations

import inspect
import types
import typing
from collections import abc
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from enum import Enum
from itertools import zip_longest
from pathlib import PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from msgspec.structs import replace

from jobkit.model import InvalidParams
from jobkit.tasks.specs import KINDS, Choice, ParamSpec, Range, documented
from jobkit.tasks.values import MISSING, fields_of, is_secret_name, is_struct, plain, short_repr

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
    return replace(spec, is_secret=True) if is_secret_name(name) else spec


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
    return {k: _without_secrets(v) for k, v in value.items() if v is None or not is_secret_name(k)}


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
        part = replace(part, is_secret=is_secret_name(field.name), required=field.is_required)
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
