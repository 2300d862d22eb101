"""`TaskForm`: choose a task, fill in its parameters, submit. A Panel component; in a notebook it is an anywidget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import param

from jobkit.client.kit import Kit
from jobkit.model import JobSnapshot
from jobkit.tasks.shown import Shown
from jobkit.ui.form.form_model import Filled, FormModel
from jobkit.ui.live.component import LivePage


class TaskForm(Shown, LivePage):
    """A form for each of a kit's tasks.

    Args:
        kit, bridge, access, is_open: as of `LivePage`; the kit is asked for its tasks each time that the page is shown.
        on_submit: called in the session with the id of each job that was submitted from here.
        on_sweep: called in the session with the id of the batch of each submitted sweep; without it none is offered.
        names: only these tasks, in this order; all unless given.

    Attributes:
        tasks: what the browser shows, JSON. `prefill`: a task and values to start from, see `fill`.
        reply: what the checks said. `sweeps`: whether sweeps are offered.
        user: who fills it in, "" if that is not known: a browser keeps drafts for each.

    Example:
        >>> card = JobCard(kit)
        >>> form = TaskForm(kit, names=["report"], on_submit=lambda job_id: setattr(card, "job_id", job_id))
        >>> layout = pn.Row(form, card)
    """

    tasks = param.String(default="[]")
    prefill = param.String(default="")
    reply = param.String(default="")
    sweeps = param.Boolean(default=False)
    user = param.String(default="")

    pales: ClassVar[bool] = False
    """Nothing here grows old while the server is away."""

    MODULE = "form"

    def __init__(
        self,
        kit: Kit,
        *,
        on_submit: Callable[[str], object] | None = None,
        on_sweep: Callable[[str], object] | None = None,
        names: Sequence[str] | None = None,
        **params: Any,
    ) -> None:
        super().__init__(kit, sweeps=on_sweep is not None, **params)
        self.user = self._access.person.name
        self._names = names
        self._filled: Filled | None = None
        self._form = FormModel(
            lambda: self._access,
            partial(self._bridge.put, self),
            on_submit=None if on_submit is None else lambda job_id: self._bridge.push(lambda: on_submit(job_id)),
            on_sweep=None if on_sweep is None else lambda batch: self._bridge.push(lambda: on_sweep(batch)),
            names=names,
        )
        self.param.watch(lambda event: self.refresh() if event.new else None, "is_open")
        if self.is_open:
            self.refresh()

    def _do(self, action: str, asked: Mapping[str, Any]) -> None:
        self._form.do(action, asked)

    def refresh(self) -> None:
        """Ask the kit for its tasks again."""
        self._form.refresh()

    def fill(self, task: str, values: Mapping[str, Any], queue: str = "") -> None:
        """Show the form of `task` with `values` filled in, as a job's `params` give them."""
        self._fill(Filled(task, dict(values), queue))

    def fill_from(self, snapshot: JobSnapshot, *, is_other: bool | None = None) -> None:
        """Show the form of a job's task with the job's arguments filled in, to run it again with changes.

        Args:
            is_other: see `Filled`; None to ask the kit.
        """
        spec = snapshot.spec
        if is_other is None:
            is_other = self._kit.runs_other_code(spec.id)
        self._fill(Filled(spec.task, dict(spec.params), spec.queue, spec.id, spec.abridged, is_other))

    def _fill(self, filled: Filled) -> None:
        self._filled = filled
        self.prefill = self._form.filling(filled)

    def _cell(self) -> Any:
        from jobkit.ui.notebook import FormDisplay

        found = self._kit.tasks()
        names = self._names if self._names is not None else sorted(found)
        infos = {name: found[name] for name in names if name in found}
        text = f"form of task {', '.join(infos)}" if infos else "No tasks yet. Write a function with @jobkit.task."
        return FormDisplay(lambda: self._kit, infos, text, self._filled)
