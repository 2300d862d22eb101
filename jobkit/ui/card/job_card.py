"""`JobCard`: a live job in a Panel page, the dashboard's or your own (`job.view()`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import param

from jobkit.client.kit import Kit
from jobkit.ui.access.actions import Actions
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
