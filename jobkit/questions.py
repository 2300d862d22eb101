"""Questions of jobs between the attempt that asks, the store, and the person who answers.

`follow` serves the attempt (worker, `sync://`); `read` and `answer` are the one way to an answer for pages, HTTP, the
command line and Python.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from jobkit.codec import RAW, Codec, Subject
from jobkit.model import JobSnapshot, JobSpec, QuestionClosed, SignatureError, StoreUnavailable
from jobkit.model.format import ago
from jobkit.model.plain import instant
from jobkit.model.question import OpenQuestion, closed_questions
from jobkit.run.inside.answers import Reply
from jobkit.store.redis import RedisStore
from jobkit.store.values import Claimed
from jobkit.tasks.question import BRIEF_CHARS, KEY_CHARS, QUESTION_BYTES, Question

_question = msgspec.json.Decoder(Question).decode


def _subject(kind: str, spec: JobSpec, key: str) -> Subject:
    """Return what the seal of a "question" or its "answer" covers."""
    return Subject(f"{kind}\0{key}", spec.id, spec.task)


class AttemptQuestion(msgspec.Struct, frozen=True):
    """A question of a running attempt, see `jobkit.run.inside.recorder.Sink.ask`."""

    key: str
    text: str
    timeout_s: float | None
    body: bytes
    reply: Callable[[Reply], None]
    may_end: Callable[[], bool] = bool
    """The attempt may end while it waits: its next one goes on from a checkpoint."""


async def follow(
    store: RedisStore,
    codec: Codec,
    claimed: Claimed,
    asked: AttemptQuestion,
    changed: asyncio.Event,
    pause: Callable[[int], Awaitable[None]],
) -> None:
    """Store a question, and reply when it is answered or late; before that once that it waits.

    Args:
        changed: set when there may be an answer.
        pause: waits before the store is asked again, after so many failures in a row.
    """
    spec, is_first, failures = claimed.spec, True, 0
    if len(asked.body) > QUESTION_BYTES or len(asked.key) > KEY_CHARS:  # the job has checked this; it may lie
        return asked.reply(Reply(asked.key, "refused", b"the question is too large"))
    sealed = codec.seal(RAW, asked.body, _subject("question", spec, asked.key))
    text = asked.text[:BRIEF_CHARS]
    while True:
        changed.clear()
        try:
            found = await store.questions.ask(spec.id, claimed.token, asked.key, text, asked.timeout_s, sealed)
        except StoreUnavailable:
            await pause(failures)
            failures += 1
            continue
        failures = 0
        if found.kind == "gone":  # its lease is lost, and the attempt will be stopped
            return
        if found.kind != "wait":
            kind, body = found.kind, b""
            if kind == "answer":
                try:
                    _, body = codec.verify(found.answer, _subject("answer", spec, asked.key))
                except SignatureError as error:
                    kind, body = "refused", str(error).encode()
            return asked.reply(Reply(asked.key, kind, body))
        if is_first:
            asked.reply(Reply(asked.key, "leave" if asked.may_end() else "wait"))
            is_first = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(found.left_s):
                await changed.wait()


async def read(store: RedisStore, codec: Codec, snapshot: JobSnapshot, key: str = "") -> Question | None:
    """Return an open question of a job, the oldest one unless a key is given; None if there is none.

    Raises:
        SignatureError: its worker did not seal it for this job.
    """
    key = key or (snapshot.asking[0].key if snapshot.asking else "")
    sealed = await store.questions.question(snapshot.id, key) if key else None
    if sealed is None:
        return None
    _, body = codec.verify(sealed, _subject("question", snapshot.spec, key))
    try:
        return _question(body)
    except (msgspec.MsgspecError, ValueError) as error:
        raise SignatureError(f"the question of job {snapshot.id} cannot be read: {error}") from None


async def answer(
    store: RedisStore, codec: Codec, snapshot: JobSnapshot, given: Any, *, by: str = "", key: str = ""
) -> OpenQuestion:
    """Check, seal and store the answer to a question; return the question.

    Args:
        given: values by name, or the one value that is asked for.
        by: who answers.
        key: of the question; the oldest open one unless given.

    Raises:
        InvalidParams: the answer is not allowed.
        QuestionClosed: it was answered before, it is late, or the job asks nothing.
        SignatureError: the question was not sealed for this job.
    """
    job_id = snapshot.id
    key = key or (snapshot.asking[0].key if snapshot.asking else "")
    question = await read(store, codec, snapshot, key)
    if question is None and key:
        raise QuestionClosed(_why_closed(job_id, *await store.questions.closed(job_id, key)))
    if question is None:
        last = "".join(
            f". Its last question {_fate(one.by, one.at, is_late=one.is_late)}: {one.text}"
            for one in closed_questions(snapshot.history)[-1:]
        )
        raise QuestionClosed(f"job {job_id} asks nothing now; it {_words(snapshot.state)}{last}")
    values = question.check(given)
    sealed = codec.seal(RAW, msgspec.json.encode(values), _subject("answer", snapshot.spec, key))
    kind, facts = await store.questions.answer(job_id, key, sealed, by[:200], question.brief(values)[:BRIEF_CHARS])
    if kind != "done":
        raise QuestionClosed(_why_closed(job_id, kind, facts))
    return OpenQuestion(key, question.text[:BRIEF_CHARS], instant(facts[0]) or datetime.now(UTC))


def _words(state: str) -> str:
    return {"cancelled": "was cancelled", "succeeded": "has succeeded", "failed": "has failed"}.get(
        state, f"is {state}"
    )


def _fate(by: str, at: datetime | None, *, is_late: bool) -> str:
    """Return how a question was closed; the subject precedes it."""
    when = ago(at, datetime.now(UTC))
    if is_late:
        return f"could be answered until {when}; now it is too late"
    return f"was answered by {by or 'another user'} {when}"


def _why_closed(job_id: str, kind: str, facts: list[Any]) -> str:
    """Return why a question cannot be answered, by the reply of the store."""
    if kind in ("answered", "late"):
        *by, at = facts
        return f"this question of job {job_id} {_fate(''.join(by), instant(at), is_late=kind == 'late')}"
    if kind == "ended":
        return f"job {job_id} {_words(facts[0])}; it asks nothing any more"
    return f"job {job_id} has no such question"
