"""The call in a payload: function, arguments and environment.

A payload has two layers. The outer one is always plain msgpack and says what the child process must do *before* it may
unpickle: which directory to import from, where to work, which module has the function. The inner layer has the function
(if it is sent by value) and the arguments.

Results of other jobs as arguments are left out (`references.py`): the process that runs the job inserts them. Large
parts (the function, an argument) are left out in the same way if the call is too large for the queue: the sealed
call names them by their SHA-256 (`Part`), and the process that runs the job inserts them.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import FunctionType
from typing import Any

import msgspec
from msgspec.structs import replace

from jobkit.codec import CLOUDPICKLE, MSGPACK, RAW, Blob, Codec, decode, digest
from jobkit.model import InvalidParams, JobSpec, SignatureError
from jobkit.tasks.references import Need, Reference, put_at, put_in, taken_out
from jobkit.tasks.sources import Source, Sources, install
from jobkit.tasks.unsendable import advice, told

#: How a pickle names the function that makes a kit (`client/kit.py`); a text of the same letters looks different.
_KIT = b"travelled_kit\x94\x93"

#: Calls above this size in bytes do not travel through the queue as a whole: parts from `_PART_BYTES` on are left out.
LARGE_BYTES = 1_000_000
_PART_BYTES = 100_000


class Part(msgspec.Struct, frozen=True, array_like=True):
    """A large part of a call: the path from `[args, kwargs, function]` to its position, SHA-256, format and size."""

    steps: list[int]
    name: str
    form: bytes
    size: int


#: Instead of a function, the call of a job of another queue's client refers to this with the name of its door (see
#: `jobkit/feature.py`): only a worker of the door knows the function.
DOOR = "door:"

#: Path of the file of a large part on this machine, or "" and its content.
Located = tuple[str, bytes]


#: Returns for the pickles of a call (and what is known of those of earlier ones, see `names_in`) what is equal for
#: equal packs, and the function that makes the pack (b"" for none).
Packer = Callable[[list[bytes], dict[bytes, set[str]]], tuple[object, Callable[[], bytes]]]


class LargeParts:
    """Takes large parts out of calls. What several calls of a batch have in common is encoded once.

    Args:
        task: name, for messages.

    Attributes:
        blobs: the parts, by name. sources: see `CallHead`. with_kit: names of parts with a kit.
    """

    def __init__(self, task: str) -> None:
        self._task = task
        self.blobs: dict[str, Blob] = {}
        self.sources: dict[str, Source] = {}
        self.with_kit: set[str] = set()
        self._names: dict[bytes, set[str]] = {}
        self._packs: dict[object, Part | None] = {}
        self._known: dict[int, tuple[Any, Part]] = {}  # by the id of a value, which is kept so that this stays its own

    def known(self, whole: list[Any], sources: Sources) -> tuple[list[Any], list[Part]]:
        """Return the call without the parts of earlier calls, and these; add their sources."""
        parts: list[Part] = []
        if not self._known:
            return whole, parts
        for steps, value, _ in _items(whole):
            if (known := self._known.get(id(value))) is not None:
                parts.append(msgspec.structs.replace(known[1], steps=steps))
        if parts:
            sources |= self.sources
        return _without(whole, parts), parts

    def taken_out(self, codec: Codec, whole: list[Any], sources: Sources) -> tuple[list[Any], list[Part]]:
        """Return the call without its large parts, and these."""
        parts: list[Part] = []
        for steps, value, what in _items(whole):
            if type(value) in _SMALL:
                continue
            form, body = codec.encode(value, sources.name_of)
            if len(body) > _PART_BYTES:
                parts.append(part := self.add(steps, form, body, what))
                self._known[id(value)] = value, part
        self.sources |= sources
        return _without(whole, parts), parts

    def code(self, bodies: list[bytes], pack: Packer) -> Part | None:
        """Return the modules that the pickle of a call and those of its parts need as a part, or None."""
        key, make = pack(bodies, self._names)
        self._names.pop(bodies[0], None)  # of this call alone
        if key not in self._packs:
            content = make()
            self._packs[key] = self.add([], RAW, content, "the code that travels with a call") if content else None
        return self._packs[key]

    def add(self, steps: list[int], form: bytes, body: bytes, what: str) -> Part:
        """Return an encoded value as a part."""
        blob = Blob.of(body, f"{what} of {self._task}")
        self.blobs[blob.name] = blob
        if _KIT in body:
            self.with_kit.add(blob.name)
        return Part(steps, blob.name, form, len(body))


#: Types of values that are small.
_SMALL = frozenset({int, float, bool, type(None)})


def _items(whole: Sequence[Any]) -> Iterator[tuple[list[int], Any, str]]:
    """Yield path, value and name of each argument and of the function."""
    for i, value in enumerate(whole[0]):
        yield [0, i], value, f"argument {i + 1}"
    for i, (name, value) in enumerate(whole[1].items()):
        yield [1, i], value, f"argument {name!r}"
    if len(whole) > 2:
        yield [2], whole[2], "the function (with what it refers to)"


def _without(whole: list[Any], parts: Sequence[Part]) -> list[Any]:
    for part in parts:
        whole = put_at(whole, part.steps, None)
    return whole


class Environment(msgspec.Struct, frozen=True, array_like=True):
    """The Python of a process: `sys.prefix`, its interpreter and its full version ("3.11.7")."""

    prefix: str
    executable: str
    version: str


def python_version() -> str:
    """Return the version of this Python as far as code that is sent by value depends on it: "3.11"."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


@lru_cache(maxsize=1)
def own_environment() -> Environment:
    """Return the environment of this process; it has no executable if Python is embedded in another program."""
    return Environment(sys.prefix, sys.executable or "", platform.python_version())


class CallHead(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={
        "environment": "env",
        "is_named": "named",
        "cache_key": "cache",
        "located": "at",
        "has_kit": "kit",
        "is_drawn": "drawn",
    },
):
    """The outer layer of a payload: everything that is needed before unpickling.

    Attributes:
        ref: `"module:qualname"` of the function, "" if it is sent by value, or `DOOR` with a name.
        path: directories of the submitter to import from, if they exist on the worker's machine.
        cwd: the submitter's working directory, likewise.
        python: the submitter's Python version, `"3.11"`: pickled functions are not portable between versions.
        environment: environment in which a worker on the submitter's machine runs it, None for the worker's own.
        form, body: the inner layer.
        needs: positions of results of other jobs.
        given: these results by job id, as `(format, body)`; set by a worker.
        changes: arguments by name, plain values, that replace those in the call; later ones win.
        is_named: submitted by task name: the worker runs its own task with this name.
        cache_key: digest of task, code version and arguments for the result cache, or "".
        resumes: id and time of submit (microseconds) of the job from whose checkpoint it starts.
        variables: of the environment of its process.
        seed: of its random numbers, None for none. is_drawn: it was drawn, so that each slot of a schedule has another
            one.
        parts: large parts, that of the whole call first.
        code: the pack of modules that travel with it, see `Packer`.
        packages: what a feature makes the Python environment from in which it is to run.
        has_kit: a kit is among the arguments, and gets the settings of the worker.
        located: these parts by name, as contents or paths of files; set by a worker.
        sources: lines of the code that is sent by value, by its file name there.
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
    resumes: tuple[str, int] | None = None
    variables: dict[str, str] = {}
    seed: int | None = None
    is_drawn: bool = False
    sources: dict[str, Source] = {}
    parts: tuple[Part, ...] = ()
    located: dict[str, Located] = {}
    code: Part | None = None
    packages: Part | None = None
    has_kit: bool = False

    @property
    def door(self) -> str:
        """The door by which the job came (see `Door`), or ""."""
        return self.ref.removeprefix(DOOR) if self.ref.startswith(DOOR) else ""

    @property
    def part_names(self) -> list[str]:
        """Names of what is stored beside the call."""
        parts = (*self.parts, self.code, self.packages)
        return list(dict.fromkeys(part.name for part in parts if part is not None))

    @property
    def forms(self) -> set[bytes]:
        """Formats of function and arguments."""
        return {self.form, *(part.form for part in self.parts)}

    @property
    def needs_process(self) -> bool:
        """It must not run on a worker's loop: it changes the process, or reading its parts would hold up other jobs."""
        return bool(self.variables or self.has_kit or self.part_names) or self.seed is not None


def needed_python(head: CallHead) -> str:
    """Return the version of Python that a worker needs to read the code in a call; "" if any version does."""
    return head.python if CLOUDPICKLE in head.forms and head.packages is None else ""


class Call(msgspec.Struct, frozen=True):
    """A function (None if `head.ref` names it) and its arguments."""

    function: Callable[..., Any] | None
    args: Sequence[Any]
    kwargs: Mapping[str, Any]


def call_head(
    codec: Codec,
    call: Call,
    *,
    has_references: bool = False,
    environment: Environment | None = None,
    large: LargeParts | None = None,
    pack: Packer | None = None,
    code: Part | None = None,
    **head: Any,
) -> CallHead:
    """Return the head of a call, which is the body of its payload by `encode_head`.

    Args:
        has_references: some arguments are references to results of other jobs.
        environment: environment to run in on this machine; default: this process's own.
        large: takes the large parts out of a large call; None to leave them in.
        pack: finds the modules that travel with it; needs `large`. code: the modules of an earlier call.
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
    parts: list[Part] = []
    sources = Sources()
    try:
        if large is not None:
            inner, parts = large.known(inner, sources)
        form, body = _encoded(codec, inner, sources)
        if large is not None and len(body) > LARGE_BYTES:
            inner, more = large.taken_out(codec, inner, sources)
            parts += more
            form, body = _encoded(codec, inner, sources)
            if len(body) > LARGE_BYTES:  # of many arguments, none of which is large
                parts.insert(0, large.add([], form, body, "the list of arguments"))
                form, body = codec.encode(None)
    except InvalidParams as error:
        raise _which(codec, args, kwargs, call.function, error) from None
    environment = environment or own_environment()
    has_kit = _KIT in body or any(part.name in large.with_kit for part in parts if large is not None)
    if pack is not None and large is not None:
        code = large.code([body, *(large.blobs[part.name].content for part in parts)], pack)
    return CallHead(
        form=form, body=body, needs=tuple(needs), parts=tuple(parts), has_kit=has_kit, code=code,
        python=python_version(), environment=environment if environment.executable else None, sources=dict(sources),
        **head,
    )  # fmt: skip


def _encoded(codec: Codec, inner: Sequence[Any], sources: Sources) -> tuple[bytes, bytes]:
    """Return format and body of arguments and function, which may have been taken out."""
    has_code = len(inner) == 3 and isinstance(inner[2], FunctionType)
    return codec.encode(inner, sources.name_of, has_code=has_code)


#: Encodes the head of a call as the body of a payload (its format is always `codec.MSGPACK`).
encode_head = msgspec.msgpack.Encoder().encode


def encode_call(codec: Codec, call: Call, **more: Any) -> bytes:
    """Return the body of a payload; see `call_head`."""
    return encode_head(call_head(codec, call, **more))


def _which(
    codec: Codec, args: Sequence[Any], kwargs: Mapping[str, Any], function: object, error: InvalidParams
) -> InvalidParams:
    """Return the error with the name of the argument that caused it."""
    named = [(str(i + 1), value) for i, value in enumerate(args)] + [(repr(k), value) for k, value in kwargs.items()]
    for name, value in named:
        try:
            codec.encode(value)
        except InvalidParams as refused:
            return InvalidParams(f"argument {name} cannot be sent: {refused}{advice(value)}", name.strip("'"))
    if function is not None:
        try:
            codec.encode(function)
        except InvalidParams as refused:
            sentence = f"the function (or something that it refers to) cannot be sent: {refused}"
            return told(function, codec.encode) or InvalidParams(sentence, "function")
    return error


def _edited(body: bytes, **fields: Any) -> bytes:
    """Return the body with these fields of the head (by their names in it) replaced."""
    return msgspec.msgpack.encode(msgspec.msgpack.decode(body) | fields)


def with_results(body: bytes, given: Mapping[str, tuple[bytes, bytes]]) -> bytes:
    """Return the body with the results that it needs. Runs no code."""
    return _edited(body, given=given)


def with_parts(body: bytes, located: Mapping[str, Located]) -> bytes:
    """Return the body with its large parts, or the paths of their files. Runs no code."""
    return _edited(body, at=located)


def with_needs(body: bytes, names: Mapping[str, str]) -> bytes:
    """Return the body with job ids replaced by `names`. Runs no code."""
    needs = read_head(body).needs
    renamed = [(steps, [names.get(job_id, job_id) for job_id in ids], is_many) for steps, ids, is_many in needs]
    return _edited(body, needs=renamed)


def with_changes(body: bytes, changes: Mapping[str, Any]) -> bytes:
    """Return the body with some arguments replaced. Runs no code: the job's own process applies the changes.

    Args:
        changes: arguments by name, already checked; plain values (`values.plain`).
    """
    # The cached result is for the old arguments.
    return _edited(body, changes={**read_head(body).changes, **changes}, cache="")


def with_own_seed(spec: JobSpec, body: bytes) -> tuple[JobSpec, bytes]:
    """Return the job of a slot of a schedule, and its body: with another seed for each id if the seed is drawn."""
    if spec.seed is None or not read_head(body).is_drawn:
        return spec, body
    seed = int.from_bytes(hashlib.sha256(f"{spec.seed} {spec.id}".encode()).digest()[:4], "big")
    return replace(spec, seed=seed), _edited(body, seed=seed)


def with_source(body: bytes, source: tuple[str, int] | None) -> bytes:
    """Return the body with another job (or none) from whose checkpoint it starts. Runs no code."""
    return body if read_head(body).resumes == source else _edited(body, resumes=source)


def with_packages(body: bytes, packages: Part) -> bytes:
    """Return the body of a call that runs with the packages of a list, whatever it ran with before. Runs no code."""
    return _edited(body, packages=packages, cache="")


#: Decodes the head of a body. Runs no code.
read_head = msgspec.msgpack.Decoder(CallHead).decode


def read_call(head: CallHead, *, allow_pickle: bool) -> Call:
    """Return the function and its arguments. Unpickles: call it only in the process that runs the job.

    Results of other jobs are still references (`Reference`).

    Args:
        allow_pickle: the payload is signed with one of our keys (`Codec.allow_pickle`).

    Raises:
        SignatureError: the call contains a pickle or a function but has no signature, or a large part is another one.
        OSError: the file of a large part cannot be read.
    """
    forms = [*head.forms, *(form for form, _ in head.given.values())]
    if not allow_pickle and any(form != MSGPACK for form in forms):
        raise SignatureError("its arguments hold a pickle, and pickles need a signing key (JOBKIT_SECRET)")
    install(head.sources)
    whole = decode(head.form, head.body)
    for part in head.parts:
        whole = put_at(whole, part.steps, decode(part.form, content_of(head, part)))
    args, kwargs, *function = whole
    if not allow_pickle and function:
        raise SignatureError("it carries a function, and functions need a signing key (JOBKIT_SECRET)")
    if head.needs:
        args, kwargs = put_in(args, kwargs, head.needs, Reference)
    return Call(function[0] if function else None, args, kwargs)


def _open_itself(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))  # Windows has none


def content_of(head: CallHead, part: Part) -> bytes:
    """Return the content of a part. The head is sealed, so what has this SHA-256 is what was submitted."""
    path, content = head.located.get(part.name, ("", b""))
    if path:
        with open(path, "rb", opener=_open_itself) as file:
            content = file.read(part.size + 1)
    if len(content) != part.size or digest(content) != part.name:
        raise SignatureError("a large part of its arguments is not what was submitted")
    return content
