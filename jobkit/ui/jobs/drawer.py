"""`Drawer`: the card of one job beside a page; a whole page on a small screen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import panel as pn
import param

from jobkit.client import Kit
from jobkit.ui.card.cards import JobCard
from jobkit.ui.live.component import Component
from jobkit.ui.words import assets


class DrawerHead(Component):
    """The drawer's own line: Close and Copy link."""

    _esm = assets.esm("drawer")
    _stylesheets: ClassVar[list[str]] = [assets.css("drawer")]

    request = param.String(default="")

    def __init__(self, on_close: Callable[[], object], **params: Any) -> None:
        super().__init__(**params)
        self.param.watch(lambda _: on_close(), "request")


class Drawer(pn.Column):
    """Shows one job's card, or nothing.

    Args:
        kit, card: as of `JobCard`.
        on_close: called in the session when it is closed from inside.
    """

    def __init__(self, kit: Kit, *, on_close: Callable[[], object], **card: Any) -> None:
        sheets = [assets.css("card"), assets.source("drawer_card.css")]
        self._card_of_job = JobCard(kit, keyboard=True, margin=0, stylesheets=sheets, **card)
        frame = [assets.source("drawer_frame.css")]
        super().__init__(DrawerHead(on_close), self._card_of_job, visible=False, margin=0, stylesheets=frame)

    def open(self, job_id: str) -> None:
        """Show another job; "" closes."""
        self.visible = bool(job_id)
        if job_id != self._card_of_job.job_id:
            self._card_of_job.follow(job_id)
