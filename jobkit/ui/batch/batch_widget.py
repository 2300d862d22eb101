"""`BatchWidget`: the live card of many jobs in a notebook, an anywidget around the module that `BatchCard` uses too."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import traitlets

from jobkit.ui.access.actions import Actions
from jobkit.ui.batch.batch_card import BatchFeed, act
from jobkit.ui.batch.batch_model import BatchModel, dumps
from jobkit.ui.live.text_widget import TextWidget
from jobkit.ui.words import assets

if TYPE_CHECKING:
    from jobkit.client.batch import Batch

logger = logging.getLogger("jobkit.ui")


class BatchWidget(TextWidget):
    """The live card of a batch.

    Args:
        batch: the jobs.
        is_list: see `BatchModel`.
        on_end: called once with the model when every job has ended, on jobkit's background loop.
        on_change: called there with the model after each delivery.

    Its traits are the texts of `BatchModel`, set by the background loop alone.
    """

    _esm = assets.esm("batch")
    _css = assets.css("batch")

    head = traitlets.Unicode("").tag(sync=True)
    table = traitlets.Unicode("").tag(sync=True)
    delta = traitlets.Unicode("").tag(sync=True)
    plot = traitlets.Unicode("").tag(sync=True)
    request = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        batch: Batch,
        *,
        is_list: bool = False,
        on_end: Callable[[BatchModel], None] | None = None,
        on_change: Callable[[BatchModel], None] | None = None,
    ) -> None:
        super().__init__()
        self._on_end = on_end
        self._on_change = on_change
        self._feed = BatchFeed(batch, self._deliver, is_list=is_list, on_end=self._ended)
        self.observe(lambda change: act(self._feed, change["new"], Actions(self._feed.batch._kit)), "request")
        self.start_beating()
        self._feed.start()

    @property
    def model(self) -> BatchModel:
        """The model of the batch."""
        return self._feed.model

    def close(self) -> None:
        self._feed.stop()
        self.stop_beating()
        super().close()

    def get_state(self, key: str | Iterable[str] | None = None, drop_defaults: bool = False) -> dict[str, Any]:
        """Return the synced state; if asked for as a whole (a reloaded page), with every row as it is now."""
        if key is None and hasattr(self, "_feed") and self.table:
            table = json.loads(self.table)
            table["n"] = self.model.replies
            table["rows"] = [self.model.row(i) for i in range(len(self.model.snapshots))]
            self._trait_values["table"] = dumps(table)  # no message: rows travel as `delta`
        state: dict[str, Any] = super().get_state(key=key, drop_defaults=drop_defaults)
        return state

    def _deliver(self, texts: Mapping[str, str], done: Callable[[], None]) -> None:
        self.put(texts)
        if self._on_change is not None:
            self._on_change(self._feed.model)
        done()

    def _ended(self, model: BatchModel) -> None:
        self.stop_beating()
        if self._on_end is not None:
            self._on_end(model)
