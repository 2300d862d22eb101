"""Fields of a form to arguments, with one error per field.

A field sends `{"text": ...}` (what was typed), `{"value": ...}` (what was picked) or, for a table,
`{"file": {"name", "text"}}`; `{"none": true}` is None, and `{"kept": true}` the value of the job that the form was
filled from. Text is read as on the command line, except that no field may name a file of this machine
to be opened.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from jobkit.model import InvalidParams
from jobkit.tasks.options import check_submit_options
from jobkit.tasks.params import check, describe, parse_text, read_table
from jobkit.tasks.specs import ParamSpec, number

#: Jobs of one sweep from a page.
MOST_POINTS = 10_000

#: Kinds of which an empty text is no value.
_NEVER_EMPTY = frozenset({"int", "float", "date", "datetime", "time", "duration", "uuid", "decimal", "choice", "path"})

#: Largest table that a form takes, in characters of its text.
TABLE_CHARS = 12_000_000


def read_form(
    specs: Iterable[ParamSpec], fields: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Any], dict[str, str]]:
    """`(arguments, errors)`: the values that were sent, and one sentence for each that is refused or missing.

    Fields that were not sent keep the task's default, and those that are kept (see `kept_in`) are left out. The fields
    of a structure have dotted names, in `fields` and in `errors`: "model.lr".
    """
    values: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for spec in specs:
        field = fields.get(spec.name)
        name = spec.name.rpartition(".")[2]
        has_parts = any(each.startswith(f"{spec.name}.") for each in fields)
        if field is None and spec.kind == "struct" and (spec.required or has_parts):
            parts = [replace(part, name=f"{spec.name}.{part.name}") for part in spec.parts]
            inner, wrong = read_form(parts, fields)
            errors |= wrong
            if not wrong:
                _read(spec, {"value": inner}, name, values, errors)
        elif field is None:
            if spec.required and not spec.has_default:
                errors[spec.name] = f"{spec.name} is required: {describe(spec)}"
        elif not field.get("kept"):
            _read(spec, field, name, values, errors)
    return values, errors


def kept_in(fields: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """Names of the arguments that are to stay as they are in the job that the form was filled from."""
    return frozenset(name for name, field in fields.items() if field.get("kept"))


def _read(spec: ParamSpec, field: Mapping[str, Any], name: str, values: dict[str, Any], errors: dict[str, str]) -> None:
    try:
        values[name] = read_field(spec, field)
    except InvalidParams as error:
        errors[error.field if error.field and error.field.startswith(f"{spec.name}.") else spec.name] = str(error)


def read_field(spec: ParamSpec, field: Mapping[str, Any]) -> Any:
    """Return one field's value.

    Raises:
        InvalidParams: it is not allowed; names the parameter.
    """
    if "file" in field:
        return check(spec, _table(spec, field["file"]))
    if "value" in field:
        return check(spec, field["value"])
    if field.get("none"):
        return check(spec, None)
    text = str(field.get("text", ""))
    if spec.nullable and not text.strip():
        return None
    if _opens_files(spec):
        raise InvalidParams(f"{spec.name} must be given as a file to upload", spec.name)
    if not text and spec.kind in _NEVER_EMPTY and spec.required:
        raise InvalidParams(f"{spec.name} is required: {describe(spec)}", spec.name)
    return parse_text(spec, text)


def read_axes(
    specs: Iterable[ParamSpec], fields: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Return `(axes, errors)` of a sweep: fields with several values, `{"texts": [...]}` or `{"values": [...]}`."""
    axes: dict[str, list[Any]] = {}
    errors: dict[str, str] = {}
    for spec in specs:
        field = fields.get(spec.name) or {}
        typed, picked = field.get("texts"), field.get("values")
        if not isinstance(typed, list) and not isinstance(picked, list):
            continue
        one = [{"text": text} for text in typed] if isinstance(typed, list) else [{"value": v} for v in picked or ()]
        try:
            axes[spec.name] = [read_field(spec, each) for each in one[: MOST_POINTS + 1]]
        except InvalidParams as error:
            errors[spec.name] = str(error)
        else:
            if not axes[spec.name]:
                errors[spec.name] = f"{spec.name} needs at least one value"
    if not errors:
        count = math.prod(map(len, axes.values()))
        if not axes:
            errors[""] = "a sweep needs a field with several values"
        elif count > MOST_POINTS:
            errors[""] = f"this sweep has more than {MOST_POINTS:,} jobs; from Python it may have more: task.sweep(...)"
    return axes, errors


def read_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return `(options, errors)`: queue, delay, time, tags and priority as they were typed; empty ones are left out."""
    out: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name in ("queue", "tags", "at", "delay", "priority"):
        text = str(options.get(name) or "").strip()
        value: Any = number(text) if name in ("delay", "priority") else text
        if name == "tags":
            value = [tag.strip() for tag in text.split(",") if tag.strip()]
        if text and value:
            out[name] = value
            try:
                check_submit_options(out)
            except InvalidParams as error:
                del out[name]
                errors["" if name == "at" else f"option:{name}"] = str(error)
    return out, errors


def _opens_files(spec: ParamSpec) -> bool:
    return spec.kind == "table" or (spec.item is not None and _opens_files(spec.item))


def _table(spec: ParamSpec, file: Any) -> Any:
    """Return the DataFrame in an uploaded text file."""
    if not isinstance(file, Mapping):
        raise InvalidParams(f"{spec.name} must be a file", spec.name)
    name, text = str(file.get("name", "")), str(file.get("text", ""))
    suffix = name.lower().rpartition(".")[2]
    if suffix not in ("csv", "tsv", "json"):
        raise InvalidParams(f"{spec.name} must be a .csv, .tsv or .json file, not {name[-60:]!r}", spec.name)
    if len(text) > TABLE_CHARS:
        raise InvalidParams(f"{spec.name} has more than {TABLE_CHARS:,} characters; pass it from Python", spec.name)
    return read_table(spec, name[-60:], io.StringIO(text))
