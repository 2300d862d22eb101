"""Validation of the values of options: each function returns one, or raises `InvalidParams` with the option's name.

`options.py` has the table of options; `work.py` applies those for limits, deduplication and caching to a submission.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from numbers import Integral
from string import Formatter
from typing import Any, TypeVar

import msgspec

from jobkit.features import modules
from jobkit.model import Backoff, InvalidParams
from jobkit.model.format import bytes_in, seconds_in
from jobkit.model.limits import MAX_STARTS, parse_rate

V = TypeVar("V")

MAX_TAGS = 32
_LONGEST_S = 10 * 365 * 86_400.0
_DAY = timedelta(days=1)
_LEAST_MEMORY_BYTES = 16 * 1024**2
_MAX_AMOUNT = 1e9
_MAX_RESOURCES = 16

#: Among variables: the word that `env` was, which a feature knows. No variable has such a name.
ENV_WORD = "="

_MAX_VARIABLES = 100
_MAX_VARIABLE = 32_000

#: Until the first job starts, or until it ends.
SCOPES = ("queued", "active")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")


class Key(msgspec.Struct, frozen=True):
    """Computes a text from a job's arguments: a template like "{user}", or a function of some of them.

    Attributes:
        template: "" for a function.
        argument: name of the argument that the function returns unchanged; processes without its code can use it.
        function: None for a template, and in processes that only know that there is a function.
    """

    template: str = ""
    argument: str = ""
    function: Callable[..., Any] | None = None

    def to_wire(self) -> Any:
        return self.template or ({"argument": self.argument} if self.argument else {"function": True})

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arguments that it uses."""
        if self.argument:
            return (self.argument,)
        if self.function is None:
            fields = (field for _, field, _, _ in Formatter().parse(self.template) if field is not None)
            return tuple(dict.fromkeys(re.split(r"[.\[]", field, maxsplit=1)[0] for field in fields))
        return tuple(inspect.signature(self.function).parameters)


class Unique(msgspec.Struct, frozen=True):
    """Deduplication of submits: `scope` is one of `SCOPES`, or "time" for `seconds` from its submit."""

    scope: str
    seconds: float = 0.0
    key: Key | None = None

    def to_wire(self) -> Any:
        return {"scope": self.scope, "seconds": self.seconds, "key": self.key and self.key.to_wire()}


def must_be(what: str) -> Callable[[Callable[[str, Any], V]], Callable[[str, Any], V]]:
    """Decorate a function of an option's name and value: a ValueError of it means that the value must be `what`."""

    def decorate(read: Callable[[str, Any], V]) -> Callable[[str, Any], V]:
        @functools.wraps(read)
        def reader(name: str, value: Any) -> V:
            try:
                return read(name, value)
            except InvalidParams:
                raise
            except ValueError:
                raise InvalidParams(f"{name} must be {what}, not {value!r}", name) from None

        return reader

    return decorate


def _duration(least_s: float, allowed: str) -> Callable[[str, Any], float]:
    """Return a function that reads a duration of at most ten years, in seconds."""

    @must_be(f'a number of seconds ({allowed}), a timedelta or a text like "90s", "12h", "7d"')
    def read(name: str, value: Any) -> float:
        found = seconds_in(value)
        if found is None or not least_s <= found <= _LONGEST_S:
            raise ValueError
        return float(found)

    return read


seconds = _duration(0, "0 or more")
positive_seconds = _duration(1e-3, "more than 0")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_text(value: object, most: int, least: int = 1) -> bool:
    """Return True for a printable text of `least` to `most` characters."""
    return isinstance(value, str) and least <= len(value) <= most and value.isprintable()


def _several(value: Any) -> Any:
    """Return the values of an option that takes one text or several."""
    several = (value,) if isinstance(value, (str, type)) else value
    if not isinstance(several, (tuple, list, set, frozenset)):
        raise ValueError
    return several


@must_be('a size of at least 16 MiB, like "512MB", "2GB" or a number of bytes')
def size_bytes(name: str, value: Any) -> int:
    """Return a size in bytes from an int or a text like "512MB", "2GB" (powers of 1000) or "2GiB" (of 1024).

    Less than 16 MiB is too little to start Python.
    """
    number = bytes_in(value)
    if number is None or not _LEAST_MEMORY_BYTES <= number < 2**60:
        raise ValueError
    return int(number)


@must_be(f'a number of starts in a time, like "10/m", "5/10s" or "1000/h" (1 to {MAX_STARTS} in at most 31 days)')
def rate(name: str, value: Any) -> str:
    if parse_rate(value) is None:
        raise ValueError
    return str(value).strip()


@must_be('a function of the task\'s arguments or a text with them, like "{user}"')
def key(name: str, value: Any) -> Key:
    """Return the key of a function of some of the task's arguments, or of a template with them."""
    if callable(value):
        try:
            kinds = {parameter.kind for parameter in inspect.signature(value).parameters.values()}
        except (TypeError, ValueError):
            kinds = {inspect.Parameter.VAR_POSITIONAL}
        if kinds - {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}:
            raise InvalidParams(f"{name} must take arguments of the task by their names, like lambda user: user", name)
        return Key(argument=_given_back(value), function=value)
    if isinstance(value, Mapping) and isinstance(value.get("argument"), str):
        return Key(argument=value["argument"])
    if isinstance(value, Mapping) and value.get("function"):
        return Key()
    if not _is_text(value, 200) or not all(found.isidentifier() for found in Key(value).names):
        raise ValueError  # as `names` does for a single brace
    return Key(value)


_SAME = (lambda same: same).__code__


def _given_back(function: Callable[..., Any]) -> str:
    """Return the argument that a function like `lambda user: user` returns unchanged, or ""."""
    code = getattr(function, "__code__", None)
    is_same = code is not None and code.co_code == _SAME.co_code and code.co_argcount == 1 and code.co_nlocals == 1
    return str(code.co_varnames[0]) if code is not None and is_same else ""


@must_be('amounts above 0 by name, like {"gpu": 1, "mem": 16} or "gpu=1,mem=16"')
def resources(name: str, value: Any) -> Mapping[str, float]:
    """Return amounts by name, from a mapping or a text like "gpu=1,mem=16"."""
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",")]
        value = {left.strip(): float(right) if equals else 1.0 for left, equals, right in pairs}
    if not isinstance(value, Mapping) or not 1 <= len(value) <= _MAX_RESOURCES:
        raise ValueError
    for each, amount in value.items():
        is_named = isinstance(each, str) and _NAME.fullmatch(each)
        if not is_named or not _is_number(amount) or not 0 < amount <= _MAX_AMOUNT:
            raise ValueError
        if each == "gpu" and amount != int(amount):
            raise InvalidParams(f"{name}: gpu is counted in whole devices, not {amount!r}", name)
    return {each: float(value[each]) for each in sorted(value)}


def env(name: str, value: Any) -> Mapping[str, str]:
    """Return variables of a job's environment by name; numbers become text. Messages contain no values.

    A word stands for a Python environment that a feature makes, see `env_module`.
    """
    if (module := env_module(value)) is not None:
        if value not in module.SUBMITTED:
            raise InvalidParams(f"{name}={value!r} is for a job that has run: write job.rerun({name}={value!r})", name)
        return {ENV_WORD: value}
    if not isinstance(value, Mapping) or len(value) > _MAX_VARIABLES:
        every = [each for module in modules("env") for each in module.SUBMITTED.items()]
        words = "".join(f', or "{word}" for {what}' for word, what in every)
        like = 'like {"OMP_NUM_THREADS": 4}' + words
        raise InvalidParams(f"{name} must be at most {_MAX_VARIABLES} variables with their values, {like}", name)
    found = {}
    for each, text in value.items():
        if each == ENV_WORD and env_module(text) is not None:
            found[each] = text
            continue
        if not isinstance(each, str) or not _VARIABLE.fullmatch(each):
            raise InvalidParams(f"{name}: {each!r:.60} is no name of a variable: letters, digits and _", name)
        if each.startswith("JOBKIT_"):
            raise InvalidParams(f"{name}: {each} is jobkit's own, like all names that begin with JOBKIT_", name)
        written = str(text) if _is_number(text) else text
        if not isinstance(written, str) or "\0" in written or len(written) > _MAX_VARIABLE:
            raise InvalidParams(
                f"{name}: {each} must be text of at most {_MAX_VARIABLE:,} characters, or a number", name
            )
        found[each] = written
    return found


def env_module(word: object) -> Any:
    """Return the module `env` of the feature that knows a word, or None."""
    if not isinstance(word, str):
        return None
    return next((module for module in modules("env") if word in module.SUBMITTED or word in module.REPEATED), None)


@must_be("True to draw one for each job, or a whole number from 0 to 4294967295")
def seed(name: str, value: Any) -> bool | int | None:
    """Return True to draw a seed for each job, the seed itself, or None for none."""
    if value is True or value is False:
        return value or None
    number = int(value) if isinstance(value, Integral) else -1  # NumPy's integers, too
    if not 0 <= number < 2**32:
        raise ValueError
    return number


@must_be('True, "queued", "active", seconds, or a function or text that gives the key, like "{user}"')
def unique(name: str, value: Any) -> Unique | None:
    """Return what `unique=` means: True, a scope, seconds from the submit, or a key."""
    if value is False or value is True:
        return Unique("active") if value else None
    if isinstance(value, Mapping) and "scope" in value:
        inner = value.get("key")
        return Unique(str(value["scope"]), float(value.get("seconds") or 0), key(name, inner) if inner else None)
    if isinstance(value, str) and value in SCOPES:
        return Unique(value)
    if isinstance(value, (int, float, timedelta)):
        return Unique("time", positive_seconds(name, value))
    if callable(value) or (isinstance(value, str) and "{" in value):
        return Unique("active", key=key(name, value))
    raise ValueError


@must_be("names of the task's arguments")
def names(name: str, value: Any) -> tuple[str, ...]:
    """Return names of arguments, sorted."""
    several = _several(value)
    if not all(isinstance(each, str) and each.isidentifier() for each in several):
        raise ValueError
    return tuple(sorted(set(several)))


@must_be("16 to 32 hexadecimal digits, such as uuid.uuid4().hex")
def job_id(name: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{16,32}", value):
        raise ValueError
    return value


@must_be("text of 1 to 100 printable characters")
def version(name: str, value: Any) -> str:
    text = str(value) if isinstance(value, int) and _is_number(value) else value
    if not _is_text(text, 100):
        raise ValueError
    return str(text)


@must_be("text of at most 200 printable characters")
def title(name: str, value: Any) -> str:
    if not _is_text(value, 200, least=0):
        raise ValueError
    return str(value)


@must_be("jobkit.Backoff(base, factor, max) or the seconds before the first retry")
def backoff(name: str, value: Any) -> Backoff:
    if isinstance(value, Backoff):
        return value
    try:
        return Backoff.from_wire(value) if isinstance(value, Mapping) else Backoff(base=seconds(name, value))
    except (InvalidParams, TypeError):
        raise ValueError from None


@must_be("exception types or their names")
def retry_on(name: str, value: Any) -> tuple[str, ...]:
    names = []
    for each in _several(value):
        if isinstance(each, type) and issubclass(each, BaseException):
            names.append(
                each.__qualname__ if each.__module__ == "builtins" else f"{each.__module__}.{each.__qualname__}"
            )
        elif isinstance(each, str) and each.replace(".", "").isidentifier():
            names.append(each)
        else:
            raise InvalidParams(f"{name} must be exception types or their names, not {each!r}", name)
    return tuple(dict.fromkeys(names))


@must_be(f'a list of at most {MAX_TAGS} texts, like ["demo"]')
def tags(name: str, value: Any) -> tuple[str, ...]:
    several = _several(value)
    if several is not value or len(several) > MAX_TAGS:  # "a,b" looks like two tags and would be one
        raise ValueError
    for tag in several:
        if not _is_text(tag, 100) or not tag.strip():
            raise InvalidParams(f"each of the {name} must be 1 to 100 printable characters, not {tag!r}", name)
    return tuple(dict.fromkeys(sorted(several) if isinstance(several, (set, frozenset)) else several))


def of_feature(name: str, value: Any) -> Any:
    """Validate an option that a feature has.

    Raises:
        InvalidParams: it is refused, or no feature has it.
    """
    for module in modules("options"):
        if (check := getattr(module, name, None)) is not None:
            return check(name, value)
    raise InvalidParams(f"there is no feature with the option {name!r}", name)


@must_be("a datetime or ISO 8601 text like 2026-11-24T16:30")
def at(name: str, value: Any) -> datetime:
    """Return an aware moment; one without a zone is in local time."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(moment, datetime):
        raise ValueError
    try:
        aware = moment if moment.tzinfo else moment.astimezone()
        _ = aware + _DAY  # rounding or another time zone must not leave the calendar
    except (ValueError, OverflowError, OSError):
        raise InvalidParams(f"{name} must not be at an end of the calendar, like {value!r}", name) from None
    return aware
