"""Values of arguments: structured ones by field, all as JSON that `params.check` restores, and as JSON for display.

Structured types are dataclasses, `msgspec.Struct`, attrs classes, pydantic models, `NamedTuple` and `TypedDict`. Their
libraries are not imported: if a type exists, its library is loaded. The display form is short, has secrets masked, and
is never used to run a job.
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import FunctionType, ModuleType
from typing import Any
from uuid import UUID

import msgspec

from jobkit.model.format import shortened
from jobkit.tasks.masking import MASK, is_secret, masked
from jobkit.tasks.references import Reference

#: Maximum size of the JSON that `shown_and_abridged` returns, in bytes without spaces.
MAX_BYTES = 2048

#: Characters of a text that is shown, and those that are looked at for secrets.
_MAX_TEXT, _READ_TEXT = 100, 400
_MAX_ITEMS = 12
_MAX_KEYS = 60
_MAX_DEPTH = 4
#: Larger integers lose precision in JSON readers that only know doubles (Lua, JavaScript).
_MAX_EXACT = 2**53

#: Marks "no default", since None is a valid default.
MISSING: Any = object()


class _MadeAtUse:
    def __repr__(self) -> str:
        return "made at each use"


#: Marks a default that differs at each use (`uuid4`, `datetime.now`) or depends on the instance.
MADE_AT_USE: Any = _MadeAtUse()


class Field(msgspec.Struct, frozen=True):
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


def struct_of(cls: type, values: Mapping[str, Any]) -> Any:
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
    if isinstance(getattr(cls, "model_fields", None), dict) and hasattr(cls, "model_validate"):
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
    kind = type(none)  # a class that came by cloudpickle has a copy of `dataclasses.MISSING`
    if not isinstance(field.default, kind):
        return field.default
    return MISSING if isinstance(field.default_factory, kind) else _made(field.default_factory)


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
    for name, info in cls.model_fields.items():
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


# -- as JSON -----------------------------------------------------------------------------------------------------------


def plain(value: Any, *, typed: bool = True) -> Any:
    """Return `value` as equivalent JSON: dates as ISO text, paths as text, enum members by name.

    `params.check` restores the value with the spec of its parameter.

    Args:
        typed: also convert values that need the parameter's type to be restored: structures and named tuples (by
            field), sets (as sorted lists), times, durations, UUIDs, decimals, bytes (base64) and keys that are not
            text.

    Raises:
        ValueError: JSON cannot represent it.
    """
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("JSON has no infinite numbers")
    if isinstance(value, (int, float)):  # not one of a subclass
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, PurePath):
        return str(value)
    if typed and is_struct(type(value)):
        value = values_of(value)
    if isinstance(value, (list, tuple)):
        return [plain(item, typed=typed) for item in value]
    if isinstance(value, Mapping) and (typed or all(isinstance(key, str) for key in value)):
        items = value.items()
        return {key if isinstance(key, str) else str(plain(key)): plain(item, typed=typed) for key, item in items}
    if typed and isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=repr)
    if typed and isinstance(value, (time, timedelta, UUID, Decimal, bytes)):
        return msgspec.to_builtins(value)
    raise ValueError(f"JSON has no form for a value of type {type(value).__name__}")


def with_part(value: Any, path: str, part: Any) -> Any:
    """Return a copy of a structure in JSON with one field replaced: `with_part(value, "optimizer.lr", 0.1)`."""
    name, _, rest = path.partition(".")
    whole = dict(value) if isinstance(value, Mapping) else {}
    whole[name] = with_part(whole.get(name), rest, part) if rest else part
    return whole


def short_repr(value: object, limit: int = 80) -> str:
    """Return `repr(value)` on one line of at most `limit` characters, even if `__repr__` raises.

    Long text and large containers are cut before formatting, so huge arguments are cheap.
    """
    try:
        if isinstance(value, str):
            text = json.dumps(value, ensure_ascii=False) if not value.isprintable() else repr(value[: limit + 1])
        elif isinstance(value, (list, tuple, set, frozenset, dict)) and len(value) > limit:
            text = f"{type(value).__name__} of {len(value)} items"
        elif type(value).__module__.partition(".")[0] in ("pandas", "polars", "numpy") and hasattr(value, "shape"):
            text = f"{type(value).__name__} {' × '.join(map(str, value.shape)) or repr(value)}"
        else:
            text = repr(value)
    except Exception:  # user code may raise anything
        text = f"a {type(value).__name__}"
    text = "".join(c if c.isprintable() else " " for c in text[: limit * 2])
    return shortened(text, limit)


# -- for display -------------------------------------------------------------------------------------------------------


def shown_and_abridged(bound: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return arguments by name as JSON of at most 2 kB, and the names of those that are cut, masked or only described.

    Plain scalars, short plain lists and structures (by field) are kept; everything else is text of at most 100
    characters ("DataFrame 120 by 4"). Secrets become "***": values of secret names, and what looks like one in texts.
    `params.check` restores those that are not abridged, if the parameter has a type hint.
    """
    out: dict[str, Any] = {}
    abridged: list[str] = []
    for name, value in bound.items():
        if len(out) >= _MAX_KEYS:
            out["…"] = f"{len(bound) - len(out)} more"
            abridged += [each for each in bound if each not in out]
            break
        short = short_name(name)
        if is_secret(name, value):
            out[short] = MASK
            abridged += [] if value is None else [short]
            continue
        cut: list[str] = []
        out[short] = _value(value, 0, cut)
        abridged += [short] if cut else []
    if _size(out) > MAX_BYTES:
        whole = dict(out)
        _shorten(out)
        abridged += [name for name in whole if out.get(name) != whole[name]]
    return out, tuple(dict.fromkeys(abridged))


def short_name(name: object) -> str:
    """Return an argument's name, cut if a caller's `**kwargs` has a very long one."""
    return shortened(name if isinstance(name, str) else short_repr(name, 40), 60)


def _value(value: Any, depth: int, cut: list[str]) -> Any:
    """Return `value` for display; append to `cut` if it is incomplete."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is int and -_MAX_EXACT <= value <= _MAX_EXACT:
        return value
    if kind is float and math.isfinite(value):
        return value
    if kind is str:
        return _text(value, cut)
    if isinstance(value, (Enum, date, time, timedelta, Decimal, UUID, PurePath)):
        return _text(plain(value), cut)
    if is_structured := is_struct(kind):
        value, kind = values_of(value), dict
    if kind in (set, frozenset) and len(value) <= _MAX_ITEMS:
        value, kind = sorted(value, key=repr), list
    if kind in (list, tuple) and depth < _MAX_DEPTH and len(value) <= _MAX_ITEMS:
        return [_value(item, depth + 1, cut) for item in value]
    if kind is dict and depth < _MAX_DEPTH and (is_structured or len(value) <= _MAX_ITEMS):
        return {short_name(key): _member(key, item, depth + 1, cut) for key, item in value.items()}
    cut.append("")
    if kind is int:  # Python refuses to print very long ones
        bits = value.bit_length()
        return str(value) if bits <= 256 else f"a whole number of {bits} bits"
    if kind is float:
        return str(value)
    return f"{len(value)} bytes" if kind is bytes else _opaque(value)


def _member(key: Any, value: Any, depth: int, cut: list[str]) -> Any:
    if isinstance(key, str) and is_secret(key, value) and value is not None:
        cut.append(key)
        return MASK
    return _value(value, depth, cut)


def _opaque(value: Any) -> str:
    """Return a short text for any value. For a container, its size: its `repr` may be huge or contain secrets."""
    try:
        if isinstance(value, (Mapping, list, tuple, set, frozenset)):
            return f"{type(value).__name__} of {len(value)}"
        if isinstance(value, ModuleType):
            return f"module {value.__name__}"
        if isinstance(value, FunctionType):
            return f"function {value.__qualname__}"
    except Exception:  # user code: a length may raise anything
        return f"a {type(value).__name__}"
    return str(value) if isinstance(value, Reference) else _brief(short_repr(value, _READ_TEXT))


def _text(text: str, cut: list[str]) -> str:
    brief = _brief(text)
    if brief != text:
        cut.append("")
    return brief if brief.isascii() else brief.encode("utf-8", "replace").decode()


def _brief(text: str) -> str:
    """Return at most `_MAX_TEXT` characters of a text. It is masked first: half a secret would not look like one."""
    brief = masked(text[:_READ_TEXT])
    is_whole = len(brief) <= _MAX_TEXT and len(text) <= _READ_TEXT
    return brief if is_whole else brief[: _MAX_TEXT - 1] + "…"


def _size(value: Any) -> int:
    return len(msgspec.json.encode(value))


def _shorten(out: dict[str, Any]) -> None:
    """Shorten the largest values first, then drop the last names, until the preview is within the limit."""
    for name in sorted(out, key=lambda name: -_size(out[name])):
        if _size(out) <= MAX_BYTES:
            break
        text = json.dumps(out[name], ensure_ascii=False)
        out[name] = text[:24] + "…" if len(text) > 25 else out[name]
    names = list(out)
    while names and _size(out) > MAX_BYTES - 20:
        del out[names.pop()]
        out["…"] = "more"
