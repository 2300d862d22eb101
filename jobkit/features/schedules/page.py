"""`SchedulesPage`: what runs again and again: when next, how its last runs went, a switch, and a form.

Live: the store tells of each change, and one reader per server feeds all who look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import param

from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.features.schedules.kit import Schedules
from jobkit.features.schedules.model import SCHEDULES_CHANGED, ScheduleRun, ScheduleSnapshot, ScheduleSpec
from jobkit.features.schedules.store import ScheduleStore
from jobkit.features.schedules.timing import Timing, checked_count, checked_rules, timing
from jobkit.features.schedules.words import lateness, moment_text, moments, sentence, utc
from jobkit.model import InvalidParams, JobEvent, JobkitError, JobSpec
from jobkit.model.format import params_brief
from jobkit.model.plain import instant, iso, to_ms
from jobkit.settings import checked_name
from jobkit.store.values import WorkerInfo
from jobkit.tasks.info import Defaults, defaults_of
from jobkit.tasks.option_values import seconds
from jobkit.tasks.specs import number
from jobkit.ui.access.actions import ActionCall, action, deed_actions, each
from jobkit.ui.app.fed import fed
from jobkit.ui.form.form_model import FormModel, read_form
from jobkit.ui.live.component import FeedPage
from jobkit.ui.live.page import Page
from jobkit.ui.live.shared_feed import TextFeed


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
    when = Timing.of(spec)
    late_s, why = lateness(one, workers)
    alive = any(worker.takes_jobs for worker in workers)
    return {
        **one.to_json(),
        "args": params_brief(job.params, defaults.get(job.task)),
        "sentence": sentence(when),
        "at": _local(spec.at_ms, when),
        "until": _local(spec.until_ms, when),
        "state": "paused" if one.is_paused else "ended" if not one.next_ms else "held" if one.holds_for else "on",
        "next": next_times(one, now),
        "late_s": round(late_s, 1),
        "late": _moment(utc(one.now_ms - round(late_s * 1000)).astimezone(when.shown_zone), now) if late_s else None,
        "why": why or ("" if alive else "no worker"),
        "runs": [_run(run, when, now) for run in one.runs],
    }


def _run(run: ScheduleRun, when: Timing, now: datetime) -> dict[str, Any]:
    moment = utc(run.slot_ms or run.at_ms).astimezone(when.shown_zone)
    facts = {"text": moment_text(moment, now), "by_hand": not run.slot_ms, "seconds": run.duration_s}
    return {**run.to_json(), **facts, "late_s": round(run.late_s, 1)}


def _local(ms: int, when: Timing) -> str:
    """Return a moment as a field of a form takes it: in the schedule's own time zone."""
    return utc(ms).astimezone(when.shown_zone).strftime("%Y-%m-%dT%H:%M:%S") if ms else ""


async def are_there(kit: Kit) -> bool:
    """Return whether the header names the page."""
    return bool(await kit.verbs.store.part(ScheduleStore).snapshots())


# -- what can be done --------------------------------------------------------------------------------------------------


async def _add(call: ActionCall, task: str) -> None:
    await call.kit.aio.schedules.put(task, call.table("params"), call.table("options"), owner=call.person.name)


async def _change(call: ActionCall, name: str) -> None:
    await call.kit.aio.schedules.change(name, call.details.get("params"), **call.table("options"))


async def _run_now(call: ActionCall, name: str) -> None:
    call.made.append((await call.kit.aio.schedules.run(name)).id)


action("add_schedule", each(_add), "scheduled", on="task")
action("change_schedule", each(_change), "changed", on="schedule")
action("run_schedule", each(_run_now), "started", on="schedule")
deed_actions(Schedules)


# -- the form ----------------------------------------------------------------------------------------------------------


class ScheduleForm(FormModel):
    """The form of tasks, with the times and rules of a schedule as its options.

    A reply has `doing`, the request that it answers ("preview" or "save"), the `sentence` and the `next` times of what
    is typed, and whether it was `saved`.
    """

    def do(self, action: str, asked: Mapping[str, Any]) -> None:
        """Handle a request of the browser: the tasks, the next times of what is typed, or to save it."""
        if action == "tasks":
            self.refresh()
        elif action in ("preview", "save"):
            background.spawn(self.schedule(action, asked))

    async def schedule(self, doing: str, asked: Mapping[str, Any]) -> None:
        """Handle "preview" or "save", on the background loop."""
        if not self._infos:
            await self._refresh()
        task, name = str(asked.get("task", "")), str(asked.get("name") or "").strip()
        typed, fields, is_new = asked.get("options"), asked.get("fields"), bool(asked.get("is_new"))
        given, wrong = read_given(typed if isinstance(typed, dict) else {})
        info = self._infos.get(task)
        params: dict[str, Any] | None = None
        if is_new and info is None:
            wrong["task"] = "select a task"
        if is_new and name:
            _try("name", lambda: checked_name("name", name), wrong)
        shown = await self._preview(given, wrong)
        errors = {f"option:{key}" if key else "": text for key, text in wrong.items()}
        if isinstance(fields, dict) and info is not None:
            params, refused = await asyncio.to_thread(read_form, info.params, fields)
            errors |= refused
        saved = None
        if doing == "save" and is_new:
            chosen = {key: value for key, value in given.items() if value is not None}
            saved = await self._act(errors, "add_schedule", task, params or {}, {**chosen, "name": name or None})
        elif doing == "save":
            saved = await self._act(errors, "change_schedule", name, params, given)
        self._answer(info, errors, doing=doing, saved=saved is not None, **shown)

    async def _preview(self, given: Mapping[str, Any], errors: dict[str, str]) -> dict[str, Any]:
        """Return the sentence and the next five times; what is wrong goes to `errors`."""
        when = {key: given.get(key) for key in ("cron", "every", "at", "tz", "until")}
        if errors.keys() & when.keys():
            return {}
        try:
            now_ms = await (await asyncio.to_thread(self._access)).kit.verbs.store.now_ms()
            made = timing(**when, now_ms=now_ms)
        except InvalidParams as error:
            errors[error.field or ""] = str(error)
            return {}
        except JobkitError as error:
            errors[""] = str(error)
            return {}
        spec = ScheduleSpec(
            "", JobSpec("", ""), made.cron, made.every_ms, made.at_ms, made.tz, made.until_ms, given.get("count") or 0
        )
        kept = ScheduleSnapshot(spec, anchor_ms=now_ms, next_ms=made.after(now_ms, now_ms) or 0, now_ms=now_ms)
        return {"sentence": sentence(made), "next": next_times(kept, utc(now_ms))}


def next_times(schedule: ScheduleSnapshot, now: datetime) -> list[dict[str, Any]]:
    """Return the next five times: the moment, and in words. A paused schedule has those that it would have."""
    return [_moment(at, now) for at in moments(schedule, 5)]


def _moment(at: datetime, now: datetime) -> dict[str, Any]:
    return {"at": iso(instant(to_ms(at))), "text": moment_text(at, now)}


def read_given(typed: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """`(arguments of kit.schedule, errors)` from what stands in the fields: texts, empty where nothing was typed."""
    text = {key: str(typed.get(key) or "").strip() or None for key in (*_TEXTS, *_NUMBERS)}
    given: dict[str, Any] = text | {key: number(value) for key in _NUMBERS if (value := text[key])}
    errors: dict[str, str] = {}
    if given["every"] is not None:
        _try("every", lambda: seconds("every", given["every"]), errors)
    _try("count", lambda: checked_count(given["count"]), errors)
    for key in ("missed", "missed_limit", "overlap"):
        _try(key, lambda key=key: checked_rules(**{key: given[key]}), errors)  # type: ignore[misc]  # of this turn
    return given | dict.fromkeys(errors), errors


_TEXTS = ("cron", "at", "tz", "until", "missed", "overlap")
_NUMBERS = ("every", "count", "missed_limit")


def _try(field: str, check: Callable[[], object], errors: dict[str, str]) -> None:
    try:
        check()
    except InvalidParams as error:
        errors.setdefault(field, str(error))


# -- the page ----------------------------------------------------------------------------------------------------------


class SchedulesFeed(TextFeed):
    """Polls as well: a slot that is late because no worker lives comes as no event."""

    CHANNELS = (SCHEDULES_CHANGED, None)
    LOOK_S = 5.0
    WINDOW_S = 0.3
    _runs: frozenset[str] = frozenset()

    def is_news(self, event: JobEvent) -> bool:
        return event.job_id in self._runs and not event.type.is_news

    async def data(self) -> dict[str, Any]:
        store = self.kit.verbs.store
        found, workers, now_ms, infos = await asyncio.gather(
            store.part(ScheduleStore).snapshots(), store.workers(), store.now_ms(), self.kit.aio.tasks()
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

    MODULE = "schedules"

    def __init__(self, kit: Kit, **params: Any) -> None:
        super().__init__(kit, **params)
        self._form = ScheduleForm(lambda: self._access, partial(self._bridge.put, self))

    def _act(self, action: str, asked: Mapping[str, Any]) -> None:
        self._form.do(action, asked)


PAGE = Page("schedules", "Schedules", partial(fed, SchedulesPage), is_shown=are_there)
