"""`WorkersPage`: workers, their jobs, and queues without a worker. Live, read once for all sessions.

Heartbeats are no events, so the store is polled every two seconds while the page is open, and soon after a job has
started or ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from jobkit.client.waits import queue_reasons
from jobkit.model import JobSnapshot, Pause
from jobkit.model.format import params_brief
from jobkit.model.limits import sums
from jobkit.model.load import WorkerLoad
from jobkit.model.plain import instant, iso, to_json
from jobkit.pools.info import PoolInfo
from jobkit.store.query import Query
from jobkit.store.queues import BlockedJobs
from jobkit.store.values import CONTROL, WorkerInfo
from jobkit.tasks.info import Defaults, defaults_of
from jobkit.ui.access.actions import PAUSE_ACTIONS
from jobkit.ui.live.component import FeedPage
from jobkit.ui.live.shared_feed import TextFeed
from jobkit.ui.words import assets
from jobkit.ui.workers.pools_view import POOL_ACTIONS, pool_rows

#: Running jobs that are listed by worker, at most.
_RUNNING = 200

#: Running jobs of a worker that are shown with charts, as many as the page shows at all.
_JOBS = 8

#: Ended workers that are still listed.
_ENDED = 5


def picture(
    workers: Sequence[WorkerInfo],
    queues: Mapping[str, Mapping[str, int]],
    running: Sequence[JobSnapshot],
    pauses: Sequence[Pause] = (),
    defaults: Defaults | None = None,
    blocked: Sequence[BlockedJobs] = (),
    loads: Mapping[str, WorkerLoad] | None = None,
    pools: Sequence[PoolInfo] = (),
) -> dict[str, Any]:
    """Return the page's data: workers (live ones first), queues, and warnings about both."""
    jobs: dict[str, list[dict[str, Any]]] = {}
    for snapshot in running:
        spec = snapshot.spec
        jobs.setdefault(snapshot.worker, []).append(
            {
                "id": snapshot.id,
                "name": spec.title or spec.task,
                "args": params_brief(spec.params, (defaults or {}).get(spec.task), limit=80),
                "started_at": iso(snapshot.started_at),
                "progress": snapshot.progress,
            }
        )
    alive = sorted((w for w in workers if w.is_alive), key=lambda w: (w.host, w.id))
    ended = [w for w in workers if not w.is_alive][:_ENDED]
    pooled = {queue for pool in pools if pool.spec and not pool.is_removed for queue in pool.spec.queues}
    idle = {
        name: line
        for name, line in queues.items()
        if line.get("queued") and not line.get("workers") and name not in pooled
    }
    paused = {pause.name: pause.to_json() for pause in pauses if pause.kind == "queue"}
    reasons = queue_reasons(queues, workers, blocked, pools)
    return {
        "workers": [_worker(w, jobs.get(w.id, []), (loads or {}).get(w.id)) for w in (*alive, *ended)],
        "queues": [
            {
                "name": name,
                **queues.get(name, {}),
                "paused": paused.get(name),
                "why": [to_json(reason) for reason in reasons.get(name, ())],
                "has": _resources([w for w in alive if name in w.queues]),
            }
            for name in sorted({*queues, *paused})
        ],
        "pools": pool_rows(pools),
        "tasks": [{"name": pause.name, "paused": pause.to_json()} for pause in pauses if pause.kind == "task"],
        "alerts": [
            f"{line['queued']} job{'s' if line['queued'] > 1 else ''} in queue {name}, and no worker serves it: run "
            f"`jobkit worker{'' if name == 'default' else f' -q {name}'}`"
            for name, line in sorted(idle.items())
        ]
        + [f"Worker {worker.id} {worker.problem}" for worker in alive if worker.problem],
        "slots": sum(w.slots for w in alive if w.takes_jobs),
        "busy": sum(w.running for w in alive),
        "alive": len(alive),
    }


def _worker(info: WorkerInfo, jobs: list[dict[str, Any]], load: WorkerLoad | None) -> dict[str, Any]:
    if load is not None and info.is_alive:
        for job in jobs[:_JOBS]:
            job["load"] = to_json(load.jobs.get(job["id"]))
    else:
        load = None
    return {
        **info.to_json(),
        "tasks": [],  # the page does not show these names
        "running": max(info.running, len(jobs)),  # a heartbeat may be seconds old
        "started_at": iso(instant(info.started_ms)),
        "beat_age_s": round(info.beat_age_s, 1),
        "cpu_percent": round(info.cpu_percent),
        "state": "ended" if not info.is_alive else "draining" if info.is_draining else "working",
        "has": _resources([info]) if info.is_alive else [],
        "load": None if load is None else to_json(load.whole) | {"step_s": load.step_s},
        "gpus": [to_json(gpu) for gpu in load.gpus] if load is not None else [],
        "jobs": jobs,
    }


def _resources(workers: Sequence[WorkerInfo]) -> list[dict[str, Any]]:
    """Return the resources of workers as `{"name", "used", "total"}`."""
    total, used = sums([w.resources for w in workers]), sums([w.in_use for w in workers])
    return [{"name": name, "used": used.get(name, 0), "total": total[name]} for name in sorted(total)]


class WorkersFeed(TextFeed):
    """Polls as well: heartbeats come as no events."""

    CHANNELS = (None, CONTROL)

    async def data(self) -> dict[str, Any]:
        verbs = self.kit.verbs
        workers, queues, page, pauses, infos, pools = await asyncio.gather(
            verbs.store.workers(),
            verbs.store.queues(),
            verbs.page(Query(states=("running",), limit=_RUNNING)),
            self.kit.aio.paused(),
            verbs.tasks(),
            self.kit.aio.pool_infos(),
        )
        blocked, loads = await asyncio.gather(
            verbs.store.blocked([name for name, numbers in queues.items() if numbers["queued"]]),
            verbs.store.loads([worker.id for worker in workers if worker.is_alive]),
        )
        return picture(workers, queues, page.jobs, pauses, defaults_of(infos), blocked, loads, pools)


class WorkersPage(FeedPage):
    """Workers and queues; see `picture`."""

    FEED = WorkersFeed
    ACTIONS = ("drain_worker", *PAUSE_ACTIONS, *POOL_ACTIONS)

    def _details(self, action: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        return {"workers": asked.get("workers", "")} if action == "scale_pool" else {}

    _esm = assets.esm("workers")
    _stylesheets: ClassVar[list[str]] = [assets.css("workers")]
