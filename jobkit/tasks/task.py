"""`TaskDef`: a function (or Parameterized class) and all that jobkit knows of it.

Calling one calls the function as if undecorated. It travels by reference where its module can be imported and by value
where it was typed in a notebook or script; neither drags a registry or a kit along. Names are kept in `registry`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

from jobkit.model import InvalidParams, UnknownTask
from jobkit.tasks import binding
from jobkit.tasks.classes import is_task_class, run_class, signature_of_class
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.labels import documented
from jobkit.tasks.options import (
    SubmitOptions,
    TaskOptions,
    check_options,
    check_submit_options,
    effective_options,
)
from jobkit.tasks.signature import Signature, signature_of
from jobkit.tasks.specs import ParamSpec as Spec

P = ParamSpec("P")
R = TypeVar("R")

#: So many directories of its own a submitter may send along.
_MOST_PATHS = 20

_NAME = re.compile(r"[\w.:-]{1,200}")


class TaskDef(Generic[P, R]):
    """A task. Made by `@jobkit.task`; call it to run it here, `submit` it to run it in the background.

    Attributes:
        name: unique within a process; what workers look it up by.
        function: the undecorated function, or the `Task` class.
        options: see `TaskOptions`; None values are decided at submit.
    """

    def __init__(self, function: Callable[P, R], *, name: str = "", options: TaskOptions | None = None) -> None:
        self.function = function
        self.name = checked_task_name(name or name_of(function))
        self.options_set = options or TaskOptions()
        self._dress()
        self.effective()  # refuses an isolation that does not fit

    def _dress(self) -> None:
        """Take on the function's name, docstring and signature, as functools.wraps does, without its `__dict__`."""
        functools.update_wrapper(self, self.function, updated=())
        self.__dict__.setdefault("__module__", getattr(type(self.function), "__module__", None))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here, in this process, and return what it returns."""
        if self.is_class:
            return run_class(self.function, *args, **kwargs)  # type: ignore[arg-type,no-any-return]  # checked by is_class
        return self.function(*args, **kwargs)

    def run_checked(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function here with arguments checked and coerced, as a worker does.

        Raises:
            InvalidParams: an argument is refused. What the function raises comes through.
        """
        args, kwargs = self.signature.call_args(self.signature.bind(args, kwargs))
        return self(*args, **kwargs)

    # -- submitting ------------------------------------------------------------------------------------------------

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Submit it with these arguments; returns a `Job` at once.

        Raises:
            InvalidParams: an argument is missing, unknown or not allowed; nothing was stored.
            StoreUnavailable: the store did not answer.
        """
        return binding.kit().submit(self, *args, **kwargs)

    def options(self, **options: Any) -> BoundTask[P, R]:
        """This task with other options for its next submissions: `simulate.options(queue="gpu").submit(10)`.

        Args:
            options: queue, delay, at, key, priority, timeout, retries, backoff, retry_on, tags, title, isolation,
                reuse, memory_limit, result_ttl, cancel_grace, concurrency, rate, limit_key, resources, unique,
                unique_key, debounce, cache, cache_ignore, version, fresh. Durations are seconds or `timedelta`.

        Raises:
            InvalidParams: an unknown option or a value that is not allowed.
        """
        return BoundTask(self, options)

    def map(self, items: Iterable[Any], *, stop_when: Any = None) -> Any:
        """Submit it once for each mapping of arguments; returns a `Batch`. `stop_when`: see `Batch.stop_when`."""
        return binding.kit().map(self, items, stop_when=stop_when)

    def sweep(self, **axes: Any) -> Any:
        """Submit it once for each combination of the values of `axes`; returns a `Batch`. See `Kit.sweep`."""
        return binding.kit().sweep(self, **axes)

    def form(self) -> Any:
        """A form with a field for each parameter and a button that submits."""
        if binding.form is None:
            raise InvalidParams("forms need panel: write import jobkit, and install panel where it is missing")
        return binding.form(self)

    # -- what it takes and where it is -----------------------------------------------------------------------------

    @functools.cached_property
    def signature(self) -> Signature:
        """What it takes. Made at first use, when the names in its hints are defined."""
        return signature_of_class(self.function) if is_task_class(self.function) else signature_of(self.function)

    @functools.cached_property
    def params(self) -> tuple[Spec, ...]:
        """Its parameters with labels and the help of its docstring."""
        return documented(self.signature.params, self.doc)

    def bind(self, args: Iterable[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments by name, checked and coerced; see `Signature.bind`.

        Raises:
            InvalidParams: an argument is missing, unknown, given twice or refused; names it.
        """
        return self.signature.bind(tuple(args), kwargs)

    @functools.cached_property
    def doc(self) -> str:
        """Its docstring, dedented; "" where it has none."""
        return inspect.cleandoc(getattr(self.function, "__doc__", None) or "")

    @property
    def title(self) -> str:
        """What people read: `title=`, else the docstring's first line without its full stop, else the name."""
        first = self.doc.partition("\n")[0].strip()
        return self.options_set.title or first.removesuffix(".") or self.name

    @property
    def is_class(self) -> bool:
        """Made from a `Task` class: running it makes an instance and calls its `run`."""
        return is_task_class(self.function)

    @functools.cached_property
    def is_async(self) -> bool:
        """Calling it gives a coroutine."""
        function: Any = self.function
        if is_task_class(function):
            function = function.run
        while isinstance(function, functools.partial):
            function = function.func
        call = function if inspect.isroutine(function) else inspect.getattr_static(type(function), "__call__", None)
        return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)

    @property
    def isolation(self) -> str:
        """ "process", "thread" or "async": as asked for, else by the kind of the function."""
        return self.options_set.isolation or ("async" if self.is_async else "process")

    @property
    def ref(self) -> str:
        """Where another process finds it, by module and qualified name; "" where it must travel by value."""
        found: str = self.__dict__.get("_ref", "")
        if not found and (found := reference(self.function)):  # not kept while the module is still being imported
            self.__dict__["_ref"] = found
        return found

    @property
    def source_dir(self) -> str:
        """Directory to import its module from; "" where it is installed, or travels by value."""
        return source_dir(self.ref.partition(":")[0]) if self.ref else ""

    @property
    def where(self) -> str:
        """ "file.py:12", for messages; the module's name where there is no file."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        if code is not None:
            return f"{code.co_filename}:{code.co_firstlineno}"
        try:
            return f"{inspect.getsourcefile(self.function)}:{inspect.getsourcelines(self.function)[1]}"
        except (TypeError, OSError):
            return str(getattr(self.function, "__module__", "")) or "unknown place"

    def effective(self, over: SubmitOptions | None = None) -> SubmitOptions:
        """The options of a submission: this task's, with those given in `over` in their place, isolation decided.

        Raises:
            InvalidParams: `isolation="async"` for a plain function.
        """
        own = self._effective  # made once: each submit comes by here
        if over is None or not over.given:
            return own
        return effective_options(self.name, own, over, self.isolation, is_async=self.is_async)

    @functools.cached_property
    def _effective(self) -> SubmitOptions:
        return effective_options(self.name, self.options_set, None, self.isolation, is_async=self.is_async)

    def info(self) -> TaskInfo:
        """All that others need to know of it to show a form and submit it without importing its code."""
        return TaskInfo(
            name=self.name,
            title=self.title,
            doc=self.doc,
            params=self.params,
            takes_extra=bool(self.signature.var_keyword),
            isolation=self.isolation,
            options=self._published(),
            ref=self.ref,
            source_dir=self.source_dir,
        )

    def _published(self) -> TaskOptions:
        """Its options as others need them: what is decided here is left out, and the version told."""
        options = self.options_set.without("title", "isolation")
        if options.cache_s is None or options.version:
            return options
        return replace(options, version=self.code_version, given=options.given | {"version"})

    @functools.cached_property
    def code_version(self) -> str:
        """Stands for the function's own code, see `work.code_version`."""
        from jobkit.tasks.work import code_version

        return code_version(self.function)

    def definition(self) -> dict[str, Any]:
        """`info()` as JSON, for the store."""
        return self.info().to_json()

    # -- how it travels and shows itself ---------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        ref = self.ref
        if ref and isinstance(found := _lookup(ref), TaskDef) and found.name == self.name:
            return load_ref, (ref,)
        # An empty one first, so that a function that names itself finds the same object on the other side.
        state = {"function": self.function, "name": self.name, "options_set": self.options_set}
        return _empty, (type(self),), state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._dress()

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """As a function does: `@task` inside a class gives a method that can be called."""
        return self if instance is None else functools.partial(self.function, instance)  # type: ignore[arg-type]  # the descriptor protocol tells nothing of P

    def __repr__(self) -> str:
        return f"<task {self.name}({', '.join(spec.name for spec in self.signature.params)})>"

    def _ipython_display_(self) -> None:
        """In a notebook, its form."""
        if binding.show is None or not binding.show(self):
            raise NotImplementedError  # IPython goes on to the next way

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle = binding.display(self) if binding.display is not None else None
        return bundle or {"text/plain": repr(self)}


class BoundTask(Generic[P, R]):
    """A task with options for its next submissions; see `TaskDef.options`."""

    def __init__(self, task: TaskDef[P, R], options: Mapping[str, Any]) -> None:
        self.task = task
        self.given = dict(options)
        self.parsed = check_submit_options(options)
        task.effective(self.parsed)

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Submit the task with these options; see `TaskDef.submit`."""
        return binding.kit().options(**self.given).submit(self.task, *args, **kwargs)

    def map(self, items: Iterable[Any], *, stop_when: Any = None) -> Any:
        """Submit the task once for each mapping of arguments; returns a `Batch`."""
        return binding.kit().options(**self.given).map(self.task, items, stop_when=stop_when)

    def sweep(self, **axes: Any) -> Any:
        """Submit the task once for each combination; returns a `Batch`."""
        return binding.kit().options(**self.given).sweep(self.task, **axes)

    def options(self, **options: Any) -> BoundTask[P, R]:
        """These options with others in their place."""
        return BoundTask(self.task, {**self.given, **options})

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here; options do not matter to that."""
        return self.task(*args, **kwargs)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.given.items())
        return f"{self.task!r}.options({given})"


def name_of(function: Callable[..., Any]) -> str:
    """The name of any callable: a lambda is "lambda", an instance goes by its class."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, TaskDef):
        return function.name
    name = getattr(function, "__name__", None) or type(function).__name__
    return "lambda" if name == "<lambda>" else str(name)


def checked_task_name(name: object) -> str:
    """`name` if it may name a task.

    Raises:
        InvalidParams: not 1 to 200 letters, digits or `_ . : -`.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidParams(f"a task's name must be 1 to 200 letters, digits or _ . : -, not {name!r}", "name")
    return name


def new_task(function: Callable[P, R], *, name: str = "", **options: Any) -> TaskDef[P, R]:
    """A `TaskDef` with checked options, not yet registered."""
    if not callable(function):
        raise InvalidParams(f"a task is made from a function or a Task class, not from {function!r}", "function")
    return TaskDef(function, name=name, options=check_options(options))


# -- references ----------------------------------------------------------------------------------------------------


def reference(function: Any) -> str:
    """`"module:qualname"` where another process can import exactly this function, else ""."""
    if isinstance(function, TaskDef):
        function = function.function
    module, qualname = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if not module or not qualname or "<" in qualname or module in ("__main__", "__mp_main__"):
        return ""
    loaded = sys.modules.get(module)
    if loaded is None or getattr(loaded, "__spec__", None) is None or "ipykernel" in getattr(loaded, "__file__", ""):
        return ""
    ref = f"{module}:{qualname}"
    found = _lookup(ref)
    # After a reload the module holds a new function of the same name: that is what the other process will run as well.
    inner = found.function if isinstance(found, TaskDef) else found
    is_same = inner is function or (
        isinstance(found, TaskDef)
        and getattr(inner, "__qualname__", "") == qualname
        and getattr(inner, "__module__", "") == module
    )
    return ref if is_same else ""


def load_ref(ref: str) -> Any:
    """The object that a reference names: a `TaskDef`, a `Task` class or a plain function. Imports its module.

    Raises:
        UnknownTask: the module has no such name. What importing raises comes through.
    """
    module, _, qualname = ref.partition(":")
    importlib.import_module(module)
    found = _lookup(ref)
    if found is None:
        raise UnknownTask(f"module {module!r} has no {qualname!r}; is the code here another version?")
    return found


def target_of(found: Any) -> Callable[..., Any]:
    """What runs for a `TaskDef` (checks and coerces its arguments first), a `Task` class (makes an instance, calls its
    `run`) or any other callable (itself).

    The check is needed where the task was submitted by name: a form or command line sends dates, paths and enum members
    as text. For arguments that were checked at submit it changes nothing.
    """
    if isinstance(found, BoundTask):
        found = found.task
    if isinstance(found, TaskDef):
        return found.run_checked
    return functools.partial(run_class, found) if is_task_class(found) else found


@functools.cache
def source_dir(module: str) -> str:
    """Directory from which a loaded module can be imported; "" for installed modules and Python's own."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if not file:
        return ""
    path = Path(file).absolute()
    if any(path.is_relative_to(directory) for directory in _installed()):
        return ""
    depth = module.count(".") + (path.stem == "__init__")
    return str(path.parents[depth])


def own_paths() -> list[str]:
    """Directories of `sys.path` that are the user's own: where modules beside a notebook or script are found."""
    try:
        cwd = os.getcwd()
    except OSError:  # it was removed under us
        cwd = ""
    return list(_own_paths(tuple(sys.path), cwd))


@functools.lru_cache(maxsize=4)
def _own_paths(entries: tuple[str, ...], cwd: str) -> tuple[str, ...]:
    found = dict.fromkeys(os.path.join(cwd, entry) if entry else cwd for entry in entries)
    return tuple(
        path
        for path in found
        if os.path.isdir(path) and not any(Path(path).is_relative_to(directory) for directory in _installed())
    )[:_MOST_PATHS]


@functools.cache
def _installed() -> tuple[Path, ...]:
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")}
    return tuple(Path(path).absolute() for path in paths if path)


def _lookup(ref: str) -> Any:
    module, _, qualname = ref.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = inspect.getattr_static(found, part, None) if isinstance(found, type) else getattr(found, part, None)
        if isinstance(found, (staticmethod, classmethod)):
            found = found.__func__
    return found


def _empty(kind: type[TaskDef[..., Any]]) -> TaskDef[..., Any]:
    return kind.__new__(kind)
