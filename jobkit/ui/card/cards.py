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

#: Action to check for a button, if its name differs.
_GATE = {"rerun": "submit"}


class JobCard(LivePage):
    """The live card of one job.

    Args:
        kit: where the job is.
        job_id: the job, or "" for none yet.
        actions: any of "answer", "cancel", "retry", "move", "rerun", "compare" and "tell"; () makes a card that only
            looks.
        on_action: called in the session with `(action, job id)`: for "retry" the id of the new job, which the card then
            shows unless `on_action` is given; "rerun" and "compare" are only offered with `on_action`; "open" shows
            another job.
        on_group: called in the session with the id of the job's group of failures; with it, the card shows
            people who may see all jobs how many more have failed like it.
        on_log: called in the session with the job's id, to show the page of its log; without, the card has no
            link to it.
        bridge, access: of the session, where the caller already has them.

    Attributes:
        snapshot, log, log_append, preview, artifacts, sections, made, metrics, metrics_append: texts that the browser
            shows first; see `CardModel`. Later ones bypass them, see `SessionBridge`.
        replied: the reply to the newest request of a section.
        alike: how many more have failed like this job, after the browser has asked.
        file: the answer to a request for an artifact or a log, see `downloads`.
        refused: why the last request failed.
        told: "told" if the person gets a message at the end, "offer" if they may ask for it.
        keyboard: whether `r` and `c` retry and cancel; for a page on which one card is open at a time.
        has_log_page: see `on_log`.

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
    has_log_page = param.Boolean(default=False)

    MODULE = "card"

    part_of: ClassVar[Mapping[str, str]] = {"log": "log_append", "metrics": "metrics_append"}

    def __init__(
        self,
        kit: Kit,
        job_id: str = "",
        *,
        actions: Sequence[str] = ("answer", "cancel", "retry", "tell"),
        on_action: Callable[[str, str], object] | None = None,
        on_group: Callable[[str], object] | None = None,
        on_log: Callable[[str], object] | None = None,
        access: Actions | None = None,
        **params: Any,
    ) -> None:
        access = access or Actions(kit)
        offered = [a for a in ACTIONS if a in actions and (a == "compare" or access.may(_GATE.get(a, a)))]
        super().__init__(kit, access=access, actions=json.dumps(offered), has_log_page=on_log is not None, **params)
        self._on_action = on_action
        self._on_log = on_log
        self._control = CardControl(
            access,
            partial(self._bridge.put, self),
            actions=offered,
            on_action=lambda action, job: self._bridge.push(partial(self._acted, action, job)),
            on_group=on_group,
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
        if action == "log-own-page" and self._on_log is not None:
            self._on_log(self.job_id)
        else:
            self._control.do(action, asked)

    def _acted(self, action: str, job_id: str) -> None:
        if self._on_action is not None:
            self._on_action(action, job_id)
        elif action in ("retry", "open"):
            self.follow(job_id)


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
        super().__init__(batch._kit, on_open=on_open, opens=on_open is not None, **params)
        self._control = BatchControl(self._access, partial(self._bridge.put, self), batch, is_list=is_list)
        self._bridge.on_close(self.stop)

    def stop(self) -> None:
        """Follow the batch no more: the card is not shown any more."""
        self._control.stop()

    def _do(self, action: str, asked: Mapping[str, Any]) -> None:
        if action == "open":
            super()._do(action, asked)
        else:
            self._control.do(action, asked)
