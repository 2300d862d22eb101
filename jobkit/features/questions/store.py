"""Questions of jobs in the store; see `lua/lib/questions.lua`."""

from __future__ import annotations

from typing import Any, NamedTuple

from jobkit.store import wire
from jobkit.store.namespace import StorePart

#: Seconds from which on a timeout is no limit: 31 years.
_EVER_S = 1e9


class AskReply(NamedTuple):
    """Reply to a running job that asks.

    Attributes:
        kind: "answer", "wait", "late" (no answer came in time), "many" (the job has asked too much) or "gone" (its
            lease is lost).
        answer: the sealed answer, or empty.
        left_s: seconds until the question is late; None for no limit, or if it does not wait.
    """

    kind: str
    answer: bytes = b""
    left_s: float | None = None


class QuestionStore(StorePart):
    """Verbs for questions and answers."""

    async def ask(
        self, job_id: str, token: str, key: str, text: str, timeout_s: float | None, sealed: bytes
    ) -> AskReply:
        """Store a question of a running attempt, unless its key is known; return the reply."""
        is_limited = timeout_s is not None and 0 <= timeout_s < _EVER_S
        timeout_ms = int(timeout_s * 1000) if timeout_s is not None and is_limited else -1
        kind, value = await self._ns.run("ask", [job_id, token, key, text, timeout_ms, sealed])
        if kind == b"answer":
            return AskReply("answer", value)
        return AskReply(kind.decode(), left_s=value / 1000 if kind == b"wait" and value >= 0 else None)

    async def answer(self, job_id: str, key: str, sealed: bytes, by: str, said: str) -> tuple[str, list[Any]]:
        """Store the answer to an open question. Return "done" or why not, with the facts of `Questions.answer`."""
        kind, *facts = await self._ns.run("answer", [job_id, key, sealed, by, said])
        return kind.decode(), [wire.text(fact) if isinstance(fact, bytes) else fact for fact in facts]

    async def question(self, job_id: str, key: str) -> bytes | None:
        """Return a sealed question that is open, or None."""
        found: bytes | None = await self._ns.ask("HGET", f"asks:{job_id}", f"q:{key}")
        return found

    async def closed(self, job_id: str, key: str) -> tuple[str, list[Any]]:
        """Return why a question cannot be answered any more, as `answer` does."""
        raw = await self._ns.ask("HGET", f"asks:{job_id}", f"s:{key}")
        state = wire.mapping(raw) if raw else {}
        if "done" in state:
            return "answered", [str(state.get("by", "")), state["done"]]
        return ("late", [state.get("due")]) if state.get("late") else ("none", [])
