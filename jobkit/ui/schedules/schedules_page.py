"""`SchedulesPage`: what runs again and again: when next, how its last runs went, a switch, and a form.

Live: the store tells of each change, and one reader per server feeds all who look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, ClassVar

import param

from jobkit.client import Kit
from jobkit.model import JobEvent, ScheduleRun, ScheduleSnapshot
from jobkit.model.format import params_brief
from jobkit.model.plain import instant, iso
from jobkit.schedules.timing import Timing
from jobkit.schedules.words import lateness, moment_text, sentence, utc
from jobkit.store.values import SCHEDULES_CHANGED, WorkerInfo
from jobkit.tasks.info import Defaults, defaults_of
from jobkit.ui.access.actions import ActionCall, action, each
from jobkit.ui.live.component import FeedPage
from jobkit.ui.live.shared_feed import TextFeed
from jobkit.ui.schedules.schedule_form import ScheduleForm, next_times
from jobkit.ui.words import assets


def picture(
    schedules: Sequence[ScheduleSnapshot], workers: Sequence[WorkerInfo], now_ms: int, defaults: Defaults | None = None
) -> dict[str, Any]:
    """Return the page's data, in the order of the next times; paused and ended schedules last."""
    order = sorted(schedules, key=lambda s: (s.next_ms or float("inf"), s.name))
    return {
        "schedules": [_row(one, workers, utc(one.now_ms), defaults or {}) for one in order],
        "now": iso(instant(now_ms)),
    }


def _row(one: ScheduleSnapshot, workers: Sequence[WorkerInfo], now: datetime, defaults: Defaults) -> dict[str, Any]:
    spec, job = one.spec, one.spec.job
    timing = Timing.of(spec)
    late_s, why = lateness(one, workers)
    alive = any(worker.takes_jobs for worker in workers)
    return {
        **one.to_json(),
        "args": params_brief(job.params, defaults.get(job.task)),
        "sentence": sentence(timing),
        "at": _local(spec.at_ms, timing),
        "until": _local(spec.until_ms, timing),
        "state": "paused" if one.is_paused else "ended" if not one.next_ms else "held" if one.holds_for else "on",
        "next": next_times(one, now),
        "late_s": round(late_s, 1),
        "why": why or ("" if alive else "no worker"),
        "runs": [_run(run, timing, now) for run in one.runs],
    }


def _run(run: ScheduleRun, timing: Timing, now: datetime) -> dict[str, Any]:
    moment = utc(run.slot_ms or run.at_ms).astimezone(timing.shown_zone)
    facts = {"text": moment_text(moment, now), "by_hand": not run.slot_ms, "seconds": run.duration_s}
    return {**run.to_json(), **facts, "late_s": round(run.late_s, 1)}


def _local(ms: int, timing: Timing) -> str:
    """Return a moment as a field of a form takes it: in the schedule's own time zone."""
    return utc(ms).astimezone(timing.shown_zone).strftime("%Y-%m-%dT%H:%M:%S") if ms else ""


async def are_there(kit: Kit) -> bool:
    """Return whether the header names the page."""
    return bool(await kit.verbs.store.schedules.snapshots())


# -- what can be done --------------------------------------------------------------------------------------------------


async def _add(call: ActionCall, task: str) -> None:
    await call.kit.aio.schedule_info(task, call.table("params"), call.table("options"), owner=call.person.name)


async def _change(call: ActionCall, name: str) -> None:
    await call.kit.aio.change_schedule(name, call.details.get("params"), **call.table("options"))


async def _run_now(call: ActionCall, name: str) -> None:
    call.made.append((await call.kit.aio.run_schedule(name)).id)


action("add_schedule", each(_add), "scheduled", on="task")
action("change_schedule", each(_change), "changed", on="schedule")
action("run_schedule", each(_run_now), "started", on="schedule")
action("pause_schedule", each(lambda call, name: call.kit.aio.pause_schedule(name)), "paused", on="schedule")
action("resume_schedule", each(lambda call, name: call.kit.aio.resume_schedule(name)), "resumed", on="schedule")
action("remove_schedule", each(lambda call, name: call.kit.aio.remove_schedule(name)), "removed", on="schedule")


class SchedulesFeed(TextFeed):
    """Polls as well: a slot that is late because no worker lives comes as no event."""

    CHANNELS = (SCHEDULES_CHANGED, None)
    LOOK_S = 5.0
    WINDOW_S = 0.3
    _runs: frozenset[str] = frozenset()

    def is_news(self, event: JobEvent) -> bool:
        """Return True if a schedule has changed, or a shown run has begun."""
        return event.job_id == SCHEDULES_CHANGED or (event.job_id in self._runs and not event.type.is_news)

    async def data(self) -> dict[str, Any]:
        store = self.kit.verbs.store
        found, workers, now_ms, infos = await asyncio.gather(
            store.schedules.snapshots(), store.workers(), store.now_ms(), self.kit.aio.tasks()
        )
        self._runs = frozenset(run.job_id for one in found for run in one.runs if run.job_id)
        return picture(found, workers, now_ms, defaults_of(infos))


class SchedulesPage(FeedPage):
    """All schedules, see `picture`, and a form for new ones.

    Attributes:
        tasks: those that can be scheduled, for the form. reply: what the server says to the form.
    """

    FEED = SchedulesFeed
    ACTIONS = ("run_schedule", "pause_schedule", "resume_schedule", "remove_schedule")

    tasks = param.String(default="")
    reply = param.String(default="")

    _esm = assets.esm("schedules")
    _stylesheets: ClassVar[list[str]] = [assets.css("schedules")]

    def __init__(self, kit: Kit, **params: Any) -> None:
        super().__init__(kit, **params)
        self._form = ScheduleForm(lambda: self._access, partial(self._bridge.put, self))

    def _act(self, action: str, asked: Mapping[str, Any]) -> None:
        self._form.do(action, asked)
