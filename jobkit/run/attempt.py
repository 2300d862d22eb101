"""One attempt: what a worker and a runner exchange, and the way from a call's bytes to an `Outcome`.

Used by the forked child, by jobs on the worker's loop or in a thread, and by `sync://`: they all mean the same by
"succeeded" and say the same about an error.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from jobkit.codec import CLOUDPICKLE, MSGPACK, decode
from jobkit.features import modules
from jobkit.model import ErrorKind, InvalidParams, Retry, SignatureError, UnknownTask
from jobkit.model.format import size
from jobkit.model.snapshot import NOT_KEPT, JobError
from jobkit.run.inside import context
from jobkit.run.inside.imports import forget_shadowed
from jobkit.run.inside.recorder import Sink
from jobkit.run.inside.shown_values import SUMMARY_LIMIT, Bounds
from jobkit.tasks.call import Call, CallHead, Environment, python_version, read_call, read_head
from jobkit.tasks.references import put_in
from jobkit.tasks.registry import registry
from jobkit.tasks.signature import run_class
from jobkit.tasks.task import TaskDef, load_ref, target_of

#: Loaded before a process of jobs is forked.
_UNPACKERS = tuple(modules("unpacker"))


class Assignment(msgspec.Struct, frozen=True):
    """One attempt to execute. The payload's signature has been verified; nothing of it has been unpickled.

    Attributes:
        call: the payload's body, see `jobkit.tasks.call`.
        isolation: "process", "thread" or "async".
        cancel_grace_s: between the polite and the final stop.
        reuse: so many jobs may run in one process, one after the other; 1 for a separate process.
        allow_pickle: the payload is signed, so it may name any module and hold pickles; the result may be one, too.
        bounds: how much it may keep as artifacts. result_bytes: the same of its result; 0 for no limit.
        log_path: file for its whole log, or "". log_owner: what the folder of that file says about its owner.
        environ: variables of its process, for isolation "process". seed: of its random numbers, likewise.
        environment: Python environment for its process, built by the worker; None for the usual one.
        kit_settings: settings for a kit among its arguments; with the key, so only for signed calls that have one.
        is_alone: nothing else may share a process with it: a worker died while it ran this job, or it must not run
            twice, which the end of a shared process would make it.
        prepared: what features give to its code, by their names. results: where large results are, "" if nowhere.
        is_suspect: it may be what its earlier worker or zygote died of: it gets a separate zygote.
    """

    job_id: str
    task: str
    attempt: int
    call: bytes
    isolation: str = "process"
    timeout_s: float | None = None
    memory_limit_bytes: int | None = None
    cancel_grace_s: float = 10.0
    reuse: int = 1
    allow_pickle: bool = True
    bounds: Bounds = Bounds()
    result_bytes: int = 0
    log_path: str = ""
    log_owner: str = ""
    is_alone: bool = False
    is_suspect: bool = False
    environ: Mapping[str, str] = {}
    kit_settings: Mapping[str, str] = {}
    environment: Environment | None = None
    prepared: Mapping[str, Any] = {}
    results: str = ""
    seed: int | None = None


class Outcome(msgspec.Struct, frozen=True):
    """End of an attempt, as its runner saw it.

    Attributes:
        outcome: "succeeded", "failed", "cancelled" (only where a cancel was asked for), "released" (it could not be
            finished for a reason outside of it, and is to run again), "asked" (it runs again when its question
            has been answered), "unstarted" (the same, and none of its code has
            run) or "lost" (it is to run again, though the death of its process may have been its fault, so not for
            ever).
        form, body: the encoded value of a success (`codec.encode`); empty if it could not be written, and then
            `preview["unavailable"]` is the sentence that says why.
        preview: what any page may show of the value, JSON only; see `jobkit.run.inside.shown_values`. None for small
            plain data.
        summary: one line of it, at most 200 characters.
        error: for "failed". `error_types`: qualified names of the exception's class and its bases, for `retry_on`.
        error_body: the pickled exception, empty if it cannot be pickled.
        retry: the `Retry` that the task raised, if it did.
        reason: one sentence for "cancelled": whether its clean-up ran or it was killed; for those that run again: why.
        is_shared: for "lost": what died ran other attempts, too.
        usage: `cpu_s`, `peak_rss_bytes`, `exit` (status, or name of the signal), where known;
            of a local worker also `python` (version and prefix).
        file: path of a file in the job's folder with the value instead of `body`, behind room for the head of its
            envelope (`codec.HEAD_BYTES`); "" without one. The runner's caller deletes or renames it.
    """

    outcome: str
    form: bytes = b""
    body: bytes = b""
    preview: Mapping[str, Any] | None = None
    summary: str = ""
    error: JobError | None = None
    error_types: tuple[str, ...] = ()
    error_body: bytes = b""
    retry: Retry | None = None
    reason: str = ""
    is_shared: bool = False
    usage: Mapping[str, Any] = {}
    file: str = ""


class Runner(Protocol):
    """Executes attempts, many at once, on the worker's loop."""

    @property
    def room(self) -> float:
        """Number of further attempts for which this process has descriptors."""
        ...

    def trees(self) -> Mapping[str, Sequence[int]]:
        """Return the processes of each attempt that has its own, by job id; from any thread."""
        ...

    async def start(self) -> None: ...

    async def run(self, assignment: Assignment, sink: Sink) -> Outcome:
        """Execute one attempt to its end. Never raises for what user code does; cancelling this coroutine kills the
        attempt at once (SIGKILL for a process) and waits until nothing of it is left."""
        ...

    def stop(self, job_id: str, kind: str) -> None:
        """Stop an attempt, if it runs here.

        Args:
            kind: "cancel": politely first, for good after its grace. `run` then returns "cancelled", or what the
                attempt ended as before the request reached it. "kill": at once, without grace: its lease is lost,
                whatever it returns will be refused.
        """
        ...

    async def close(self) -> None: ...


class Rejected(Exception):
    """The call cannot be run here; the message is the sentence for the user."""


def resolve(
    assignment: Assignment, *, owns_process: bool, door: Callable[..., Any] | None = None
) -> tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any]]:
    """Return `(function, args, kwargs)` of a call. Unpickles.

    Anybody who can write to Redis may have written an unsigned call: it runs registered tasks with plain arguments, and
    no directory or module that it names is used. Raises Rejected if something is missing here.

    Args:
        owns_process: whether working directory and import path may follow the submitter's.
        door: what a call by a door stands for here.
    """
    task, is_signed = assignment.task, assignment.allow_pickle
    head = read_head(assignment.call)
    if is_signed and owns_process:
        _follow(head)
        _use_code(task, head)
    elif is_signed:
        _add_path(head, len(sys.path))
    if CLOUDPICKLE in head.forms and head.python and head.python != python_version():
        raise Rejected(
            f"task {task!r} was submitted from Python {head.python} and the worker on {platform.node()} runs Python "
            f"{python_version()}: code typed in a notebook or script only travels between equal versions; start a "
            "worker with the submitter's Python, or put the function into a module that both can import"
        )
    try:
        decoded = read_call(head, allow_pickle=is_signed)
    except SignatureError as error:
        raise Rejected(f"task {task!r} was refused by the worker on {platform.node()}: {error}") from error
    except ModuleNotFoundError as error:
        raise Rejected(_missing(task, error)) from error
    except (Exception, SystemExit) as error:
        raise Rejected(f"the arguments of task {task!r} could not be read: {type(error).__name__}: {error}") from error
    if head.door:
        if door is None:
            raise Rejected(f"this job came by {head.door}'s client, and only `jobkit worker --{head.door}` can run it")
        function = door
    elif decoded.function is not None:
        function = target_of(decoded.function)
    elif head.is_named or not is_signed:
        function = _by_name(task, head.ref, is_signed=is_signed)
    else:
        function = _by_reference(task, head.ref)
    args, kwargs, wrong = decoded.args, decoded.kwargs, ""
    if head.needs:
        args, kwargs = _with_results(task, head, decoded)
        wrong = f"the result of another job does not fit task {task!r}"
    elif decoded.function is None and kwargs and head.forms == {MSGPACK} and not head.door:
        # The task has another name than its function, which the reference leads to: plain data still becomes its types.
        wrong = f"the arguments do not fit task {task!r}"
    checks_itself = isinstance(getattr(function, "__self__", None), TaskDef) or isinstance(function, functools.partial)
    try:
        if wrong and not checks_itself:
            args, kwargs = _bound(task, function, args, kwargs, {})
        if head.changes:  # by who ran the job again, without unpickling the others
            wrong = f"the changed arguments do not fit task {task!r} as it is here"
            args, kwargs = _bound(task, function, args, kwargs, head.changes)
    except InvalidParams as error:
        raise Rejected(f"{wrong}: {error}") from None
    if (job := context.active()) is not None:
        job.function = function
    return function, args, kwargs


def _with_results(task: str, head: CallHead, call: Call) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The arguments with the results of other jobs in their places."""

    @functools.cache
    def result_of(job_id: str) -> Any:
        try:
            return decode(*head.given[job_id])
        except KeyError:
            raise Rejected(f"the result of job {job_id}, which task {task!r} needs, was not sent along") from None
        except (Exception, SystemExit) as error:  # unpickling runs code of the value's own classes
            raise Rejected(
                f"the result of job {job_id}, which task {task!r} needs, cannot be rebuilt on {platform.node()}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def value_of(ids: Sequence[str], is_many: bool) -> Any:
        return [result_of(job_id) for job_id in ids] if is_many else result_of(ids[0])

    return put_in(call.args, call.kwargs, head.needs, value_of)


def _bound(
    task: str, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], changes: Mapping[str, Any]
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return the arguments checked and converted as at a submit, some of them changed. Raises InvalidParams."""
    known = getattr(function, "__self__", None)
    if not isinstance(known, TaskDef):
        is_class = isinstance(function, functools.partial) and function.func is run_class
        known = TaskDef(function.args[0] if is_class else function, name=task)  # type: ignore[attr-defined]  # a partial
    return known.signature.call_args(known.signature.changed(known.signature.bind(args, kwargs), changes))


def failed(kind: ErrorKind, type_: str, sentence: str) -> Outcome:
    """The outcome for an attempt that was ended from outside."""
    return Outcome("failed", error=JobError(kind, type_, sentence))


def unstarted(why: str) -> Outcome:
    """The outcome for an attempt for which the machine has no room at the moment."""
    return Outcome("unstarted", reason=why)


def not_kept(outcome: Outcome, sentence: str) -> Outcome:
    """The outcome of a success without its value; the sentence says why, and tables and lists that it is so."""
    summary = f"{NOT_KEPT} {outcome.summary}"[:SUMMARY_LIMIT]
    preview = {**(outcome.preview or {}), "unavailable": sentence}
    return replace(outcome, form=b"", body=b"", preview=preview, summary=summary)


def too_large(count: int, most: int, hint: str = "") -> str:
    """The sentence for a result of `count` bytes that is not kept. `hint`: what to do."""
    hint = hint or "set JOBKIT_RESULTS to a directory that workers and clients share, and it is a file there"
    return f"the result takes {size(count)}, more than the {size(most)} that are kept in Redis; {hint}"


def timed_out(assignment: Assignment, note: str = "") -> Outcome:
    """The outcome of an attempt that was ended by its timeout. `note`: what else there is to say of that."""
    return failed(ErrorKind.TIMEOUT, "timeout", f"ran longer than its timeout of {assignment.timeout_s:g} s{note}")


def _follow(head: CallHead) -> None:
    """Use the submitter's working directory and import path, as far as this machine has them."""
    if head.cwd and os.path.isdir(head.cwd):
        with contextlib.suppress(OSError):  # not ours to enter: stay
            os.chdir(head.cwd)
    _add_path(head, 0)
    forget_shadowed()


def _use_code(task: str, head: CallHead) -> None:
    """Let features use what came with the call. Raises Rejected."""
    if head.code is None:
        return
    try:
        for module in _UNPACKERS:
            module.unpack(head)
    except (OSError, SignatureError) as error:
        raise Rejected(f"the code of task {task!r} could not be unpacked on {platform.node()}: {error}") from error


def _add_path(head: CallHead, index: int) -> None:
    """Find the submitter's own modules too: first, or (in a process of many jobs) behind everything that is there."""
    new = [path for path in head.path if path not in sys.path and os.path.isdir(path)]
    if new:
        sys.path[index:index] = new
        importlib.invalidate_caches()


def _by_name(task: str, ref: str, *, is_signed: bool) -> Callable[..., Any]:
    """Return the task of this name that the process has registered.

    Its submitter did not import the code: `ref` comes from the definition of the task in Redis, which was signed if the
    payload is. So the module of a signed `ref` may be imported, but only if that registers a task of this name.
    """
    known = registry.known(task)
    if known is None and is_signed and ref:
        _by_reference(task, ref)
        found = registry.known(task)
        known = found if found is not None and found.ref == ref else None
    if known is None:
        why = "" if is_signed else "; without JOBKIT_SECRET a worker runs tasks of its own modules only"
        raise Rejected(
            f"the worker on {platform.node()} does not know task {task!r}: start it with -t and the module that "
            f"defines the task{why}"
        )
    return target_of(known)


def _by_reference(task: str, ref: str) -> Callable[..., Any]:
    """Return what `ref` points at, or the registered task of this name if there is no `ref` or if this machine has the
    module under another name. For signed calls only: it imports the module."""
    if not ref:
        return _by_name(task, "", is_signed=True)
    try:
        return target_of(load_ref(ref))
    except (ModuleNotFoundError, UnknownTask) as error:
        known = registry.known(task)
        if known is not None:
            return target_of(known)
        if isinstance(error, ModuleNotFoundError):
            raise Rejected(_missing(task, error)) from error
        raise Rejected(f"task {task!r} cannot be run on {platform.node()}: {error}") from error
    except (Exception, SystemExit) as error:
        raise Rejected(
            f"task {task!r} could not be loaded on {platform.node()}: importing {ref.partition(':')[0]} raised "
            f"{type(error).__name__}: {error}"
        ) from error


def how_to_get(module: str) -> str:
    """Return what to do about a module that is missing on this machine."""
    package = module.partition(".")[0]
    return f"install it there ({sys.executable} -m pip install {package}), or submit with ship=True if it is your own"


def _missing(task: str, error: ModuleNotFoundError) -> str:
    name = error.name or str(error)
    return (
        f"task {task!r} needs the module {name!r}, which the worker on {platform.node()} does not "
        f"have: {how_to_get(name)}"
    )
