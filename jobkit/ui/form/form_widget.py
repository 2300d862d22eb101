"""The form of a task in a notebook: `FormWidget`, an anywidget around the same module that the dashboard uses, and
`form_html` for a saved notebook."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import traitlets

from jobkit.model.format import value_brief
from jobkit.tasks.info import TaskInfo
from jobkit.ui.access.actions import Actions
from jobkit.ui.form.form_model import Filled, FormModel, lead
from jobkit.ui.live.text_widget import TextWidget
from jobkit.ui.words import assets

if TYPE_CHECKING:
    from jobkit.client import Kit

logger = logging.getLogger("jobkit.ui")


class FormWidget(TextWidget):
    """The form of tasks.

    Args:
        kit: gives the kit to submit with.
        infos: the tasks, by name.
        on_submit: called with the id of each job that was submitted from here, on jobkit's background loop.
        filled: what it starts from.
    """

    _esm = assets.esm("form")
    _css = assets.css("form")

    tasks = traitlets.Unicode("[]").tag(sync=True)
    prefill = traitlets.Unicode("").tag(sync=True)
    reply = traitlets.Unicode("").tag(sync=True)
    request = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        kit: Callable[[], Kit],
        infos: Mapping[str, TaskInfo],
        *,
        on_submit: Callable[[str], object] | None = None,
        filled: Filled | None = None,
    ) -> None:
        self._form = FormModel(lambda: Actions(kit()), self.put, on_submit=on_submit, infos=infos)
        super().__init__(tasks=self._form.tasks(), prefill=self._form.filling(filled) if filled else "")
        self.observe(lambda change: self._form.asked(change["new"]), "request")


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
