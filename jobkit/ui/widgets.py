"""Widgets of a notebook: anywidgets around the modules, feeds and requests of the cards and the form of a page."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import anywidget
import traitlets
from ipywidgets import VBox  # type: ignore[import-untyped]

from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.model.plain import dumps
from jobkit.tasks.info import TaskInfo
from jobkit.ui.access.actions import Actions
from jobkit.ui.card.card_model import CardModel
from jobkit.ui.card.job_feed import EMPTY, CardControl
from jobkit.ui.form.form_model import Filled, FormModel
from jobkit.ui.live.control import Control, Requests
from jobkit.ui.words import assets

logger = logging.getLogger("jobkit.ui")

#: Seconds between two beats. The browser takes 7 s of silence for the end of the kernel (`Pulse` in common.js).
_BEAT_S = 2.0

#: Seconds between two messages of a job's card to the notebook, at least.
_WINDOW_S = 0.1

#: Actions that the browser of a job's card may request.
_ACTIONS = ("answer", "cancel", "tell")


class TextWidget(anywidget.AnyWidget):
    """An anywidget whose traits are texts. They are written by one thread at a time: a comm may be written from any
    thread, but not from two at once.

    Args:
        texts: first value of each trait that the component has, beside those below.

    Attributes:
        beat: a number that grows as long as the kernel lives, "" if the widget does not change any more. The background
            loop writes it, so a kernel that is busy with a cell beats as well.
        saved: id of the element that a saved notebook shows instead of the widget; hidden beside it.
        request: the browser's newest request.
    """

    _beating: Any = None

    beat = traitlets.Unicode("").tag(sync=True)
    saved = traitlets.Unicode("").tag(sync=True)
    request = traitlets.Unicode("").tag(sync=True)

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._write = threading.RLock()
        self.add_traits(**{name: traitlets.Unicode(text).tag(sync=True) for name, text in texts.items()})
        super().__init__()
        self.observe(self._viewed, "_view_count")

    def begin(self) -> None:
        """Beat, until `rest`."""
        self._beating = background.spawn(self._beat())

    def rest(self) -> None:
        """Do nothing more, until `begin`; any number of times."""
        if self._beating is not None:
            self._stop_beating()
            self._beating = None

    def close(self) -> None:
        self.rest()
        super().close()

    def _viewed(self, change: Any) -> None:
        """Rest while no page shows it. The browser counts its views only if `_view_count` was a number at first."""
        if change["old"] and not change["new"]:
            self.rest()
        elif change["new"] and self._beating is None:
            self.begin()

    async def _beat(self) -> None:
        for count in itertools.count(1):
            if getattr(self.comm, "_closed", False):  # by the front end, or by marimo when its cell runs again
                return self.close()
            self.put({"beat": str(count)})
            await asyncio.sleep(_BEAT_S)

    def _stop_beating(self) -> None:
        self._beating.cancel()
        self.put({"beat": ""})

    def put(self, whole: Mapping[str, str], parts: Mapping[str, str] | None = None) -> None:
        """Write texts as one message."""
        try:
            with self._write, self.hold_sync():
                for name, text in {**whole, **(parts or {})}.items():
                    setattr(self, name, text)
        except Exception:  # the kernel is shutting down, or the comm was closed by the page
            logger.debug("%s could not be updated", type(self).__name__, exc_info=True)

    def on_request(self, do: Callable[[str, Mapping[str, Any]], object]) -> None:
        """Call `do(action, request)` for each request of the browser."""
        requests = Requests()
        self.observe(lambda change: [do(each["action"], each) for each in requests.of(change["new"])], "request")


class LiveWidget(TextWidget):
    """The live card of a job or a batch.

    Args:
        texts: see `TextWidget`.
        on_end: called once on jobkit's background loop when it changes no more, with the model; None if it has none.
        on_change: called there with the model after each delivery.
    """

    _control: Any = None

    def __init__(
        self,
        texts: Mapping[str, str],
        on_end: Callable[[Any], None] | None = None,
        on_change: Callable[[Any], None] | None = None,
    ) -> None:
        super().__init__(texts)
        self._on_end = on_end
        self._on_change = on_change
        self.on_request(self._do)

    def control(self) -> Control:
        """Return a new control of the card."""
        raise NotImplementedError

    def begin(self) -> None:
        """Follow the jobs, if there are any."""
        super().begin()
        self._control = self.control()

    def rest(self) -> None:
        """Follow nothing more, until `begin`."""
        if self._control is not None:
            self._control.stop()
            self._control = None
        super().rest()

    def _do(self, action: str, asked: Mapping[str, Any]) -> None:
        if self._control is not None:
            self._control.do(action, asked)

    @property
    def shown(self) -> Any:
        """The model of the jobs; None until it has been read."""
        return self._control.model if self._control is not None else None

    def current(self) -> Mapping[str, str]:
        """Return texts that travel in parts as a whole, for a page that is loaded again."""
        return {}

    def get_state(self, key: str | Iterable[str] | None = None, drop_defaults: bool = False) -> dict[str, Any]:
        if key is None and self.shown is not None:
            self._trait_values.update(self.current())  # no message
        state: dict[str, Any] = super().get_state(key=key, drop_defaults=drop_defaults)
        return state

    def _deliver(self, whole: Mapping[str, str], parts: Mapping[str, str]) -> None:
        self.put(whole, parts)
        if (model := self.shown) is not None and self._on_change is not None:
            self._on_change(model)
        if whole.get("file"):
            self.put({"file": ""})  # a download is not kept with the notebook

    def _ended(self, model: Any) -> None:
        self._stop_beating()
        if self._on_end is not None:
            self._on_end(model)


class JobWidget(LiveWidget):
    """The live card of one job, or of none yet, with the texts of `CardModel`; `hooks` as of `LiveWidget`."""

    _esm = assets.esm("card")
    _css = assets.css("card")
    _job_id = ""

    def __init__(self, kit: Kit | None = None, job_id: str = "", **hooks: Callable[[CardModel], None] | None) -> None:
        super().__init__({**EMPTY, "log_append": "", "metrics_append": "", "actions": dumps(_ACTIONS)}, **hooks)
        if kit is not None:
            self.follow(kit, job_id)

    def follow(self, kit: Kit, job_id: str) -> None:
        """Show this job."""
        self.rest()
        self._kit, self._job_id = kit, job_id
        self.begin()

    def begin(self) -> None:
        if self._job_id:
            super().begin()

    def control(self) -> Control:
        shown = CardControl(Actions(self._kit), self._deliver, actions=_ACTIONS, on_end=self._ended, window_s=_WINDOW_S)
        shown.follow(self._job_id)
        return shown

    def current(self) -> Mapping[str, str]:
        return {"log": self.shown.log_json(self.shown.lines), "metrics": self.shown.curves.text()}

    def _do(self, action: str, asked: Mapping[str, Any]) -> None:
        # A page that is loaded again has the newest text, but not the time: marimo keeps the texts as they were sent.
        super()._do(action, {} if action == "hello" else asked)


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

    def __init__(
        self,
        kit: Callable[[], Kit],
        infos: Mapping[str, TaskInfo],
        *,
        on_submit: Callable[[str], object] | None = None,
        filled: Filled | None = None,
    ) -> None:
        form = FormModel(lambda: Actions(kit()), self.put, on_submit=on_submit, infos=infos)
        super().__init__({"tasks": form.tasks(), "prefill": form.filling(filled) if filled else "", "reply": ""})
        self.on_request(form.do)
        self.begin()


class WidgetColumn(VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Widgets one below the other, which end with it."""

    def __init__(self, widgets: Iterable[Any]) -> None:
        super().__init__(list(widgets), layout={"grid_gap": "12px"})

    def close(self) -> None:
        for widget in self.children:
            widget.close()
        super().close()
