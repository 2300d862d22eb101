"""`ParamSpec`: what is known of one parameter of a task, as data.

A spec travels as JSON (dashboard, command line and HTTP build forms and check arguments from it without importing the
task's code). What JSON cannot carry, the Python objects behind the choices and the container type, is kept beside it
in this process only. How values are checked is in `params`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgspec

from jobkit.tasks import structs

#: Every `ParamSpec.kind`, and the type that JSON Schema calls it.
KINDS: Mapping[str, Mapping[str, Any]] = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "str": {"type": "string"},
    "choice": {},
    "path": {"type": "string", "format": "path"},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
    "list": {"type": "array"},
    "time": {"type": "string", "format": "time"},
    "duration": {"type": ["string", "number"], "format": "duration"},
    "uuid": {"type": "string", "format": "uuid"},
    "decimal": {"type": ["string", "number"]},
    "bytes": {"type": "string", "contentEncoding": "base64"},
    "dict": {"type": "object"},
    "struct": {"type": "object"},
    "union": {},
    "table": {"type": "array", "items": {"type": "object"}},
    "any": {},
}


@dataclass(frozen=True, slots=True)
class Choice:
    """One allowed value of a "choice": the label that people pick, and the value as JSON (the label, where the value
    itself is not JSON)."""

    label: str
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamSpec:
    """One parameter of a task.

    Attributes:
        name: as the function spells it.
        kind: "int", "float", "bool", "str", "choice", "path", "date", "datetime", "time", "duration" (a `timedelta`),
            "uuid", "decimal", "bytes", "list", "dict", "struct" (a dataclass or the like), "union" (one of several
            kinds), "table" (a DataFrame) or "any" (accepted as it is).
        required: it must be given; False where there is a default.
        has_default: there is a default. `default` is it as JSON: dates as ISO text, paths as text, choices by label;
            None where JSON cannot hold it, and then `default_text` is a short text of it for display.
        nullable: None is allowed as well.
        min, max: bounds, both included, or None: of the number; of the length for "str" and "list".
        choices: for "choice".
        item: what each item of a "list" and each value of a "dict" must be; None for anything.
        parts: the fields of a "struct", the alternatives of a "union", the items of a "list" of fixed length whose
            items differ.
        type_name: what a "struct" is called in Python: "Model".
        label: what a form writes beside the field.
        help: one or two sentences, from the annotation or the docstring; "" where there are none.
        is_secret: its value is never shown (password, token, ...).
        objects: the Python objects behind `choices`, in order; empty in another process.
        container: the Python type that the value becomes: `tuple`, `set` or `frozenset` for a "list", the class for a
            "struct", the hint for a "dict" whose keys are no text; None for a list, a dict, and in another process.
    """

    name: str
    kind: str = "any"
    required: bool = True
    has_default: bool = False
    default: Any = None
    default_text: str = ""
    nullable: bool = False
    min: float | None = None
    max: float | None = None
    choices: tuple[Choice, ...] = ()
    item: ParamSpec | None = None
    parts: tuple[ParamSpec, ...] = ()
    type_name: str = ""
    label: str = ""
    help: str = ""
    is_secret: bool = False
    objects: tuple[Any, ...] = field(default=(), compare=False, repr=False)
    container: Any = field(default=None, compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """JSON of everything but the Python objects; what is at its default is left out."""
        out: dict[str, Any] = {"name": self.name, "kind": self.kind}
        if not self.required:
            out["required"] = False
        if self.has_default:
            out["default"] = self.default
        for name in ("default_text", "nullable", "type_name", "label", "help", "is_secret"):
            if value := getattr(self, name):
                out[name] = value
        for name in ("min", "max"):
            if (bound := getattr(self, name)) is not None:
                out[name] = bound
        if self.choices:
            out["choices"] = [[choice.label, choice.value] for choice in self.choices]
        if self.item is not None:
            out["item"] = self.item.to_json()
        if self.parts:
            out["parts"] = [part.to_json() for part in self.parts]
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ParamSpec:
        """The spec that `to_json` wrote. Fields of a newer version are ignored, and an unknown kind is "any"."""
        kind = data.get("kind", "any")
        item = data.get("item")
        return cls(
            name=data["name"],
            kind=kind if kind in KINDS else "any",
            required=data.get("required", True),
            has_default="default" in data,
            default=data.get("default"),
            default_text=data.get("default_text", ""),
            nullable=data.get("nullable", False),
            min=data.get("min"),
            max=data.get("max"),
            choices=tuple(Choice(label, value) for label, value in data.get("choices", ())),
            item=None if item is None else cls.from_json(item),
            parts=tuple(cls.from_json(part) for part in data.get("parts", ())),
            type_name=data.get("type_name", ""),
            label=data.get("label", ""),
            help=data.get("help", ""),
            is_secret=data.get("is_secret", False),
        )


def json_schema(specs: Iterable[ParamSpec], *, allow_extra: bool = False) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of an object that has these parameters.

    Args:
        specs: the parameters.
        allow_extra: whether the function takes further keyword arguments.
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
    schema: dict[str, Any] = dict(KINDS[spec.kind])
    if spec.kind == "choice":
        schema["enum"] = [choice.value for choice in spec.choices]
    low, high = {"str": ("minLength", "maxLength"), "list": ("minItems", "maxItems")}.get(
        spec.kind, ("minimum", "maximum")
    )
    if spec.min is not None:
        schema[low] = spec.min
    if spec.max is not None:
        schema[high] = spec.max
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


def plain(value: Any, *, typed: bool = True) -> Any:
    """`value` as JSON where that says the same: dates as ISO text, paths as text, enum members by name.

    With the spec of the value's parameter, `params.check` turns the result into the value again.

    Args:
        typed: also write what only a parameter's type turns back: structures and named tuples (by field), sets (as
            sorted lists), times, durations, UUIDs, decimals, bytes (base64) and keys that are no text.

    Raises:
        ValueError: JSON has no form for it.
    """
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("JSON has no infinite numbers")
        return float(value)
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, PurePath):
        return str(value)
    if typed and structs.is_struct(type(value)):
        return {name: plain(each) for name, each in structs.values_of(value).items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, typed=typed) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain(item, typed=typed) for key, item in value.items()}
    if typed:
        if isinstance(value, Mapping):
            return {str(plain(key)): plain(item) for key, item in value.items()}
        if isinstance(value, (set, frozenset)):
            return sorted((plain(item) for item in value), key=repr)
        if isinstance(value, (time, timedelta, UUID, Decimal, bytes)):
            return msgspec.to_builtins(value)
    raise ValueError(f"JSON has no form for a value of type {type(value).__name__}")


def with_part(value: Any, path: str, part: Any) -> Any:
    """A copy of a structure as JSON with another value for one field: `with_part(value, "optimizer.lr", 0.1)`."""
    name, _, rest = path.partition(".")
    whole = dict(value) if isinstance(value, Mapping) else {}
    whole[name] = with_part(whole.get(name), rest, part) if rest else part
    return whole


def short_repr(value: object, limit: int = 80) -> str:
    """`repr(value)` on one line of at most `limit` characters; survives a `__repr__` that raises.

    Long text and large containers are cut before they are written out, so that a huge argument costs nothing.
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
    except Exception:  # user code: a repr may raise anything
        text = f"a {type(value).__name__}"
    text = "".join(c if c.isprintable() else " " for c in text[: limit * 2])
    return text if len(text) <= limit else text[: limit - 1] + "…"
