"""`BatchWidget`: the live card of many jobs as an ipywidget."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jobkit.client.batch import Batch
from jobkit.features.batches.batch_feed import BatchControl
from jobkit.features.batches.batch_model import BatchModel
from jobkit.model.plain import dumps
from jobkit.ui.access.actions import Actions
from jobkit.ui.live.control import Control
from jobkit.ui.widgets import LiveWidget
from jobkit.ui.words import assets


class BatchWidget(LiveWidget):
    """The live card of a batch, with the texts of `BatchModel`; `hooks` as of `LiveWidget`."""

    _esm = assets.esm("batch")
    _css = assets.css("batch")

    def __init__(self, batch: Batch, *, is_list: bool = False, **hooks: Callable[[BatchModel], None] | None) -> None:
        texts = ("head", "table", "delta", "plot", "curves", "file", "refused", "told")
        super().__init__(dict.fromkeys(texts, ""), **hooks)
        self._batch, self._is_list = batch, is_list
        self.begin()

    def control(self) -> Control:
        batch = self._batch
        return BatchControl(Actions(batch.kit), self._deliver, batch, is_list=self._is_list, on_end=self._ended)

    def current(self) -> Mapping[str, str]:
        return {"table": dumps(self.shown.rows())}
