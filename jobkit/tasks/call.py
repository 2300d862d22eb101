"""The call in a payload: function, arguments and environment.

A payload has two layers. The outer one is always plain msgpack and says what the child process must do *before* it may
unpickle: which directory to import from, where to work, which module has the function. The inner layer has the function
(if it is sent by value) and the arguments.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from msgspec.structs import replace

from jobkit.codec import MSGPACK, Codec, decode
from jobkit.model import InvalidParams, SignatureError
from jobkit.tasks.references import Need, Reference, put_in, taken_out


class Environment(msgspec.Struct, frozen=True, array_like=True):
    """The Python of a process: `sys.prefix`, its interpreter and its full version ("3.11.7")."""

    prefix: str
    executable: str
    version: str


@lru_cache(maxsize=1)
def own_environment() -> Environment:
    """Return the environment of this process; it has no executable if Python is embedded in another program."""
    return Environment(sys.prefix, sys.executable or "", platform.python_version())


class CallHead(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"environment": "env", "is_named": "named", "cache_key": "cache"},
):
    """The outer layer of a payload: everything that is needed before unpickling.

    Attributes:
        ref: `"module:qualname"` of the function, or "" if it is sent by value.
        path: directories of the submitter to import from, if they exist on the worker's machine.
        cwd: the submitter's working directory, likewise.
        python: the submitter's Python version, `"3.11"`: pickled functions are not portable between versions.
        environment: environment in which a worker on the submitter's machine runs it, None for the worker's own.
        form, body: the inner layer.
        needs: positions of results of other jobs, see `jobkit.tasks.references`.
        given: these results by job id, as `(format, body)`; set by a worker.
        changes: arguments by name, plain values, that replace those in the call; later ones win.
        is_named: submitted by task name: the worker runs its own task with this name.
        cache_key: digest of task, code version and arguments for the result cache, or "".
    """

    ref: str = ""
    path: tuple[str, ...] = ()
    cwd: str = ""
    python: str = ""
    environment: Environment | None = None
    form: bytes
    body: bytes
    needs: tuple[Need, ...] = ()
    given: dict[str, tuple[bytes, bytes]] = {}
    changes: dict[str, Any] = {}
    is_named: bool = False
    cache_key: str = ""


_read = msgspec.msgpack.Decoder(CallHead).decode


class Call(msgspec.Struct, frozen=True):
    """A function (None if `head.ref` names it) and its arguments."""

    function: Callable[..., Any] | None
    args: Sequence[Any]
    kwargs: Mapping[str, Any]


def encode_call(
    codec: Codec, call: Call, *, has_references: bool = False, environment: Environment | None = None, **head: Any
) -> bytes:
    """Return the body of a payload (its format is always `codec.MSGPACK`).

    Args:
        has_references: some arguments are references to results of other jobs.
        environment: environment to run in on this machine; default: this process's own.
        head: further fields of `CallHead`.

    Raises:
        InvalidParams: an argument or the function cannot be serialized; see `Codec.encode`.
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
    environment = environment or own_environment()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    kept = environment if environment.executable else None
    made = CallHead(form=form, body=body, needs=tuple(needs), python=python, environment=kept, **head)
    return msgspec.msgpack.encode(made)


def _which(
    codec: Codec, args: Sequence[Any], kwargs: Mapping[str, Any], function: object, error: InvalidParams
) -> InvalidParams:
    """Return the error with the name of the argument that caused it."""
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
    """Return the body with the results that it needs. Runs no code."""
    return msgspec.msgpack.encode(replace(_read(body), given=dict(given)))


def with_needs(body: bytes, names: Mapping[str, str]) -> bytes:
    """Return the body with job ids replaced by `names`. Runs no code."""
    head = _read(body)
    needs = tuple((steps, [names.get(job_id, job_id) for job_id in ids], is_many) for steps, ids, is_many in head.needs)
    return msgspec.msgpack.encode(replace(head, needs=needs))


def with_changes(body: bytes, changes: Mapping[str, Any]) -> bytes:
    """Return the body with some arguments replaced. Runs no code: the job's own process applies the changes.

    Args:
        changes: arguments by name, already checked; plain values (`specs.plain`).
    """
    head = _read(body)
    # The cached result is for the old arguments.
    return msgspec.msgpack.encode(replace(head, changes={**head.changes, **changes}, cache_key=""))


def read_head(body: bytes) -> tuple[CallHead, bytes]:
    """Return the head and the encoded inner layer. Runs no code."""
    head = _read(body)
    return head, head.body


def read_call(head: CallHead, inner: bytes, *, allow_pickle: bool) -> Call:
    """Return the function and its arguments. Unpickles: call it only in the process that runs the job.

    Results of other jobs are still references (`Reference`).

    Args:
        allow_pickle: the payload is signed with one of our keys (`Codec.allow_pickle`).

    Raises:
        SignatureError: the call contains a pickle or a function but has no signature.
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
