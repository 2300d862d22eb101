"""`JobCard` and `BatchCard`: live jobs in a Panel page, the dashboard's or your own (`job.view()`, `batch.view()`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import param

from jobkit.client.batch import Batch
from jobkit.client.kit import Kit
from jobkit.ui.access.actions import Actions
from jobkit.ui.card.batch_feed import BatchControl
from jobkit.ui.card.job_feed import ACTIONS, EMPTY, CardControl
from jobkit.ui.live.component import LivePage
from jobkit.ui.live.page import Turn


class JobCard(LivePage):
    """The live card of one job.

    Args:
        kit: where the job is.
        job_id: the job, or "" for none yet.
        actions: any of "answer", "cancel", "retry", "move" and "tell"; () makes a card that only looks.
        on_open: called in the session with the id of another job, like that of a retry; without, the card shows it.
        turns: the ways to pages, by slug. on_turn: called in the session with the slug, the id of what the page shows,
            and whether the card covers the page.
        bridge, access: of the session, where the caller already has them.

    Attributes:
        snapshot, log, log_append, preview, artifacts, sections, made, metrics, metrics_append: texts that the browser
            shows first; see `CardModel`. Later ones bypass them, see `SessionBridge`.
        replied: the reply to the newest request of a section.
        alike: a link to more jobs like this one, after the browser has asked, see `card.py` of features.
        file: the answer to a request for an artifact or a log, see `downloads`.
        refused: why the last request failed.
        told: "told" if the person gets a message at the end, "offer" if they may ask for it.
        keyboard: whether `r` and `c` retry and cancel; for a page on which one card is open at a time.

    Example:
        >>> job = report.submit()
        >>> card = JobCard(kit, job.id, actions=("cancel", "retry"))
        >>> layout = pn.Row(card)
    """

    snapshot = param.String(default="")
    log = param.String(default="")
    log_append = param.String(default="")
    preview = param.String(default="")
    artifacts = param.String(default="")
    sections = param.String(default="")
    made = param.String(default="")
    replied = param.String(default="")
    metrics = param.String(default="")
    metrics_append = param.String(default="")
    alike = param.String(default="")
    file = param.String(default="")
    refused = param.String(default="")
    told = param.String(default="")
    actions = param.String(default="[]")
    keyboard = param.Boolean(default=False)
    turns = param.List(default=[])

    MODULE = "card"

    part_of: ClassVar[Mapping[str, str]] = {"log": "log_append", "metrics": "metrics_append"}

    def __init__(
        self,
        kit: Kit,
        job_id: str = "",
        *,
        actions: Sequence[str] = ("answer", "cancel", "retry", "tell"),
        turns: Mapping[str, Turn] | None = None,
        on_turn: Callable[[str, str, bool], object] = lambda *_: None,
        access: Actions | None = None,
        **params: Any,
    ) -> None:
        access = access or Actions(kit)
        offered = [a for a in ACTIONS if a in actions and access.may(a)]
        shown = [[slug, turn.word, turn.title] for slug, turn in (turns or {}).items()]
        super().__init__(kit, access=access, actions=json.dumps(offered), turns=shown, **params)
        self._on_turn = on_turn
        self._control = CardControl(
            access,
            partial(self._bridge.put, self),
            actions=offered,
            on_open=lambda other: self._bridge.push(partial(self._on_open or self.follow, other)),
        )
        self._bridge.on_close(self._control.stop)
        if job_id:
            self.follow(job_id)

    @property
    def job_id(self) -> str:
        """Id of the job that is shown, or ""."""
        return self._control.job_id

    def follow(self, job_id: str) -> None:
        """Show another job, or none for ""."""
        self.param.update(log_append="", metrics_append="", **EMPTY)
        self._control.follow(job_id)

    def _do(self, action: str, asked: Mapping[str, Any]) -> None:
        if action == "turn" and (to := str(asked.get("to"))) in [slug for slug, *_ in self.turns]:
            self._on_turn(to, str(asked.get("id") or self.job_id)[:200], asked.get("covers") is True)
        else:
            self._control.do(action, asked)


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
