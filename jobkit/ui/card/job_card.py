"""`JobCard`: a live job in a Panel page, the dashboard's or a user's own (`job.view()`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import param
from panel.custom import AnyWidgetComponent

from jobkit.ui.access.actions import Actions
from jobkit.ui.card.job_feed import ACTIONS, EMPTY, CardControl
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.browser_requests import on_request
from jobkit.ui.live.component import Component
from jobkit.ui.words import assets

if TYPE_CHECKING:
    from jobkit.client import Kit

#: Action to check for a button, if its name differs.
_GATE = {"rerun": "submit"}


class JobCard(Component, AnyWidgetComponent):
    """The live card of one job.

    Args:
        kit: where the job is.
        job_id: the job, or "" for none yet.
        actions: any of "cancel", "retry", "move" and "rerun"; () makes a card that only looks.
        on_action: called in the session with `(action, job id)`: for "retry" the id of the new job, which the card then
            shows unless `on_action` is given; "rerun" is only offered with `on_action`.
        on_group: called in the session with the id of the job's group of failures; with it, the card shows
            people who may see all jobs how many more have failed like it.
        bridge, access: of the session, where the caller already has them.

    Attributes:
        snapshot, log, log_append, preview, artifacts: the texts that the browser shows first; see `CardModel`.
            Later ones bypass them, see `PatchSender`.
        alike: how many more have failed like this job, after the browser has asked.
        file: the answer to a request for an artifact or a log, see `downloads`.
        refused: why the last request failed.
        keyboard: whether `r` and `c` retry and cancel; for a page on which one card is open at a time.
        request: the browser's newest request.
    """

    snapshot = param.String(default="")
    log = param.String(default="")
    log_append = param.String(default="")
    preview = param.String(default="")
    artifacts = param.String(default="")
    alike = param.String(default="")
    file = param.String(default="")
    refused = param.String(default="")
    actions = param.String(default="[]")
    keyboard = param.Boolean(default=False)
    request = param.String(default="")

    _esm = assets.esm("card")
    _stylesheets: ClassVar[list[str]] = [assets.css("card")]

    part_of: ClassVar[Mapping[str, str]] = {"log": "log_append"}

    def __init__(
        self,
        kit: Kit,
        job_id: str = "",
        *,
        actions: Sequence[str] = ("cancel", "retry"),
        on_action: Callable[[str, str], object] | None = None,
        on_group: Callable[[str], object] | None = None,
        bridge: SessionBridge | None = None,
        access: Actions | None = None,
        **params: Any,
    ) -> None:
        access = access or Actions(kit)
        offered = [a for a in ACTIONS if a in actions and access.may(_GATE.get(a, a))]
        super().__init__(actions=json.dumps(offered), **params)
        self._on_action = on_action
        self._bridge = bridge or SessionBridge()
        self._control = CardControl(
            access,
            partial(self._bridge.put, self),
            actions=offered,
            on_action=lambda action, job: self._bridge.push(partial(self._acted, action, job)),
            on_group=on_group,
        )
        self._bridge.on_close(self._control.stop)
        on_request(self, self._bridge, self._control.do)
        if job_id:
            self.follow(job_id)

    @property
    def job_id(self) -> str:
        """Id of the job that is shown, or ""."""
        return self._control.job_id

    def follow(self, job_id: str) -> None:
        """Show another job, or none for ""."""
        self.param.update(log_append="", **EMPTY)
        self._control.follow(job_id)

    def _acted(self, action: str, job_id: str) -> None:
        """In the session."""
        if self._on_action is not None:
            self._on_action(action, job_id)
        elif action == "retry":
            self.follow(job_id)
