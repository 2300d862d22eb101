"""The verbs that submit any task, with the types of the results: blocking and as coroutines."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ParamSpec, TypeVar, Unpack, overload

from jobkit.client.batch import Batch
from jobkit.client.job import Job
from jobkit.client.sweep import MAX_LIMIT, Sweep, sweep_of
from jobkit.features.verbs import AioSubmits, Submits
from jobkit.tasks.options import SubmitOptions, takes
from jobkit.tasks.shown import Listed
from jobkit.tasks.task_class import Task

P = ParamSpec("P")
R = TypeVar("R")

#: A rule after which the rest of a batch is cancelled, see `Batch.stop_when`.
StopWhen = Callable[[Job[Any]], object] | str | None


class SubmitVerbs(Submits, Listed):
    """The submitting verbs of a kit and of its `options(...)`. Every verb may raise `StoreUnavailable`."""

    submitter: Any  # the `BoundKit` that does the work

    @takes(SubmitOptions)
    def options(self, /, **options: Unpack[SubmitOptions]) -> SubmitVerbs:
        """Return these verbs with options for their submissions: `kit.options(queue="gpu").submit(len, "abc")`.

        They replace those of the same name.
        """
        return self.submitter.with_options(options)

    @overload
    def submit(self, task: type[Task] | str, /, *args: Any, **kwargs: Any) -> Job[Any]: ...
    @overload
    def submit(self, task: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...
    @overload
    def submit(self, task: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...
    def submit(self, task: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Job[Any]:
        """Submit a task, any other callable, or a task by name; returns a live `Job` at once.

        Raises:
            InvalidParams: an argument is refused; nothing was stored.
            UnknownTask: no task of that name.
            StoreUnavailable: the store did not answer, and nothing was stored.
            SubmitUnanswered: (a StoreUnavailable) the job may have been accepted; the message has its id.
        """
        return self.submitter.submit_one(task, args, kwargs)

    @overload
    def map(
        self, task: type[Task] | str, items: Iterable[Any], /, *, stop_when: StopWhen = None, name: str = ""
    ) -> Batch[Any]: ...
    @overload
    def map(
        self,
        task: Callable[..., Coroutine[Any, Any, R]],
        items: Iterable[Any],
        /,
        *,
        stop_when: StopWhen = None,
        name: str = "",
    ) -> Batch[R]: ...
    @overload
    def map(
        self, task: Callable[..., R], items: Iterable[Any], /, *, stop_when: StopWhen = None, name: str = ""
    ) -> Batch[R]: ...
    def map(
        self, task: Callable[..., Any] | str, items: Iterable[Any], /, *, stop_when: StopWhen = None, name: str = ""
    ) -> Batch[Any]:
        """Submit a task once for each item, in bulk; returns a live `Batch`.

        Args:
            items: mappings are arguments by name, tuples by position, anything else is the one argument.
            stop_when: a rule after which the rest is cancelled, see `Batch.stop_when`.
            name: of the batch, for people; names may repeat.

        Raises:
            InvalidParams: there are none or too many, or one is refused; nothing was stored then.
        """
        return self.submitter.submit_all(task, Sweep(items, stop_when=stop_when, name=name))

    @overload
    def sweep(self, task: type[Task] | str, /, **axes: Any) -> Batch[Any]: ...
    @overload
    def sweep(self, task: Callable[..., Coroutine[Any, Any, R]], /, **axes: Any) -> Batch[R]: ...
    @overload
    def sweep(self, task: Callable[..., R], /, **axes: Any) -> Batch[R]: ...
    def sweep(self, task: Callable[..., Any] | str, /, **axes: Any) -> Batch[Any]:
        """Submit a task once for each combination of the axes' values: `kit.sweep(f, n=[1, 2], method=["a", "b"])`.

        Args:
            axes: arguments of the task, each with a list of values; and, as single values, `how` ("grid", "zip" or
                "random"), `samples` and `seed` of a random sweep, `limit` (at most so many points), `stop_when`
                (see `Batch.stop_when`) and `name` (of the batch). A random sweep may also draw from
                `jobkit.Range(0.0, 1.0)`.

        Raises:
            InvalidParams: an axis is empty or unusable, or there are too many points; nothing was stored then.
        """
        return self.submitter.submit_all(task, sweep_of(axes), MAX_LIMIT)


class AioSubmitVerbs(AioSubmits, Listed):
    """The submitting verbs as coroutines, of `kit.aio` and of its `options(...)`; see `SubmitVerbs`."""

    def __init__(self, submitter: Any) -> None:
        self.submitter = submitter

    @takes(SubmitOptions)
    def options(self, /, **options: Unpack[SubmitOptions]) -> AioSubmitVerbs:
        """Return the submitting verbs with options: `await kit.aio.options(queue="gpu").submit(len, "abc")`."""
        return AioSubmitVerbs(self.submitter.with_options(options))

    def __repr__(self) -> str:
        return self.submitter.told(".aio")

    @overload
    async def submit(self, task: type[Task] | str, /, *args: Any, **kwargs: Any) -> Job[Any]: ...
    @overload
    async def submit(
        self, task: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[R]: ...
    @overload
    async def submit(self, task: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...
    async def submit(self, task: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Job[Any]:
        """Submit a task, any other callable, or a task by name; returns a live `Job`. See `Kit.submit`."""
        return await self.submitter.submit_async(task, args, kwargs)

    @overload
    async def map(
        self, task: type[Task] | str, items: Iterable[Any], /, *, stop_when: StopWhen = None, name: str = ""
    ) -> Batch[Any]: ...
    @overload
    async def map(
        self,
        task: Callable[..., Coroutine[Any, Any, R]],
        items: Iterable[Any],
        /,
        *,
        stop_when: StopWhen = None,
        name: str = "",
    ) -> Batch[R]: ...
    @overload
    async def map(
        self, task: Callable[..., R], items: Iterable[Any], /, *, stop_when: StopWhen = None, name: str = ""
    ) -> Batch[R]: ...
    async def map(
        self, task: Callable[..., Any] | str, items: Iterable[Any], /, *, stop_when: StopWhen = None, name: str = ""
    ) -> Batch[Any]:
        """Submit a task once for each item, in bulk; returns a live `Batch`. See `Kit.map`."""
        return await asyncio.to_thread(self.submitter.submit_all, task, Sweep(items, stop_when=stop_when, name=name))

    @overload
    async def sweep(self, task: type[Task] | str, /, **axes: Any) -> Batch[Any]: ...
    @overload
    async def sweep(self, task: Callable[..., Coroutine[Any, Any, R]], /, **axes: Any) -> Batch[R]: ...
    @overload
    async def sweep(self, task: Callable[..., R], /, **axes: Any) -> Batch[R]: ...
    async def sweep(self, task: Callable[..., Any] | str, /, **axes: Any) -> Batch[Any]:
        """Submit a task once for each combination of the axes' values; returns a live `Batch`. See `Kit.sweep`."""
        return await asyncio.to_thread(self.submitter.submit_all, task, sweep_of(axes), MAX_LIMIT)


#: Names of the submitting verbs of a kit, and of those of `kit.aio`.
SUBMIT_VERBS, AIO_SUBMIT_VERBS = (
    [name for name in dir(each) if name[0] != "_"] for each in (SubmitVerbs, AioSubmitVerbs)
)

for _owner, _shown in ((SubmitVerbs, "kit"), (AioSubmitVerbs, "kit.aio")):
    for _name, _verb in vars(_owner).items():
        if _name[0] != "_" and callable(_verb):  # as Python's own errors and warnings name it
            inspect.unwrap(_verb).__qualname__ = f"{_shown}.{_name}"
