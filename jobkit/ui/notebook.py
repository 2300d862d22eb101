"""Display of jobs in a notebook: a live card while they go on, static HTML once they have ended.

A live card has two outputs: static HTML, and the widget, which hides it as long as it is there. JupyterLab prefers a
widget to all else in an output, also one whose kernel is gone ("model not found"), so the HTML needs an output of its
own. It is renewed as the job goes on: a notebook that is saved, opened without a kernel, exported or not trusted shows
how things stood. When the job ends the widget's output becomes empty. A job that has ended is static from the start.
"""

from __future__ import annotations

import contextvars
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobkit.client import Batch, Job, Kit
from jobkit.client.loop import background
from jobkit.model import JobkitError
from jobkit.tasks.info import TaskInfo
from jobkit.ui.card.batch_model import BatchModel
from jobkit.ui.card.card_html import batch_html, card_html
from jobkit.ui.card.card_model import CardModel
from jobkit.ui.form.form_model import Filled, form_html

logger = logging.getLogger("jobkit.ui")

#: Log lines that are read for the static card of a job that has already ended.
_TAIL = 12

#: Seconds after which a saved notebook may show an older state of a job that goes on.
_KEEP_S = 10.0


def display_job(job: Job) -> None:
    """Show the card of `job` in the current cell; outside a notebook, print its one line."""
    if not _is_notebook():
        print(repr(job))
    elif not job.snapshot.is_terminal:
        live_card(job)
    else:
        model = CardModel(job.snapshot)
        try:
            log = job.kit.log_slice(job.id, tail=_TAIL)
            model.load_log(log.lines, log.total, log.dropped)
            model.keep([artifact.to_json() for artifact in job.kit.artifacts(job.id)])
            model.show(job.kit.preview(job.id))
        except JobkitError:
            logger.debug("log and result of a job could not be read for its card", exc_info=True)
        _display(_saved_job(job, model))


def display_form(kit: Callable[[], Kit], infos: Mapping[str, TaskInfo], filled: Filled | None = None) -> bool:
    """Show the form of tasks in the current cell, and below it the card of the job that was submitted last.

    Args:
        kit: gives the kit to submit with. infos: the tasks, by name. filled: what it starts from.

    Returns:
        False outside a notebook; nothing was shown then.
    """
    if not (_is_notebook() and infos):
        return False
    from jobkit.ui.widgets import FormWidget

    below: list[Any] = []

    def submitted(job_id: str) -> None:
        # Not on the background loop, which reads the job: it must not wait for itself.
        background.watchers_do(lambda: live_card(kit().get(job_id), below))

    text = ", ".join(f"form of task {name}" for name in infos)
    saved = {"text/plain": text, "text/html": form_html(list(infos.values()))}
    _Output(lambda _: saved).show(FormWidget(kit, infos, on_submit=submitted, filled=filled), None)
    below = [_display({"text/plain": ""}) for _ in range(2)]
    return True


def live_card(job: Job, handles: Sequence[Any] = ()) -> None:
    """Show the live card, which becomes static when the job ends, in the two outputs of `handles` or in new ones."""
    from jobkit.ui.widgets import JobWidget

    output = _Output(lambda model: _saved_job(job, model))
    job._cards += (output.is_static,)
    widget = JobWidget(job.kit, job.id, on_end=output.end, on_change=output.keep)
    output.show(widget, CardModel(job.snapshot), handles)


def _saved_job(job: Job, model: CardModel) -> dict[str, Any]:
    return {"text/plain": repr(job), "text/html": card_html(model)}


def display_batch(batch: Batch, *, is_list: bool = False) -> None:
    """Show the card of many jobs in the current cell, static once all have ended; outside a notebook, print one line.

    `is_list`: they were found and not submitted together, see `BatchModel`.
    """
    text = repr(list(batch)) if is_list else repr(batch)
    if not _is_notebook() or not len(batch):
        print(text)
        return
    from jobkit.ui.widgets import BatchWidget

    output = _Output(lambda model: {"text/plain": text, "text/html": batch_html(model)})
    model = BatchModel([job.snapshot for job in batch], axes=batch.axes, is_list=is_list)
    if not batch.is_terminal:
        batch._cards += (output.is_static,)
        output.show(BatchWidget(batch, is_list=is_list, on_end=output.end, on_change=output.keep), model)
        return
    model.stopped_by = batch.stopped_by.id[:8] if batch.stopped_by is not None else ""
    try:
        while wanting := model.wanting():
            for i in wanting:
                model.show(i, batch[i].preview())
    except JobkitError:
        logger.debug("results of a batch could not be read for its card", exc_info=True)
    _display(output.static(model))


class _Output:
    """A live output that becomes static once, however early that comes.

    Args:
        static: makes of a model what a saved notebook shows, by MIME type; called again and again, and once at the end.
    """

    def __init__(self, static: Callable[[Any], dict[str, Any]]) -> None:
        self.is_static = threading.Event()
        self.static = static
        self._ends: deque[Any] = deque()
        self._handles: Sequence[Any] = ()
        self._id = f"jk-{secrets.token_hex(6)}"
        self._kept: tuple[float, str] = (0.0, "")

    def show(self, widget: Any, model: Any, handles: Sequence[Any] = ()) -> None:
        """Show a widget, and hidden behind it what a saved notebook shows; in the outputs of `handles` if given."""
        widget.saved = self._id
        live = widget._repr_mimebundle_()
        shown = {**((live[0] if isinstance(live, tuple) else live) or {}), "text/plain": ""}
        bundles = (self._behind(self.static(model)), shown)
        self._kept = (time.monotonic(), "")
        if handles:
            for handle, bundle in zip(handles, bundles, strict=True):
                handle.update(bundle, raw=True)
        else:
            handles = [_display(bundle) for bundle in bundles]
        self._handles = handles
        self._turn()

    def keep(self, model: Any) -> None:
        """Renew what a saved notebook shows, if its face has changed or it is older than `_KEEP_S`."""
        at, before = self._kept
        is_due = model.face != before or time.monotonic() - at >= _KEEP_S
        if self._handles and is_due and not self.is_static.is_set() and not self._ends:
            self._kept = (time.monotonic(), model.face)
            self._update([self._behind(self.static(model))])

    def end(self, model: Any) -> None:
        """Make the output static, now or when it is shown; in any thread."""
        self._ends.append(model)
        self._turn()

    def _turn(self) -> None:
        while self._handles:
            try:
                bundles = [self.static(self._ends.popleft()), {"text/plain": ""}]
            except IndexError:
                return
            # Programs that run notebooks drop what arrives between two cells: say it once more in the next one. This
            # first: a cell that begins just before it takes the update below, one that begins after it says it again.
            _in_next_cell(lambda bundles=bundles: self._update(bundles))  # type: ignore[misc]  # the default binds it
            self._update(bundles)
            self.is_static.set()

    def _behind(self, bundle: Mapping[str, Any]) -> dict[str, Any]:
        """`bundle` as the output before the widget's: common.js hides it while the widget is there, and in JupyterLab
        its style hides what a widget says that cannot be shown ("Loading widget...", "model not found")."""
        child, own = ".jp-OutputArea-child", f":has(#{self._id})"
        style = f"{child}{own}+{child}:has(>.jp-OutputArea-output:not([data-mime-type])):not(:has(.jk)){{display:none}}"
        return {**bundle, "text/html": f'<div id="{self._id}">{bundle["text/html"]}<style>{style}</style></div>'}

    def _update(self, bundles: Sequence[Mapping[str, Any]]) -> None:
        try:
            for handle, bundle in zip(self._handles, bundles, strict=False):
                # In a new context, an output belongs to the cell that runs now, not to the cell that began this.
                contextvars.Context().run(handle.update, dict(bundle), raw=True)
        except Exception:  # the kernel is going away; the next display reads the truth from the store
            logger.debug("a card could not be made static", exc_info=True)


def _in_next_cell(action: Callable[[], None]) -> None:
    events = getattr(_shell(), "events", None)
    if events is None:
        return

    def fire(*_: object) -> None:
        events.unregister("pre_run_cell", fire)
        action()

    events.register("pre_run_cell", fire)


def _display(bundle: Mapping[str, Any]) -> Any:
    from IPython.display import display

    return display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]  # IPython's


def _is_notebook() -> bool:
    return getattr(_shell(), "kernel", None) is not None


def _shell() -> Any:
    from IPython.core.getipython import get_ipython

    return get_ipython()  # type: ignore[no-untyped-call,unused-ignore]  # in some versions
