"""The call in a payload: which function, with which arguments, from where.

A payload's body is two-layered. The outer layer is always plain msgpack and tells the child what it must do *before*
it may unpickle: which directory to import from, which to work in, which module has the function. The inner layer holds
the function (where it travels by value) and the arguments.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from jobkit.codec import MSGPACK, Codec, decode


@dataclass(frozen=True, slots=True)
class CallHead:
    """What a child needs to know before it unpickles.

    Attributes:
        ref: `"module:qualname"` of the function, or "" where it travels by value.
        path: directories of the submitter's machine to import from, where the worker's machine has them too.
        cwd: the submitter's working directory, likewise.
        python: the submitter's Python, `"3.11"`: pickles of functions do not travel between versions.
        form: how the inner layer is written.
    """

    ref: str = ""
    path: tuple[str, ...] = ()
    cwd: str = ""
    python: str = ""
    form: bytes = MSGPACK


@dataclass(frozen=True, slots=True)
class Call:
    """A function (None where `head.ref` names it) and its arguments."""

    function: Callable[..., Any] | None
    args: Sequence[Any]
    kwargs: Mapping[str, Any]


def encode_call(codec: Codec, call: Call, *, ref: str = "", path: Sequence[str] = (), cwd: str = "") -> bytes:
    """The body of a payload (its format is always `codec.MSGPACK`).

    Raises:
        InvalidParams: an argument (or the function) cannot be written; see `Codec.encode`.
    """
    inner: list[Any] = [list(call.args), dict(call.kwargs)]
    if call.function is not None:
        inner.append(call.function)
    form, body = codec.encode(inner)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return msgspec.msgpack.encode(
        {"ref": ref, "path": list(path), "cwd": cwd, "python": python, "form": form, "body": body}
    )


def read_head(body: bytes) -> tuple[CallHead, bytes]:
    """The head and the still encoded inner layer. Runs no code."""
    outer = msgspec.msgpack.decode(body)
    return (
        CallHead(
            ref=outer.get("ref", ""),
            path=tuple(outer.get("path", ())),
            cwd=outer.get("cwd", ""),
            python=outer.get("python", ""),
            form=outer["form"],
        ),
        outer["body"],
    )


def read_call(head: CallHead, inner: bytes) -> Call:
    """The function and its arguments. Unpickles: only in the process that will run them."""
    args, kwargs, *function = decode(head.form, inner)
    return Call(function[0] if function else None, args, kwargs)
