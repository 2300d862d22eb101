"""`TaskForm`: choose a task, fill in its parameters, submit. Made from `TaskInfo`: it never imports a task's code."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import param
from panel.custom import JSComponent

from jobkit.client.loop import background
from jobkit.model import InvalidParams, JobkitError
from jobkit.tasks.info import TaskInfo
from jobkit.ui import assets
from jobkit.ui.bridge import SessionBridge
from jobkit.ui.form_values import read_field, read_form, read_options

if TYPE_CHECKING:
    from jobkit.client import Kit


#: Where the prose of a docstring ends: Google's and NumPy's headings, Sphinx's fields, doctests.
_SECTION = re.compile(
    r"((args?|arguments|parameters|params|returns?|raises|yields|examples?|notes?|attributes|see also|references)\s*:?$"
    r"|:(param|returns?|raises|type)\b|>>>)",
    re.IGNORECASE,
)


class TaskForm(JSComponent):
    """A form for each of a kit's tasks.

    Args:
        kit: where to submit; it is asked for its tasks.
        on_submit: called in the session with the id of each job that was submitted from here.
        names: only these tasks, in this order; all unless given.

    Attributes:
        tasks: what the browser shows, JSON. `prefill`: a task and values to start from, see `fill`.
        reply: what the checks said. `request`: what the browser asks for.
    """

    tasks = param.String(default="[]")
    prefill = param.String(default="")
    reply = param.String(default="")
    request = param.String(default="")

    _esm = assets.esm("form")
    _stylesheets: ClassVar[list[str]] = [assets.css("form")]

    def __init__(
        self,
        kit: Kit,
        *,
        on_submit: Callable[[str], object] | None = None,
        names: Sequence[str] | None = None,
        bridge: SessionBridge | None = None,
        **params: Any,
    ) -> None:
        super().__init__(**params)  # type: ignore[no-untyped-call]  # panel's
        self._kit = kit
        self._on_submit = on_submit
        self._names = names
        self._infos: dict[str, TaskInfo] = {}
        self._bridge = bridge or SessionBridge()
        self._replies = 0
        self.param.watch(self._asked, "request")
        self.refresh()

    def refresh(self) -> None:
        """Ask the kit for its tasks again."""
        background.spawn(self._refresh())

    def fill(self, task: str, values: Mapping[str, Any], queue: str = "") -> None:
        """Show the form of `task` with `values` filled in, as a job's `params` give them."""
        self._replies += 1
        self.prefill = json.dumps(
            {"task": task, "values": dict(values), "queue": queue, "n": self._replies}, default=str, ensure_ascii=False
        )

    async def _refresh(self) -> None:
        try:
            found = await self._kit.aio.tasks()
        except JobkitError:
            return
        names = self._names if self._names is not None else sorted(found)
        infos = {name: found[name] for name in names if name in found}
        text = json.dumps([_shown(info) for info in infos.values()], default=str, ensure_ascii=False)
        self._bridge.push(lambda: self._show(infos, text))

    # -- in the session ---------------------------------------------------------------------------------------------

    def _show(self, infos: dict[str, TaskInfo], text: str) -> None:
        self._infos = infos
        self.tasks = text

    def _asked(self, event: Any) -> None:
        try:
            asked = json.loads(event.new)
            action, info = asked["action"], self._infos[asked["task"]]
        except (ValueError, KeyError, TypeError):
            return
        if action == "check":
            spec = next((spec for spec in info.params if spec.name == asked.get("name")), None)
            if spec is not None:
                try:
                    read_field(spec, asked.get("field") or {})
                    self._answer(info, {}, checked=spec.name)
                except InvalidParams as error:
                    self._answer(info, {spec.name: str(error)}, checked=spec.name)
        elif action == "submit":
            # Reading a table takes its time, and the store may be away: not in the session's thread.
            background.spawn(self._submit(info, asked.get("fields") or {}, asked.get("options") or {}))

    def _answer(self, info: TaskInfo, errors: Mapping[str, str], checked: str = "") -> None:
        self._replies += 1
        self.reply = json.dumps({"task": info.name, "errors": errors, "checked": checked, "n": self._replies})

    def _accepted(self, info: TaskInfo, job_id: str) -> None:
        self._answer(info, {})
        if self._on_submit is not None:
            self._on_submit(job_id)

    # -- on the background loop -------------------------------------------------------------------------------------

    async def _submit(self, info: TaskInfo, fields: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        values, errors = await asyncio.to_thread(read_form, info.params, fields)
        chosen, wrong = read_options(options)
        errors |= wrong
        if not errors:
            try:
                job = await self._kit.aio.submit_info(info.name, values, chosen)
            except InvalidParams as error:
                name = error.field or ""
                errors[name if name in values or not name else f"option:{name}" if name in chosen else name] = str(
                    error
                )
            except JobkitError as error:
                errors[""] = str(error)
            else:
                self._bridge.push(lambda: self._accepted(info, job.id))
                return
        self._bridge.push(lambda: self._answer(info, errors))


def _shown(info: TaskInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "title": info.title,
        "doc": lead(info.doc, info.title),
        "params": [spec.to_json() for spec in info.params],
        "queue": info.options.queue or "",
    }


def lead(doc: str, title: str) -> str:
    """The paragraphs of a docstring that stand before its sections, without its title, each on one line."""
    lines: list[str] = []
    for line in doc.strip().splitlines():
        if _SECTION.match(line.strip()):
            break
        lines.append(line.strip())
    paragraphs = [" ".join(part.split()) for part in "\n".join(lines).split("\n\n")]
    if paragraphs and paragraphs[0].rstrip(".") == title.strip().rstrip("."):
        del paragraphs[0]
    return "\n\n".join(part for part in paragraphs if part)
