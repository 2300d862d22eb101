"""The form of a schedule: next times while typing, errors beside their fields, and saving."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from jobkit.client.loop import background
from jobkit.model import InvalidParams, JobkitError, JobSpec, ScheduleSnapshot, ScheduleSpec
from jobkit.model.plain import instant, iso
from jobkit.schedules.timing import checked_count, checked_rules, timing
from jobkit.schedules.words import moment_text, moments, sentence, utc
from jobkit.settings import checked_name
from jobkit.tasks.option_values import seconds
from jobkit.tasks.specs import number
from jobkit.ui.form.form_model import FormModel, read_form


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
            wrong["task"] = "choose a task"
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
