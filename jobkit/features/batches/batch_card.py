"""`BatchCard`: many live jobs in a Panel page, the dashboard's or your own (`batch.view()`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import param

from jobkit.client.batch import Batch
from jobkit.features.batches.batch_feed import BatchControl
from jobkit.ui.live.component import LivePage


class BatchCard(LivePage):
    """The live card of a batch.

    Args:
        batch: the jobs.
        is_list: see `BatchModel`.
        on_open: called in the session with the id of the job that was clicked; without, a click copies it.
        access: of the session, where the caller already has it.

    Attributes:
        head, table, delta, plot, curves: the texts that the browser shows; see `BatchModel`. opens: see `on_open`.
        file: the answer to a request for a download, see `batch_files`. refused: why the last request failed.
        told: as of `JobCard`.
    """

    head = param.String(default="")
    table = param.String(default="")
    delta = param.String(default="")
    plot = param.String(default="")
    curves = param.String(default="")
    file = param.String(default="")
    refused = param.String(default="")
    told = param.String(default="")
    opens = param.Boolean(default=False)

    MODULE = "batch"

    part_of: ClassVar[Mapping[str, str]] = {"table": "delta"}

    def __init__(
        self, batch: Batch, *, is_list: bool = False, on_open: Callable[[str], object] | None = None, **params: Any
    ) -> None:
        super().__init__(batch.kit, on_open=on_open, opens=on_open is not None, **params)
        self._control = BatchControl(self._access, partial(self._bridge.put, self), batch, is_list=is_list)
        self._bridge.on_close(self.stop)

    def stop(self) -> None:
        self._control.stop()

    def _do(self, action: str, asked: Mapping[str, Any]) -> None:
        if action == "open":
            super()._do(action, asked)
        else:
            self._control.do(action, asked)
