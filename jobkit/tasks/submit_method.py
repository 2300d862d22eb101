"""`submit` of a task as a method that shows the task's own parameters and docstring, to help and completion."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import MethodType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class SubmitMethod:
    # A bound method; its docstring is that of the task, if it has one.

    __slots__ = ("__func__", "__self__")
    __name__ = "submit"

    def __init__(self, function: Callable[..., Any], task: Any) -> None:
        self.__func__, self.__self__ = function, task

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__func__(self.__self__, *args, **kwargs)

    __call__.__signature__ = ()  # type: ignore[attr-defined]  # none: IPython would show it besides the other one

    @property
    def __doc__(self) -> str:  # type: ignore[override]  # read by help()
        return str(self.__self__.doc or self.__func__.__doc__)

    @property
    def __signature__(self) -> inspect.Signature:
        task, empty = self.__self__, inspect.Parameter.empty
        if not task.is_class:
            return inspect.signature(task.function).replace(return_annotation="Job")
        parameters = [
            inspect.Parameter(
                spec.name, inspect.Parameter.KEYWORD_ONLY, default=spec.default if spec.has_default else empty
            )
            for spec in task.params
        ]
        return inspect.Signature(parameters, return_annotation="Job")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SubmitMethod) and self.__self__ is other.__self__

    def __hash__(self) -> int:
        return hash((SubmitMethod, id(self.__self__)))

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.__self__, "submit")

    def __repr__(self) -> str:
        return f"{self.__self__!r}.submit"


class _SubmitMethod:
    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __get__(self, task: Any, owner: Any = None) -> Any:
        return self._function if task is None else SubmitMethod(self._function, task)


class submit_of_class(classmethod):  # type: ignore[type-arg]  # as `classmethod`
    """Decorate `submit` of a task class: it is that of its `TaskDef`, unless the class is a base class for tasks."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        task = vars(owner).get("__jobkit_task__")
        return MethodType(self.__func__, owner) if task is None else task.submit


def submit_method(function: F) -> F:
    """Decorate `submit` of a `TaskDef`."""
    return _SubmitMethod(function)  # type: ignore[return-value]  # for type checkers it stays the function
