"""`/api/jobs/{id}/question`: what a job asks, and the answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Struct

from jobkit.http.api import shapes
from jobkit.http.api.jobs import find
from jobkit.http.api.routing import act, see
from jobkit.http.api.shapes import doc
from jobkit.http.core.handling import ApiCall
from jobkit.http.messages import Problem
from jobkit.model.plain import iso


class Answer(Struct, forbid_unknown_fields=True, kw_only=True):
    """The answer to a question."""

    answer: Annotated[Any, doc("Values by name, or the one value that is asked for, as the question's `schema` says.")]
    key: Annotated[str, doc("`key` of the question; the oldest open one unless given.", max_length=100)] = ""


class QuestionJson(Struct):
    """A question of a running job; `shown` is the preview of what it shows, `schema` the JSON Schema of the answer."""

    key: str
    asked_at: datetime
    due_at: datetime | None
    text: str
    params: list[dict[str, Any]]
    is_one: bool
    problem: str
    schema: dict[str, Any]
    shown: dict[str, Any]


AnsweredJson = shapes.answer("AnsweredJson", "The question that was answered.", key=str, text=str, asked_at=datetime)


async def question(call: ApiCall) -> Any:
    """Read the question that a job asks people."""
    snapshot = await find(call)
    found = await call.kit.aio.questions.get(snapshot.id) if snapshot.asking else None
    if found is None:
        raise Problem(404, "no_question", f"job {snapshot.id} asks nothing now", "id")
    asked = snapshot.asking[0]
    times = {"key": asked.key, "asked_at": iso(asked.at), "due_at": iso(asked.due)}
    return times | found.to_json() | {"shown": found.shown}


async def answer(call: ApiCall) -> Any:
    """Answer the question of a job; the first answer counts."""
    snapshot, body = await find(call), call.body
    asked = await call.kit.aio.questions.answer(snapshot.id, body.answer, by=call.grant.subject, key=body.key)
    return {"key": asked.key, "text": asked.text, "asked_at": iso(asked.at)}


ROUTES = (
    see("/api/jobs/{id}/question", question, QuestionJson, others=(404, 502)),
    act("/api/jobs/{id}/question", answer, 200, AnsweredJson, body=Answer, others=(409, 502)),
)
