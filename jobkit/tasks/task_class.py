"""`class Task`: a task as a class. It needs param, which `@task` does not, so it is loaded at its first use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Unpack

import param
from param.parameterized import ParameterizedMetaclass

from jobkit.model import InvalidParams
from jobkit.tasks.options import SubmitOptions, TaskOptions, check_options, takes
from jobkit.tasks.registry import registry
from jobkit.tasks.submit_method import submit_of_class
from jobkit.tasks.task import TaskDef

#: Methods of a task class that a parameter must not override.
_RESERVED = ("submit", "options", "map", "sweep", "form", "run", "task_def")


class ClassOptions(TaskOptions, total=False):
    """The keywords of a task class."""

    name: str


class _TaskMeta(ParameterizedMetaclass):
    """Accepts a task's options as class keywords: `class Train(jobkit.Task, queue="gpu")`."""

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], /, **options: Unpack[ClassOptions]
    ) -> Any:
        return super().__new__(mcs, name, bases, namespace)

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], /, **options: Any) -> None:
        super().__init__(name, bases, namespace)
        if not bases or not any(isinstance(base, _TaskMeta) for base in bases):
            return  # Task itself
        if taken := [each for each in _RESERVED if isinstance(namespace.get(each), param.Parameter)]:
            raise InvalidParams(f"{name}.{taken[0]} cannot be a parameter: a task has a method of that name", taken[0])
        # A class without `run`, also in its bases, is a base class for tasks, not a task.
        if getattr(cls, "run", None) is Task.run:
            if options:
                raise InvalidParams(f"{name} has options of a task but no run(self)", next(iter(options)))
            return
        inherited: dict[str, Any] = next(
            (vars(base)["__jobkit_options__"] for base in cls.__mro__[1:] if "__jobkit_options__" in vars(base)), {}
        )
        type.__setattr__(cls, "__jobkit_state__", _declared_state(cls))
        task_name = options.pop("name", "")  # never inherited
        options = {**inherited, **options}
        type.__setattr__(cls, "__jobkit_options__", options)
        made: TaskDef[..., Any] = TaskDef(cls, name=task_name, options=check_options(options))
        type.__setattr__(cls, "__jobkit_task__", made)
        if "__qualname__" in namespace:  # a class statement; cloudpickle builds classes without one
            registry.register(made)


def _declared_state(cls: Any) -> tuple[str, ...]:
    """Return the names in the attribute `state` of a task class, which is a list or tuple of its parameters' names."""
    declared = getattr(cls, "state", None)
    if "state" in cls.param or not isinstance(declared, (list, tuple)) or not all(isinstance(n, str) for n in declared):
        return ()
    if unknown := [name for name in declared if name not in cls.param or name == "name"]:
        known = ", ".join(name for name in cls.param if name != "name") or "none"
        raise InvalidParams(f"state of {cls.__name__} names {unknown[0]!r}; its parameters are: {known}", "state")
    return tuple(declared)


class Task(param.Parameterized, metaclass=_TaskMeta):
    """A task as a class: its `param` parameters are the message, `run` is the handler.

    ```python
    class Simulate(jobkit.Task, queue="gpu"):
        \"\"\"First line is the title in the dashboard.\"\"\"

        n = param.Integer(10, bounds=(1, 100), doc="Number of steps.")

        def run(self):
            return sum(jobkit.progress(range(self.n)))

    job = Simulate.submit(n=5)
    ```

    Subclassing makes the task; its name is the class's name. Options go beside the base class, as keywords.

    A class attribute `state = ("epoch", "loss")` names the parameters that a checkpoint keeps:
    `jobkit.checkpoint(self)` writes them, and an attempt that goes on from one has them before `run` begins.
    """

    __jobkit_task_class__: ClassVar[bool] = True
    __jobkit_state__: ClassVar[tuple[str, ...]] = ()

    def run(self) -> Any:
        """Run the task; may be `async def`. The return value is the job's result."""
        raise NotImplementedError(f"{type(self).__name__} has no run(self)")

    @classmethod
    def task_def(cls) -> TaskDef[..., Any]:
        """Return the `TaskDef` of this class.

        Raises:
            InvalidParams: the class has no `run`, so it is only a base class for tasks.
        """
        found = vars(cls).get("__jobkit_task__")
        if found is None:
            raise InvalidParams(f"{cls.__name__} has no run(self), so it cannot be submitted", "task")
        return found  # type: ignore[no-any-return]  # set by the metaclass

    @submit_of_class  # type: ignore[arg-type]  # mypy knows only `classmethod` itself
    def submit(cls, **parameters: Any) -> Any:
        """Submit the task with these parameters; returns a `Job` at once. See `TaskDef.submit`."""
        return cls.task_def().submit(**parameters)

    @classmethod
    @takes(SubmitOptions)
    def options(cls, **options: Unpack[SubmitOptions]) -> TaskDef[..., Any]:
        """Return the task with other options for its next submissions; see `TaskDef.options`."""
        return cls.task_def().options(**options)

    @classmethod
    def map(cls, items: Iterable[Mapping[str, Any]]) -> Any:
        """Submit the task once for each mapping of parameters; returns a `Batch`."""
        return cls.task_def().map(items)

    @classmethod
    def sweep(cls, **axes: Iterable[Any]) -> Any:
        """Submit the task once for each combination; returns a `Batch`."""
        return cls.task_def().sweep(**axes)

    @classmethod
    def form(cls) -> Any:
        """Return a form with a field for each parameter and a submit button."""
        return cls.task_def().form()
