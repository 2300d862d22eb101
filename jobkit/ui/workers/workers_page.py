"""`WorkersPage`: workers by host, their jobs, and queues with why they stand still. Live, read once for all sessions.

Heartbeats are no events, so the store is polled every two seconds while the page is open, and soon after a job has
started or ended.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from jobkit.client.losses import LostJob, lost_jobs
from jobkit.client.waits import WorkerSource, queue_reasons, queue_state, read_sources
from jobkit.features import modules
from jobkit.model import JobSnapshot, JobState, Pause
from jobkit.model.format import params_brief
from jobkit.model.limits import sums
from jobkit.model.load import WorkerLoad
from jobkit.model.plain import instant, iso, to_json
from jobkit.store.queues import LISTED, BlockedJobs, RunningAt
from jobkit.store.values import CONTROL, Fleet, WorkerInfo
from jobkit.tasks.info import Defaults, defaults_of
from jobkit.ui.access.actions import PAUSE_ACTIONS
from jobkit.ui.live.component import FeedPage
from jobkit.ui.live.shared_feed import TextFeed

#: Sections of features.
_SECTIONS = tuple(modules("section"))

#: Maximum number of jobs that are listed, and of each worker.
_ALL, _EACH = 400, LISTED

#: Lost workers that are listed; all are counted.
LOST = 5

#: State of a job whose lease has just ended.
_UNNOTICED = "waits until a worker notices"

_MIB = 1024 * 1024


def listed_jobs(running: Sequence[RunningAt], loads: Mapping[str, WorkerLoad]) -> list[str]:
    """Return the ids of the jobs to list: of each worker those with the most memory, then the oldest.

    Some of the first may have ended since the worker has told its load.
    """
    oldest: dict[str, list[str]] = defaultdict(list)
    for some in running:
        oldest[some.worker] += some.ids
    each = max(1, min(_EACH, _ALL // max(1, len(oldest))))
    listed = []
    for worker, ids in oldest.items():
        use = {id: used.memory.last for id, used in loads[worker].jobs.items()} if worker in loads else {}
        heaviest = sorted(filter(use.get, use), key=lambda id: -use[id])
        listed += [*dict.fromkeys([*heaviest, *ids])][:each]
    return listed[:_ALL]


def picture(
    workers: Sequence[WorkerInfo],
    queues: Mapping[str, Mapping[str, int]],
    running: Sequence[JobSnapshot],
    pauses: Sequence[Pause] = (),
    defaults: Defaults | None = None,
    blocked: Sequence[BlockedJobs] = (),
    loads: Mapping[str, WorkerLoad] | None = None,
    sources: Sequence[WorkerSource] = (),
    lost: Mapping[str, Sequence[LostJob]] | None = None,
    sections: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> dict[str, Any]:
    """Return the page's data: queues, those that are stuck first, and hosts with their workers and jobs.

    Args:
        queues, blocked, sources: as for `queue_reasons`. running: the jobs to list. lost: jobs of lost workers.
        sections: rows of features, by the names of their sections.
    """
    alive = sorted((w for w in workers if w.is_alive), key=lambda w: (w.host, w.id))
    dead = [w for w in workers if not w.is_alive][:LOST]
    jobs = _jobs(running, {w.id: w for w in alive}, loads or {}, defaults or {})
    rows = {w.id: _worker(w, jobs.get(w.id, []), (loads or {}).get(w.id)) for w in (*alive, *dead)}
    for worker in dead:
        mine = rows[worker.id]["jobs"] = [job | {"became": _UNNOTICED, "face": ""} for job in jobs.get(worker.id, [])]
        mine += [_lost(one, defaults or {}) for one in (lost or {}).get(worker.id, ())]
        rows[worker.id]["lost"] = worker.lost_text if len(worker.lost_jobs) > _EACH else ""
    listed = [job for some in jobs.values() for job in some if job["rss_bytes"]]
    return {
        "sum": Fleet.of(workers).sentence,
        "heaviest": max(listed, key=lambda job: job["rss_bytes"], default=None),
        "hosts": _hosts([*alive, *dead], rows),
        "queues": _queues(queues, workers, pauses, blocked, sources),
        "sections": sections or {},
        "tasks": [{"name": pause.name, "paused": pause.to_json()} for pause in pauses if pause.kind == "task"],
        "alerts": [f"Worker {worker.id} {worker.problem}" for worker in alive if worker.problem],
        "alive": len(alive),
    }


def _queues(
    queues: Mapping[str, Mapping[str, int]],
    workers: Sequence[WorkerInfo],
    pauses: Sequence[Pause],
    blocked: Sequence[BlockedJobs],
    sources: Sequence[WorkerSource],
) -> list[dict[str, Any]]:
    paused = {pause.name: pause.to_json() for pause in pauses if pause.kind == "queue"}
    reasons = queue_reasons(queues, workers, blocked, sources)
    rows = [
        {
            "name": name,
            **queues.get(name, {}),
            "state": queue_state(queues.get(name, {}), reasons.get(name, ()), is_paused=name in paused),
            "paused": paused.get(name),
            "why": [to_json(reason) for reason in reasons.get(name, ())],
            "has": _resources([w for w in workers if w.is_alive and name in w.queues]),
        }
        for name in sorted({*queues, *paused})
    ]
    return sorted(rows, key=lambda row: "stuck" not in row["state"])


def _hosts(workers: Sequence[WorkerInfo], rows: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return hosts with living workers by name, then those that have lost all of theirs."""
    by_host: dict[str, list[WorkerInfo]] = {}
    for worker in workers:
        by_host.setdefault(worker.host, []).append(worker)
    return [
        {
            "name": host,
            "sum": Fleet.of(some).sentence,
            "workers": [rows[worker.id] for worker in some],
            "has": _resources([worker for worker in some if worker.is_alive]),
            "cpu_percent": sum(rows[worker.id]["cpu_percent"] for worker in some),
            "rss_bytes": sum(rows[worker.id]["rss_bytes"] for worker in some),
            "memory_bytes": max(worker.memory_bytes for worker in some),
        }
        for host, some in by_host.items()
    ]


def _jobs(
    running: Sequence[JobSnapshot],
    alive: Mapping[str, WorkerInfo],
    loads: Mapping[str, WorkerLoad],
    defaults: Defaults,
) -> dict[str, list[dict[str, Any]]]:
    """Return the listed jobs by worker, those that run longest first."""
    jobs: dict[str, list[dict[str, Any]]] = {}
    for snapshot in sorted(running, key=lambda one: iso(one.started_at) or ""):
        load = loads.get(snapshot.worker) if snapshot.worker in alive else None
        use = load.jobs.get(snapshot.id) if load is not None else None
        jobs.setdefault(snapshot.worker, []).append(
            {
                **_named(snapshot, defaults),
                "host": alive[snapshot.worker].host if snapshot.worker in alive else "",
                "started_at": iso(snapshot.started_at),
                "progress": snapshot.progress,
                "load": to_json(use),
                "rss_bytes": round(use.memory.last * _MIB) if use else 0,
                "cpu_percent": round(use.cpu.last) if use else 0,
            }
        )
    return jobs


def _named(job: JobSnapshot, defaults: Defaults) -> dict[str, Any]:
    spec = job.spec
    args = params_brief(spec.params, defaults.get(spec.task), limit=80)
    return {"id": job.id, "name": spec.title or spec.task, "args": args, "face": job.face}


def _lost(one: LostJob, defaults: Defaults) -> dict[str, Any]:
    """Return the row of a job that was lost with its worker."""
    named = {"id": one.id, "name": "", "args": "", "face": ""} if one.job is None else _named(one.job, defaults)
    return named | {"became": one.sentence}


def _worker(info: WorkerInfo, jobs: list[dict[str, Any]], load: WorkerLoad | None) -> dict[str, Any]:
    if not info.is_alive:
        load = None
    return {
        **info.to_json(),
        "tasks": [],  # the page does not show these names
        "lost_jobs": {},
        "started_at": iso(instant(info.started_ms)),
        "beat_age_s": round(info.beat_age_s, 1),
        "cpu_percent": round(info.cpu_percent) if info.is_alive else 0,
        "rss_bytes": info.rss_bytes if info.is_alive else 0,
        "state": info.state,
        "has": _resources([info]) if info.is_alive else [],
        "load": None if load is None else to_json(load.whole) | {"step_s": load.step_s},
        "gpus": [to_json(gpu) for gpu in load.gpus] if load is not None else [],
        "jobs": jobs,
    }


def _resources(workers: Sequence[WorkerInfo]) -> list[dict[str, Any]]:
    """Return the resources of workers as `{"name", "used", "total"}`."""
    total, used = sums([w.resources for w in workers]), sums([w.in_use for w in workers])
    return [{"name": name, "used": used.get(name, 0), "total": total[name]} for name in sorted(total)]


# -- the page ----------------------------------------------------------------------------------------------------------


class WorkersFeed(TextFeed):
    """Data of the page of workers. It also polls, because heartbeats cause no events."""

    CHANNELS = (None, CONTROL)

    async def data(self) -> dict[str, Any]:
        verbs, store = self.kit.verbs, self.kit.verbs.store
        (queues, workers, running), pauses, infos, sources = await asyncio.gather(
            store.overview(), verbs.pauses(), verbs.tasks(), read_sources(store, verbs.codec)
        )
        sections = {module.SECTION: await module.rows(self.kit) for module in _SECTIONS}
        blocked, loads, lost = await asyncio.gather(
            store.blocked([name for name, numbers in queues.items() if numbers["queued"]]),
            store.loads([worker.id for worker in workers if worker.is_alive]),
            lost_jobs(store, [worker for worker in workers if not worker.is_alive][:LOST]),
        )
        shown = await store.finder.candidates(listed_jobs(running, loads))
        jobs = [one.job for one in shown if one is not None and one.job.state is JobState.RUNNING]
        return picture(workers, queues, jobs, pauses, defaults_of(infos), blocked, loads, sources, lost, sections)


class WorkersPage(FeedPage):
    """Workers and queues; see `picture`."""

    FEED = WorkersFeed
    ACTIONS = ("drain_worker", *PAUSE_ACTIONS, *(name for module in _SECTIONS for name in module.ACTIONS))

    def _details(self, action: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        return {name: asked.get(name, "") for module in _SECTIONS for name in module.DETAILS.get(action, ())}

    MODULE = "workers"
