"""`jobkit.ask`: a job asks a person, and waits for the answer.

The question goes to the worker like everything that a job says; the replies come back to `Answers`. Outside a job the
person at the terminal is asked.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, TypeVar, overload

import msgspec

from jobkit.features.questions import FEATURE
from jobkit.features.questions.question import (
    BRIEF_CHARS,
    ONE,
    QUESTION_BYTES,
    TEXT_CHARS,
    Form,
    Question,
    form_of,
    made,
)
from jobkit.model import InvalidParams, JobkitError, SignatureError, Unanswered
from jobkit.model.format import duration, seconds_in
from jobkit.model.terminal import clean
from jobkit.run.inside import context
from jobkit.run.inside.answers import Answers, Reply, WaitsWithoutSlot
from jobkit.run.inside.shown_values import preview_of
from jobkit.tasks.params import describe

T = TypeVar("T")

_OWN_KEY_CHARS = 60


class AskCall:
    """One call of `ask`: its checked arguments, and how its replies end it."""

    def __init__(self, wanted: Any, text: object, show: Any, timeout: Any, key: object) -> None:
        self.form: Form = form_of(wanted)
        if not isinstance(text, str) or not text.strip():
            raise InvalidParams(f"text must be the question, not {text!r:.80}", "text")
        if len(text) > TEXT_CHARS:
            raise InvalidParams(
                f"the question has {len(text):,} characters, and at most {TEXT_CHARS:,} are allowed: give the rest as "
                "show=",
                "text",
            )
        self.text = text.encode("utf-8", "replace").decode()
        self.timeout_s = None if timeout is None else seconds_in(timeout)
        if timeout is not None and (self.timeout_s is None or not self.timeout_s >= 0):
            raise InvalidParams(f'timeout must be seconds, a timedelta or text like "2d", not {timeout!r}', "timeout")
        if not isinstance(key, str) or len(key) > _OWN_KEY_CHARS or not key.isprintable():
            raise InvalidParams(f"key must be at most {_OWN_KEY_CHARS} printable characters, not {key!r:.80}", "key")
        self.key = key
        self.shown = preview_of(show)[0] if show is not None else {}

    def questions(self, answers: Answers) -> Iterator[tuple[str, bytes]]:
        """Yield key and body of the request, again with each answer that the job's own class refuses."""
        first = self.key or answers.key_of(self.text)
        self.problem = ""
        for n in itertools.count():
            question = Question(self.text, self.form.params, self.form.is_one, self.shown, self.problem)
            params = [spec.to_json() for spec in question.params]
            body = msgspec.json.encode({**msgspec.structs.asdict(question), "params": params})
            if len(body) > QUESTION_BYTES:
                raise InvalidParams(
                    f"the question takes {len(body):,} bytes with its choices and what it shows, and at most "
                    f"{QUESTION_BYTES:,} are allowed",
                    "text",
                )
            sent = self.text[:BRIEF_CHARS], self.timeout_s, body
            yield (f"{first}~{n}" if n else first), msgspec.msgpack.encode(sent)

    def value(self, reply: Reply) -> Any:
        """Return the answer of the last reply; raises InvalidParams if the job's own class refuses it."""
        if reply.kind == "leave":
            raise WaitsWithoutSlot
        if reply.kind == "late":
            raise Unanswered(f"no answer came within {duration(self.timeout_s)}: {self.text}")
        if reply.kind == "alone":
            raise _no_person(self.text)
        if reply.kind == "many":
            raise JobkitError("this job has asked 1,000 questions, and no job may ask more")
        if reply.kind == "refused":
            raise SignatureError(reply.body.decode())
        return made(self.form, msgspec.json.decode(reply.body))


class Ask:
    """Ask a person a question and return the answer. The job waits for it.

    The question is a form on the job's card, in the dashboard and in the notebook; `job.answer(...)`,
    `jobkit answer ID` and HTTP answer it, too. A job that runs again gets the answers that it has had.

    Args:
        wanted: what the answer is: a type (`bool`, `Literal["a", "b"]`, `Annotated[int, jobkit.Range(0, 9)]`, ...),
            a list of choices, or a dataclass, pydantic model, TypedDict or class of param with several fields.
        text: the question, at most 4,000 characters.
        show: a figure, picture, table or other value to show with it.
        timeout: seconds, `timedelta` or text like "2d" until which it can be answered; None for no limit.
        key: identifies the question in each attempt of the job, at most 60 characters; the text, and a number if it
            is asked several times, unless given.

    Raises:
        Unanswered: (a TimeoutError) no answer came in time, or no person can answer here (`sync://`, outside a job).
        InvalidParams: an argument is not allowed.

    In coroutines: `await jobkit.ask.aio(...)`.

    Example:
        >>> def label(path):
        ...     return jobkit.ask(int, "Which cluster is noise?", timeout="2d")
        >>> with MemoryKit() as kit:
        ...     kit.answer_with(3)
        ...     kit.submit(label, "runs.csv").result()
        3
    """

    @overload
    def __call__(
        self,
        wanted: type[T],
        text: str,
        *,
        show: Any = ...,
        timeout: float | str | timedelta | None = ...,
        key: str = ...,
    ) -> T: ...
    @overload
    def __call__(
        self, wanted: Any, text: str, *, show: Any = ..., timeout: float | str | timedelta | None = ..., key: str = ...
    ) -> Any: ...
    def __call__(self, wanted: Any, text: str, *, show: Any = None, timeout: Any = None, key: str = "") -> Any:
        """Ask, and wait for the answer: see the class."""
        asked = AskCall(wanted, text, show, timeout, key)
        recorder = context.active_recorder()
        if recorder is None:
            return _asked_here(asked)
        if not recorder.is_passive and context.is_in_loop():
            raise JobkitError("a coroutine must not block its event loop: write await jobkit.ask.aio(...)")
        for key, body in asked.questions(recorder.answers):
            recorder.request(FEATURE.name, key, body)
            while _waits(reply := recorder.answers.wait(key)):
                pass  # one for each of several threads that ask with the same key
            try:
                return asked.value(reply)
            except InvalidParams as error:
                asked.problem = str(error)

    async def aio(
        self,
        wanted: Any,
        text: str,
        *,
        show: Any = None,
        timeout: float | str | timedelta | None = None,  # noqa: ASYNC109  # the same as of `__call__`
        key: str = "",
    ) -> Any:
        """Ask in a coroutine: `await jobkit.ask.aio(bool, "Go on?")`. Arguments and exceptions as of `jobkit.ask`."""
        asked = AskCall(wanted, text, show, timeout, key)
        recorder = context.active_recorder()
        if recorder is None:
            return _asked_here(asked)
        for key, body in asked.questions(recorder.answers):
            recorder.request(FEATURE.name, key, body)
            while _waits(reply := await recorder.answers.wait_async(key)):
                pass
            try:
                return asked.value(reply)
            except InvalidParams as error:
                asked.problem = str(error)

    def __repr__(self) -> str:
        return "<function jobkit.ask>"


ask = Ask()


def _waits(reply: Reply) -> bool:
    """Return whether the caller waits on. Only the job's own flow can end the attempt: a thread or a task that it has
    started would end alone, and the answer would be lost."""
    job = context.active()
    return reply.kind == "wait" or (reply.kind == "leave" and job is not None and not job.is_own_flow)


# -- at a terminal -----------------------------------------------------------------------------------------------------


def has_person() -> bool:
    """Return whether a person can type an answer here: a terminal, or the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if (kernel := getattr(shell, "kernel", None)) is not None:
        return bool(getattr(kernel, "_allow_stdin", False))
    return sys.stdin is not None and sys.stdin.isatty()


def prompt(question: Question) -> dict[str, Any]:
    """Ask the person at the terminal or notebook for each value, again until it is allowed. Return the checked values.

    Raises:
        EOFError: no person types.
    """
    print("\n".join(map(clean, question.text.splitlines())))
    while True:
        words = []
        for spec in question.params:
            optional = "" if spec.required else "; nothing for the default"
            typed = input(f"{spec.label or spec.name} ({describe(spec)}{optional}): ")
            if typed or spec.required:
                words.append(f"{spec.name}={typed}")
        try:
            return question.check(question.parse(words))
        except InvalidParams as error:
            print(error)


def at_terminal(question: Question) -> Any:
    """Return the answer of the person who runs this program, None if no person can type."""
    if not has_person():
        return None
    with contextlib.suppress(EOFError):
        values = prompt(question)
        return values[ONE] if question.is_one else values
    return None


def _no_person(text: str) -> Unanswered:
    return Unanswered(f"no person can answer here, without a terminal or at the end of its input: {text}")


def _asked_here(asked: AskCall) -> Any:
    """Return the answer of the person at this terminal, outside a job."""
    if not has_person():
        raise _no_person(asked.text)
    while True:
        try:
            return made(asked.form, prompt(Question(asked.text, asked.form.params, asked.form.is_one)))
        except InvalidParams as error:
            print(error)
        except EOFError:
            raise _no_person(asked.text) from None
