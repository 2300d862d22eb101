"""`WorkersPage`: who works, on what, and which queues nobody serves. Live, read once for all sessions.

Heartbeats are no events, so the server is asked every two seconds while somebody looks, and soon after a job has
started or ended.
"""

from __future__ import annotations

import asyncio
import json
import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import param
from panel.custom import JSComponent

from jobkit.client.loop import background
from jobkit.model import JobEvent, JobkitError, JobSnapshot, Pause
from jobkit.model.snapshot import iso
from jobkit.store.base import CONTROL, Query, WorkerInfo
from jobkit.ui import assets
from jobkit.ui.asked import Requests
from jobkit.ui.bridge import SessionBridge
from jobkit.ui.desk import Answer, Desk
from jobkit.ui.format import params_brief
from jobkit.ui.live import Pacer, on_loop
from jobkit.ui.own import SelfContained
from jobkit.ui.steering_desk import PAUSE_ACTIONS

if TYPE_CHECKING:
    from jobkit.client import Kit

logger = logging.getLogger("jobkit.ui")

#: Seconds between looks, and the least between two that events asked for.
_LOOK_S, _WINDOW_S = 2.0, 0.4

#: Running jobs that are told apart by worker, and workers that ended which are still listed.
_RUNNING, _ENDED = 200, 5


def picture(
    workers: Sequence[WorkerInfo],
    queues: Mapping[str, Mapping[str, int]],
    running: Sequence[JobSnapshot],
    now: datetime,
    pauses: Sequence[Pause] = (),
) -> dict[str, Any]:
    """What the page shows: workers (those that live first), queues, and sentences about what nobody will do."""
    jobs: dict[str, list[dict[str, Any]]] = {}
    for snapshot in running:
        spec = snapshot.spec
        jobs.setdefault(snapshot.worker, []).append(
            {
                "id": snapshot.id,
                "name": spec.title or spec.task,
                "args": params_brief(spec.params, limit=80),
                "started_at": iso(snapshot.started_at),
                "progress": snapshot.progress,
            }
        )
    alive = sorted((w for w in workers if w.is_alive), key=lambda w: (w.host, w.id))
    ended = [w for w in workers if not w.is_alive][:_ENDED]
    idle = {name: line for name, line in queues.items() if line.get("queued") and not line.get("workers")}
    paused = {pause.name: pause.to_json() for pause in pauses if pause.kind == "queue"}
    return {
        "workers": [_worker(w, jobs.get(w.id, [])) for w in (*alive, *ended)],
        "queues": [
            {"name": name, **queues.get(name, {}), "paused": paused.get(name)} for name in sorted({*queues, *paused})
        ],
        "tasks": [{"name": pause.name, "paused": pause.to_json()} for pause in pauses if pause.kind == "task"],
        "alerts": [
            f"{line['queued']} job{'s' if line['queued'] > 1 else ''} in queue {name}, and no worker serves it: run "
            f"`jobkit worker{'' if name == 'default' else f' -q {name}'}`"
            for name, line in sorted(idle.items())
        ],
        "slots": sum(w.slots for w in alive if w.takes_jobs),
        "busy": sum(w.running for w in alive),
        "alive": len(alive),
        "now": iso(now),
    }


def _worker(info: WorkerInfo, jobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": info.id,
        "host": info.host,
        "pid": info.pid,
        "queues": list(info.queues),
        "slots": info.slots,
        "running": max(info.running, len(jobs)),  # a heartbeat may be seconds old
        "done": info.done,
        "started_at": iso(datetime.fromtimestamp(info.started_ms / 1000, UTC)) if info.started_ms else None,
        "beat_age_s": round(info.beat_age_s, 1),
        "version": info.version,
        "python": info.python,
        "cpu_percent": round(info.cpu_percent),
        "rss_bytes": info.rss_bytes,
        "state": "ended" if not info.is_alive else "draining" if info.is_draining else "working",
        "jobs": jobs,
    }


class WorkersFeed:
    """Reads for all who look. Lives on the background loop."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._deliver: dict[int, Callable[[str], None]] = {}
        self._next = 0
        self._text = ""
        self._pacer = Pacer(_WINDOW_S, self._look)
        self._runner: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._stop: Callable[[], object] | None = None

    def add(self, deliver: Callable[[str], None]) -> int:
        self._next += 1
        self._deliver[self._next] = deliver
        if self._runner is None:
            stops = [
                self._kit.hub.listen(lambda event: on_loop(self._heard, event), None),
                self._kit.hub.listen(lambda event: on_loop(lambda _: self._pacer.poke(), event), CONTROL),
            ]
            self._stop = lambda: [stop() for stop in stops]
            self._runner = asyncio.get_running_loop().create_task(self._watch())
        elif self._text:
            deliver(self._text)
        return self._next

    def leave(self, key: int) -> None:
        self._deliver.pop(key, None)
        if not self._deliver and self._runner is not None:
            self._runner.cancel()
            self._pacer.stop()
            if self._stop is not None:
                self._stop()
            if self._looking is not None:
                self._looking.cancel()
            self._runner = None
            if _feeds.get(self._kit) is self:
                del _feeds[self._kit]

    def tell(self, key: int) -> None:
        if self._text and key in self._deliver:
            self._deliver[key](self._text)

    def _heard(self, event: JobEvent) -> None:
        if not event.type.is_news:
            self._pacer.poke()

    async def _watch(self) -> None:
        while True:
            self._pacer.poke()
            await asyncio.sleep(_LOOK_S)

    def _look(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        try:
            verbs = self._kit.verbs
            workers, queues, page, rules = await asyncio.gather(
                verbs.workers(),
                verbs.queues(),
                verbs.page(Query(states=("running",), limit=_RUNNING)),
                verbs.store.rules(),
            )
        except JobkitError as error:  # the header says that the server is away
            logger.debug("the workers could not be read: %s", error)
            return
        pauses = [pause for rule in rules if (pause := Pause.of(rule)) is not None]
        self._text = json.dumps(picture(workers, queues, page.jobs, datetime.now(UTC), pauses), separators=(",", ":"))
        for deliver in list(self._deliver.values()):
            deliver(self._text)


_feeds: weakref.WeakKeyDictionary[Kit, WorkersFeed] = weakref.WeakKeyDictionary()


class WorkersPage(SelfContained, JSComponent):
    """Workers and queues.

    Args:
        kit: whose.
        on_open: called in the session with the id of the job that was clicked.
        may_act: whether a worker may be asked to end, where the desk allows it.
        bridge, desk: of the session, where the caller already has them.

    Attributes:
        picture: what the browser shows, see `picture`. notice: a sentence about what did not work.
        may_pause: whether queues and tasks may be paused and resumed.
        is_open: whether anybody looks; only then is anything read.
    """

    picture = param.String(default="")
    notice = param.String(default="")
    may_act = param.Boolean(default=True)
    may_pause = param.Boolean(default=True)
    is_open = param.Boolean(default=True)
    request = param.String(default="")

    part_of: ClassVar[Mapping[str, str]] = {}

    _esm = assets.esm("workers")
    _stylesheets: ClassVar[list[str]] = [assets.css("workers")]

    def __init__(
        self,
        kit: Kit,
        *,
        on_open: Callable[[str], object] | None = None,
        bridge: SessionBridge | None = None,
        desk: Desk | None = None,
        may_act: bool = True,
        **params: Any,
    ) -> None:
        self._desk = desk or Desk(kit)
        may_act = may_act and self._desk.may("drain_worker")
        may_pause = self._desk.may("pause_queue")
        super().__init__(may_act=may_act, may_pause=may_pause, **params)  # type: ignore[no-untyped-call]  # panel's
        self._kit = kit
        self._on_open = on_open
        self._bridge = bridge or SessionBridge()
        self._requests = Requests()
        self._key: int | None = None
        self._bridge.on_close(self._leave)
        self.param.watch(self._asked, "request")
        self.param.watch(lambda _: self._follow(), "is_open")
        self._follow()

    def _follow(self) -> None:
        background.start().call_soon_threadsafe(self._begin if self.is_open else self._end)

    def _leave(self) -> None:
        background.start().call_soon_threadsafe(self._end)

    # -- on the background loop -------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._key is None and self._bridge.is_open:
            feed = _feeds.get(self._kit) or _feeds.setdefault(self._kit, WorkersFeed(self._kit))
            self._key = feed.add(lambda text: self._bridge.put(self, {"picture": text}))

    def _end(self) -> None:
        feed = _feeds.get(self._kit)
        if feed is not None and self._key is not None:
            feed.leave(self._key)
        self._key = None

    def _again(self) -> None:
        feed = _feeds.get(self._kit)
        if feed is not None and self._key is not None:
            feed.tell(self._key)

    def _acted(self, answer: Answer) -> None:
        self._bridge.push(lambda: self.param.update(notice=answer.problem))

    # -- requests of the browser, in the session --------------------------------------------------------------------

    def _asked(self, event: Any) -> None:
        for asked in self._requests.of(event.new):
            self._bridge.greeted(self)
            action, id = asked["action"], str(asked.get("id", ""))[:200]
            if action == "hello":
                background.start().call_soon_threadsafe(self._again)
            elif action == "open" and self._on_open is not None:
                self._on_open(id)
            elif action == "drain" and self.may_act:
                self._desk.begin("drain_worker", [id], self._acted)
            elif action in PAUSE_ACTIONS and self.may_pause:
                self._desk.begin(action, [id], self._acted)
