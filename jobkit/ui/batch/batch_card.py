"""`BatchCard`: many jobs in a Panel page (`batch.view()`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import param
from panel.custom import AnyWidgetComponent

from jobkit.ui.access.actions import Actions
from jobkit.ui.batch.batch_feed import BatchControl
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.browser_requests import on_request
from jobkit.ui.live.component import Component
from jobkit.ui.words import assets

if TYPE_CHECKING:
    from jobkit.client.batch import Batch


class BatchCard(Component, AnyWidgetComponent):
    """The live card of a batch.

    Args:
        batch: the jobs.
        is_list: see `BatchModel`.
        on_open: called in the session with the id of the job that was clicked; without, a click copies it.
        access: of the session, where the caller already has it.

    Attributes:
        head, table, delta, plot: the texts that the browser shows; see `BatchModel`. opens: see `on_open`.
        refused: why the last request failed.
        request: the browser's newest request.
    """

    head = param.String(default="")
    table = param.String(default="")
    delta = param.String(default="")
    plot = param.String(default="")
    refused = param.String(default="")
    opens = param.Boolean(default=False)
    request = param.String(default="")

    _esm = assets.esm("batch")
    _stylesheets: ClassVar[list[str]] = [assets.css("batch")]

    part_of: ClassVar[Mapping[str, str]] = {"table": "delta"}

    def __init__(
        self,
        batch: Batch,
        *,
        is_list: bool = False,
        on_open: Callable[[str], object] | None = None,
        access: Actions | None = None,
        **params: Any,
    ) -> None:
        super().__init__(**{"opens": on_open is not None, **params})
        self._bridge = SessionBridge()
        self._control = BatchControl(
            access or Actions(batch._kit), partial(self._bridge.put, self), batch, is_list=is_list, on_open=on_open
        )
        self._bridge.on_close(self.stop)
        on_request(self, self._bridge, self._control.do)

    def stop(self) -> None:
        """Follow the batch no more: the card is not shown any more."""
        self._control.stop()
