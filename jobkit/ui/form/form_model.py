"""`FormModel`: the tasks of a form as JSON, checks of typed values, and submit; shared by pages and notebooks.

It is made from `TaskInfo`, so it never imports a task's code. `form_html` is what a saved notebook shows of it.

Requests name fields and errors alike: an argument by its name, in a structure by its path ("model.lr"), an option as
"option:delay"; "" stands for the form as a whole.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

from msgspec.structs import replace

from jobkit.client.loop import background
from jobkit.model import InvalidParams, JobkitError
from jobkit.model.format import duration, number, size, value_brief
from jobkit.model.limits import resources_text
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.options import MAX_PRIORITY, JobOptions, check_submit_options
from jobkit.tasks.params import check, describe, parse_text, read_table
from jobkit.tasks.signature import Signature
from jobkit.tasks.specs import ParamSpec
from jobkit.tasks.specs import number as number_in
from jobkit.ui.access.actions import ActionReply, Actions

#: Where the prose of a docstring ends: Google's and NumPy's headings, Sphinx's fields, doctests.
_SECTION = re.compile(
    r"((args?|arguments|parameters|params|returns?|raises|yields|examples?|notes?|attributes|see also|references)\s*:?$"
    r"|:(param|returns?|raises|type)\b|>>>)",
    re.IGNORECASE,
)

#: Jobs of one sweep from a page.
MOST_POINTS = 10_000

#: Kinds of which an empty text is no value.
_NEVER_EMPTY = frozenset({"int", "float", "date", "datetime", "time", "duration", "uuid", "decimal", "choice", "path"})

#: Largest table that a form takes, in characters of its text.
TABLE_CHARS = 12_000_000


@dataclass(frozen=True)
class Filled:
    """Values that a form starts from.

    Attributes:
        task: name of the task. values: by name, as a job's `params` give them.
        queue: chosen among the options; "" for the task's own.
        job: id of the job that the values are of, or "".
        kept: names of those of its arguments that `values` does not hold as a whole; they stay as they are in the job
            unless another value is typed.
        is_other: the job did not run the task, but other code of its name, which has no form.
    """

    task: str
    values: Mapping[str, Any] = field(default_factory=dict)
    queue: str = ""
    job: str = ""
    kept: tuple[str, ...] = ()
    is_other: bool = False


class FormModel:
    """One form.

    Args:
        access: returns the session's `Actions`; called when needed, since a form that is only read needs no kit.
        put: shows new texts (`tasks` or `reply`) in the browser; called in any thread.
        on_submit: called in any thread with the id of each job that was submitted from here.
        on_sweep: called in any thread with the id of the batch of a sweep.
        infos: tasks that are known already; the kit is asked for the others by `refresh`.
        names: only these tasks, in this order; all unless given.
    """

    def __init__(
        self,
        access: Callable[[], Actions],
        put: Callable[[Mapping[str, str]], object],
        *,
        on_submit: Callable[[str], object] | None = None,
        on_sweep: Callable[[str], object] | None = None,
        infos: Mapping[str, TaskInfo] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self._access = access
        self._put = put
        self._on_submit = on_submit
        self._on_sweep = on_sweep
        self._infos = dict(infos or {})
        self._names = names
        self._usual_s: Mapping[str, float] = {}  # run times of tasks
        self._replies = 0

    def tasks(self) -> str:
        """Return the tasks that are known, as the browser shows them."""
        tasks = [shown(info, self._usual_s.get(info.name)) for info in self._infos.values()]
        return json.dumps(tasks, default=str, ensure_ascii=False)

    def refresh(self) -> None:
        """Ask the kit for its tasks again."""
        background.spawn(self._refresh())

    def filling(self, filled: Filled) -> str:
        """Return the text that makes the browser show the form of a task with these values."""
        self._replies += 1
        return json.dumps({**asdict(filled), "n": self._replies}, default=str, ensure_ascii=False)

    def do(self, action: str, asked: Mapping[str, Any]) -> None:
        """Handle a request of the browser: the tasks, a check of a field, or a submit. Ignore others."""
        if action == "hello" and self._infos:
            self._put({"tasks": self.tasks()})
        info = self._infos.get(str(asked.get("task")))
        if info is None:
            return
        if action == "check":
            name = str(asked.get("name"))
            why = refusal(info.signature, name, asked.get("field") or {})
            self._answer(info, {name: why} if why else {}, checked=name)
        elif action in ("sweep", "submit"):
            # Reading a table takes its time, and the store may be away: not in the session's thread.
            background.spawn(self._submit(info, action, asked))

    def _answer(self, info: TaskInfo | None, errors: Mapping[str, str], **facts: Any) -> None:
        self._replies += 1
        reply = {"task": info.name if info is not None else "", "errors": errors, **facts, "n": self._replies}
        self._put({"reply": json.dumps(reply, default=str)})

    # -- on the background loop -------------------------------------------------------------------------------------

    async def _refresh(self) -> None:
        try:
            access = await asyncio.to_thread(self._access)
            found = await access.kit.aio.tasks()
            self._usual_s = await access.kit.verbs.store.took()
        except JobkitError:
            return
        names = self._names if self._names is not None else sorted(found)
        self._infos = {name: found[name] for name in names if name in found}
        self._put({"tasks": self.tasks()})

    async def _submit(self, info: TaskInfo, action: str, asked: Mapping[str, Any]) -> None:
        """Submit one job or a sweep, unless a field is wrong.

        `again` is the id of the job that the form was filled from; its arguments that are kept are not known here.
        """
        fields, again = asked.get("fields") or {}, str(asked.get("again") or "")
        is_sweep, target, batch_id = action == "sweep", info.name, secrets.token_hex(8)
        axes, errors = await asyncio.to_thread(read_axes, info.params, fields) if is_sweep else ({}, {})
        rest = [spec for spec in info.params if spec.name not in axes and spec.name not in errors]
        values, wrong = await asyncio.to_thread(read_form, rest, fields)
        chosen, wrong_options = read_options(asked.get("options") or {})
        errors |= wrong | wrong_options
        if is_sweep:
            chosen["id"] = batch_id
        elif again and (kept := kept_in(fields)):
            action, target = "change", again
            # Those that were not typed have the task's default, which the old job's value must not replace.
            usual = {spec.name: spec.default for spec in info.params if spec.has_default and not spec.default_text}
            values = {name: value for name, value in (usual | values).items() if name not in kept}
        done = await self._act(errors, action, target, values, chosen, axes=axes)
        self._answer(info, errors)
        if done is not None and is_sweep and self._on_sweep is not None:
            self._on_sweep(batch_id)
        elif done is not None and not is_sweep and self._on_submit is not None:
            for job_id in done.made:
                self._on_submit(job_id)

    async def _act(
        self,
        errors: dict[str, str],
        action: str,
        target: str,
        values: Mapping[str, Any] | None,
        chosen: Mapping[str, Any],
        **details: Any,
    ) -> ActionReply | None:
        """Do an action unless a field is wrong; add what was refused to `errors`. Return None if it was not done."""
        if errors:
            return None
        try:
            access = await asyncio.to_thread(self._access)
            reply = await access.act(action, [target], params=values, options=chosen, **details)
        except JobkitError as error:
            errors[""] = str(error)
            return None
        if reply.problem:
            name = (reply.error.field or "") if isinstance(reply.error, InvalidParams) else ""
            is_option = name in chosen and name not in (values or {})
            errors[f"option:{name}" if is_option else name] = reply.problem
        return None if errors else reply


def shown(info: TaskInfo, usual_s: float | None = None) -> dict[str, Any]:
    """Return a task as the browser's form takes it; `usual_s`: its usual run time in seconds."""
    return {
        "name": info.name,
        "title": info.title,
        "doc": lead(info.doc, info.title),
        "params": [spec.to_json() for spec in info.params],
        "options": options_of(info),
        "usual_s": usual_s,
    }


def lead(doc: str, title: str) -> str:
    """Return the paragraphs of a docstring that stand before its sections, without its title, each on one line."""
    lines: list[str] = []
    for line in doc.strip().splitlines():
        if _SECTION.match(line.strip()):
            break
        lines.append(line.strip())
    paragraphs = [" ".join(part.split()) for part in "\n".join(lines).split("\n\n")]
    if paragraphs and paragraphs[0].rstrip(".") == title.strip().rstrip("."):
        del paragraphs[0]
    return "\n\n".join(part for part in paragraphs if part)


# -- fields to arguments, with one error per field ---------------------------------------------------------------------
#
# A field sends `{"text": ...}` (what was typed), `{"value": ...}` (what was picked) or, for a table,
# `{"file": {"name", "text"}}`; `{"none": true}` is None, and `{"kept": true}` the value of the job that the form was
# filled from. Text is read as on the command line, except that no field may name a file of this machine to be opened.


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
                errors[spec.name] = _missing(spec)
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
        raise InvalidParams(_missing(spec), spec.name)
    return parse_text(spec, text)


def _missing(spec: ParamSpec) -> str:
    return f"{spec.name} is required and must be {describe(spec)}"


def refusal(signature: Signature, name: str, field: Mapping[str, Any]) -> str:
    """Return why the value of a field is refused; "" if it is not, and if there is no such argument."""
    try:
        if (spec := signature.spec_for(name)) is not None:
            read_field(spec, field)
    except InvalidParams as error:
        return str(error)
    return ""


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


# -- options -----------------------------------------------------------------------------------------------------------

#: What may be typed, the task's own value, and a line of explanation, by option.
_SHOWN: Mapping[str, tuple[str, Callable[[JobOptions], str], str]] = {
    "queue": ("name", lambda of: of.queue or "default", "Workers that serve this queue run the job."),
    "priority": (
        f"−{MAX_PRIORITY:,} to {MAX_PRIORITY:,}",
        lambda of: number(of.priority),
        "Jobs of a queue with a higher number start first.",
    ),
    "delay": ("seconds, or like 10m", lambda of: "0", "It starts at the earliest after this time."),
    "timeout": (
        "seconds, or like 10m",
        lambda of: duration(of.timeout_s) or "none",
        "An attempt that runs longer is stopped, and fails.",
    ),
    "retries": ("whole number", lambda of: number(of.retries), "If it fails, it runs again at most this often."),
    "memory_limit": (
        "like 2GB",
        lambda of: size(of.memory_limit_bytes) or "none",
        "An attempt that needs more memory is stopped, and fails.",
    ),
    "resources": (
        "like gpu=1,license=2",
        lambda of: resources_text(of.resources) or "none",
        "It starts on a worker that has so much of them free.",
    ),
    "tags": ("comma-separated", lambda of: ", ".join(of.tags) or "none", "Words to find the job again: tag:nightly."),
}

#: Options that are numbers if they look like one.
_NUMBERS = frozenset({"delay", "priority", "timeout", "retries"})


def options_of(info: TaskInfo) -> list[tuple[str, str, str, str]]:
    """Return name, what may be typed, explanation and the task's own value of each option, for `form.js`."""
    return [(name, typed, about, usual(info.options)) for name, (typed, usual, about) in _SHOWN.items()]


def read_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return `(options, errors)`: options and the earliest start as they were typed; empty ones are left out."""
    out: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name in ("at", *_SHOWN):
        text = str(options.get(name) or "").strip()
        value: Any = number_in(text) if name in _NUMBERS else text
        if name == "tags":
            value = [tag.strip() for tag in text.split(",") if tag.strip()]
        if not text or value == [] or (name == "delay" and value == 0):
            continue
        try:
            check_submit_options({**out, name: value})
            out[name] = value
        except InvalidParams as error:
            errors["" if name == "at" else f"option:{name}"] = str(error)
    return out, errors


# -- what a saved notebook shows ---------------------------------------------------------------------------------------


def form_html(infos: Sequence[TaskInfo]) -> str:
    """Return title, description and parameters of each task as HTML."""
    parts = [_task(info) for info in infos]
    parts.append("<p><small>Run this cell to get the form.</small></p>")
    return "".join(parts)


def _task(info: TaskInfo) -> str:
    doc = lead(info.doc, info.title)
    rows = "".join(_row(spec.to_json()) for spec in info.params)
    table = (
        f"<table><thead><tr><th>parameter</th><th>kind</th><th>default</th><th></th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
        if rows
        else "<p>It takes no arguments.</p>"
    )
    about = f"<p>{escape(doc)}</p>" if doc else ""
    return f"<div><p><b>{escape(info.title)}</b> <code>{escape(info.name)}</code></p>{about}{table}</div>"


def _row(spec: dict[str, Any]) -> str:
    default = "required" if spec.get("required", True) else value_brief(spec.get("default"))
    help_ = escape(str(spec.get("help") or ""))
    return (
        f"<tr><td><code>{escape(str(spec['name']))}</code></td><td>{escape(str(spec.get('kind', '')))}</td>"
        f"<td>{escape(default)}</td><td>{help_}</td></tr>"
    )
