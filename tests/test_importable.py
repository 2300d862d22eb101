"""Modules that travel by name, and functions and classes of the others, which travel by value."""

from __future__ import annotations

import gc
import importlib.util
import pickle
import runpy
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import pytest

from jobkit.codec import CLOUDPICKLE, PICKLE, decode, pickled
from jobkit.importable import is_importable
from jobkit.run.inside.tracebacks import error_body
from jobkit.tasks.registry import Registry
from jobkit.tasks.task import TaskDef, reference

SOURCE = textwrap.dedent("""
    import enum, functools
    from dataclasses import dataclass

    def helper(x): return 2 * x
    def double(x): return helper(x)
    def around(y):
        def inner(x): return helper(x) + y
        return inner
    class Level(enum.Enum):
        LOW = 1
    class Trouble(Exception): ...
    class Machine:
        def run(self, x): return helper(x)
    @dataclass
    class Point:
        x: int
        def twice(self): return helper(self.x)
    @functools.singledispatch
    def told(x): return told(str(x))
    @told.register
    def _(x: str): return helper(x)
    lambdas = lambda x: helper(x)
    later = functools.partial(helper, 3)
    cached = functools.cache(helper)
""")


def app(path: Path, name: str) -> ModuleType:
    """Return a module as Bokeh makes one for a session of a served app."""
    module = sys.modules[name] = ModuleType(name)
    module.__file__ = str(path)
    exec(compile(SOURCE, str(path), "exec"), module.__dict__)
    return module


def by_path(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def by_exec(_: Path, name: str) -> ModuleType:
    module = ModuleType(name)
    exec(SOURCE, module.__dict__)
    return module


def by_run(path: Path, name: str) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(runpy.run_path(str(path), run_name=name))
    return module


WAYS = [
    (app, "bokeh_app_0123"),
    (by_path, "another_name"),
    (by_path, "app"),
    (by_exec, "made_by_exec"),
    (by_run, "<run_path>"),
]


@pytest.fixture(params=WAYS, ids=[f"{name}-{make.__name__}" for make, name in WAYS])
def module(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    make, name = request.param
    path = tmp_path / "app.py"
    path.write_text(SOURCE)
    monkeypatch.setitem(sys.modules, name, ModuleType(name))  # dataclasses need one
    made: ModuleType = make(path, name)
    monkeypatch.setitem(sys.modules, name, made)
    return made


@pytest.mark.parametrize(
    "name",
    ["json", "sys", "os.path", "concurrent.futures.thread", "_pickle", "jobkit.codec", "tests", __name__, "nowhere"],
)
def test_what_was_imported_has_its_name_elsewhere(name: str) -> None:
    assert is_importable(name)


@pytest.mark.parametrize("name", ["__main__", "__mp_main__"])
def test_a_notebook_or_script_has_no_name_elsewhere(name: str) -> None:
    assert not is_importable(name)


USES: list[tuple[Callable[[Any], Any], Callable[[Any], Any], Any]] = [
    (lambda m: m.double, lambda got: got(2), 4),
    (lambda m: m.lambdas, lambda got: got(2), 4),
    (lambda m: m.around(1), lambda got: got(2), 5),
    (lambda m: m.later, lambda got: got(), 6),
    (lambda m: m.told, lambda got: [got(1), got("a"), got.__name__], ["11", "aa", "told"]),
    (lambda m: m.cached, lambda got: got(2), 4),
    (lambda m: m.Machine, lambda got: got().run(2), 4),
    (lambda m: m.Machine().run, lambda got: got(2), 4),
    (lambda m: m.Point(2), lambda got: got.twice(), 4),
    (lambda m: [{"key": (m.Point(2),)}], lambda got: got[0]["key"][0].twice(), 4),
    (lambda m: m.Level.LOW, lambda got: got.value, 1),
    (lambda m: m.Trouble("no"), str, "no"),
    (lambda m: m, lambda got: got.double(2), 4),
]


@pytest.mark.parametrize(("part", "use", "wanted"), USES)
def test_code_of_such_a_module_runs_where_the_module_is_not(
    module: ModuleType,
    part: Callable[[Any], Any],
    use: Callable[[Any], Any],
    wanted: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not is_importable(module.__name__)
    form, body = pickled(part(module))
    monkeypatch.delitem(sys.modules, module.__name__)

    assert form == CLOUDPICKLE
    assert use(decode(form, body)) == wanted


def test_such_a_function_has_no_reference(module: ModuleType) -> None:
    assert reference(module.double) == ""
    assert reference(app).endswith(":app")
    assert pickled([app])[0] == PICKLE


def test_an_instance_that_comes_back_is_of_the_class_that_was_sent_and_leaves_its_methods(module: ModuleType) -> None:
    form, body = pickled(module.Point(2))
    twice = module.Point.twice
    module.Point.more = "of the caller"

    got = decode(form, body)

    assert type(got) is module.Point
    assert module.Point.twice is twice
    assert module.Point.more == "of the caller"


def test_an_exception_that_comes_back_is_of_the_class_that_was_sent(module: ModuleType) -> None:
    pickled(module.Trouble)
    module.Trouble.__str__ = told = lambda _: "as told here"

    got = decode(PICKLE, error_body(module.Trouble("no")))  # as the client reads errors

    assert type(got) is module.Trouble
    assert vars(module.Trouble)["__str__"] is told


def test_two_sessions_of_an_app_are_no_clash_of_task_names(tmp_path: Path) -> None:
    registry = Registry()
    path = tmp_path / "app.py"
    for name in ("bokeh_app_1", "bokeh_app_2"):
        made = app(path, name)
        registry.register(TaskDef(made.double, name="double"))
        del sys.modules[name]  # the session has ended

    assert registry.known("double").function is made.double


def test_nothing_is_kept_of_a_session_that_has_ended(tmp_path: Path) -> None:
    name = "bokeh_app_ended"
    made = app(tmp_path / "app.py", name)
    pickled(made.Point(1))
    assert name in cloudpickle.list_registry_pickle_by_value()

    del sys.modules[name], made
    gc.collect()

    assert name not in cloudpickle.list_registry_pickle_by_value()


def test_a_name_as_plain_text_needs_no_cloudpickle() -> None:
    assert pickled({"bokeh_app_0123"})[0] == PICKLE
    assert pickle.loads(pickled({"bokeh_app_0123"})[1]) == {"bokeh_app_0123"}
