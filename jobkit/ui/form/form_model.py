"""`FormModel`: the tasks of a form as JSON, checks of typed values, and submit; shared by pages and notebooks.

It is made from `TaskInfo`, so it never imports a task's code. `form_html` is what a saved notebook shows of it.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

from jobkit.client.loop import background
from jobkit.model import InvalidParams, JobkitError
from jobkit.model.format import value_brief
from jobkit.tasks.info import TaskInfo
from jobkit.ui.access.actions import Actions
from jobkit.ui.form.form_values import kept_in, read_axes, read_field, read_form, read_options

#: Where the prose of a docstring ends: Google's and NumPy's headings, Sphinx's fields, doctests.
_SECTION = re.compile(
    r"((args?|arguments|parameters|params|returns?|raises|yields|examples?|notes?|attributes|see also|references)\s*:?$"
    r"|:(param|returns?|raises|type)\b|>>>)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Filled:
    """Values that a form starts from.

    Attributes:
        task: name of the task. values: by name, as a job's `params` give them.
        queue: chosen among the options; "" for the task's own.
        job: id of the job that the values are of, or "".
        kept: names of those of its arguments that `values` does not hold as a whole; they stay as they are in the job
            unless another value is typed.
    """

    task: str
    values: Mapping[str, Any] = field(default_factory=dict)
    queue: str = ""
    job: str = ""
    kept: tuple[str, ...] = ()


class FormModel:
    """One form.

    Args:
        access: returns the session's `Actions`; called when needed, since a form that is only read needs no kit.
        put: shows new texts (`tasks` or `reply`) in the browser; called in any thread.
        on_submit: called in any thread with the id of each job that was submitted from here.
        on_sweep: called in any thread with the tag that the jobs of a sweep have.
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
        self._replies = 0

    def tasks(self) -> str:
        """Return the tasks that are known, as the browser shows them."""
        return json.dumps([shown(info) for info in self._infos.values()], default=str, ensure_ascii=False)

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
            try:
                if (spec := info.signature.spec_for(name)) is None:
                    return
                read_field(spec, asked.get("field") or {})
                self._answer(info, {}, checked=name)
            except InvalidParams as error:
                self._answer(info, {name: str(error)}, checked=name)
        elif action in ("sweep", "submit"):
            # Reading a table takes its time, and the store may be away: not in the session's thread.
            fields, options = asked.get("fields") or {}, asked.get("options") or {}
            background.spawn(
                self._sweep(info, fields, options)
                if action == "sweep"
                else self._submit(info, fields, options, str(asked.get("again") or ""))
            )

    def _answer(self, info: TaskInfo, errors: Mapping[str, str], checked: str = "") -> None:
        self._replies += 1
        self._put({"reply": json.dumps({"task": info.name, "errors": errors, "checked": checked, "n": self._replies})})

    # -- on the background loop -------------------------------------------------------------------------------------

    async def _refresh(self) -> None:
        try:
            access = await asyncio.to_thread(self._access)
            found = await access.kit.aio.tasks()
        except JobkitError:
            return
        names = self._names if self._names is not None else sorted(found)
        self._infos = {name: found[name] for name in names if name in found}
        self._put({"tasks": self.tasks()})

    async def _sweep(self, info: TaskInfo, fields: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        axes, errors = await asyncio.to_thread(read_axes, info.params, fields)
        rest = [spec for spec in info.params if spec.name not in axes and spec.name not in errors]
        values, wrong = await asyncio.to_thread(read_form, rest, fields)
        chosen, wrong_options = read_options(options)
        tag = f"sweep-{secrets.token_hex(3)}"
        chosen["tags"] = [*chosen.get("tags", ()), tag]
        done = await self._act(info, errors | wrong | wrong_options, "sweep", info.name, values, chosen, axes=axes)
        if done is not None and self._on_sweep is not None:
            self._on_sweep(tag)

    async def _submit(self, info: TaskInfo, fields: Mapping[str, Any], options: Mapping[str, Any], again: str) -> None:
        """`again`: id of the job that the form was filled from; its arguments that are kept are not known here."""
        values, errors = await asyncio.to_thread(read_form, info.params, fields)
        chosen, wrong = read_options(options)
        action, target = "submit", info.name
        if again and (kept := kept_in(fields)):
            action, target = "change", again
            # Those that were not typed have the task's default, which the old job's value must not replace.
            usual = {spec.name: spec.default for spec in info.params if spec.has_default and not spec.default_text}
            values = {name: value for name, value in (usual | values).items() if name not in kept}
        done = await self._act(info, errors | wrong, action, target, values, chosen)
        if done is not None and self._on_submit is not None:
            for job_id in done.made:
                self._on_submit(job_id)

    async def _act(
        self,
        info: TaskInfo,
        errors: dict[str, str],
        action: str,
        target: str,
        values: Mapping[str, Any],
        chosen: Mapping[str, Any],
        **details: Any,
    ) -> Any:
        """Do an action unless a field is wrong, and show the errors. Return its reply, None if it was not done."""
        answer = None
        if not errors:
            try:
                access = await asyncio.to_thread(self._access)
                answer = await access.act(action, [target], params=values, options=chosen, **details)
            except JobkitError as error:
                errors = {"": str(error)}
            else:
                if answer.problem:
                    name = (answer.error.field or "") if isinstance(answer.error, InvalidParams) else ""
                    is_option = name in chosen and name not in values
                    errors = {f"option:{name}" if is_option else name: answer.problem}
        self._answer(info, errors)
        return None if errors else answer


def shown(info: TaskInfo) -> dict[str, Any]:
    """Return a task as the browser's form takes it."""
    return {
        "name": info.name,
        "title": info.title,
        "doc": lead(info.doc, info.title),
        "params": [spec.to_json() for spec in info.params],
        "queue": info.options.queue or "",
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
    default = "required" if spec.get("required") else value_brief(spec.get("default"))
    help_ = escape(str(spec.get("help") or ""))
    return (
        f"<tr><td><code>{escape(str(spec['name']))}</code></td><td>{escape(str(spec.get('kind', '')))}</td>"
        f"<td>{escape(default)}</td><td>{help_}</td></tr>"
    )
