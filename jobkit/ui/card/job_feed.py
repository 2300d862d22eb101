"""`JobFeed`: one job, followed once for all its cards. `CardControl`: one of these cards, on a page or in a notebook.

The feed runs on jobkit's background loop, where the hub also calls its listeners, so a `CardModel` is only ever touched
by one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar

from jobkit.client.checks import unknown_job
from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.features import modules
from jobkit.model import EventType, JobEvent, JobkitError, JobNotFound, JobState
from jobkit.model.plain import dumps
from jobkit.run.inside.pictures import PICTURE
from jobkit.runners import Runners
from jobkit.store.values import CONTROL
from jobkit.tasks.info import defaults_of
from jobkit.ui.access.actions import ActionReply, Actions
from jobkit.ui.card.card_model import LOG_LINES, CardModel
from jobkit.ui.card.downloads import answer, pictures_of
from jobkit.ui.live.control import Control
from jobkit.ui.live.shared_feed import CALM_S, CURVES_S, Deliver, Pacer, SharedFeed, Subscriber, answered, soon

logger = logging.getLogger("jobkit.ui")

#: Sections that features add to the card.
SECTIONS = tuple(modules("card_section"))

#: Actions that the buttons of a card may request, and those that requests of a section need.
ACTIONS = (
    *dict.fromkeys(action for section in SECTIONS for action in section.ACTIONS.values()),
    *("cancel", "retry", "move", "tell"),
)

#: Texts of a card that shows no job.
EMPTY = dict.fromkeys(
    ("snapshot", "log", "preview", "artifacts", "metrics", "sections", "made", "replied", "file", "refused", "told"),
    "",
)

#: Seconds between two looks at what blocks a job: a storm of news of pauses costs no more than some looks.
_AFTER_NEWS_S = 0.1

#: Sessions whose curves move every `CURVES_S`; those of more every `CALM_S`.
_FEW = 12


class JobFeed(SharedFeed[Subscriber]):
    """Follows one job for all cards of it that are open in this process, until it has ended or the last card is closed.

    Delivers the texts of `CardModel`, at most one each `window_s` seconds (> 0).
    """

    LOOK_S = 3.0

    def __init__(self, kit: Kit, job_id: str, window_s: float = 0.05) -> None:
        super().__init__(kit)
        self.CHANNELS = (job_id, CONTROL)  # type: ignore[misc]  # of this feed
        self.pacer.window_s = window_s
        self.job_id = job_id
        self.model: CardModel | None = None
        """None until the job has been read. Changes on the background loop."""
        self._missing = ""
        self._calm = self.paced(CURVES_S, self.flush, is_prompt=False)
        self._gates = self.paced(_AFTER_NEWS_S, self._look_at_gates)
        self._health = self.paced(0.0, self._look_at_health)
        self._sections = self.paced(0.0, self._read_sections)
        self._is_ending = False

    def add(self, subscriber: Subscriber) -> None:
        super().add(subscriber)
        if self.is_over:
            subscriber.end(self.model)

    def tell(self, subscriber: Subscriber, version: Any = None) -> None:
        if self._missing:
            subscriber.deliver({"snapshot": self._missing}, {})
        elif self.model is not None and version != self.model.version:
            subscriber.deliver(self.model.everything(_now()), {})

    # -- what is read --------------------------------------------------------------------------------------------------

    def failed(self, error: Exception) -> None:
        if isinstance(error, JobNotFound):
            self._missing = missing_card(self.job_id, error)
            self.publish({"snapshot": self._missing})
            self._ended()
        else:
            super().failed(error)

    async def read(self) -> None:
        snapshot = await self.kit.aio.snapshot(self.job_id)
        view, is_new = self.model, self.model is None
        if view is None:
            view = CardModel(
                snapshot,
                defaults=defaults_of(await self.kit.aio.tasks()).get(snapshot.spec.task),
                lease_s=self.kit.settings.lease,
            )
        view.reset(snapshot, _now())
        await self._read_log(view)
        await self._read_chain(view)
        if is_new:
            await self._read_outputs(view)
        await self._tell_sections(view)
        view.connected(self.kit.hub.connection(self.kit.hub.is_live))
        self.model = view

    def loaded(self) -> None:
        self.poke()
        self._gates.poke()
        self._end_if_terminal()

    async def _read_log(self, view: CardModel) -> None:
        """Read the last lines of the log, and the metrics if there are new ones."""
        log = await self.kit.aio.log_slice(self.job_id, tail=LOG_LINES)
        view.load_log(log.lines, log.total, log.dropped)
        known, snapshot = view.curves.curves.n, view.snapshot
        if view.curves.is_behind or snapshot.metrics.n > known or (snapshot.attempt > 1 and not known):
            [lines] = await self.kit.aio.metric_lines([self.job_id])
            view.curves.load(lines)

    async def _read_outputs(self, view: CardModel) -> None:
        """Read the artifacts, and what made them."""
        view.keep([each.to_json() for each in await self.kit.aio.artifacts(self.job_id)])
        for made in await self.kit.verbs.made_all([view.snapshot]):
            view.made_by(made.lines())

    async def _read_chain(self, view: CardModel) -> None:
        """Read the job that it runs again, and its newest retry."""
        wanted = {"of": view.snapshot.spec.retry_of, "as": view.snapshot.again}
        named = {name: job_id for name, job_id in wanted.items() if job_id}
        if named:
            found = await self.kit.verbs.store.snapshots([*named.values()])
            view.learn(_now(), chain={name: job for name, job in zip(named, found, strict=True) if job is not None})

    async def _read_sections(self) -> None:
        if (view := self.model) is not None and await self._tell_sections(view):
            self.poke()

    async def _tell_sections(self, view: CardModel) -> bool:
        """Read the sections of features whose data are old; return whether there were any."""
        stale = [each for each in SECTIONS if each.is_stale(view.snapshot, view.sections.get(each.NAME, {}))]
        for each in stale:
            view.tell(each.NAME, await each.read(self.kit, view.snapshot))
        return bool(stale)

    def take(self, event: JobEvent) -> None:
        if event.job_id == CONTROL:
            self._gates.poke()
        elif self.model is not None:
            if self.model.take(event):
                is_chart = event.type is EventType.LOGGED and "metrics" in event.data
                self._poke_calmly() if is_chart else self.poke()
                if event.type not in (EventType.LOGGED, EventType.PROGRESSED):
                    self._sections.poke()
            if self.model.needs_snapshot or self.model.curves.is_behind:
                self.reload()
            self._end_if_terminal()

    def status(self, is_live: bool) -> None:
        if self.model is not None:
            self.model.connected(self.kit.hub.connection(is_live))
            self.poke()
        super().status(is_live)

    def kit_closed(self, why: str) -> None:
        if self.model is not None:
            self.model.connected(why)
        self.flush()
        self._ended()

    def _end_if_terminal(self) -> None:
        view = self.model
        if view is not None and view.snapshot.is_terminal and not view.needs_snapshot and not self._is_ending:
            self._is_ending = True
            self.runners.run(self._end(view))

    async def _end(self, view: CardModel) -> None:
        """Read all log lines and the preview, and deliver them as the last texts."""
        await answered(partial(self._read_end, view))
        if any(each["media_type"] == PICTURE for each in view.artifacts):
            with contextlib.suppress(JobkitError):
                view.pictures = await asyncio.to_thread(pictures_of, self.kit, self.job_id)
        self.flush()
        self._ended()

    async def _read_end(self, view: CardModel) -> None:
        await self._read_log(view)
        if view.snapshot.state is JobState.SUCCEEDED:
            view.show(await self.kit.aio.preview(self.job_id))
        await self._read_outputs(view)

    def _ended(self) -> None:
        self.is_over = True
        for subscriber in list(self.subscribers):
            subscriber.end(self.model)

    # -- what no event reports -----------------------------------------------------------------------------------------

    def look(self) -> None:
        self._gates.poke()
        self._health.poke()

    async def _look_at_gates(self) -> None:
        """Read why a job cannot start: pauses, limits, resources, or the jobs whose results it needs."""
        view = self.model
        if view is None or view.snapshot.state not in (JobState.QUEUED, JobState.SCHEDULED):
            return
        facts: dict[str, Any] = {"held": ""}
        with contextlib.suppress(JobkitError):
            if view.snapshot.state is JobState.QUEUED:
                (facts["held"],) = await self.kit.verbs.waits_for_many([self.job_id])
                starts = await self.kit.verbs.expected_starts([view.snapshot])
                facts["start"] = starts.get(self.job_id)
            elif needs := view.snapshot.spec.needs:
                facts["needed"] = await self.kit.verbs.store.snapshots(needs[:100])
            view.learn(_now(), **facts)
        self.poke()

    async def _look_at_health(self) -> None:
        """Read how many workers serve its queue, and heartbeat and load of its worker."""
        view = self.model
        if view is None or view.snapshot.is_terminal:
            return
        facts: dict[str, Any] = {"queue_workers": None, "beat": None, "load": None}
        with contextlib.suppress(JobkitError):
            if view.snapshot.state is JobState.QUEUED:
                workers, queue = await self.kit.verbs.store.workers(), view.snapshot.spec.queue
                facts["queue_workers"] = sum(each.takes_jobs and queue in each.queues for each in workers)
            elif view.snapshot.state is JobState.RUNNING:
                alive = {info.id: info.beat_age_s for info in await self.kit.verbs.store.workers()}
                age_s = alive.get(view.snapshot.worker)
                facts["beat"] = None if age_s is None else (age_s, _now())
                facts["load"] = (await self.kit.verbs.store.loads([view.snapshot.worker])).get(view.snapshot.worker)
            view.learn(_now(), **facts)
        self._poke_calmly()

    def _poke_calmly(self) -> None:
        """Flush what can wait, with other feeds that can."""
        self._calm.window_s = CURVES_S if len(self.subscribers) <= _FEW else CALM_S
        self._calm.poke()

    def flush(self) -> None:
        if self.model is not None and self.model.is_dirty:
            self.publish(*self.model.updates(_now()))


class CardControl(Control):
    """The control of one job's card.

    `NEWEST` has the requests of which only the newest is answered, each with the text that takes the answer. The
    browser repeats a request under the same name.

    Args:
        access, put, on_end: as of `Control`. window_s: as of `JobFeed`.
        actions: what the browser may request, any of `ACTIONS`. The buttons that it shows are no permission.
        on_open: called on the background loop or in the session with the id of another job to show.
    """

    NEWEST: ClassVar[Mapping[str, str]] = {"log-page": "file"}

    def __init__(
        self,
        access: Actions,
        put: Deliver,
        *,
        actions: Sequence[str] = (),
        on_open: Callable[[str], object] = lambda _: None,
        on_end: Callable[[CardModel | None], None] | None = None,
        window_s: float = 0.05,
    ) -> None:
        super().__init__(access, put, on_end)
        self._actions = frozenset(actions)
        self._on_open = on_open
        self._window_s = window_s
        self._newest: dict[str, tuple[str, Mapping[str, Any]]] = {}  # job and request
        self._pacers = {kind: Pacer(0.0, partial(self._fetch_newest, kind), Runners()) for kind in self.NEWEST}
        self._forms = {
            request: (action, form)
            for section in SECTIONS
            for form in [section.form(access, lambda reply: self._put({"replied": reply}, {}))]
            for request, action in section.ACTIONS.items()
        }
        self.job_id = ""

    def follow(self, job_id: str) -> None:
        """Show another job, or none for ""; from any thread."""
        self.stop()
        self._put(EMPTY, {})
        self.job_id = job_id
        if job_id:
            self._subscriber = Subscriber(self._deliver, on_end=self._on_end)
            self._subscriber.start(self._kit, JobFeed, job_id, self._window_s)
            if "tell" in self._actions:
                background.spawn(self._look_at_reader(job_id))

    def stop(self) -> None:
        super().stop()
        self.job_id = ""

    def _deliver(self, whole: Mapping[str, str], parts: Mapping[str, str]) -> None:
        if self._sees():
            self._put(whole, parts)
        else:
            self._put({"snapshot": missing_card(self.job_id, unknown_job(self.job_id))}, {})

    def do(self, action: str, asked: Mapping[str, Any]) -> None:
        job_id = self.job_id
        if self._subscriber is None:
            if action == "hello" and asked.get("v"):
                self._put(EMPTY, {})
        elif action in ("hello", "log"):
            self._subscriber.resend(str(asked.get("v", "")) if action == "hello" else None)
        elif not self._sees():
            return
        elif action in ("show", "save", "whole-log"):
            background.spawn(self._fetch(job_id, asked))
        elif action in self.NEWEST:
            self._newest[action] = job_id, asked
            soon(self._pacers[action].poke)
        elif action == "alike":
            background.spawn(self._look_alike())
        elif action in self._forms:
            needed, form = self._forms[action]
            if needed in self._actions:
                background.spawn(form.do(job_id, asked))
        elif action == "open" and (other := self._of_chain(str(asked.get("id", "")))):
            self._on_open(other)
        elif action in self._actions:
            names = {"move": ("queue", "priority"), "tell": ("on",)}.get(action, ("checkpoint",))
            self._act(action, [job_id], **{name: asked[name] for name in names if name in asked})

    def _of_chain(self, job_id: str) -> str:
        """Return the id if it is that of a job that this one runs again, or the other way round; else ""."""
        chain = self.model.chain if self.model is not None else {}
        return next((job.id for job in chain.values() if job.id == job_id and self._access.sees(job)), "")

    # -- on the background loop, for this browser alone ----------------------------------------------------------------

    def _acted(self, reply: ActionReply) -> None:
        super()._acted(reply)
        if "tell" in self._actions:
            background.spawn(self._look_at_reader(self.job_id))
        for new in reply.made:
            self._on_open(new)

    async def _look_at_reader(self, job_id: str) -> None:
        await self._tell_reader(job_id, lambda: job_id == self.job_id)

    async def _fetch(self, job_id: str, asked: Mapping[str, Any]) -> None:
        text = await asyncio.to_thread(answer, self._kit, job_id, asked)
        action = str(asked.get("action"))
        is_newest = action not in self.NEWEST or asked.get("name") == self._newest[action][1].get("name")
        if job_id == self.job_id and is_newest:
            self._put({self.NEWEST.get(action, "file"): text}, {})

    async def _fetch_newest(self, kind: str) -> None:
        await self._fetch(*self._newest[kind])

    async def _look_alike(self) -> None:
        """Others may not know of all jobs, so this is no part of the feed."""
        snapshot = self.model.snapshot if self.model is not None else None
        if snapshot is None or not self._access.person.sees_all:
            return
        for module in modules("card"):
            try:
                texts = await module.about(self._kit.verbs.store, snapshot)
            except JobkitError as error:
                logger.debug("more about job %s could not be read: %s", snapshot.id, error)
                return
            if texts:
                self._put(dict(texts), {})


def missing_card(job_id: str, error: JobNotFound) -> str:
    """Return the text `snapshot` of a card whose job is not kept, or must not be seen."""
    why = str(error)
    alert = {"level": "error", "text": f"{why[0].upper()}{why[1:]}"}
    shown = {"title": "Job not found", "state": "cancelled", "missing": True, "alert": alert, "connection": "live"}
    return dumps({"id": job_id, **shown})


def _now() -> datetime:
    return datetime.now(UTC)
