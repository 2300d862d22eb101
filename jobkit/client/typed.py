"""`jobkit.task` and `jobkit.Task` for type checkers, with the types of their jobs, which `jobkit.tasks` cannot name.

At run time both are those of `jobkit.tasks`: see `jobkit/__init__.py`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Mapping
from typing import Any, NoReturn, ParamSpec, Protocol, TypeVar, Unpack, overload

from jobkit.client.batch import Batch
from jobkit.client.job import Job
from jobkit.tasks import registry, task_class
from jobkit.tasks.options import SubmitOptions, TaskOptions
from jobkit.tasks.task import TaskDef

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

#: The task of a generator function: a submit raises InvalidParams, because a call of it runs nothing.
GeneratorTask = TaskDef[P, R, NoReturn, NoReturn]

#: The task of a coroutine function. Without `Any`, which would make overloads ambiguous.
AsyncTask = TaskDef[P, Coroutine[None, None, R], Job[R], Batch[R]]


class Decorator(Protocol):
    """`@task(...)`."""

    @overload
    def __call__(
        self, function: Callable[P, Generator[Any, Any, R] | AsyncGenerator[R, Any]], /
    ) -> GeneratorTask[P, Any]: ...
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> TaskDef[P, R, Job[R], Batch[R]]: ...


@overload
def task(*, name: str = ..., **options: Unpack[TaskOptions]) -> Decorator: ...
@overload
def task(function: Callable[P, Generator[Any, Any, R] | AsyncGenerator[R, Any]], /) -> GeneratorTask[P, Any]: ...
@overload
def task(function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
@overload
def task(function: Callable[P, R], /) -> TaskDef[P, R, Job[R], Batch[R]]: ...
def task(function: Callable[..., Any] | None = None, /, *, name: str = "", **options: Unpack[TaskOptions]) -> Any:
    """Make a function a task: `@jobkit.task` or `@jobkit.task(queue="gpu", timeout=3600)`.

    Calling the task runs the function as if undecorated, `task.submit(...)` runs it in the background.
    """
    return registry.task(function, name=name, **options)


class _Runs(Protocol[R_co]):
    def run(self) -> R_co: ...


class _RunsAsync(Protocol[R_co]):
    async def run(self) -> R_co: ...


class TypedTask(task_class.Task):
    """A task as a class: its `param` parameters are the message, `run` is the handler.

    Options go beside the base class: `class Train(jobkit.Task, queue="gpu")`.
    """

    def __init__(self, **parameters: Any) -> None: ...

    @overload
    @classmethod
    def submit(cls: type[_RunsAsync[R]], **parameters: Any) -> Job[R]: ...
    @overload
    @classmethod
    def submit(cls: type[_Runs[R]], **parameters: Any) -> Job[R]: ...
    @classmethod
    def submit(cls, **parameters: Any) -> Any:
        """Submit the task with these parameters; returns a `Job` at once."""

    @overload
    @classmethod
    def options(cls: type[_RunsAsync[R]], **options: Unpack[SubmitOptions]) -> TaskDef[..., Any, Job[R], Batch[R]]: ...
    @overload
    @classmethod
    def options(cls: type[_Runs[R]], **options: Unpack[SubmitOptions]) -> TaskDef[..., Any, Job[R], Batch[R]]: ...
    @classmethod
    def options(cls, **options: Unpack[SubmitOptions]) -> Any:
        """Return the task with other options for its next submissions."""

    @overload
    @classmethod
    def map(cls: type[_RunsAsync[R]], items: Iterable[Mapping[str, Any]]) -> Batch[R]: ...
    @overload
    @classmethod
    def map(cls: type[_Runs[R]], items: Iterable[Mapping[str, Any]]) -> Batch[R]: ...
    @classmethod
    def map(cls, items: Iterable[Mapping[str, Any]]) -> Any:
        """Submit the task once for each mapping of parameters; returns a `Batch`."""

    @overload
    @classmethod
    def sweep(cls: type[_RunsAsync[R]], **axes: Any) -> Batch[R]: ...
    @overload
    @classmethod
    def sweep(cls: type[_Runs[R]], **axes: Any) -> Batch[R]: ...
    @classmethod
    def sweep(cls, **axes: Any) -> Any:
        """Submit the task once for each combination; returns a `Batch`."""
