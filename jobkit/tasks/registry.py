"""Tasks by name, one registry per process; `@task` makes a function a task."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import re
import reprlib
import sys
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any, Unpack

from jobkit.importable import module_of
from jobkit.model import InvalidParams, JobkitError
from jobkit.tasks.options import TaskOptions, check_options, takes
from jobkit.tasks.signature import close_names
from jobkit.tasks.task import TaskDef, name_of, reference, shape_of

#: Shapes of functions that are kept, see `shape_of`.
_PATTERNS_MOST = 500


class Registry:
    """The tasks of this process by name. Thread-safe."""

    def __init__(self) -> None:
        self._tasks: dict[str, TaskDef[..., Any]] = {}
        self._lock = Lock()
        self._plain: dict[Any, TaskDef[..., Any]] = {}
        self._patterns: dict[tuple[Any, ...], TaskDef[..., Any]] = {}

    def register(self, task: TaskDef[..., Any]) -> None:
        """Add a task under its name. Running a cell again or reloading a module replaces its own task.

        Raises:
            InvalidParams: another function has that name; the message has file and line of both.
        """
        with self._lock:
            other = self._tasks.get(task.name)
            if other is not None and not _is_same(other, task):
                raise InvalidParams(
                    f"two tasks are named {task.name!r}: {other.where} and {task.where}; give one of them another "
                    "name with @jobkit.task(name=...)",
                    "name",
                )
            self._tasks[task.name] = task
            task.is_registered = True

    def known(self, name: str) -> TaskDef[..., Any] | None:
        """Return the task with that name, or None."""
        return self._tasks.get(name)

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted(self._tasks)

    def all(self) -> list[TaskDef[..., Any]]:
        """Return all tasks, sorted by name."""
        return [self._tasks[name] for name in self.names()]

    def load(self, modules: Iterable[str]) -> list[TaskDef[..., Any]]:
        """Import modules for their tasks; the current directory is searched first.

        Returns:
            All known tasks after the import, sorted by name.

        Raises:
            JobkitError: a module cannot be imported; the message has its name and the error.
        """
        here = os.getcwd()
        if here not in sys.path and "" not in sys.path:
            sys.path.insert(0, here)
        for module in modules:
            if module.endswith(".py") or "/" in module or os.sep in module:
                wanted = module.removesuffix(".py").replace(os.sep, "/").strip("./").replace("/", ".")
                raise JobkitError(f"tasks are named by module, not by file: write {wanted!r} instead of {module!r}")
            try:
                importlib.invalidate_caches()
                importlib.import_module(module)
            except (Exception, SystemExit) as error:  # user code may raise anything
                text = str(error) or "no message"
                raise JobkitError(
                    f"module {module!r} could not be imported for its tasks: {type(error).__name__}: {text}"
                ) from error
        return self.all()

    def task_of(self, function: Callable[..., Any] | TaskDef[..., Any]) -> TaskDef[..., Any]:
        """Return the task of any callable: its registered one, or a new one for a plain function or the like.

        New ones are not registered, because no other process can look them up.

        Raises:
            InvalidParams: it is not callable.
        """
        if isinstance(function, TaskDef):
            return function
        if (own := getattr(function, "__dict__", {}).get("__jobkit_task__")) is not None:
            return own  # type: ignore[no-any-return]  # a Task class keeps its TaskDef there
        if not callable(function):
            if inspect.iscoroutine(function):
                function.close()  # else Python warns that it was never awaited
            raise InvalidParams(
                f"only a task or another callable can be submitted, not {reprlib.repr(function)}: did you call it? "
                "Write submit(train, 3), not submit(train(3))",
                "task",
            )
        try:
            kept = self._plain.get(function)
        except Exception:  # it has no hash; user code may raise anything
            kept = None
        if kept is not None and kept.function is function:
            return kept
        shape = shape_of(function)
        if shape is not None and (pattern := self._patterns.get(shape)) is not None:
            return pattern.of(function, pattern)
        name = re.sub(r"[^\w.:-]", "_", name_of(function))[:200]
        task: TaskDef[..., Any] = TaskDef(function, name=name or "call")
        if shape is not None:
            return self._patterned(shape, task)
        if not isinstance(function, functools.partial) and reference(function):
            # Functions of modules are never freed; other callables (a closure over a large table) must not be kept.
            self._plain[function] = task
        return task

    def _patterned(self, shape: tuple[Any, ...], task: TaskDef[..., Any]) -> TaskDef[..., Any]:
        """Keep what is known of a task for other functions of its shape, without its function."""
        _ = task.signature, task.is_generator
        with self._lock:
            while len(self._patterns) >= _PATTERNS_MOST:
                del self._patterns[next(iter(self._patterns))]
            pattern = self._patterns[shape] = task.of(_no_function)
        return pattern.of(task.function, pattern)


def _no_function() -> None:
    """Placeholder for the function of a pattern."""


def unknown_task(name: str, known: Iterable[str]) -> str:
    """Return the error message for an unknown task."""
    known = sorted(known)
    listed = ", ".join(known[:20]) + (f", ... ({len(known)} in all)" if len(known) > 20 else "")
    end = f"; known tasks are: {listed}" if known else "; no tasks are known"
    close = close_names(name, known)
    cure = "" if close else ". Start a worker that has its module: `jobkit worker -t MODULE`, or set JOBKIT_TASKS"
    return f"there is no task {name!r}{close}{end}{cure}"


def _is_same(one: TaskDef[..., Any], other: TaskDef[..., Any]) -> bool:
    """Return True if both are the same function, defined again.

    That is: the same qualified name in the same module, or in the same file (a script that runs as `__main__` and is
    also imported under its own name).
    """
    a, b = one.function, other.function
    if a is b:
        return True
    if getattr(a, "__qualname__", a) != getattr(b, "__qualname__", b):
        return False
    if getattr(a, "__module__", a) == getattr(b, "__module__", b):
        return True
    first, second = map(_file_of, (a, b))
    return first == second != ""


def _file_of(function: Any) -> str:
    """Return the file of a function's module; of its code if the module is gone (that of an app's closed session)."""
    module = sys.modules.get(module_of(function))
    code = getattr(inspect.unwrap(function), "__code__", None)
    file = getattr(module, "__file__", None) or getattr(code, "co_filename", "")
    return os.path.realpath(file) if file and not file.startswith("<") else ""


#: The registry of this process.
registry = Registry()


@takes(TaskOptions)
def task(function: Callable[..., Any] | None = None, /, *, name: str = "", **options: Unpack[TaskOptions]) -> Any:
    """Make a function a task: `@jobkit.task` or `@jobkit.task(queue="gpu", timeout=3600)`.

    Args:
        function: a plain function or an `async def`.
        name: name of the task; default: the function's name.
        options: see `JobOptions`. Durations are seconds, `timedelta` or text like "12h"; `memory_limit` is bytes or
            "2GB".

    Returns:
        A `TaskDef`: calling it runs the function as if undecorated, `submit` runs it in the background.

    Raises:
        InvalidParams: an unknown option, an invalid value, or another function with this name.

    The docstring's first line is the title in the dashboard, and its "Args" are the help of the form's fields.

    Example:
        >>> @jobkit.task(retries=2, timeout="1h")
        ... def area(width: float, height: float = 1.0) -> float:
        ...     return width * height
        >>> area.submit(2, height=3).result()
        6.0
    """

    def decorate(wrapped: Callable[..., Any]) -> TaskDef[..., Any]:
        made = TaskDef(wrapped, name=name, options=check_options(options))
        registry.register(made)
        return made

    return decorate if function is None else decorate(function)
