"""Questions of jobs between the attempt that asks, the store, and the person who answers.

`serve` serves the attempt (worker, `sync://`); `read` and `answer` are the one way to an answer for pages, HTTP, the
command line and Python.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from jobkit.client.loop import background
from jobkit.codec import RAW, Codec, Subject
from jobkit.features.questions.asking import at_terminal
from jobkit.features.questions.history import closed_questions
from jobkit.features.questions.question import BRIEF_CHARS, KEY_CHARS, QUESTION_BYTES, Question
from jobkit.features.questions.store import QuestionStore
from jobkit.model import JobSnapshot, JobSpec, QuestionClosed, SignatureError, StoreUnavailable
from jobkit.model.format import END_WORDS, ago
from jobkit.model.plain import instant
from jobkit.model.question import OpenQuestion
from jobkit.run.inside.answers import JobRequest, Reply
from jobkit.settings import user_name
from jobkit.store.redis import RedisStore
from jobkit.store.values import Claimed

_question = msgspec.json.Decoder(Question).decode
_read_request = msgspec.msgpack.Decoder(tuple[str, float | None, bytes]).decode


def _subject(kind: str, spec: JobSpec, key: str) -> Subject:
    """Return what the seal of a "question" or its "answer" covers."""
    return Subject(f"{kind}\0{key}", spec.id, spec.task)


async def serve(
    store: RedisStore,
    codec: Codec,
    claimed: Claimed,
    request: JobRequest,
    changed: asyncio.Event,
    pause: Callable[[int], Awaitable[None]],
) -> None:
    """Store a question, and reply when it is answered or late; before that once that it waits.

    Args:
        changed: set when there may be an answer.
        pause: waits before the store is asked again, after so many failures in a row.
    """
    spec, key, is_first, failures = claimed.spec, request.key, True, 0
    questions = store.part(QuestionStore)
    try:
        text, timeout_s, body = _read_request(request.body)
    except (msgspec.MsgspecError, ValueError):  # the job has sent it itself
        return request.reply(Reply(key, "refused", b"the question cannot be read"))
    if len(body) > QUESTION_BYTES or len(key) > KEY_CHARS:  # the job has checked this; it may lie
        return request.reply(Reply(key, "refused", b"the question is too large"))
    sealed = codec.seal(RAW, body, _subject("question", spec, key))
    text = text[:BRIEF_CHARS]
    while True:
        changed.clear()
        try:
            found = await questions.ask(spec.id, claimed.token, key, text, timeout_s, sealed)
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
                    _, body = codec.verify(found.answer, _subject("answer", spec, key))
                except SignatureError as error:
                    kind, body = "refused", str(error).encode()
            return request.reply(Reply(key, kind, body))
        if is_first:
            request.reply(Reply(key, "leave" if request.may_end() else "wait"))
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
    sealed = await store.part(QuestionStore).question(snapshot.id, key) if key else None
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
        raise QuestionClosed(_why_closed(job_id, *await store.part(QuestionStore).closed(job_id, key)))
    if question is None:
        last = "".join(
            f". Its last question {_fate(one.by, one.at, is_late=one.is_late)}: {one.text}"
            for one in closed_questions(snapshot.history)[-1:]
        )
        raise QuestionClosed(f"job {job_id} asks nothing now; it {_words(snapshot.state)}{last}")
    values = question.check(given)
    sealed = codec.seal(RAW, msgspec.json.encode(values), _subject("answer", snapshot.spec, key))
    said = question.brief(values)[:BRIEF_CHARS]
    kind, facts = await store.part(QuestionStore).answer(job_id, key, sealed, by[:200], said)
    if kind != "done":
        raise QuestionClosed(_why_closed(job_id, kind, facts))
    return OpenQuestion(key, question.text[:BRIEF_CHARS], instant(facts[0]) or datetime.now(UTC))


def here(
    store: RedisStore,
    codec: Codec,
    snapshot: JobSnapshot,
    key: str,
    person: Callable[[Question], Any] | None,
    has_others: Callable[[], bool],
) -> Reply | None:
    """Have the person at this process answer a question of a job that runs with its submit.

    Args:
        person: answers in place of the person at the terminal.
        has_others: tells whether another thread may answer.

    Returns:
        A reply if no person can answer.
    """
    question = background.call(read(store, codec, snapshot, key))
    if question is None:
        return None
    if (given := (person or at_terminal)(question)) is not None:
        background.call(answer(store, codec, snapshot, given, by=user_name(), key=key))
        return None
    if not has_others():
        return Reply(key, "alone")
    print(f"job {snapshot.id} waits for an answer from another thread: {question.text}", file=sys.stderr)
    return None


def _words(state: str) -> str:
    return END_WORDS.get(state, f"is {state}")


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
