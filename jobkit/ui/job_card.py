"""`JobCard`: a live job in a Panel page, the dashboard's or a user's own (`job.view()`)."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import param
from panel.custom import AnyWidgetComponent

from jobkit.client.loop import background
from jobkit.model import JobkitError
from jobkit.ui import assets
from jobkit.ui.bridge import SessionBridge
from jobkit.ui.live import JobFeed

if TYPE_CHECKING:
    from jobkit.client import Kit

logger = logging.getLogger("jobkit.ui")

#: What the buttons of a card may ask for.
ACTIONS = ("cancel", "retry", "rerun")


class JobCard(AnyWidgetComponent):
    """The live card of one job.

    Args:
        kit: where the job is; None for an empty card that `follow` fills.
        job_id: the job, or "" for none yet.
        actions: any of "cancel", "retry" and "rerun"; () makes a card that only looks.
        on_action: called in the session with `(action, job id)`: for "retry" the id of the new job, which the card then
            shows unless `on_action` is given; "rerun" is only offered where this is given.
        bridge: of the session, where the caller already has one.

    Attributes:
        snapshot, log, log_append, preview: the texts that the browser shows; see `feed.JobView`.
        request: what the browser asks for.
    """

    snapshot = param.String(default="")
    log = param.String(default="")
    log_append = param.String(default="")
    preview = param.String(default="")
    actions = param.String(default="[]")
    request = param.String(default="")

    _esm = assets.esm("card")
    _stylesheets: ClassVar[list[str]] = [assets.css("card")]

    @classmethod
    def _process_importmap(cls) -> dict[str, Any]:
        return {}  # panel would map React to a CDN here; the card does not use it

    def __init__(
        self,
        kit: Kit | None = None,
        job_id: str = "",
        *,
        actions: Sequence[str] = ("cancel", "retry"),
        on_action: Callable[[str, str], object] | None = None,
        bridge: SessionBridge | None = None,
        **params: Any,
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]  # panel's
            actions=json.dumps([a for a in ACTIONS if a in actions]), **params
        )
        self._kit = kit
        self._allowed = frozenset(actions)
        self._on_action = on_action
        self._bridge = bridge or SessionBridge()
        self._feed: JobFeed | None = None
        self._bridge.on_close(self._stop)
        self.param.watch(self._asked, "request")
        if kit is not None and job_id:
            self.follow(job_id, kit)

    @property
    def job_id(self) -> str:
        """Id of the job that is shown, or ""."""
        return self._feed.job_id if self._feed is not None else ""

    def follow(self, job_id: str, kit: Kit | None = None) -> None:
        """Show another job, or none for ""."""
        self._stop()
        self._kit = kit or self._kit
        self.param.update(snapshot="", log="", log_append="", preview="")
        if not job_id or self._kit is None:
            return
        feed: JobFeed = JobFeed(
            self._kit,
            job_id,
            lambda texts, done: self._deliver(feed, texts, done),
            on_missing=lambda sentence: self._bridge.push(lambda: self._missing(job_id, sentence)),
        )
        self._feed = feed
        feed.start()

    def _stop(self) -> None:
        if self._feed is not None:
            self._feed.stop()
            self._feed = None

    def _deliver(self, feed: JobFeed, texts: Mapping[str, str], done: Callable[[], None]) -> None:
        def put() -> None:
            try:
                if feed is self._feed:  # else the card shows another job by now
                    self.param.update(**texts)
            finally:
                done()

        self._bridge.push(put)

    def _missing(self, job_id: str, sentence: str) -> None:
        self.snapshot = json.dumps(
            {
                "id": job_id,
                "title": "Job not found",
                "state": "cancelled",
                "missing": True,
                "alert": {"level": "error", "text": sentence},
                "connection": "live",
            }
        )

    # -- requests of the browser, in the session -------------------------------------------------------------------

    def _asked(self, event: Any) -> None:
        try:
            action = json.loads(event.new).get("action")
        except (ValueError, AttributeError):
            return
        if action == "log" and self._feed is not None:
            self._feed.resend()
        # The buttons that a browser shows are no permission: what it may ask for is decided here.
        elif action in self._allowed and action in ACTIONS and self._kit is not None and self.job_id:
            if action == "rerun":
                self._tell("rerun", self.job_id)
            else:
                background.spawn(self._act(action, self.job_id))

    async def _act(self, action: str, job_id: str) -> None:
        """On the background loop."""
        assert self._kit is not None
        try:
            if action == "cancel":
                await self._kit.aio.cancel(job_id)
            else:
                new = await self._kit.aio.retry(job_id)
                self._bridge.push(lambda: self._tell("retry", new.id))
        except JobkitError as error:
            sentence = str(error)
            self._bridge.push(lambda: self._refused(job_id, sentence))

    def _tell(self, action: str, job_id: str) -> None:
        if self._on_action is not None:
            self._on_action(action, job_id)
        elif action == "retry":
            self.follow(job_id)

    def _refused(self, job_id: str, sentence: str) -> None:
        if job_id == self.job_id and self.snapshot:
            shown = json.loads(self.snapshot)
            self.snapshot = json.dumps(shown | {"alert": {"level": "error", "text": sentence}})
