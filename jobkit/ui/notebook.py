"""Display of jobs in a notebook: a live card while they go on, static HTML once they have ended.

A live card has two outputs: static HTML, and the widget, which hides it as long as it is there. JupyterLab prefers a
widget to all else in an output, also one whose kernel is gone ("model not found"), so the HTML needs an output of its
own. It is renewed as the job goes on: a notebook that is saved, opened without a kernel, exported or not trusted shows
how things stood. When the job ends the widget's output becomes empty. A job that has ended is static from the start.
"""

from __future__ import annotations

import base64
import contextvars
import copy
import importlib
import json
import logging
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobkit.client.job import Job
from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.client.tables import Table
from jobkit.model import JobkitError
from jobkit.run.inside.shown_values import PLOTLY, VEGA
from jobkit.tasks.info import TaskInfo
from jobkit.ui.card.card_html import LINES, card_html, table_html
from jobkit.ui.card.card_model import CardModel
from jobkit.ui.card.downloads import read_card
from jobkit.ui.form.form_model import Filled, form_html

logger = logging.getLogger("jobkit.ui")

#: Seconds after which a saved notebook may show an older state of a job that goes on.
_KEEP_S = 10.0

#: Larger specifications and pictures (characters) stay in the store: a notebook that is kept in git should be small.
_LARGEST = 250_000

_SVG = "data:image/svg+xml;base64,"

#: A tag that drawings of figures have, and what refers to another file. Exports of notebooks contain drawings
#: as markup, and a job can say anything, so nothing else is let through.
_TAG = re.compile(
    r"</(?:svg|text|tspan)>|<(?:svg|rect|path|polyline|circle|text|tspan)(?: (?:"
    r"(?:xmlns|width|height|viewBox|fill|fill-opacity|stroke|stroke-width|x|y|d|points|cx|cy|r|text-anchor"
    r'|transform)="[\w #.,%:/()+-]*"|style="font[\w-]*:[\w ,-]+(?:;font[\w-]*:[\w ,-]+)*"))*/?>'
)
_REFERENCE = re.compile(r'="[^"]*url\(', re.IGNORECASE)


class CellDisplay:
    """The display of one thing in a cell: a line of text, static HTML, and a live widget.

    Front ends ask in three ways, see `Shown`. Kernels of IPython (JupyterLab, VS Code, Colab, papermill, Quarto) call
    `show`, whose outputs become static at the end. marimo calls `marimo`. Others take a bundle of MIME types.

    Attributes:
        text: the line. is_empty: there is nothing else. heading: printed above.
        is_over: nothing changes any more, or the kit is closed.
        handle: the job, or the batch or what it belongs to, whose `result()` waits until its outputs are static.
    """

    handle: Any = None
    text = heading = ""
    is_empty = is_over = False

    def model(self) -> Any:
        """Return what `html` shows, as of now."""

    def html(self, model: Any) -> str:
        raise NotImplementedError

    def live(self, **hooks: Any) -> Any:
        """Return a new live widget; `hooks` as of `LiveWidget`."""
        raise NotImplementedError

    def widget(self) -> Any:
        """Return a live widget to put into others. It follows nothing while no page shows it: its parent was closed.

        Raises JobkitError if the kit is closed.
        """
        if self.handle is not None:
            self.handle.kit.connection.ensure_open()
        widget = self.live()
        widget.layout.flex = "1 1 340px"  # in a row, they share its width
        widget._view_count = 0  # from now on the browser counts its views
        return widget

    def widgets(self) -> list[Any]:
        """Return the widgets that marimo shows, one below the other."""
        return [self.live()]

    def static(self, model: Any) -> dict[str, Any]:
        """Return what a saved notebook shows, by MIME type."""
        return {"text/plain": self.text, "text/html": self.html(model)}

    def outputs(self, model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what a saved notebook shows, and what it shows below that if a front end draws it by itself."""
        return self.static(model), {"text/plain": ""}

    def show(self) -> None:
        """Show it in the current cell. Raises NotImplementedError outside a kernel of IPython."""
        if self.is_empty or not _is_notebook():
            raise NotImplementedError
        if self.heading:
            print(self.heading)
        if self.is_over:
            card, below = self.outputs(self.model())
            _display(card)
            if len(below) > 1:
                _display(below)
        else:
            self.show_live()

    def show_live(self, handles: Sequence[Any] = ()) -> _Output:
        """Show a widget that becomes static at the end, in the two outputs of `handles` or in new ones."""
        output = _Output(self.outputs)
        if self.handle is not None:
            self.handle.cards += (output.is_static,)

        def end(model: Any) -> None:
            if model is None and self.handle is not None and self.handle.kit.is_closed:  # before it was read
                model = self.model()
            if model is not None:
                output.end(model)

        output.show(self.live(on_end=end, on_change=output.keep), self.model(), handles)
        return output

    def bundle(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return representations and metadata by MIME type: in a terminal the line, without a kernel nothing live."""
        shell, is_notebook = _shell(), _is_notebook()
        if self.is_empty or (shell is not None and not is_notebook):
            return {"text/plain": self.text}, {}
        live, metadata = _widget_view(self.live()) if is_notebook and not self.is_over else ({}, {})
        return {**live, **self.static(self.model())}, metadata

    def marimo(self) -> Any:
        """Return what marimo shows: live widgets, and what an export shows instead of them."""
        marimo = importlib.import_module("marimo")
        if self.is_empty:
            return marimo.plain_text(self.text)
        widgets = self.widgets()
        widgets[0].saved = _new_id()
        static = _behind_widget(widgets[0].saved, self.html(self.model()))
        heading = marimo.plain_text(self.heading).text if self.heading else ""
        live = "".join(marimo.as_html(widget).text for widget in widgets)
        return marimo.Html(
            f'<div style="display:grid;gap:12px;grid-template-columns:minmax(0,1fr)">{heading}{static}{live}</div>'
        )


class JobDisplay(CellDisplay):
    """The card of a job."""

    def __init__(self, job: Job) -> None:
        self.job = self.handle = job
        self.text, self.is_over = repr(job), job.snapshot.is_terminal or job.kit.is_closed

    def model(self) -> CardModel:
        model = CardModel(self.job.snapshot)
        if self.is_over:
            try:
                read_card(self.job.kit, model, LINES)
            except JobkitError:
                logger.debug("log and result of a job could not be read for its card", exc_info=True)
        return model

    def html(self, model: CardModel) -> str:
        return card_html(model)

    def outputs(self, model: CardModel) -> tuple[dict[str, Any], dict[str, Any]]:
        if (chart := chart_bundle(model.preview)) is None:
            return super().outputs(model)
        card = copy.copy(model)
        card.preview = None
        return self.static(card), chart

    def live(self, **hooks: Any) -> Any:
        from jobkit.ui.widgets import JobWidget

        return JobWidget(self.job.kit, self.job.id, **hooks)


def chart_bundle(preview: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return representations of a result by MIME type: specification, picture, text. None if it has no specification.

    Nothing of it is HTML, which JupyterLab would prefer.
    """
    mime = preview.get("mime") if preview else None
    spec = preview.get("spec") if preview else None
    if preview is None or mime not in (PLOTLY, VEGA) or not isinstance(spec, dict) or len(json.dumps(spec)) > _LARGEST:
        return None
    png, picture = preview.get("png"), str(preview.get("picture"))
    bundle = {mime: spec, "text/plain": str(preview.get("text"))}
    if isinstance(png, str) and len(png) <= _LARGEST:
        bundle["image/png"] = png
    elif picture.startswith(_SVG):
        drawing = base64.b64decode(picture.removeprefix(_SVG)).decode("utf-8", "replace")
        if "<" not in _TAG.sub("", drawing) and not _REFERENCE.search(drawing):
            bundle["image/svg+xml"] = drawing
    return bundle


class TableDisplay(CellDisplay):
    """A table of the moment: workers, tasks, batches, totals."""

    is_over = True

    def __init__(self, table: Table) -> None:
        self.table, self.text = table, repr(table)

    def html(self, model: Any) -> str:
        return table_html(self.table)

    def live(self, **hooks: Any) -> Any:
        return importlib.import_module("ipywidgets").HTML(table_html(self.table))

    def marimo(self) -> Any:
        return importlib.import_module("marimo").Html(table_html(self.table))


class FormDisplay(CellDisplay):
    """The form of tasks, and below it the card of the job that was submitted last.

    Args:
        kit: gives the kit to submit with. infos: the tasks, by name. filled: what it starts from.
    """

    def __init__(
        self, kit: Callable[[], Kit], infos: Mapping[str, TaskInfo], text: str, filled: Filled | None = None
    ) -> None:
        self.kit, self.infos, self.text, self.filled, self.is_empty = kit, infos, text, filled, not infos

    def html(self, model: Any) -> str:
        return form_html(list(self.infos.values()))

    def live(self, submitted: Callable[[str], None] | None = None, **hooks: Any) -> Any:
        """`submitted` is called with the id of each job that is submitted from here, in a thread of jobkit's."""
        from jobkit.ui.widgets import FormWidget

        def on_submit(job_id: str) -> None:
            # Not on the background loop, which reads the job: it must not wait for itself.
            if submitted is not None:
                background.watchers_do(lambda: submitted(job_id))

        return FormWidget(self.kit, self.infos, on_submit=on_submit, filled=self.filled)

    def show_live(self, handles: Sequence[Any] = ()) -> _Output:
        below: list[Any] = []
        card: _Output | None = None

        def submitted(job_id: str) -> None:
            nonlocal card
            shown = JobDisplay(self.kit().get(job_id))
            if card is not None:
                card.leave()
            card = shown.show_live(below)

        form = _Output(self.outputs)
        form.show(self.live(submitted), None)
        below += [_display({"text/plain": ""}) for _ in range(2)]
        return form

    def widget(self) -> Any:
        from jobkit.ui.widgets import WidgetColumn

        form, card = self.widgets()
        card._view_count = 0
        return WidgetColumn([form, card])

    def widgets(self) -> list[Any]:
        from jobkit.ui.widgets import JobWidget

        card = JobWidget()
        return [self.live(lambda job_id: card.follow(self.kit(), job_id)), card]


class _Output:
    """A live output that becomes static once, however early that comes.

    Args:
        outputs: makes of a model what a saved notebook shows, by MIME type; called again and again, and once at the
            end, when the second one takes the widget's place.
    """

    def __init__(self, outputs: Callable[[Any], tuple[dict[str, Any], dict[str, Any]]]) -> None:
        self.is_static = threading.Event()
        self.outputs = outputs
        self._ends: deque[Any] = deque()
        self._handles: Sequence[Any] = ()
        self._updating = threading.Lock()
        self._id = _new_id()
        self._kept: tuple[float, str] = (0.0, "")

    def show(self, widget: Any, model: Any, handles: Sequence[Any] = ()) -> None:
        """Show a widget, and hidden behind it what a saved notebook shows; in the outputs of `handles` if given."""
        self._widget = widget
        widget.saved = self._id
        live, metadata = _widget_view(widget)
        bundles: list[tuple[dict[str, Any], dict[str, Any]]] = [
            (self._behind(self.outputs(model)[0]), {}),
            ({**live, "text/plain": ""}, metadata),
        ]
        self._kept = (time.monotonic(), "")
        if handles:
            for handle, (bundle, more) in zip(handles, bundles, strict=True):
                handle.update(bundle, raw=True, metadata=more)
        else:
            handles = [_display(*each) for each in bundles]
        self._handles = handles
        self._turn()

    def keep(self, model: Any) -> None:
        """Renew what a saved notebook shows, if its face has changed or it is older than `_KEEP_S`."""
        at, before = self._kept
        is_due = model.face != before or time.monotonic() - at >= _KEEP_S
        if self._handles and is_due and not self.is_static.is_set() and not self._ends:
            self._kept = (time.monotonic(), model.face)
            self._update([self._behind(self.outputs(model)[0])])

    def end(self, model: Any) -> None:
        """Make the output static, now or when it is shown; in any thread."""
        self._ends.append(model)
        self._turn()

    def leave(self) -> None:
        """Leave the outputs to another card."""
        with self._updating:
            self._handles = ()
        self._widget.close()
        self.is_static.set()

    def _turn(self) -> None:
        while self._handles:
            try:
                bundles = self.outputs(self._ends.popleft())
            except IndexError:
                return
            # Programs that run notebooks drop what arrives between two cells: say it once more in the next one. This
            # first: a cell that begins just before it takes the update below, one that begins after it says it again.
            _in_next_cell(lambda bundles=bundles: self._update(bundles))  # type: ignore[misc]  # the default binds it
            self._update(bundles)
            self._widget.close()
            self.is_static.set()

    def _behind(self, bundle: Mapping[str, Any]) -> dict[str, Any]:
        """`bundle` as the output before the widget's: common.js hides it while the widget is there, and in JupyterLab
        its style hides what a widget says that cannot be shown ("Loading widget...", "model not found")."""
        child, own = ".jp-OutputArea-child", f":has(#{self._id})"
        style = f"{child}{own}+{child}:has(>.jp-OutputArea-output:not([data-mime-type])):not(:has(.jk)){{display:none}}"
        return {**bundle, "text/html": _behind_widget(self._id, f"{bundle['text/html']}<style>{style}</style>")}

    def _update(self, bundles: Sequence[Mapping[str, Any]]) -> None:
        try:
            with self._updating:
                for handle, bundle in zip(self._handles, bundles, strict=False):
                    # In a new context, an output belongs to the cell that runs now, not to the cell that began this.
                    contextvars.Context().run(handle.update, dict(bundle), raw=True)
        except Exception:  # the kernel is going away; the next display reads the truth from the store
            logger.debug("a card could not be made static", exc_info=True)


def _new_id() -> str:
    return f"jk-{secrets.token_hex(6)}"


def _behind_widget(saved: str, html: str) -> str:
    """Return HTML that the widget with this id in `saved` hides."""
    return f'<div id="{saved}">{html}</div>'


def _widget_view(widget: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a widget's bundle and its metadata, which name Colab's loader of widgets."""
    shown = widget._repr_mimebundle_()
    return shown if isinstance(shown, tuple) else (shown or {}, {})


def _in_next_cell(action: Callable[[], None]) -> None:
    events = getattr(_shell(), "events", None)
    if events is None:
        return

    def fire(*_: object) -> None:
        events.unregister("pre_run_cell", fire)
        action()

    events.register("pre_run_cell", fire)


def _display(bundle: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> Any:
    from IPython.display import display

    return display(bundle, raw=True, display_id=True, metadata=metadata)  # type: ignore[no-untyped-call]  # IPython's


def _is_notebook() -> bool:
    return getattr(_shell(), "kernel", None) is not None


def _shell() -> Any:
    from IPython.core.getipython import get_ipython

    return get_ipython()  # type: ignore[no-untyped-call,unused-ignore]  # in some versions
