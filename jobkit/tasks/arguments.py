"""Display form of a job's arguments: short JSON with secrets masked. Never used to run the job."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import FunctionType, ModuleType
from typing import Any
from uuid import UUID

import msgspec

from jobkit.tasks import structs
from jobkit.tasks.hints import is_secret_name
from jobkit.tasks.specs import plain, short_repr

#: Maximum size of the JSON that `shown` returns, in bytes without spaces.
MAX_BYTES = 2048
MASK = "***"

_MAX_TEXT = 100
_MAX_ITEMS = 12
_MAX_KEYS = 60
_MAX_DEPTH = 4
#: Larger integers lose precision in JSON readers that only know doubles (Lua, JavaScript).
_MAX_EXACT = 2**53


def shown(bound: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments by name as JSON of at most 2 kB; see `shown_and_abridged`."""
    return shown_and_abridged(bound)[0]


def shown_and_abridged(bound: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return arguments by name as JSON of at most 2 kB, and the names of those that are cut, masked or only described.

    Plain scalars, short plain lists and structures (by field) are kept; everything else is text of at most 100
    characters ("DataFrame 120 by 4"). Values whose name contains secret, token, password or key become "***".
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
        if is_secret_name(name):
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
    text = name if isinstance(name, str) else short_repr(name, 40)
    return text if len(text) <= 60 else text[:59] + "…"


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
    is_struct = structs.is_struct(kind)
    if is_struct:
        value, kind = structs.values_of(value), dict
    if kind in (set, frozenset) and len(value) <= _MAX_ITEMS:
        value, kind = sorted(value, key=repr), list
    if kind in (list, tuple) and depth < _MAX_DEPTH and len(value) <= _MAX_ITEMS:
        return [_value(item, depth + 1, cut) for item in value]
    if kind is dict and depth < _MAX_DEPTH and (is_struct or len(value) <= _MAX_ITEMS):
        return {short_name(key): _member(key, item, depth + 1, cut) for key, item in value.items()}
    cut.append("")
    if kind is int:  # Python refuses to print very long ones
        bits = value.bit_length()
        return str(value) if bits <= 256 else f"a whole number of {bits} bits"
    if kind is float:
        return str(value)
    return f"{len(value)} bytes" if kind is bytes else _opaque(value)


def _member(key: Any, value: Any, depth: int, cut: list[str]) -> Any:
    if isinstance(key, str) and is_secret_name(key) and value is not None:
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
        reference = getattr(type(value), "__jobkit_reference__", False)
        if reference:
            return f"results of {value.id}" if getattr(value, "is_many", False) else f"result of job {value.id}"
    except Exception:  # user code: a length may raise anything
        return f"a {type(value).__name__}"
    return short_repr(value, _MAX_TEXT)


def _text(text: str, cut: list[str]) -> str:
    if len(text) > _MAX_TEXT:
        cut.append("")
    text = text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _size(value: Any) -> int:
    return len(msgspec.json.encode(value))


def _shorten(out: dict[str, Any]) -> None:
    """Shorten the largest values first, then drop the last names, until it is within the limit."""
    for name in sorted(out, key=lambda name: -_size(out[name])):
        if _size(out) <= MAX_BYTES:
            break
        text = json.dumps(out[name], ensure_ascii=False)
        out[name] = text[:24] + "…" if len(text) > 25 else out[name]
    names = list(out)
    while names and _size(out) > MAX_BYTES - 20:
        del out[names.pop()]
        out["…"] = "more"
