"""`JobWidget`: the live card of a job in a notebook, an anywidget around the same module that the dashboard uses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import traitlets

from jobkit.client.loop import background
from jobkit.model import JobkitError
from jobkit.ui.card.card_model import CardModel
from jobkit.ui.card.downloads import LogPages, answer
from jobkit.ui.card.job_feed import CardSubscriber, JobSubscription
from jobkit.ui.live.browser_requests import Requests
from jobkit.ui.live.text_widget import TextWidget
from jobkit.ui.words import assets

if TYPE_CHECKING:
    from jobkit.client import Kit

#: Shortest time between two messages to the notebook.
_WINDOW_S = 0.1


class JobWidget(TextWidget):
    """The live card of one job.

    Args:
        kit: where the job is.
        job_id: the job.
        on_end: called once with the `CardModel` of the ended job, on jobkit's background loop.
        on_change: called there with the `CardModel` after each delivery.

    Its traits are the texts of `feed.CardModel`.
    """

    _esm = assets.esm("card")
    _css = assets.css("card")

    snapshot = traitlets.Unicode("").tag(sync=True)
    log = traitlets.Unicode("").tag(sync=True)
    log_append = traitlets.Unicode("").tag(sync=True)
    preview = traitlets.Unicode("").tag(sync=True)
    artifacts = traitlets.Unicode("").tag(sync=True)
    file = traitlets.Unicode("").tag(sync=True)
    actions = traitlets.Unicode('["cancel"]').tag(sync=True)
    request = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        kit: Kit,
        job_id: str,
        *,
        on_end: Callable[[CardModel], None] | None = None,
        on_change: Callable[[CardModel], None] | None = None,
    ) -> None:
        super().__init__()
        self._kit = kit
        self._on_end = on_end
        self._on_change = on_change
        self._requests = Requests()
        self._log_pages = LogPages()
        self.observe(self._asked, "request")
        self.start_beating()
        card = CardSubscriber(self._deliver, self._ended, lambda _: self.stop_beating())
        self._following = JobSubscription(kit, card, job_id, _WINDOW_S)
        self._following.start()

    def close(self) -> None:
        self._following.stop()
        self.stop_beating()
        super().close()

    def get_state(self, key: str | Iterable[str] | None = None, drop_defaults: bool = False) -> dict[str, Any]:
        """Return the synced state; asked for as a whole (a page that was loaded again), it holds the log up to now."""
        view = self._following.view if key is None and hasattr(self, "_following") else None
        if view is not None:
            self._trait_values["log"] = view.log_json()  # no message: the log travels in parts, as `log_append`
        state: dict[str, Any] = super().get_state(key=key, drop_defaults=drop_defaults)
        return state

    def _deliver(self, whole: Mapping[str, str], parts: Mapping[str, str]) -> None:
        self.put({**whole, **parts})
        view = self._following.view if hasattr(self, "_following") else None
        if view is not None and self._on_change is not None:
            self._on_change(view)

    def _ended(self, view: CardModel) -> None:
        self.stop_beating()
        if self._on_end is not None:
            self._on_end(view)

    def _asked(self, change: Any) -> None:
        for asked in self._requests.of(change["new"]):
            self._do(asked["action"], asked)

    def _do(self, action: str, asked: dict[str, Any]) -> None:
        if action == "log":
            self._following.resend()
        elif action == "cancel":
            background.spawn(self._cancel())
        elif action in ("show", "save", "whole-log", "log-page"):
            background.spawn(self._fetch(asked))

    async def _fetch(self, asked: dict[str, Any]) -> None:
        job_id = self._following.job_id
        if asked.get("action") == "log-page":
            text = await self._log_pages.answer(self._kit, job_id, asked)
        else:
            text = await asyncio.to_thread(answer, self._kit, job_id, asked)
        self._deliver({"file": text}, {})
        self._deliver({"file": ""}, {})  # what was asked for once is not kept with the notebook

    async def _cancel(self) -> None:
        try:
            await self._kit.aio.cancel(self._following.job_id)
        except JobkitError as error:
            self._following.say(str(error))
