"""The call in a payload: which function, with which arguments, from where.

A payload's body is two-layered. The outer layer is always plain msgpack and tells the child what it must do *before*
it may unpickle: which directory to import from, which to work in, which module has the function. The inner layer holds
the function (where it travels by value) and the arguments.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec

from jobkit.codec import MSGPACK, Codec, decode
from jobkit.model import InvalidParams, SignatureError
from jobkit.tasks.references import Need, Reference, put_in, taken_out


@dataclass(frozen=True, slots=True)
class Environment:
    """The Python of a process: `sys.prefix`, its interpreter and its full version ("3.11.7")."""

    prefix: str
    executable: str
    version: str


@lru_cache(maxsize=1)
def own_environment() -> Environment:
    """Return the environment of this process; it has no executable if Python is embedded in another program."""
    return Environment(sys.prefix, sys.executable or "", platform.python_version())


@dataclass(frozen=True, slots=True)
class CallHead:
    """What a child needs to know before it unpickles.

    Attributes:
        ref: `"module:qualname"` of the function, or "" where it travels by value.
        path: directories of the submitter's machine to import from, where the worker's machine has them too.
        cwd: the submitter's working directory, likewise.
        python: the submitter's Python, `"3.11"`: pickles of functions do not travel between versions.
        environment: where a worker on the submitter's own machine runs it, None for the worker's own.
        form: how the inner layer is written.
        needs: where results of other jobs belong, see `jobkit.tasks.references`.
        given: those results by job id, as `(format, body)`; only where a worker has put them there.
        changes: arguments by name, plain values, that go in the place of those in the call; later ones win.
        is_named: submitted by the task's name alone: the worker runs the task that it knows by this name.
        cache_key: the digest of task, code version and arguments under which the result may be reused, or "".
    """

    ref: str = ""
    path: tuple[str, ...] = ()
    cwd: str = ""
    python: str = ""
    environment: Environment | None = None
    form: bytes = MSGPACK
    needs: tuple[Need, ...] = ()
    given: Mapping[str, tuple[bytes, bytes]] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    is_named: bool = False
    cache_key: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A function (None where `head.ref` names it) and its arguments."""

    function: Callable[..., Any] | None
    args: Sequence[Any]
    kwargs: Mapping[str, Any]


def encode_call(
    codec: Codec,
    call: Call,
    *,
    ref: str = "",
    path: Sequence[str] = (),
    cwd: str = "",
    has_references: bool = False,
    environment: Environment | None = None,
    is_named: bool = False,
    cache_key: str = "",
) -> bytes:
    """The body of a payload (its format is always `codec.MSGPACK`).

    Args:
        has_references: some arguments are references to results of other jobs.
        environment: where it shall run on this machine; this process's own unless given.
        is_named, cache_key: see `CallHead`.

    Raises:
        InvalidParams: an argument (or the function) cannot be written; see `Codec.encode`.
    """
    args, kwargs = list(call.args), dict(call.kwargs)
    needs: list[Need] = []
    if has_references:
        args, kwargs, needs = taken_out(args, kwargs)
    inner: list[Any] = [args, kwargs]
    if call.function is not None:
        inner.append(call.function)
    try:
        form, body = codec.encode(inner)
    except InvalidParams as error:
        raise _which(codec, args, kwargs, call.function, error) from None
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    outer: dict[str, Any] = {"ref": ref, "path": list(path), "cwd": cwd, "python": python, "form": form, "body": body}
    environment = environment or own_environment()
    if environment.executable:
        outer["env"] = [environment.prefix, environment.executable, environment.version]
    if needs:
        outer["needs"] = needs
    if is_named:
        outer["named"] = True
    if cache_key:
        outer["cache"] = cache_key
    return msgspec.msgpack.encode(outer)


def _which(
    codec: Codec, args: Sequence[Any], kwargs: Mapping[str, Any], function: object, error: InvalidParams
) -> InvalidParams:
    """The refusal, with the name of what was refused."""
    named = [(str(i + 1), value) for i, value in enumerate(args)] + [(repr(k), value) for k, value in kwargs.items()]
    for name, value in named:
        try:
            codec.encode(value)
        except InvalidParams as refused:
            return InvalidParams(f"argument {name} cannot be sent: {refused}", name.strip("'"))
    if function is not None:
        try:
            codec.encode(function)
        except InvalidParams as refused:
            return InvalidParams(f"the function (or something that it refers to) cannot be sent: {refused}", "function")
    return error


def with_results(body: bytes, given: Mapping[str, tuple[bytes, bytes]]) -> bytes:
    """The same with the results that it needs beside it. Runs no code."""
    return msgspec.msgpack.encode({**msgspec.msgpack.decode(body), "given": dict(given)})


def with_needs(body: bytes, names: Mapping[str, str]) -> bytes:
    """The same with other jobs in the places of those that `names` has. Runs no code."""
    outer = msgspec.msgpack.decode(body)
    outer["needs"] = [
        [steps, [names.get(job_id, job_id) for job_id in ids], is_many]
        for steps, ids, is_many in outer.get("needs", ())
    ]
    return msgspec.msgpack.encode(outer)


def with_changes(body: bytes, changes: Mapping[str, Any]) -> bytes:
    """The same with other values for some arguments. Runs no code: the job's own process puts them in.

    Args:
        changes: arguments by name, checked before; plain values (`specs.plain`).
    """
    outer = msgspec.msgpack.decode(body)
    outer["changes"] = {**outer.get("changes", {}), **changes}
    outer.pop("cache", None)  # other arguments have another result
    return msgspec.msgpack.encode(outer)


def read_head(body: bytes) -> tuple[CallHead, bytes]:
    """The head and the still encoded inner layer. Runs no code."""
    outer = msgspec.msgpack.decode(body)
    return (
        CallHead(
            ref=outer.get("ref", ""),
            path=tuple(outer.get("path", ())),
            cwd=outer.get("cwd", ""),
            python=outer.get("python", ""),
            environment=Environment(*outer["env"]) if "env" in outer else None,
            form=outer["form"],
            needs=tuple((steps, ids, is_many) for steps, ids, is_many in outer.get("needs", ())),
            given={job_id: (form, result) for job_id, (form, result) in outer.get("given", {}).items()},
            changes=outer.get("changes", {}),
            is_named=bool(outer.get("named", False)),
            cache_key=str(outer.get("cache", "")),
        ),
        outer["body"],
    )


def read_call(head: CallHead, inner: bytes, *, allow_pickle: bool) -> Call:
    """The function and its arguments. Unpickles: only in the process that will run them.

    Results of other jobs are still references here (`Reference`).

    Args:
        allow_pickle: the payload carries a signature of ours (`Codec.allow_pickle`).

    Raises:
        SignatureError: without a signature, the call holds a pickle or a function.
    """
    forms = [head.form, *(form for form, _ in head.given.values())]
    if not allow_pickle and any(form != MSGPACK for form in forms):
        raise SignatureError("its arguments hold a pickle, and pickles need a signing key (JOBKIT_SECRET)")
    args, kwargs, *function = decode(head.form, inner)
    if not allow_pickle and function:
        raise SignatureError("it carries a function, and functions need a signing key (JOBKIT_SECRET)")
    if head.needs:
        args, kwargs = put_in(args, kwargs, head.needs, Reference)
    return Call(function[0] if function else None, args, kwargs)
