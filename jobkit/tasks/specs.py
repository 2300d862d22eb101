"""`ParamSpec`: what is known of one parameter of a task, as data.

A spec travels as JSON (dashboard, command line and HTTP build forms and check arguments from it without importing the
task's code). What JSON cannot carry, the Python objects behind the choices and the container type, is kept beside it
in this process only. How values are checked is in `params`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from pathlib import PurePath
from typing import Any

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
    "dict": {"type": "object"},
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
        kind: "int", "float", "bool", "str", "choice", "path", "date", "datetime", "list", "dict", "table"
            (a DataFrame) or "any" (accepted as it is).
        required: it must be given; False where there is a default.
        has_default: there is a default. `default` is it as JSON: dates as ISO text, paths as text, choices by label;
            None where JSON cannot hold it, and then `default_text` is a short text of it for display.
        nullable: None is allowed as well.
        min, max: bounds, both included, or None: of the number; of the length for "str" and "list".
        choices: for "choice".
        item: what each item of a "list" must be; None for anything.
        label: what a form writes beside the field.
        help: one or two sentences, from the annotation or the docstring; "" where there are none.
        is_secret: its value is never shown (password, token, ...).
        objects: the Python objects behind `choices`, in order; empty in another process.
        container: `tuple`, `set` or `frozenset` where a "list" must become one; None for a list.
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
    label: str = ""
    help: str = ""
    is_secret: bool = False
    objects: tuple[Any, ...] = field(default=(), compare=False, repr=False)
    container: type | None = field(default=None, compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """JSON of everything but the Python objects; what is at its default is left out."""
        out: dict[str, Any] = {"name": self.name, "kind": self.kind}
        if not self.required:
            out["required"] = False
        if self.has_default:
            out["default"] = self.default
        for name in ("default_text", "nullable", "label", "help", "is_secret"):
            if value := getattr(self, name):
                out[name] = value
        for name in ("min", "max"):
            if (bound := getattr(self, name)) is not None:
                out[name] = bound
        if self.choices:
            out["choices"] = [[choice.label, choice.value] for choice in self.choices]
        if self.item is not None:
            out["item"] = self.item.to_json()
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
    specs = list(specs)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
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
    if spec.kind == "list" and spec.item is not None:
        schema["items"] = _property(spec.item)
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


def plain(value: Any) -> Any:
    """`value` as JSON where that says the same: dates as ISO text, paths as text, enum members by name.

    What it returns, `params.check` turns into the value again.

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
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain(item) for key, item in value.items()}
    raise ValueError(f"JSON has no form for a value of type {type(value).__name__}")


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
