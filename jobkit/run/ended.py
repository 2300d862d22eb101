"""The end of an attempt in stages: first what is certain, then what only code of its value can add.

The preview of a value, the message of an exception and its pickle come from code of their classes (`_repr_html_`,
`__str__`, `__reduce__`), which may raise, exit, crash or hang. So a runner takes note of each stage before it asks for
the next: whatever the next one does, the attempt has ended as the last one says.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import importlib.util
import io
import platform
import sys
import threading
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from jobkit.codec import MSGPACK, Codec
from jobkit.model import ErrorKind, InvalidParams, Retry
from jobkit.model.snapshot import JobError
from jobkit.run.attempt import Assignment, Outcome, Rejected, failed, how_to_get, not_kept, resolve
from jobkit.run.inside.answers import WaitsWithoutSlot
from jobkit.run.inside.context import Stop
from jobkit.run.inside.seeds import seeded
from jobkit.run.inside.shown_values import PNG_LIMIT, preview_of, render_exactly, safe_repr
from jobkit.run.inside.tracebacks import class_name, describe, error_body, error_types

#: All stages after the first may take so many seconds together.
STAGES_LIMIT_S = 10.0
TOO_LONG = f"it took longer than {STAGES_LIMIT_S:g} s"

#: Plain data up to this size is shown at once: no other code than ours is called for it.
_QUICK_BYTES = 1_000_000

#: Plain data up to this size has no preview beside it: `jobkit.attempts.read_preview` makes one.
_SMALL_BYTES = 10_000

_CODECS = {allow: Codec(allow_pickle=allow) for allow in (False, True)}


class Ended(msgspec.Struct, frozen=True):
    """One stage. `more`: makes the next one; None after the last."""

    outcome: Outcome
    more: Callable[[], Ended] | None = None

    def last(self, on_stage: Callable[[Outcome], None] = lambda outcome: None) -> Outcome:
        """Return the outcome of the last stage that can be reached; `on_stage` gets those before it. Never raises."""
        ended = self
        while ended.more is not None:
            on_stage(ended.outcome)
            try:
                ended = ended.more()
            except BaseException as error:
                return incomplete(ended.outcome, f"{class_name(error)} was raised")
        return ended.outcome


class EndedElsewhere(Exception):
    """The call has ended in another process of the job, with this outcome: raised for a failure, else returned."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.outcome)
        self.outcome = outcome


def execute(
    assignment: Assignment,
    run: Callable[[Coroutine[Any, Any, Any]], Any],
    on_end: Callable[[], None] = lambda: None,
    *,
    owns_process: bool = False,
    leaves: type[BaseException] = Stop,
) -> Ended:
    """Run the call of an attempt in this thread.

    Args:
        run: runs a coroutine to its end. on_end: called at once when the code of the job has ended.
        leaves: the exception that is not the job's own, and leaves this function.
    """
    try:
        function, args, kwargs = resolve(assignment, owns_process=owns_process)
        with seeded(assignment.seed):
            value = function(*args, **kwargs)
            if issubclass(type(value), types.CoroutineType):
                value = run(value)
    except leaves:
        raise
    except BaseException as error:
        on_end()
        return raised(error, allow_pickle=assignment.allow_pickle)
    on_end()
    return succeeded(value, allow_pickle=assignment.allow_pickle, leaves=leaves)


def succeeded(value: Any, *, allow_pickle: bool, leaves: type[BaseException] = Stop) -> Ended:
    """A returned value. One that cannot be written is still a success, shown but not kept."""
    if type(value) is EndedElsewhere:
        return Ended(value.outcome)
    problem = ""
    try:
        form, body = _CODECS[allow_pickle].encode(value)
    except leaves:
        raise
    except MemoryError:
        sentence = "the task returned, but there was no memory to keep its result"
        return Ended(failed(ErrorKind.MEMORY, "MemoryError", sentence))
    except BaseException as error:  # encoders call code of the value's own
        form, body = b"", b""
        reason = str(error) if issubclass(type(error), InvalidParams) else class_name(error)
        problem = _unavailable(value, reason, allow_pickle)
    if form == MSGPACK and len(body) <= _QUICK_BYTES:
        preview, summary = preview_of(value)
        return Ended(Outcome("succeeded", form, body, preview if len(body) > _SMALL_BYTES else None, summary))

    def shown(preview: dict[str, Any], summary: str) -> Outcome:
        outcome = Outcome("succeeded", form, body, preview, summary)
        return not_kept(outcome, problem) if problem else outcome

    def more() -> Ended:
        preview, summary = preview_of(value)
        msgspec.msgpack.encode(preview)  # raises for what can be sent nowhere
        return Ended(shown(preview, summary), partial(drawn, preview, summary) if "mime" in preview else None)

    def drawn(preview: dict[str, Any], summary: str) -> Ended:
        preview = dict(preview)  # the one before it is told already
        render_exactly(value, preview, PNG_LIMIT)
        return Ended(shown(preview, summary))

    name = class_name(value)
    return Ended(shown({"type": name, "text": f"<{name} object>"}, f"{name} object"), more)


def raised(error: BaseException, *, allow_pickle: bool) -> Ended:
    """An exception that left the task."""
    if issubclass(type(error), Rejected):  # `isinstance` would ask the exception itself
        return Ended(failed(ErrorKind.REJECTED, "rejected", str(error)))
    if type(error) is EndedElsewhere:
        return Ended(error.outcome)
    if issubclass(type(error), WaitsWithoutSlot):
        return Ended(Outcome("asked", reason="it waits for an answer, without a slot"))
    is_exit = issubclass(type(error), SystemExit)
    first = Outcome(
        "failed",
        error=JobError(ErrorKind.CRASH if is_exit else ErrorKind.EXCEPTION, class_name(error)),
        error_types=error_types(error),
        retry=_retry(error),
    )

    def described() -> Ended:
        found = describe(error, ErrorKind.CRASH if is_exit else ErrorKind.EXCEPTION)
        if is_exit:
            code = error.code  # type: ignore[attr-defined]  # of SystemExit
            found = replace(found, message=f"the task called sys.exit({'' if code is None else safe_repr(code, 200)})")
        elif type(error) is ModuleNotFoundError and error.name and _is_missing(error.name):
            # The code's author has it, this machine has not: say where, and what to do.
            found = replace(
                found,
                message=f"No module named {error.name!r} on the worker's machine {platform.node()} ({sys.executable}): "
                + how_to_get(error.name),
            )
        outcome = replace(first, error=found)
        if is_exit or not allow_pickle:
            return Ended(outcome)
        return Ended(outcome, lambda: Ended(replace(outcome, error_body=error_body(error))))

    return Ended(first, described)


def incomplete(outcome: Outcome, why: str) -> Outcome:
    """The outcome of a stage after which the next one failed. `why`: what happened instead."""
    if (error := outcome.error) is not None:
        message = error.message or f"its message could not be read: {why}"
        return replace(outcome, error=replace(error, message=message))
    preview = dict(outcome.preview or {})
    kind = "picture" if "mime" in preview else "preview"
    return replace(outcome, preview={**preview, "text": f"{preview.get('text', '')} (no {kind}: {why})"})


async def last_stage(ended: Ended) -> Outcome:
    """Return the outcome of an attempt in a shared process, at the latest when the time for its stages is over.

    They run in a thread, so that they do not hold up the loop.
    """
    if ended.more is None:
        return ended.outcome
    loop, reached = asyncio.get_running_loop(), [ended.outcome]
    last: asyncio.Future[Outcome] = loop.create_future()

    def run() -> None:
        outcome = ended.last(reached.append)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(last.set_result, outcome)

    copy = contextvars.copy_context()
    thread = threading.Thread(target=copy.run, args=(run,), name="jobkit-stages", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # there are too many
        return incomplete(ended.outcome, str(error))
    await asyncio.wait([last], timeout=STAGES_LIMIT_S)
    if last.done():
        return last.result()
    raise_in(thread, Stop)
    return incomplete(reached[-1], TOO_LONG)


def raise_in(thread: threading.Thread, kind: type[BaseException]) -> None:
    """Raise an exception in a thread, at its next Python instruction."""
    if thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(kind))


def _retry(error: BaseException) -> Retry | None:
    if not issubclass(type(error), Retry):
        return None
    with contextlib.suppress(Exception):  # of a subclass of the user's
        after = error.after  # type: ignore[attr-defined]
        return Retry(None if after is None else float(after))
    return Retry()


def _is_missing(name: str) -> bool:
    try:
        return importlib.util.find_spec(name.partition(".")[0]) is None
    except (ImportError, ValueError):
        return True


def _unavailable(value: Any, reason: str, allow_pickle: bool) -> str:
    kind, is_async = class_name(value), issubclass(type(value), AsyncIterator)
    if issubclass(type(value), io.IOBase):
        return (
            f"the task returned an open file (of type {kind}), which only the job's own process can use, and which was "
            "not kept: return its content or its path, or keep a copy with jobkit.current().save(name, path)"
        )
    if is_async or issubclass(type(value), Iterator):
        instead = "[x async for x in ...]" if is_async else "list(...)"
        return (
            f"the task returned a value of type {kind}, which yields its items only inside the job's own process and "
            f"was not kept: return {instead} instead"
        )
    if not allow_pickle:
        return (
            f"the task succeeded, but its result of type {kind} was not kept: it can only travel as a "
            "pickle, and pickles need a signing key (JOBKIT_SECRET)"
        )
    return (
        f"the task succeeded, but its result could not be kept: {reason}; return plain data, arrays or tables, or save "
        "it to a file and return its path"
    )
