"""Every kind of callable runs in a process without its module, or its submit is refused with one sentence."""

from __future__ import annotations

import functools
import operator
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobkit.client.submit import SubmitOrigin, prepare
from jobkit.codec import Codec, Subject
from jobkit.model import InvalidParams
from jobkit.settings import Settings
from jobkit.store.values import Submission
from jobkit.tasks.options import check_submit_options
from jobkit.tasks.registry import registry
from tests.support import ROOT, environment

CODEC = Codec([b"key of these tests"])

#: As in a cell of a notebook.
CELL = """
import asyncio, contextlib, dataclasses, functools, jobkit, numpy

def through(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)
    return inner

def by_position(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args)
    return inner

def plain(x):
    return x + 1

@functools.lru_cache
def cached(x):
    return x + 1

@functools.cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

def uses_a_cached_one(x):
    return cached(x)

@through
def wrapped(x):
    return x + 1

@by_position
def wrapped_by_position(x):
    return x + 1

@through
@functools.lru_cache
def wrapped_cached(x):
    return x + 1

@functools.lru_cache
@through
def cached_wrapped(x):
    return x + 1

@jobkit.task
@functools.lru_cache
def cached_task(x: int) -> int:
    return x + 1

class Adder:
    def __call__(self, x):
        return x + self.one
    def method(self, x):
        return x + 1
    @classmethod
    def of_class(cls, x):
        return x + 1
    @staticmethod
    def static(x):
        return x + 1
    @functools.lru_cache
    def cached_method(self, x):
        return x + 1
    @functools.cached_property
    def one(self):
        return 1

class Decorator:
    def __init__(self, function):
        functools.update_wrapper(self, function)
    def __call__(self, *args, **kwargs):
        return self.__wrapped__(*args, **kwargs)

class ByName(Decorator):
    def __reduce__(self):
        return self.__qualname__

decorated_by_class = Decorator(plain)
by_name = ByName(plain)

async def coroutine(x):
    return x + 1

@dataclasses.dataclass
class Point:
    x: int

def generator(x):
    yield x

async def async_generator(x):
    yield x

@functools.singledispatch
def dispatched(x):
    return x + 1

ufunc = numpy.frompyfunc(plain, 1, 1)
"""


@pytest.fixture(scope="module")
def cell() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(CELL, names)  # as a kernel does
    return names


RUNS: dict[str, tuple[str | Callable[..., Any], tuple[Any, ...], str]] = {
    "plain": ("plain", (1,), "2"),
    "lambda": (lambda x: x + 1, (1,), "2"),
    "lru_cache": ("cached", (1,), "2"),
    "recursive cache": ("fib", (50,), "12586269025"),
    "a function that uses a cached one": ("uses_a_cached_one", (1,), "2"),
    "functools.wraps": ("wrapped", (1,), "2"),
    "functools.wraps with *args alone": ("wrapped_by_position", (1,), "2"),
    "functools.wraps over lru_cache": ("wrapped_cached", (1,), "2"),
    "lru_cache over functools.wraps": ("cached_wrapped", (1,), "2"),
    "task over lru_cache": ("cached_task", (1,), "2"),
    "instance with __call__": ("Adder()", (1,), "2"),
    "bound method": ("Adder().method", (1,), "2"),
    "class method": ("Adder.of_class", (1,), "2"),
    "static method": ("Adder.static", (1,), "2"),
    "cached method": ("Adder().cached_method", (1,), "2"),
    "decorator that is a class": ("decorated_by_class", (1,), "2"),
    "coroutine": ("coroutine", (1,), "2"),
    "dataclass": ("Point", (1,), "Point(x=1)"),
    "partial": (functools.partial(pow, 2), (3,), "8"),
    "builtin": (len, ("abc",), "3"),
    "method of a builtin type": (str.upper, ("a",), "'A'"),
    "bound method of a builtin": ([1, 2].index, (2,), "1"),
    "itemgetter": (operator.itemgetter(0), ([7],), "7"),
    "type": (int, ("7",), "7"),
    "ufunc of numpy": (np.add, (1, 2), "3"),
    "function of numpy": (np.mean, ([1.0, 3.0],), "2.0"),
    "vectorize": ("numpy.vectorize(plain)", (1,), "2"),
}

REFUSED = {
    "a generator function": ("generator", "is a generator function.*returns a list"),
    "an asynchronous generator function": ("async_generator", "is a generator function.*returns a list"),
    "one that pickles by its name": ("by_name", "can only be sent by its name in a module.*move it to a module"),
    "a ufunc of a notebook": ("ufunc", "cannot be sent: "),
    "a cached_property": ("Adder.__dict__['one']", "only a task or another callable can be submitted"),
}


def prepared(function: Any, args: tuple[Any, ...]) -> Submission:
    settings = Settings(url="sync://")
    task = registry.task_of(function)
    return prepare(task, args, {}, check_submit_options({}), SubmitOrigin(settings, CODEC, "ada"))


RUN = """
import asyncio, inspect, pickle, sys
from jobkit.run.attempt import Assignment, resolve
for label, task, call in pickle.load(open(sys.argv[1], "rb")):
    try:
        function, args, kwargs = resolve(Assignment(label, task, 1, call), owns_process=False)
        value = function(*args, **kwargs)
        value = asyncio.run(value) if inspect.iscoroutine(value) else value
        print(label, repr(value.item() if hasattr(value, "item") else value), sep="\\t")
    except BaseException as error:
        print(label, f"{type(error).__name__}: {error}", sep="\\t")
"""


def test_every_kind_of_callable_runs_elsewhere(cell: dict[str, Any], tmp_path: Path) -> None:
    calls = []
    for label, (function, args, _) in RUNS.items():
        job = prepared(eval(function, cell) if isinstance(function, str) else function, args)
        spec = job.spec
        calls.append((label, spec.task, CODEC.verify(job.payload, Subject("args", spec.id, spec.task))[1]))
    (tmp_path / "calls").write_bytes(pickle.dumps(calls))

    command = [sys.executable, "-c", RUN, str(tmp_path / "calls")]
    told = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True).stdout

    found = dict(line.split("\t", 1) for line in told.splitlines())
    assert found == {label: wanted for label, (_, _, wanted) in RUNS.items()}


@pytest.mark.parametrize(("function", "sentence"), REFUSED.values(), ids=REFUSED)
def test_callables_that_cannot_run_are_refused_at_submit(cell: dict[str, Any], function: str, sentence: str) -> None:
    with pytest.raises(InvalidParams, match=sentence) as caught:
        prepared(eval(function, cell), (1,))

    assert "\n" not in str(caught.value)


def test_a_cached_function_of_a_module_is_sent_by_name() -> None:
    from fnmatch import _compile_pattern  # type: ignore[attr-defined]  # any such function

    from jobkit.codec import pickled

    _, body = pickled([_compile_pattern, lambda: None])

    assert b"lru_cache" not in body
