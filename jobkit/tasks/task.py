"""`TaskDef`: a function (or Parameterized class) with its options and definition.

Calling one calls the function as if undecorated. It is pickled by reference if other processes can import its module,
else by value; without registry and kit. Names are registered in `registry`.
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
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Unpack

from jobkit.above import public, ui
from jobkit.importable import is_importable, module_of
from jobkit.model import InvalidParams, UnknownTask
from jobkit.model.neighbours import TASK, HasNeighbours
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.options import (
    JobOptions,
    SubmitOptions,
    check_submit_options,
    effective_options,
    takes,
    without_alias,
)
from jobkit.tasks.shown import Shown
from jobkit.tasks.signature import Signature, called, is_task_class, run_class, signature_of
from jobkit.tasks.specs import ParamSpec as Spec
from jobkit.tasks.specs import documented
from jobkit.tasks.submit_method import submit_method
from jobkit.tasks.work import code_version

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    J = TypeVar("J", default=Any)
    B = TypeVar("B", default=Any)
else:
    from typing import TypeVar

    J, B = TypeVar("J"), TypeVar("B")

P = ParamSpec("P")
R = TypeVar("R")

#: Maximum number of the submitter's own directories in a payload.
_MOST_PATHS = 20

_NAME = re.compile(r"[\w.:-]{1,200}")


def _kit() -> Any:
    """Return the default kit."""
    return public("connect")()


class TaskDef(HasNeighbours, Shown, Generic[P, R, J, B]):
    """A task, made by `@jobkit.task`: call it to run it here, `submit` it to run it in the background.

    For type checkers it has parameters P, a call returns R, a submit J, a map or sweep B. Jobs and batches are above
    this room: `jobkit.client.typed` names their types.

    Attributes:
        name: unique within a process; workers look the task up by it.
        function: the undecorated function, or the `Task` class.
        options: see `JobOptions`; None values are decided at submit.
        given: options of its next submissions, from `options()`.
        is_registered: it is in this process's registry.
    """

    _OTHER_NAMES = TASK

    given: Mapping[str, Any] = MappingProxyType({})
    is_registered = False
    pattern: TaskDef[..., Any] | None = None
    """Kept by the registry for all functions of one definition; see `shape_of`."""
    _internal = frozenset(
        {
            "chosen", "code_version", "effective", "given", "info", "is_async", "is_class", "is_generator",
            "is_registered", "isolation", "options_set", "pattern", "ref", "run_checked", "signature", "source_dir",
            "where",
        }
    )  # fmt: skip

    def __init__(self, function: Callable[P, R], *, name: str = "", options: JobOptions | None = None) -> None:
        if not callable(function):
            raise InvalidParams(f"a task is made from a function or a Task class, not from {function!r}", "function")
        self.function = function
        self.name = checked_task_name(name or name_of(function))
        self.options_set = options or JobOptions()
        self._dress()
        self.effective()  # raises if the isolation is not possible

    def _dress(self) -> None:
        """Copy the function's name, docstring and signature like functools.wraps, without its `__dict__`."""
        functools.update_wrapper(self, self.function, updated=())
        self.__dict__.setdefault("__module__", getattr(type(self.function), "__module__", None))

    def of(self, function: Callable[P, R], pattern: TaskDef[..., Any] | None = None) -> TaskDef[P, R, J, B]:
        """Return the same task with another function of its shape, see `shape_of`."""
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__, function=function, __wrapped__=function, pattern=pattern)
        return made

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function in this process and return its result."""
        if self.is_class:
            return run_class(self.function, *args, **kwargs)  # type: ignore[arg-type,no-any-return]  # checked by is_class
        return self.function(*args, **kwargs)

    def run_checked(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function in this process, with arguments checked and converted as in a worker.

        Raises:
            InvalidParams: an argument is rejected. Exceptions of the function pass through.
        """
        args, kwargs = self.signature.call_args(self.signature.bind(args, kwargs))
        return self(*args, **kwargs)

    # -- submitting ------------------------------------------------------------------------------------------------

    @submit_method
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> J:
        """Submit the task with these arguments; returns a `Job` at once.

        Raises:
            InvalidParams: an argument is missing, unknown or not allowed; nothing was stored.
            StoreUnavailable: the store did not answer.
        """
        return _kit().submit(self, *args, **kwargs)  # type: ignore[no-any-return]  # `_kit` has no type here

    @takes(SubmitOptions)
    def options(self, **options: Unpack[SubmitOptions]) -> TaskDef[P, R, J, B]:
        """Return the task with other options for its next submissions: `simulate.options(queue="gpu").submit(10)`.

        Args:
            options: see `JobOptions`. Durations are seconds, `timedelta` or text like "12h".

        Raises:
            InvalidParams: an unknown option or an invalid value.
        """
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__, given={**self.given, **without_alias(options)}, pattern=None)
        made.__dict__["chosen"] = check_submit_options(made.given)
        self.effective(made.chosen)  # raises if they contradict the task's
        return made

    def map(self, items: Iterable[Any], *, stop_when: Any = None, name: str = "") -> B:
        """Submit the task once for each mapping of arguments; returns a `Batch`. See `Kit.map`."""
        return _kit().map(self, items, stop_when=stop_when, name=name)  # type: ignore[no-any-return]

    def sweep(self, **axes: Any) -> B:
        """Submit the task once for each combination of the values of `axes`; returns a `Batch`. See `Kit.sweep`."""
        return _kit().sweep(self, **axes)  # type: ignore[no-any-return]

    def form(self) -> Any:
        """Return a form with a field for each parameter and a submit button."""
        return ui().TaskForm(_kit(), names=[self.name])

    @functools.cached_property
    def chosen(self) -> JobOptions:
        """The validated options of its next submissions."""
        return check_submit_options(self.given)

    # -- its definition --------------------------------------------------------------------------------------------

    @functools.cached_property
    def signature(self) -> Signature:
        """Its parameters. Computed at first use, when the names in its hints are defined."""
        return signature_of(self.function)

    @functools.cached_property
    def params(self) -> tuple[Spec, ...]:
        """Its parameters with labels and the help from its docstring."""
        return documented(self.signature.params, self.doc)

    @functools.cached_property
    def doc(self) -> str:
        """Its docstring, dedented, or ""."""
        return inspect.cleandoc(getattr(self.function, "__doc__", None) or "")

    @property
    def title(self) -> str:
        """Display name: `title=`, else the docstring's first line without its full stop, else the name.

        The first line of a built-in function is no title: `sum` says more.
        """
        first = "" if inspect.isbuiltin(self.function) else self.doc.partition("\n")[0].strip()
        return self.options_set.title or first.removesuffix(".") or self.name

    @property
    def is_class(self) -> bool:
        """True if made from a `Task` class: running it creates an instance and calls its `run`."""
        return is_task_class(self.function)

    @functools.cached_property
    def is_async(self) -> bool:
        """True if calling it returns a coroutine."""
        return any(map(inspect.iscoroutinefunction, (self.function, called(self.function))))

    @property
    def is_anonymous(self) -> bool:
        """True if the name says nothing of the code: a lambda, or a cell of a notebook."""
        return self.name == "lambda" or getattr(type(self.function), "is_anonymous", False) is True

    @functools.cached_property
    def is_generator(self) -> bool:
        """True if calling it returns a generator, so that nothing of it runs."""
        function = called(self.function)
        return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)

    @property
    def isolation(self) -> str:
        """ "process", "thread" or "async": the option if set, else by the kind of the function."""
        return self.options_set.isolation or ("async" if self.is_async else "process")

    @property
    def ref(self) -> str:
        """Import reference "module:qualname" for other processes; "" if it must be sent by value."""
        found: str = self.__dict__.get("_ref", "")
        if not found and (found := reference(self.function)):  # not cached while its module is still being imported
            self.__dict__["_ref"] = found
        return found

    @property
    def source_dir(self) -> str:
        """Directory to import its module from; "" if it is installed or sent by value."""
        return source_dir(self.ref.partition(":")[0]) if self.ref else ""

    @property
    def where(self) -> str:
        """ "file.py:12" for messages; the module's name if there is no file."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        if code is not None:
            return f"{code.co_filename}:{code.co_firstlineno}"
        try:
            return f"{inspect.getsourcefile(self.function)}:{inspect.getsourcelines(self.function)[1]}"
        except (TypeError, OSError):
            return str(getattr(self.function, "__module__", "")) or "unknown place"

    def effective(self, over: JobOptions | None = None) -> JobOptions:
        """Return the options of a submission: this task's, overridden by `over`, with the isolation decided.

        Raises:
            InvalidParams: options that contradict each other.
        """
        own = self._effective  # cached, because each submit uses it
        if over is None or not over.given:
            return own
        return effective_options(self.name, own, over, self.isolation, is_async=self.is_async)

    @functools.cached_property
    def _effective(self) -> JobOptions:
        return effective_options(self.name, self.options_set, None, self.isolation, is_async=self.is_async)

    def info(self) -> TaskInfo:
        """Return the definition that other processes need to show a form and to submit it by name."""
        options = self.options_set
        if options.cache_s is not None and not options.version:
            options = replace(options, version=self.code_version, given=options.given | {"version"})
        return TaskInfo(
            name=self.name,
            title=self.title,
            doc=self.doc,
            params=self.params,
            takes_extra=bool(self.signature.var_keyword),
            isolation=self.isolation,
            options=options,
            ref=self.ref,
            source_dir=self.source_dir,
        )

    @functools.cached_property
    def code_version(self) -> str:
        """Version of the function's own code, see `work.code_version`."""
        return code_version(self.function)

    # -- how it travels and shows itself ---------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        ref = self.ref
        found = lookup(ref) if ref else None
        if isinstance(found, TaskDef) and found.name == self.name:
            return (load_ref, (ref,)) if found.given == self.given else (_with_options, (ref, dict(self.given)))
        # An empty one first, so that a function that refers to its own task gets the same object after unpickling.
        state = {
            "function": self.function,
            "name": self.name,
            "options_set": self.options_set,
            "given": dict(self.given),
        }
        return object.__new__, (type(self),), state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._dress()

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Bind like a function: `@task` inside a class gives a method that can be called."""
        return self if instance is None else functools.partial(self.function, instance)  # type: ignore[arg-type]  # the descriptor protocol tells nothing of P

    def __repr__(self) -> str:
        given = ", ".join(
            f"{name}={dict.fromkeys(value, '…') if name == 'env' else value!r}" for name, value in self.given.items()
        )
        shown = f"<task {self.name}({', '.join(spec.name for spec in self.signature.params)})>"
        return f"{shown}.options({given})" if given else shown

    def _cell(self) -> Any:
        """Return the display of its form."""
        return ui().FormDisplay(_kit, {self.name: self.info()} if self.is_registered else {}, repr(self))


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of any callable: "lambda" for a lambda, the class's name for an instance."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, TaskDef):
        return function.name
    name = getattr(function, "__name__", None) or type(function).__name__
    return "lambda" if name == "<lambda>" else str(name)


#: Attributes that decide the signature beside the code; `__annotate__` is of Python 3.14, which evaluates hints late.
_MORE = ("__defaults__", "__kwdefaults__", "__dict__", "__annotate__", "__annotations__")


def shape_of(function: Callable[..., Any]) -> tuple[Any, ...] | None:
    """Return all that a task reads of a function that is sent by value, except what it runs: its code and names.

    Functions of one shape (a lambda of a loop) differ in globals and closures, which only their pickles have. Returns
    None for functions with defaults, hints or attributes, for those of modules, and for other callables.
    """
    if type(function) is not FunctionType or any(getattr(function, name, None) for name in _MORE):
        return None
    if "<" not in function.__qualname__ and is_importable(module_of(function)):
        return None
    return function.__code__, function.__name__, function.__qualname__, function.__module__, function.__doc__


def checked_task_name(name: object) -> str:
    """Return `name` if it is a valid task name.

    Raises:
        InvalidParams: not 1 to 200 letters, digits or `_ . : -`.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidParams(f"a task's name must be 1 to 200 letters, digits or _ . : -, not {name!r}", "name")
    return name


# -- references ----------------------------------------------------------------------------------------------------


def reference(function: Any) -> str:
    """Return `"module:qualname"` if another process can import exactly this function, else ""."""
    if isinstance(function, TaskDef):
        function = function.function
    module, qualname = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if not module or not qualname or "<" in qualname or not is_importable(module):
        return ""
    loaded = sys.modules.get(module)
    if loaded is None or "ipykernel" in getattr(loaded, "__file__", ""):
        return ""
    ref = f"{module}:{qualname}"
    found = lookup(ref)
    # After a reload the module has a new function with the same name, which the other process will run, too.
    inner = found.function if isinstance(found, TaskDef) else found
    is_same = inner is function or (
        isinstance(found, TaskDef)
        and getattr(inner, "__qualname__", "") == qualname
        and getattr(inner, "__module__", "") == module
    )
    return ref if is_same else ""


def load_ref(ref: str) -> Any:
    """Import a reference: returns a `TaskDef`, a `Task` class or a plain function.

    Raises:
        UnknownTask: the module has no such name. Exceptions of the import pass through.
    """
    module, _, qualname = ref.partition(":")
    importlib.import_module(module)
    found = lookup(ref)
    if found is None:
        raise UnknownTask(f"module {module!r} has no {qualname!r}; is the code here another version?")
    return found


def target_of(found: Any) -> Callable[..., Any]:
    """Return the callable that runs a task.

    For a `TaskDef` it checks and converts the arguments first; for a `Task` class it creates an instance and calls its
    `run`; any other callable is returned unchanged. The check is needed for submits by name: forms and the command line
    send dates, paths and enum members as text. Arguments that were checked at submit do not change.
    """
    if isinstance(found, TaskDef):
        return found.run_checked
    return functools.partial(run_class, found) if is_task_class(found) else found


@functools.cache
def source_dir(module: str) -> str:
    """Return the directory from which a loaded module can be imported; "" for installed modules and the stdlib."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if not file:
        return ""
    path = Path(file).absolute()
    if any(path.is_relative_to(directory) for directory in _installed()):
        return ""
    depth = module.count(".") + (path.stem == "__init__")
    return str(path.parents[depth])


def own_paths() -> list[str]:
    """Return the user's own directories in `sys.path`, such as that of the notebook or script."""
    return list(_own_paths(tuple(sys.path), working_directory()))


def working_directory() -> str:
    """Return the working directory; "" if it has been deleted."""
    try:
        return os.getcwd()
    except OSError:
        return ""


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


def lookup(ref: str) -> Any:
    """Return what a reference names in a module that is loaded, or None."""
    module, _, qualname = ref.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = inspect.getattr_static(found, part, None) if isinstance(found, type) else getattr(found, part, None)
        if isinstance(found, (staticmethod, classmethod)):
            found = found.__func__
    return found


def _with_options(ref: str, options: Mapping[str, Any]) -> TaskDef[..., Any]:
    return load_ref(ref).options(**options)  # type: ignore[no-any-return]  # a TaskDef when it was pickled
