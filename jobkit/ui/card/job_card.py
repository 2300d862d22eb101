"""`JobCard`: a live job in a Panel page, the dashboard's or a user's own (`job.view()`)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import param
from panel.custom import AnyWidgetComponent

from jobkit.client.loop import background
from jobkit.model import JobkitError, JobState
from jobkit.model.failure import group_id
from jobkit.ui.access.actions import ActionReply, Actions, not_found
from jobkit.ui.card.downloads import LogPages, answer
from jobkit.ui.card.job_feed import CardSubscriber, JobSubscription
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.browser_requests import on_request
from jobkit.ui.live.component import Component
from jobkit.ui.words import assets

if TYPE_CHECKING:
    from jobkit.client import Kit

logger = logging.getLogger("jobkit.ui")

#: What the buttons of a card may ask for.
ACTIONS = ("cancel", "retry", "move", "rerun")

#: Action to check for a button, if its name differs.
_GATE = {"rerun": "submit"}


class JobCard(Component, AnyWidgetComponent):
    """The live card of one job.

    Args:
        kit: where the job is; None for an empty card that `follow` fills.
        job_id: the job, or "" for none yet.
        actions: any of "cancel", "retry", "move" and "rerun"; () makes a card that only looks.
        on_action: called in the session with `(action, job id)`: for "retry" the id of the new job, which the card then
            shows unless `on_action` is given; "rerun" is only offered with `on_action`.
        on_group: called in the session with the id of the job's group of failures; with it, the card shows
            people who may see all jobs how many more have failed like it.
        bridge, access: of the session, where the caller already has them.

    Attributes:
        snapshot, log, log_append, preview, artifacts: the texts that the browser shows first; see `feed.CardModel`.
            What follows goes past them, see `sender`.
        alike: how many more have failed like this job, after the browser has asked.
        file: the answer to a request for an artifact or the whole log, see `files`.
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
    actions = param.String(default="[]")
    keyboard = param.Boolean(default=False)
    request = param.String(default="")

    _esm = assets.esm("card")
    _stylesheets: ClassVar[list[str]] = [assets.css("card")]

    part_of: ClassVar[Mapping[str, str]] = {"log": "log_append"}

    def __init__(
        self,
        kit: Kit | None = None,
        job_id: str = "",
        *,
        actions: Sequence[str] = ("cancel", "retry"),
        on_action: Callable[[str, str], object] | None = None,
        on_group: Callable[[str], object] | None = None,
        bridge: SessionBridge | None = None,
        access: Actions | None = None,
        **params: Any,
    ) -> None:
        access = access or (Actions(kit) if kit is not None else None)
        offered = [a for a in ACTIONS if a in actions and (access is None or access.may(_GATE.get(a, a)))]
        super().__init__(actions=json.dumps(offered), **params)
        self._log_pages = LogPages()
        self._kit = kit
        self._access = access
        self._allowed = frozenset(offered)
        self._on_action = on_action
        self._on_group = on_group
        self._bridge = bridge or SessionBridge()
        self._following: JobSubscription | None = None
        self._bridge.on_close(self._stop)
        on_request(self, self._bridge, self._do)
        if kit is not None and job_id:
            self.follow(job_id, kit)

    @property
    def job_id(self) -> str:
        """Id of the job that is shown, or ""."""
        return self._following.job_id if self._following is not None else ""

    def follow(self, job_id: str, kit: Kit | None = None) -> None:
        """Show another job, or none for ""."""
        self._stop()
        self._kit = kit or self._kit
        self._show_nothing()
        if not job_id or self._kit is None:
            return
        self._access = self._access or Actions(self._kit)

        def deliver(whole: Mapping[str, str], parts: Mapping[str, str]) -> None:
            if following is not self._following:  # the card shows another job by now
                return
            if self._sees(following):
                self._bridge.put(self, whole, parts)
            else:
                missing(str(not_found(job_id)))

        def missing(sentence: str) -> None:
            if following is self._following:
                self._bridge.put(self, {"snapshot": _missing(job_id, sentence)})

        self._following = following = JobSubscription(self._kit, CardSubscriber(deliver, on_missing=missing), job_id)
        following.start()

    def _sees(self, following: JobSubscription) -> bool:
        """Return whether the person of this session may see the job."""
        view = following.view
        access = self._access
        return access is not None and (access.person.sees_all or (view is not None and access.sees(view.snapshot)))

    def _stop(self) -> None:
        if self._following is not None:
            self._following.stop()
            self._following = None

    def _show_nothing(self) -> None:
        empty = {"snapshot": "", "log": "", "preview": "", "artifacts": "", "file": ""}
        self.param.update(log_append="", **empty)
        self._bridge.put(self, empty)

    # -- requests of the browser, in the session -------------------------------------------------------------------

    def _do(self, action: str, asked: Mapping[str, Any]) -> None:
        if action == "hello":
            if self._following is not None:
                self._following.resend(str(asked.get("v", "")))
            elif asked.get("v"):
                self._show_nothing()
        elif action == "log" and self._following is not None:
            self._following.resend()
        elif self._following is None or not self._sees(self._following):
            return
        elif action in ("show", "save", "whole-log", "log-page") and self._kit is not None and self.job_id:
            background.spawn(self._fetch(self._kit, self.job_id, asked))
        elif action == "alike" and self._kit is not None:
            background.spawn(self._look_alike(self._kit, self._following))
        elif action == "group" and self._on_group is not None:
            self._on_group(str(asked.get("id", ""))[:40])
        # The buttons that a browser shows are no permission: what it may ask for is decided here.
        elif action in self._allowed and action in ACTIONS and self._kit is not None and self.job_id:
            if action == "rerun":
                self._tell("rerun", self.job_id)
            else:
                assert self._access is not None  # with the kit
                details = {name: asked.get(name) for name in ("queue", "priority")} if action == "move" else {}
                job_id = self.job_id
                self._access.begin(action, [job_id], lambda answer: self._acted(job_id, answer), **details)

    def _acted(self, job_id: str, answer: ActionReply) -> None:
        """On the background loop."""
        for new in answer.made:
            self._bridge.push(partial(self._tell, "retry", new))
        following = self._following
        if answer.problem and following is not None and following.job_id == job_id:
            following.say(answer.problem)

    async def _fetch(self, kit: Kit, job_id: str, asked: Mapping[str, Any]) -> None:
        """On the background loop: for this browser alone."""
        if asked.get("action") == "log-page":
            text = await self._log_pages.answer(kit, job_id, asked)
        else:
            text = await asyncio.to_thread(answer, kit, job_id, asked)
        if text and job_id == self.job_id:
            self._bridge.put(self, {"file": text})

    async def _look_alike(self, kit: Kit, following: JobSubscription) -> None:
        """On the background loop: for this browser alone, since others may not know of all jobs."""
        snapshot = following.view.snapshot if following.view is not None else None
        if self._on_group is None or self._access is None or not self._access.person.sees_all:
            return
        if snapshot is None or snapshot.state is not JobState.FAILED or snapshot.error is None:
            return
        try:
            group = await kit.verbs.store.failures.group(group_id(snapshot.spec.task, snapshot.error.to_wire()))
        except JobkitError as error:
            logger.debug("what failed like job %s could not be read: %s", snapshot.id, error)
            return
        if group is not None:
            told = {"job": snapshot.id, "group": group.id, "more": group.jobs - 1}
            self._bridge.put(self, {"alike": json.dumps(told)})

    def _tell(self, action: str, job_id: str) -> None:
        if self._on_action is not None:
            self._on_action(action, job_id)
        elif action == "retry":
            self.follow(job_id)


def _missing(job_id: str, sentence: str) -> str:
    return json.dumps(
        {
            "id": job_id,
            "title": "Job not found",
            "state": "cancelled",
            "missing": True,
            "alert": {"level": "error", "text": sentence},
            "connection": "live",
        }
    )
