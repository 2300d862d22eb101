"""Answers to questions, as an action of the pages."""

from __future__ import annotations

from jobkit.ui.access.actions import ActionCall, action, each


async def _answer(call: ActionCall, job_id: str) -> None:
    answer, key = call.details.get("answer"), str(call.details.get("key") or "")
    await call.kit.aio.questions.answer(job_id, answer, by=call.person.name, key=key)


action("answer", each(_answer), "answered")
