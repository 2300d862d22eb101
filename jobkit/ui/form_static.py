"""A task's form as static HTML, for where no form can be: what the task takes. Every text of a user is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from jobkit.tasks.info import TaskInfo
from jobkit.ui.form_model import lead
from jobkit.ui.format import value_brief


def form_html(infos: Sequence[TaskInfo]) -> str:
    """Title, description and parameters of each task."""
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
