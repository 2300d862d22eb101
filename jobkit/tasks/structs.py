"""Structured types: their fields, instances from values by name, and values by name.

Supported: dataclasses, `msgspec.Struct`, attrs classes, pydantic models, `NamedTuple` and `TypedDict`. This module
imports none of these libraries: if a type exists, its library is loaded.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

#: Marks "no default", since None is a valid default.
MISSING: Any = object()


class _MadeAtUse:
    def __repr__(self) -> str:
        return "made at each use"


#: Marks a default that differs at each use (`uuid4`, `datetime.now`) or depends on the instance.
MADE_AT_USE: Any = _MadeAtUse()


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field of a structured type.

    Attributes:
        name: the public name; `init` is the constructor's name for it (pydantic aliases, attrs' `_x`).
        hint: its type hint with `Annotated` extras.
        default: `MISSING` if it is required.
        help: the library's own description, or "".
        extras: further constraints that are not part of the hint (pydantic).
        is_required: False for an optional key of a `TypedDict` without a default.
    """

    name: str
    hint: Any
    default: Any = MISSING
    init: str = ""
    help: str = ""
    extras: tuple[Any, ...] = ()
    is_required: bool = True


def is_struct(cls: Any) -> bool:
    """Return True if `cls` is a structured type."""
    return _reader(cls) is not None


def fields_of(cls: type) -> list[Field]:
    """Return the fields that the constructor of a structured type takes, in order."""
    reader = _reader(cls)
    assert reader is not None  # see `is_struct`
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except Exception:  # evaluating hints runs user code; unevaluated ones accept any value
        hints = dict(getattr(cls, "__annotations__", {}))
    return reader(cls, hints)


def make(cls: type, values: Mapping[str, Any]) -> Any:
    """Return an instance from checked values by field name. Exceptions of the constructor pass through."""
    names = {field.name: field.init or field.name for field in fields_of(cls)}
    return cls(**{names[name]: value for name, value in values.items()})


def values_of(value: Any) -> dict[str, Any]:
    """Return the values of an instance by field name; nested instances are not converted."""
    if isinstance(value, dict):
        return value
    return {field.name: getattr(value, field.name) for field in fields_of(type(value))}


def why_refused(error: Exception) -> tuple[str, str]:
    """Return `(path, sentence)` of a constructor's exception: "" or "lr", and the error on one line."""
    details = getattr(error, "errors", None)  # pydantic's ValidationError
    if callable(details):
        with suppress(Exception):
            first = details()[0]
            return ".".join(map(str, first["loc"])), str(first["msg"])
    return "", " ".join(str(error).split()) or type(error).__name__


def _reader(cls: Any) -> Callable[[Any, Mapping[str, Any]], list[Field]] | None:
    if not isinstance(cls, type):
        return None
    if typing.is_typeddict(cls):
        return _typed_dict
    if issubclass(cls, msgspec.Struct):
        return _msgspec
    if isinstance(getattr(cls, "__pydantic_fields__", None), dict) and hasattr(cls, "model_validate"):
        return _pydantic
    if dataclasses.is_dataclass(cls):
        return _dataclass
    if hasattr(cls, "__attrs_attrs__"):
        return _attrs
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return _named_tuple
    return None


def _made(factory: Any) -> Any:
    """Return the value of a default factory; `MADE_AT_USE` if it raises or its values differ."""
    try:
        first = factory()
        return first if first == factory() else MADE_AT_USE
    except Exception:  # user code
        return MADE_AT_USE


def _dataclass(cls: Any, hints: Mapping[str, Any]) -> list[Field]:
    return [
        Field(
            each.name,
            hints.get(each.name, Any),
            _default(each, dataclasses.MISSING),
            help=str(each.metadata.get("help") or each.metadata.get("description") or ""),
        )
        for each in dataclasses.fields(cls)
        if each.init
    ]


def _msgspec(cls: Any, hints: Mapping[str, Any]) -> list[Field]:
    return [
        Field(each.name, hints.get(each.name, Any), _default(each, msgspec.NODEFAULT))
        for each in msgspec.structs.fields(cls)
    ]


def _default(field: Any, none: object) -> Any:
    """Return the default of a field that has `default` and `default_factory`, each `none` if there is none."""
    if field.default is not none:
        return field.default
    return MISSING if field.default_factory is none else _made(field.default_factory)


def _attrs(cls: Any, hints: Mapping[str, Any]) -> list[Field]:
    import attr  # loaded, because the class was made with it

    fields = []
    for each in cls.__attrs_attrs__:
        if not each.init:
            continue
        default = each.default
        if default is attr.NOTHING:
            default = MISSING
        elif isinstance(default, attr.Factory):  # type: ignore[arg-type]  # attrs types it as a function
            default = MADE_AT_USE if default.takes_self else _made(default.factory)
        init = each.alias or each.name
        fields.append(Field(each.name, hints.get(each.name, each.type or Any), default, init))
    return fields


def _pydantic(cls: Any, hints: Mapping[str, Any]) -> list[Field]:
    fields = []
    for name, info in cls.__pydantic_fields__.items():
        default = (
            MISSING if info.is_required() else _made(lambda info=info: info.get_default(call_default_factory=True))
        )
        by_name = cls.model_config.get("populate_by_name") or cls.model_config.get("validate_by_name")
        alias = info.validation_alias if isinstance(info.validation_alias, str) else info.alias
        hint = hints.get(name, Any)
        init = name if by_name or not alias else alias
        fields.append(Field(name, hint, default, init, info.description or "", tuple(info.metadata)))
    return fields


def _named_tuple(cls: Any, hints: Mapping[str, Any]) -> list[Field]:
    return [Field(name, hints.get(name, Any), cls._field_defaults.get(name, MISSING)) for name in cls._fields]


def _typed_dict(cls: Any, hints: Mapping[str, Any]) -> list[Field]:
    # `__required_keys__` is wrong if the module postpones the evaluation of hints.
    marked = {typing.Required: True, typing.NotRequired: False}
    return [
        Field(name, hint, is_required=marked.get(typing.get_origin(hint), name in cls.__required_keys__))
        for name, hint in hints.items()
    ]
