"""The questions of a job on its card: the data of their section, and the requests of its form."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Any

from jobkit.client.kit import Kit
from jobkit.features.questions.history import closed_questions
from jobkit.features.questions.question import ONE, Question
from jobkit.model import InvalidParams, JobkitError, JobSnapshot
from jobkit.model.plain import dumps, iso, to_json
from jobkit.ui.access.actions import Actions
from jobkit.ui.form.form_model import read_form, refusal

NAME = "questions"

#: Requests of the form, each with the action that it needs.
ACTIONS = {"answer": "answer", "check-answer": "answer"}

#: `_state` of a job that has asked nothing.
_NOTHING = ["", 0, 0]

_numbers = itertools.count(1)

#: Results of checks that a reply has at most.
_FIELDS = 200


def is_stale(snapshot: JobSnapshot, shown: Mapping[str, Any]) -> bool:
    """Return whether a job has asked, or was answered, since its section was read."""
    return bool(shown.get("state", _NOTHING) != _state(snapshot))


def _state(snapshot: JobSnapshot) -> list[Any]:
    """Return the key of the question that a job asks first, and how many are open and closed."""
    asking = snapshot.asking
    return [asking[0].key if asking else "", len(asking), len(closed_questions(snapshot.history))]


async def read(kit: Kit, snapshot: JobSnapshot) -> dict[str, Any]:
    """Return the question that a job asks first, if it asks one, and the closed ones."""
    data = {"state": _state(snapshot), "told": [to_json(each) for each in closed_questions(snapshot.history)]}
    if not snapshot.asking:
        return data
    asked, more = snapshot.asking[0], len(snapshot.asking) - 1
    shown: dict[str, Any] = {"key": asked.key, "asked_at": iso(asked.at), "due_at": iso(asked.due), "more": more}
    try:
        question = await kit.aio.questions.get(snapshot.id, asked.key)
    except JobkitError as error:
        return {**data, **shown, "text": asked.text, "unavailable": str(error)}
    if question is None:  # answered just now
        return data
    facts = question.to_json()
    facts = {name: facts[name] for name in ("text", "params", "problem")}
    return {**data, **shown, **facts, "shown": question.shown}


class AnswerForm:
    """Requests of the form for an answer, on one card.

    Args:
        put: sends the browser a reply, which has errors by field ("" for the form as a whole).
    """

    def __init__(self, access: Actions, put: Callable[[str], object]) -> None:
        self._access, self._put = access, put
        self._key, self._checked = "", dict[str, str]()

    async def do(self, job_id: str, asked: Mapping[str, Any]) -> None:
        """Check a field ("check-answer"), or answer the question ("answer")."""
        key, fields, name = str(asked.get("key", ""))[:100], asked.get("fields") or {}, str(asked.get("name", ""))
        try:
            question = await self._access.kit.aio.questions.get(job_id, key)
        except JobkitError as error:
            return self._tell(key, {"": str(error)})
        if question is None:
            return self._tell(key, {"": "this question is not there any more"})
        if asked.get("action") == "check-answer":
            # All that were checked: of two replies in quick succession the browser may get the last one alone.
            self._checked = self._checked if self._key == key and len(self._checked) < _FIELDS else {}
            self._key = key
            checked, field = self._checked, asked.get("field") or {}
            checked[name] = await asyncio.to_thread(refusal, question.info.signature, name, field)
            self._tell(key, checked, is_check=True)
        else:
            self._tell(key, await self._answer(job_id, key, question, fields))

    async def _answer(self, job_id: str, key: str, question: Question, fields: Mapping[str, Any]) -> dict[str, str]:
        """Return errors by field, {} if the question is answered."""
        values, errors = await asyncio.to_thread(read_form, question.params, fields)
        if errors:
            return errors
        answer = values.get(ONE) if question.is_one else values
        reply = await self._access.act("answer", [job_id], answer=answer, key=key)
        if not reply.problem:
            return {}
        return {(reply.error.field or "") if isinstance(reply.error, InvalidParams) else "": reply.problem}

    def _tell(self, key: str, errors: Mapping[str, str], **facts: Any) -> None:
        self._put(dumps({"key": key, "errors": errors, **facts, "n": next(_numbers)}))


form = AnswerForm
