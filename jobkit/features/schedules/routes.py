"""`/api/schedules`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from jobkit.features.schedules.kit import Schedules
from jobkit.features.schedules.model import ScheduleRun, ScheduleSnapshot, ScheduleSpec
from jobkit.features.schedules.store import ScheduleStore
from jobkit.http.api.jobs import accepted, newest_event
from jobkit.http.api.routing import act, deeds, see
from jobkit.http.api.shapes import AcceptedJson, answer, json_of
from jobkit.http.core.handling import ApiCall
from jobkit.http.core.tail import on_loop
from jobkit.model import JobSpec

ScheduleRunJson = json_of("ScheduleRunJson", "One run of a schedule: its job, or `why` there is none.", ScheduleRun(0))
ScheduleJson = json_of(
    "ScheduleJson",
    "A schedule, with its last runs.",
    ScheduleSnapshot(ScheduleSpec("", JobSpec("", ""))),
    JobSpec,
    ScheduleSpec,
    **dict.fromkeys(("at", "until", "next_at", "ended_at"), datetime | None),
    every=float | None,
    count=int | None,
    from_code=str,
    paused=bool,
    runs=list[ScheduleRunJson],  # type: ignore[valid-type]  # made at run time
)
SchedulesJson = answer("SchedulesJson", schedules=list[ScheduleJson])  # type: ignore[valid-type]  # made at run time


async def schedules(call: ApiCall) -> Any:
    """List schedules by name, with their last runs."""
    found = await on_loop(call.kit.verbs.store.part(ScheduleStore).snapshots())
    return {"schedules": [one.to_json() for one in found if call.grant.sees(one.spec.job)]}


async def schedule(call: ApiCall) -> Any:
    """Read one schedule."""
    return (await _schedule(call)).to_json()


async def run_schedule(call: ApiCall) -> Any:
    """Run a schedule once, now."""
    found = await _schedule(call)
    since = await newest_event(call)
    return accepted(call, (await call.kit.aio.schedules.run(found.name)).id, since)


async def _schedule(call: ApiCall) -> ScheduleSnapshot:
    async def read(name: str) -> ScheduleSnapshot | None:
        return next(iter(await on_loop(call.kit.verbs.store.part(ScheduleStore).snapshots([name]))), None)

    return await call.find("name", "schedule", read, lambda found: call.grant.sees(found.spec.job))


ROUTES = (
    see("/api/schedules", schedules, SchedulesJson),
    see("/api/schedules/{name}", schedule, ScheduleJson),
    *deeds("/api/schedules/{name}", Schedules, _schedule, schedule, ScheduleJson),
    act("/api/schedules/{name}/run", run_schedule, 202, AcceptedJson, on="schedule"),
)
