"""The form of a schedule: next times while typing, errors beside their fields, and saving."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from jobkit.model import InvalidParams, JobkitError, JobSpec, ScheduleSnapshot, ScheduleSpec
from jobkit.model.plain import instant, iso
from jobkit.schedules.timing import checked_count, checked_rules, timing
from jobkit.schedules.words import moment_text, moments, sentence, utc
from jobkit.settings import checked_name
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.option_values import seconds
from jobkit.tasks.specs import number
from jobkit.ui.access.actions import Actions
from jobkit.ui.form.form_values import read_form

_SHOWN_TASKS = 500


class ScheduleForm:
    """One page's form.

    Args:
        access: saves it.
        say: shows new texts (any of `tasks` and `reply`); called in any thread.
    """

    def __init__(self, access: Actions, say: Callable[[Mapping[str, str]], object]) -> None:
        self._access, self._say = access, say
        self._infos: dict[str, TaskInfo] = {}

    async def asked(self, doing: str, asked: Mapping[str, Any]) -> None:
        """Handle a request of the browser on any loop: the tasks, the next times of what is typed, or to save it."""
        if doing == "tasks":
            await self._tell_tasks()
            return
        if not self._infos:
            await self._tell_tasks()
        task, name = str(asked.get("task", "")), str(asked.get("name") or "").strip()
        typed: Any = asked.get("given")
        given, errors = read_given(typed if isinstance(typed, dict) else {})
        fields, params = asked.get("fields"), None
        info = self._infos.get(task)
        if isinstance(fields, dict) and info is not None:
            values, wrong = await asyncio.to_thread(read_form, info.params, fields)
            params = values
            errors |= {f"param:{field}": text for field, text in wrong.items()}
        is_new = bool(asked.get("is_new"))
        if is_new and info is None:
            errors["task"] = "choose a task"
        if is_new and name:
            _try("name", lambda: checked_name("name", name), errors)
        reply: dict[str, Any] = {"n": asked.get("n"), "doing": doing}
        reply |= await self._preview(given, errors)
        if doing == "save" and not errors:
            changes = {key: value for key, value in given.items() if is_new is False or value is not None}
            if is_new:
                answer = await self._access.act(
                    "add_schedule", [task], params=params or {}, given={**changes, "name": name or None}
                )
            else:
                answer = await self._access.act("change_schedule", [name], params=params, given=changes)
            if answer.problem:
                field = answer.error.field if isinstance(answer.error, InvalidParams) else None
                known = field in (*given, "name", "task")
                errors[str(field) if known else f"param:{field}" if field in (params or {}) else ""] = answer.problem
            else:
                reply["saved"] = True
        self._say({"reply": json.dumps({**reply, "errors": errors}, default=str)})

    async def _tell_tasks(self) -> None:
        try:
            found = await self._access.kit.aio.tasks()
        except JobkitError:
            return
        self._infos = dict(list(found.items())[:_SHOWN_TASKS])
        told = [
            {"name": info.name, "title": info.title, "params": [spec.to_json() for spec in info.params]}
            for info in self._infos.values()
        ]
        self._say({"tasks": json.dumps(told, default=str)})

    async def _preview(self, given: Mapping[str, Any], errors: dict[str, str]) -> dict[str, Any]:
        """Return the sentence and the next five times; what is wrong goes to `errors`."""
        when = {key: given.get(key) for key in ("cron", "every", "at", "tz", "until")}
        if errors.keys() & when.keys():
            return {}
        try:
            now_ms = await self._access.kit.verbs.store.now_ms()
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
    return [
        {"at": iso(instant(round(at.timestamp() * 1000))), "text": moment_text(at, now)} for at in moments(schedule, 5)
    ]


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
