"""`WorkersPage`: who works, on what, and which queues nobody serves. Live, read once for all sessions.

Heartbeats are no events, so the server is asked every two seconds while somebody looks, and soon after a job has
started or ended.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import param
from panel.custom import JSComponent

from jobkit.model import JobEvent, JobSnapshot, Pause
from jobkit.model.snapshot import iso
from jobkit.store.query import Query
from jobkit.store.values import CONTROL, WorkerInfo
from jobkit.ui import assets
from jobkit.ui.asked import Requests
from jobkit.ui.bridge import SessionBridge
from jobkit.ui.desk import Answer, Desk
from jobkit.ui.format import params_brief
from jobkit.ui.own import SelfContained
from jobkit.ui.page_feed import Follower, PageFeed
from jobkit.ui.steering_desk import PAUSE_ACTIONS

if TYPE_CHECKING:
    from jobkit.client import Kit

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


class WorkersFeed(PageFeed):
    """Heartbeats are no events, so it looks now and then."""

    HEARS = (None, CONTROL)

    def is_news(self, event: JobEvent) -> bool:
        return event.job_id == CONTROL or super().is_news(event)

    async def read(self) -> str:
        verbs = self.kit.verbs
        workers, queues, page, rules = await asyncio.gather(
            verbs.workers(),
            verbs.queues(),
            verbs.page(Query(states=("running",), limit=_RUNNING)),
            verbs.store.rules(),
        )
        pauses = [pause for rule in rules if (pause := Pause.of(rule)) is not None]
        return json.dumps(picture(workers, queues, page.jobs, datetime.now(UTC), pauses), separators=(",", ":"))


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
        self._follower = Follower(
            kit, WorkersFeed, self._bridge, lambda text: self._bridge.put(self, {"picture": text})
        )
        self.param.watch(self._asked, "request")
        self.param.watch(lambda _: self._follower.follow(self.is_open), "is_open")
        self._follower.follow(self.is_open)

    def _acted(self, answer: Answer) -> None:
        self._bridge.push(lambda: self.param.update(notice=answer.problem))

    # -- requests of the browser, in the session --------------------------------------------------------------------

    def _asked(self, event: Any) -> None:
        for asked in self._requests.of(event.new):
            self._bridge.greeted(self)
            action, id = asked["action"], str(asked.get("id", ""))[:200]
            if action == "hello":
                self._follower.again()
            elif action == "open" and self._on_open is not None:
                self._on_open(id)
            elif action == "drain" and self.may_act:
                self._desk.begin("drain_worker", [id], self._acted)
            elif action in PAUSE_ACTIONS and self.may_pause:
                self._desk.begin(action, [id], self._acted)
