"""Limits, deduplication and caching of one submission, computed from its options and arguments."""

from __future__ import annotations

import hashlib
import inspect
import types
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import msgspec

from jobkit.codec import Codec
from jobkit.model import Gate, InvalidParams, Once
from jobkit.model.limits import parse_rate
from jobkit.tasks.option_values import Key
from jobkit.tasks.options import JobOptions
from jobkit.tasks.signature import called
from jobkit.tasks.values import plain


def work_of(
    task: str, options: JobOptions, values: Mapping[str, Any], codec: Codec, version: Callable[[], str]
) -> dict[str, Any]:
    """Return the fields of a job's spec that depend on its arguments: limits, deduplication and cache key.

    Args:
        values: its arguments by name, and the defaults of omitted ones, if known.
        version: returns the version of the task's code; called only if needed.

    Raises:
        InvalidParams: a key cannot be computed from these arguments.
    """
    once = None
    more: dict[str, Any] = {"env=": dict(options.env)} if options.env else {}  # counts like an argument
    if options.seed is not None and options.seed is not True:  # a drawn one does not
        more["seed="] = options.seed
    if options.unique is not None:
        chosen = options.unique_key or options.unique.key
        text = _keyed(task, "unique_key" if options.unique_key else "unique", chosen, values)
        if chosen is None:
            text = arguments_text({**values, **more}, codec)
        if text is not None:  # None: the key opts this job out
            once = Once(_digest("unique", task, text), options.unique.scope, round(options.unique.seconds * 1000))
    elif options.debounce_s is not None:
        text = _keyed(task, "unique_key", options.unique_key, values)
        once = Once(_digest("debounce", task, text or ""), "debounce", round(options.debounce_s * 1000))
    cache_key, cache_ms = "", 0
    if options.cache_s is not None:
        if unknown := set(options.cache_ignore) - set(values):
            raise InvalidParams(
                f"cache_ignore names {min(unknown)!r}, which task {task} does not have: {', '.join(values) or 'none'}",
                "cache_ignore",
            )
        counted = {name: value for name, value in values.items() if name not in options.cache_ignore} | more
        # Not "cache": results under that prefix were made before calls contained the key, and cannot be verified.
        cache_key = _digest("cache", task, options.version or version(), arguments_text(counted, codec))
        cache_ms = round(options.cache_s * 1000)
    return {
        "limits": gates_of(task, options, values), "once": once, "cache_key": cache_key, "cache_ms": cache_ms
    }  # fmt: skip


def gates_of(task: str, options: JobOptions, values: Mapping[str, Any]) -> tuple[Gate, ...]:
    """Return the gates of a job with these arguments."""
    if options.concurrency is None and options.rate is None:
        return ()
    name = f"task:{task}"
    if options.limit_key is not None:
        text = _keyed(task, "limit_key", options.limit_key, values)
        if text is None:
            return ()
        # A function's value is specific to the task; a template is the limit's own name, shared by all tasks that use
        # it.
        name = f"key:{text}" if options.limit_key.template else f"key:{task} {text}"
    count, period_ms = (parse_rate(options.rate) or (0, 0)) if options.rate else (0, 0)
    return (Gate(name, options.concurrency or 0, count, period_ms),)


def _keyed(task: str, option: str, key: Key | None, values: Mapping[str, Any]) -> str | None:
    """Return the key's text for these arguments; None without a key, or if the key is None."""
    if key is None:
        return None
    if not (key.template or key.argument or key.function):
        raise InvalidParams(
            f"task {task} has a function as its {option}, and its code is not here: submit it where its module is "
            f'imported, or let {option} be a text like "{{user}}"',
            option,
        )
    if unknown := [name for name in key.names if name not in values]:
        raise InvalidParams(
            f"{option} takes {unknown[0]!r}, which task {task} does not have; its arguments are: "
            f"{', '.join(values) or 'none'}",
            option,
        )
    try:
        if key.argument:
            value = values[key.argument]
        elif key.function is not None:
            value = key.function(**{name: values[name] for name in key.names})
        else:
            value = key.template.format(**values)
    except Exception as error:  # user code and formatting of user values
        raise InvalidParams(f"{option} of task {task} raised {type(error).__name__}: {error}", option) from error
    if value is None:
        return None
    if isinstance(value, Enum):
        value = value.name
    text = str(value) if isinstance(value, (str, int, float, bool)) else ""
    if not 1 <= len(text) <= 200 or not text.isprintable():
        raise InvalidParams(
            f"{option} of task {task} must give a text of 1 to 200 printable characters, a number or None, "
            f"not {value!r}",
            option,
        )
    return text


def arguments_text(values: Mapping[str, Any], codec: Codec) -> str:
    """Return a text that is equal for equal arguments."""
    parts: list[str] = []
    for name in sorted(values):
        try:
            written = msgspec.json.encode(plain(values[name]), order="sorted")
        except ValueError:  # JSON cannot represent it: use its pickle
            written = b"".join(codec.encode([values[name]]))
        parts.append(f"{name}={hashlib.sha256(written).hexdigest()}")
    return "\0".join(parts)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\1".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def code_version(function: Any) -> str:
    """Return a hash of the function's own code; for a class, of its methods. Functions that it calls do not count.

    For a cell or a notebook, whose code is data, also of that.
    """
    digest = hashlib.sha256(getattr(function, "__jobkit_source__", "").encode("utf-8", "surrogatepass"))
    for each in _functions(function):
        _feed(digest, each.__code__)
        for value in (each.__defaults__, each.__kwdefaults__, [_content(cell) for cell in each.__closure__ or ()]):
            digest.update(_stable(value))
    return digest.hexdigest()[:16]


def _functions(function: Any) -> list[types.FunctionType]:
    if isinstance(function, type):
        return [member for _, member in sorted(vars(function).items()) if isinstance(member, types.FunctionType)]
    found = inspect.unwrap(called(inspect.unwrap(function)))
    found = getattr(found, "__func__", found)
    return [found] if isinstance(found, types.FunctionType) else []


def _feed(digest: Any, code: types.CodeType) -> None:
    digest.update(code.co_code)
    digest.update(repr((code.co_names, code.co_varnames[: code.co_argcount], code.co_freevars)).encode())
    for constant in code.co_consts[1:] if code.co_consts and isinstance(code.co_consts[0], str) else code.co_consts:
        if isinstance(constant, types.CodeType):
            _feed(digest, constant)
        else:
            digest.update(_stable(constant))


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _stable(value: Any) -> bytes:
    """Return a constant of the code as text that does not depend on the process."""
    if isinstance(value, (frozenset, set)):
        return repr(sorted(map(repr, value))).encode()
    if isinstance(value, (list, tuple)):
        return b"".join(map(_stable, value))
    if isinstance(value, types.FunctionType):
        return value.__code__.co_code
    if value is None or isinstance(value, (bool, int, float, str, bytes, complex, type(Ellipsis))):
        return repr(value).encode("utf-8", "surrogatepass")
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(value))
    except Exception:  # an object that cannot be pickled cannot be in a closure that is sent
        return type(value).__qualname__.encode()
