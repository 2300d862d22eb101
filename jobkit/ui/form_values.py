"""From the fields of a form to arguments: each value checked, each refusal beside its field.

A field sends `{"text": ...}` (what was typed), `{"value": ...}` (what was picked) or, for a table,
`{"file": {"name", "text"}}`. Text is read as on the command line, except that no field may name a file of this machine
to be opened.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Any

from jobkit.model import InvalidParams
from jobkit.tasks.params import ParamSpec, check, describe, parse_text

#: Largest table that a form takes, in characters of its text.
TABLE_CHARS = 12_000_000


def read_form(
    specs: Iterable[ParamSpec], fields: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Any], dict[str, str]]:
    """`(arguments, errors)`: the values that were sent, and one sentence for each that is refused or missing.

    Fields that were not sent keep the task's default.
    """
    values: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for spec in specs:
        field = fields.get(spec.name)
        if field is None:
            if spec.required and not spec.has_default:
                errors[spec.name] = f"{spec.name} is required: {describe(spec)}"
            continue
        try:
            values[spec.name] = read_field(spec, field)
        except InvalidParams as error:
            errors[spec.name] = str(error)
    return values, errors


def read_field(spec: ParamSpec, field: Mapping[str, Any]) -> Any:
    """One field's value.

    Raises:
        InvalidParams: it is not allowed; names the parameter.
    """
    if "file" in field:
        return check(spec, _table(spec, field["file"]))
    if "value" in field:
        return check(spec, field["value"])
    text = str(field.get("text", ""))
    if spec.nullable and not text.strip():
        return None
    if _opens_files(spec):
        raise InvalidParams(f"{spec.name} must be given as a file to upload", spec.name)
    if not text and spec.kind in ("int", "float", "date", "datetime", "choice", "path") and spec.required:
        raise InvalidParams(f"{spec.name} is required: {describe(spec)}", spec.name)
    return parse_text(spec, text)


def read_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Queue, delay, tags and priority as they were typed; empty ones are left out."""
    out: dict[str, Any] = {}
    errors: dict[str, str] = {}
    if queue := str(options.get("queue") or "").strip():
        out["queue"] = queue
    if tags := [tag.strip() for tag in str(options.get("tags") or "").split(",") if tag.strip()]:
        out["tags"] = tags
    for name, kind, what in (("delay", float, "a number of seconds, 0 or more"), ("priority", int, "a whole number")):
        text = str(options.get(name) or "").strip()
        if not text:
            continue
        try:
            out[name] = kind(text)
            if name == "delay" and not 0 <= out[name] < 10**9:
                raise ValueError
        except ValueError:
            out.pop(name, None)
            errors[f"option:{name}"] = f"{name} must be {what}, not {text[:40]!r}"
    return out, errors


def _opens_files(spec: ParamSpec) -> bool:
    return spec.kind == "table" or (spec.item is not None and _opens_files(spec.item))


def _table(spec: ParamSpec, file: Any) -> Any:
    """The DataFrame in an uploaded text file."""
    if not isinstance(file, Mapping):
        raise InvalidParams(f"{spec.name} must be a file", spec.name)
    name, text = str(file.get("name", "")), str(file.get("text", ""))
    suffix = name.lower().rpartition(".")[2]
    if suffix not in ("csv", "tsv", "json"):
        raise InvalidParams(f"{spec.name} must be a .csv, .tsv or .json file, not {name[-60:]!r}", spec.name)
    if len(text) > TABLE_CHARS:
        raise InvalidParams(f"{spec.name} has more than {TABLE_CHARS:,} characters; pass it from Python", spec.name)
    import pandas as pd

    try:
        if suffix == "json":
            return pd.read_json(io.StringIO(text))
        return pd.read_csv(io.StringIO(text), sep="\t" if suffix == "tsv" else ",")
    except (ValueError, pd.errors.ParserError) as error:
        raise InvalidParams(f"{spec.name}: {name[-60:]} could not be read as a table: {error}", spec.name) from None
