"""Serialization: values to signed bytes and back.

An envelope is `JK1 · key id (4) · HMAC-SHA256 (32) · format (1) · body`. The MAC covers the kind of the payload, its
job and task, the format and the body, so a changed or swapped payload is rejected before any byte of the body is
parsed.

The body is msgpack if that restores exactly the same value (plain data), else a pickle, else a cloudpickle (functions
and classes defined in a notebook). Unpickling runs code, so only a worker's child process and the client that asked for
a result call `loads`. The dashboard, the command line and HTTP never do.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import hashlib
import hmac
import importlib
import io
import json
import pickle
import sys
import time
import types
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from jobkit.importable import is_importable, module_of
from jobkit.model import InvalidParams, SignatureError

MAGIC = b"JK1"
#: Bytes of an envelope before its body.
HEAD_BYTES = len(MAGIC) + 4 + 32 + 1

#: Format byte: how the body is encoded.
MSGPACK, PICKLE, CLOUDPICKLE = b"m", b"p", b"c"
#: Raw bytes (an artifact), and a reference to a file that contains the envelope (see `jobkit.files`).
RAW, FILE = b"r", b"f"

#: The file name of code in a cloudpickle, which does not keep its source file.
DYNAMIC = "<dynamic-code>"

#: Begin of a retired key in a `JOBKIT_SECRET`: it verifies what the store holds, and nothing else.
RETIRED = "retired:"

#: Seconds before the keys are read again because of the same unknown key.
_UNKNOWN_S = 10.0

#: Values with more nodes are pickled without testing for plain data, because the test would take longer.
_PLAIN_NODES = 10_000
_PLAIN_DEPTH = 50

_pack: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
_unpack: Callable[[bytes], Any] = msgspec.msgpack.Decoder().decode


class Subject(msgspec.Struct, frozen=True):
    """Identity of a payload, covered by the MAC.

    `kind` is "args", "result" or "error"; for artifacts and files it also contains their name.
    """

    kind: str
    job_id: str
    task: str

    def __str__(self) -> str:
        kind = "call" if self.kind == "args" else self.kind.partition(chr(0))[0]
        return f"{kind} of job {self.job_id}"

    def bytes(self) -> bytes:
        return "\x00".join((self.kind, self.job_id, self.task)).encode()


class Blob(msgspec.Struct, frozen=True):
    """A large part of a call, which is stored beside it and once for all calls that share it.

    It has no seal: the sealed calls name it by the SHA-256 of its content, which its readers check.

    Attributes:
        content: empty if it is known to be stored. what: for messages: "argument 'data' of simulate".
    """

    name: str
    content: bytes = b""
    what: str = ""

    @classmethod
    def of(cls, content: bytes, what: str = "") -> Blob:
        return cls(digest(content), content, what)


def digest(content: bytes) -> str:
    """Return the SHA-256 of a content: 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def keys_in(secret: str) -> tuple[list[bytes], list[bytes]]:
    """Return the keys of a `JOBKIT_SECRET`, which are comma-separated, and those of them that are retired."""
    keys = [key.strip() for key in secret.split(",")]
    retired = [key.removeprefix(RETIRED).encode() for key in keys if key.startswith(RETIRED)]
    return [key.encode() for key in keys if key and not key.startswith(RETIRED)], retired


class Codec:
    """Seals and opens envelopes with one set of keys.

    A machine that was revoked knows retired keys. It cannot write to the store any more, but perhaps to files that
    others read: so a retired key verifies only what comes from the store.

    Args:
        keys: the first signs, all verify. Without keys envelopes carry no MAC and pickles are rejected.
        retired: former keys.
        renewed: returns the `JOBKIT_SECRET` of now, or "" if it is not known; called when a key is missing.
        allow_pickle: allow pickles for values that are not plain data; default: only if there is a key.
    """

    def __init__(
        self,
        keys: Sequence[bytes] = (),
        *,
        retired: Sequence[bytes] = (),
        renewed: Callable[[], str] | None = None,
        allow_pickle: bool | None = None,
    ) -> None:
        self._keys = {
            _key_id(key): hmac.new(hashlib.sha256(b"jobkit-mac\x00" + key).digest(), None, "sha256")
            for key in (*keys, *retired)
        }
        self._signer = next(iter(self._keys), None)
        self._current = frozenset(map(_key_id, keys))
        self._renewed, self._missed = renewed, dict[bytes, float]()
        self.allow_pickle = bool(self._keys) if allow_pickle is None else allow_pickle

    @property
    def has_key(self) -> bool:
        """True if envelopes are signed and unsigned ones are rejected."""
        return bool(self._keys)

    @property
    def has_retired(self) -> bool:
        """True if there are keys which a machine knows that was revoked."""
        return self._keys.keys() != self._current

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Ids of the keys, which do not reveal them; the first one signs."""
        ids = sorted(self._keys, key=lambda key_id: key_id != self._signer)
        return tuple(key_id.hex() for key_id in ids)

    def key_problem(self, others: Sequence[str]) -> str:
        """Return why we or a worker with these `key_ids` reject what the other one signs; "" if both accept it.

        A worker that signs with a retired key reads the keys again when it meets the new one. Blocks, see `renew`.
        """
        own = self.key_ids
        if others and others[0] not in own:
            self.renew()
            own = self.key_ids
        if others and others[0] in {key.hex() for key in self._keys.keys() - self._current}:
            return ""
        if not own or not others:
            if own:
                return "has no signing key, and this machine has one"
            return "signs with a key, and this machine has none" if others else ""
        return "" if others[0] in own and own[0] in others else "signs with another key than this machine"

    def has_key_of(self, envelope: bytes) -> bool:
        """Return True if an envelope is unsigned, or names one of our keys. Its signature is not checked."""
        return envelope[:3] != MAGIC or not any(envelope[3:7]) or envelope[3:7] in self._keys

    @classmethod
    def from_secret(cls, secret: str, renewed: Callable[[], str] | None = None) -> Codec:
        """Return the codec for a `JOBKIT_SECRET`: one or more keys, comma-separated. `renewed`: see `Codec`."""
        keys, retired = keys_in(secret)
        return cls(keys, retired=retired, renewed=renewed)

    def sign_as(self, other: Codec) -> None:
        """Sign with the key of another codec from now on, and verify with the keys of both; ours are retired."""
        self._keys = {**self._keys, **other._keys}
        self._signer, self._current = other._signer, other._current

    def renew(self) -> None:
        """Read the keys again, if that is possible. Blocks. Raises StoreUnavailable if the other machine is away."""
        if self._keys and self._renewed is not None and (secret := self._renewed()):
            self.sign_as(Codec.from_secret(secret))

    def _key(self, key_id: bytes) -> hmac.HMAC | None:
        """Return one of our keys, which are read again if it is unknown."""
        if key_id not in self._keys and any(key_id) and time.monotonic() >= self._missed.get(key_id, 0.0):
            self.renew()
            if key_id not in self._keys:
                self._missed = {key_id: time.monotonic() + _UNKNOWN_S}
        return self._keys.get(key_id)

    def dumps(self, value: Any, subject: Subject) -> bytes:
        """Return `value` in an envelope.

        Raises:
            InvalidParams: the value cannot be serialized, or it needs a pickle and pickles are not allowed.
        """
        form, body = self.encode(value)
        return self.seal(form, body, subject)

    def encode(
        self, value: Any, name_of_code: CodeNames | None = None, *, has_code: bool = False
    ) -> tuple[bytes, bytes]:
        """Return `(format, body)` of a value; see `dumps` and, for the other arguments, `pickled`."""
        if is_plain(value):
            return MSGPACK, _pack(value)
        if not self.allow_pickle:
            raise InvalidParams(
                f"a value of type {type(value).__name__} can only travel as a pickle, and pickles need a signing key "
                "on a shared Redis: set JOBKIT_SECRET to the same text here and on the workers, or pass plain data"
            )
        return pickled(value, name_of_code, has_code=has_code)

    def seal(self, form: bytes, body: bytes, subject: Subject) -> bytes:
        """Return the envelope of an encoded body."""
        return self.head(form, (body,), subject) + body

    def head(self, form: bytes, parts: Iterable[bytes | memoryview], subject: Subject) -> bytes:
        """Return the envelope's header for a body in parts, which is too large to be copied."""
        signer = self._signer
        if signer is None:
            return MAGIC + bytes(36) + form
        return MAGIC + signer + _mac(self._keys[signer], form, parts, subject) + form

    def verify(self, envelope: bytes, subject: Subject, *, is_stored: bool = True) -> tuple[bytes, bytes]:
        """Return `(format, body)` of an envelope that was sealed with one of our keys for exactly this subject.

        Args:
            is_stored: the store has it, or a digest of it. Else retired keys do not count.

        Raises:
            SignatureError: in every other case, before any of the body is parsed.
            StoreUnavailable: see `renew`.
        """
        if len(envelope) < HEAD_BYTES or envelope[:3] != MAGIC:
            raise SignatureError(f"the {subject} is not a jobkit payload")
        key_id, mac, form, body = envelope[3:7], envelope[7:39], envelope[39:40], envelope[40:]
        if not self._keys:
            if any(key_id):
                raise SignatureError(
                    f"the {subject} is signed, but there is no JOBKIT_SECRET here; set the same as the submitter (a "
                    "machine that has joined as a viewer has none: join with a word for workers to open results)"
                )
        else:
            if not is_stored:
                self.renew()
            key = self._key(key_id)
            if not is_stored and key is not None and key_id not in self._current:
                raise SignatureError(f"the {subject} is signed with a key that was replaced when a machine was revoked")
            if key is None or not hmac.compare_digest(mac, _mac(key, form, (body,), subject)):
                what = "is not signed" if not any(key_id) else "does not carry a valid signature"
                raise SignatureError(
                    f"the {subject} {what}; JOBKIT_SECRET must be the same for submitters and workers (a machine that "
                    "has joined a home gets the key when it joins: join again)"
                )
        self.check_form(form, subject)
        return form, body

    def check_form(self, form: bytes, subject: Subject) -> None:
        """Raise SignatureError if nothing of this format may be decoded here."""
        if form not in (MSGPACK, PICKLE, CLOUDPICKLE, RAW, FILE) or (
            form in (PICKLE, CLOUDPICKLE) and not self.allow_pickle
        ):
            raise SignatureError(f"the {subject} has a format that is not allowed here")

    def narrowed(self, subject: Subject, *, retired: bool = False) -> tuple[bytes, ...]:
        """Return keys for one subject, for a process that must not have ours: a `Codec` with them verifies what another
        one with them has signed. No keys if there are none here. `retired`: those of our retired keys."""
        made = []
        for key in sorted(self._keys, key=lambda key: key != self._signer):
            if (key in self._current) is retired:
                continue
            mac = self._keys[key].copy()
            mac.update(b"narrowed\0" + subject.bytes())
            made.append(mac.digest())
        return tuple(made)

    def loads(self, envelope: bytes, subject: Subject) -> Any:
        """Return the value in an envelope. Unpickling runs code: never call this in a server.

        Raises:
            SignatureError: see `verify`. Exceptions of unpickling pass through.
        """
        return decode(*self.verify(envelope, subject))


def decode(form: bytes, body: bytes) -> Any:
    """Return the value of a verified body."""
    if form == RAW:
        return body
    return _unpack(body) if form in (MSGPACK, FILE) else _Unpickler(io.BytesIO(body)).load()


#: Classes that this process has sent by value, and those that it has received so.
_sent: weakref.WeakSet[type] = weakref.WeakSet()
_received: weakref.WeakSet[type] = weakref.WeakSet()


class _Unpickler(pickle.Unpickler):
    """Reads pickles. An instance of a class that was sent from here is of that class, which remains unchanged."""

    def find_class(self, module: str, name: str, /) -> Any:
        found = super().find_class(module, name)
        if name != "_class_setstate" or not module.startswith("cloudpickle"):
            return found

        def fill(kind: type, state: Any) -> type:
            if kind not in _sent:
                _received.add(kind)
                found(kind, state)
            return kind

        return fill


def is_reference(envelope: bytes) -> bool:
    """Return True if an envelope only names the file that contains the real one."""
    return envelope[HEAD_BYTES - 1 : HEAD_BYTES] == FILE


#: Returns the file name for code that is pickled; "" for `DYNAMIC`.
CodeNames = Callable[[types.CodeType], str]


def pickled(value: Any, name_of_code: CodeNames | None = None, *, has_code: bool = False) -> tuple[bytes, bytes]:
    """Return `(format, body)` of a value as a pickle, or as a cloudpickle if pickle fails or names what no worker has.

    Args:
        name_of_code: names the files of code; all `DYNAMIC` unless given.
        has_code: it has a function that is sent by value, so pickle would fail, and is not tried.

    Raises:
        InvalidParams: neither can serialize it; the message says why.
    """
    if not has_code:
        try:
            with io.BytesIO() as file:
                _ByName(file, protocol=5).dump(value)
                body = file.getvalue()
            if b"__main__" not in body:  # an object without a module may be named so
                return PICKLE, body
        except Exception:  # pickle raises nearly any type; try cloudpickle
            pass
    try:
        return CLOUDPICKLE, _cloudpickled(value, name_of_code)
    except InvalidParams:
        raise
    except Exception as error:  # cloudpickle raises nearly any type, too
        raise InvalidParams(f"a value of type {type(value).__name__} cannot be pickled: {error}") from None


class _ByName(pickle.Pickler):
    """Raises PicklingError for the functions and classes of modules that no worker has."""

    named: frozenset[str] = frozenset()  # modules that others can import

    def reducer_override(self, obj: Any) -> Any:
        name = getattr(obj, "__module__", "")
        if name in self.named:
            return NotImplemented
        if is_importable(module_of(obj)):
            self.named |= {name}
            return NotImplemented
        raise pickle.PicklingError(f"no worker has the module {obj.__module__}")


def _cloudpickled(value: Any, name_of_code: CodeNames | None) -> bytes:
    """Return a cloudpickle of `value`.

    Handles objects that cloudpickle cannot write, or writes by a name that other processes do not know. Bokeh models
    are sent as Bokeh's own JSON.
    """
    with io.BytesIO() as file:
        made = pickler()(file, protocol=5)
        made.name_of_code = name_of_code
        made.dump(value)
        return file.getvalue()


@functools.cache
def pickler() -> Any:
    """Return the class of picklers; cloudpickle is imported when it is first needed."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no type hints
        name_of_code: CodeNames | None = None

        def reducer_override(self, obj: Any) -> Any:
            if type(obj) is types.CodeType:
                return self._code_reduced(obj)
            if not is_importable(name := obj.__name__ if isinstance(obj, types.ModuleType) else module_of(obj)):
                _send_by_value(name)
            if isinstance(obj, type):
                reduced = super().reducer_override(obj)
                if reduced is not NotImplemented and obj not in _received:
                    _sent.add(obj)
                return reduced
            if obj is getattr(sys.modules.get("IPython.core.interactiveshell"), "_modified_open", None):
                return getattr, (builtins, "open")  # the `open` of a notebook would be sent as code
            if isinstance(obj, getattr(sys.modules.get("bokeh.model"), "Model", ())):
                return bokeh_model, (_bokeh_text(obj),)
            if type(obj) is types.FunctionType and obj.__code__ is _DISPATCHER and not _is_importable(obj):
                return _dispatcher, (), dict(vars(obj)["registry"]), None, None, _fill_dispatcher
            if isinstance(obj, _CACHED) and not _is_importable(obj):  # defined in a notebook or script
                return _cached, (obj.__wrapped__, obj.cache_parameters())
            if type(obj) is functools.cached_property:  # it holds a lock before Python 3.12
                return _cached_property, (obj.func, obj.attrname, obj.__doc__)
            if callable(obj) and not isinstance(obj, _BY_CLOUDPICKLE) and not is_importable(name):
                try:
                    reduced = obj.__reduce_ex__(5)
                except Exception:  # cloudpickle may be able to, or says why not
                    reduced = None
                if isinstance(reduced, str):
                    raise InvalidParams(
                        f"{reduced} (of type {type(obj).__name__}) can only be sent by its name in a module, and it is "
                        "defined in a notebook or script: move it to a module, or submit a function that makes it"
                    )
            return super().reducer_override(obj)

        def _code_reduced(self, code: types.CodeType) -> Any:
            name = (self.name_of_code and self.name_of_code(code)) or DYNAMIC
            made, args = self.dispatch_table[types.CodeType](code)
            # Before 3.1 cloudpickle keeps the file name.
            return made, tuple(name if arg in (DYNAMIC, code.co_filename) else arg for arg in args)

    return Pickler


_DISPATCHER: types.CodeType = vars(functools)["singledispatch"](len).__code__
_CACHED = type(functools.lru_cache(lambda: None))
_BY_CLOUDPICKLE = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType)


def _send_by_value(module: str) -> None:
    """Let cloudpickle send what is defined in a module, for as long as the module exists."""
    import cloudpickle

    loaded = sys.modules.get(module)
    if not isinstance(loaded, types.ModuleType) or loaded.__name__ != module or module == "__main__":
        return  # cloudpickle sends it by value anyway
    if module not in cloudpickle.list_registry_pickle_by_value():
        cloudpickle.register_pickle_by_value(loaded)
        weakref.finalize(loaded, _forget, module).atexit = False


def _forget(module: str) -> None:
    import cloudpickle

    with contextlib.suppress(ValueError):
        cloudpickle.unregister_pickle_by_value(types.ModuleType(module))


def _is_importable(function: Any) -> bool:
    """Return True if another process finds exactly this object by its module and name."""
    import cloudpickle

    name = getattr(function, "__module__", None) or ""
    if name in cloudpickle.list_registry_pickle_by_value():
        return False
    found: Any = sys.modules.get(name)
    if found is None or not is_importable(name):
        return False
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is function


def _dispatcher() -> Any:
    """Return an empty function of `functools.singledispatch`."""
    return functools.singledispatch(lambda _: None)


def _fill_dispatcher(made: Any, registry: dict[type, Any]) -> None:
    for kind, function in registry.items():
        made.register(kind, function)
    functools.update_wrapper(made, registry[object])


def _cached(function: Any, parameters: dict[str, Any]) -> Any:
    """Return the function with a new, empty cache."""
    return functools.lru_cache(**parameters)(function)


def _cached_property(function: Any, name: str | None, doc: str | None) -> Any:
    made: functools.cached_property[Any] = functools.cached_property(function)
    made.attrname, made.__doc__ = name, doc
    return made


def _bokeh_text(model: Any) -> str:
    serialization = importlib.import_module("bokeh.core.serialization")
    return json.dumps(serialization.Serializer(deferred=False).encode(model))


def bokeh_model(text: str) -> Any:
    """Return the Bokeh model in a pickle, with new ids: a result may be shown twice in one document."""
    serialization = importlib.import_module("bokeh.core.serialization")
    importlib.import_module("bokeh.models")  # makes the classes known by name
    make_id = importlib.import_module("bokeh.util.serialization").make_id
    model = serialization.Deserializer().deserialize(json.loads(text))
    for each in model.references():
        each._id = make_id()
    return model


def is_plain(value: Any) -> bool:
    """Return True if msgpack restores exactly this value: exact builtin types, text keys, not too deep or large."""
    level, budget = [value], _PLAIN_NODES - 1
    for _ in range(_PLAIN_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if item is None or kind is bool or kind is float or kind is bytes:
                continue
            if kind is str:
                if _has_surrogate(item):
                    return False
            elif kind is int:
                if not -(2**63) <= item < 2**64:
                    return False
            elif kind is list or kind is dict:
                budget -= len(item)
                if budget < 0:
                    return False
                below += item if kind is list else item.values()
                if kind is dict and any(type(key) is not str or _has_surrogate(key) for key in item):
                    return False
            else:
                return False
        if not below:
            return True
        level = below
    return False


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)


def _key_id(key: bytes) -> bytes:
    """Return four bytes that identify a key without revealing it; never all zero, which means "unsigned"."""
    digest = hashlib.sha256(b"jobkit-key-id\x00" + key).digest()[:4]
    return digest if any(digest) else b"\x00\x00\x00\x01"


def _mac(key: hmac.HMAC, form: bytes, parts: Iterable[bytes | memoryview], subject: Subject) -> bytes:
    mac = key.copy()
    mac.update(subject.bytes() + b"\x00" + form)
    for part in parts:
        mac.update(part)
    return mac.digest()
