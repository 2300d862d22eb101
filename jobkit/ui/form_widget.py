"""`FormWidget`: the form of a task in a notebook, an anywidget around the same module that the dashboard uses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import traitlets

from jobkit.tasks.info import TaskInfo
from jobkit.ui import assets
from jobkit.ui.desk import Desk
from jobkit.ui.form_model import Filled, FormModel
from jobkit.ui.text_widget import TextWidget

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
        self._form = FormModel(lambda: Desk(kit()), self.put, on_submit=on_submit, infos=infos)
        super().__init__(tasks=self._form.tasks(), prefill=self._form.filling(filled) if filled else "")
        self.observe(lambda change: self._form.asked(change["new"]), "request")
