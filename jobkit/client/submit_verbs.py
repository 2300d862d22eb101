"""The verbs that submit any task, with the types of the results: blocking and as coroutines."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar, Unpack, overload

from jobkit.client.batch import Batch
from jobkit.client.job import Job
from jobkit.client.studies import Study, begin_study
from jobkit.client.sweep import MAX_LIMIT, Sweep, sweep_of
from jobkit.features.verbs import AioSubmits, Submits
from jobkit.model import InvalidParams
from jobkit.tasks.options import SubmitOptions, takes
from jobkit.tasks.shown import Listed
from jobkit.tasks.signature import close_names
from jobkit.tasks.task_class import Task

P = ParamSpec("P")
R = TypeVar("R")

#: A rule after which the rest of a batch is cancelled, see `Batch.stop_when`.
StopWhen = Callable[[Job[Any]], object] | str | None


def _names_options(verb: Callable[P, R]) -> Callable[P, R]:
    """Make a verb refuse an option that it does not have with InvalidParams instead of a TypeError."""
    known = [*inspect.signature(verb).parameters][1:]

    @wraps(verb)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name == "directions":
                raise InvalidParams("a study has one objective: give direction= and return one number", name)
            if name not in known:
                raise InvalidParams(f"unknown option {name!r}{close_names(name, known)}", name)
        return verb(*args, **kwargs)

    return checked


class SubmitVerbs(Submits, Listed):
    """The submitting verbs of a kit and of its `options(...)`. Every verb may raise `StoreUnavailable`."""

    _submitter: Any  # the `BoundKit` that does the work

    @takes(SubmitOptions)
    def options(self, /, **options: Unpack[SubmitOptions]) -> SubmitVerbs:
        """Return these verbs with options for their submissions: `kit.options(queue="gpu").submit(len, "abc")`.

        They replace those of the same name.
        """
        return self._submitter.with_options(options)

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
        return self._submitter.submit_one(task, args, kwargs)

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
        return self._submitter.submit_all(task, Sweep(items, stop_when=stop_when, name=name))

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
        return self._submitter.submit_all(task, sweep_of(axes), MAX_LIMIT)

    @_names_options
    def study(
        self,
        objective: Callable[..., Any] | str | None = None,
        *,
        trials: int = 200,
        parallel: int = 8,
        space: Mapping[str, Any] | Callable[..., Any] | None = None,
        pruner: Any = None,
        direction: str = "minimize",
        sampler: Any = None,
        metric: str | None = None,
        name: str = "",
        id: str | None = None,
    ) -> Study:
        """Search for the best arguments of an objective; returns a live `Study` at once. Needs Optuna.

        Args:
            objective: a task or another callable that returns a number. Each trial is a job with these options.
            trials: number of trials, from 1 to 100,000. parallel: of them at once, at most; to 1,000.
            space: where its arguments come from: for each name `(low, high)`, `(low, high, "log")`, a list to choose
                from or a distribution of Optuna; or a function of an Optuna trial that returns the arguments.
            pruner: stops trials early, by the metrics that they log: one of Optuna's, or None.
            direction: "minimize" or "maximize".
            sampler: proposes the arguments: one of Optuna's; None for TPE.
            metric: name of the metric that the pruner looks at; None for the only one that is logged.
            name: for people; names may repeat.
            id: of the study. If there is one of this id, it is returned: also without an objective, and then its first
                characters (at least 4) are enough.

        Raises:
            InvalidParams: an argument is refused; nothing was stored. JobNotFound: no study of this id.
            JobkitError: Optuna or a signing key is missing.
        """
        return begin_study(
            self._submitter, objective, trials=trials, parallel=parallel, space=space, pruner=pruner,
            direction=direction, sampler=sampler, metric=metric, name=name, id=id,
        )  # fmt: skip


class AioSubmitVerbs(AioSubmits, Listed):
    """The submitting verbs as coroutines, of `kit.aio` and of its `options(...)`; see `SubmitVerbs`."""

    def __init__(self, submitter: Any) -> None:
        self._submitter = submitter

    @takes(SubmitOptions)
    def options(self, /, **options: Unpack[SubmitOptions]) -> AioSubmitVerbs:
        """Return the submitting verbs with options: `await kit.aio.options(queue="gpu").submit(len, "abc")`."""
        return AioSubmitVerbs(self._submitter.with_options(options))

    def __repr__(self) -> str:
        return self._submitter.told(".aio")

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
        return await self._submitter.submit_async(task, args, kwargs)

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
        return await asyncio.to_thread(self._submitter.submit_all, task, Sweep(items, stop_when=stop_when, name=name))

    @overload
    async def sweep(self, task: type[Task] | str, /, **axes: Any) -> Batch[Any]: ...
    @overload
    async def sweep(self, task: Callable[..., Coroutine[Any, Any, R]], /, **axes: Any) -> Batch[R]: ...
    @overload
    async def sweep(self, task: Callable[..., R], /, **axes: Any) -> Batch[R]: ...
    async def sweep(self, task: Callable[..., Any] | str, /, **axes: Any) -> Batch[Any]:
        """Submit a task once for each combination of the axes' values; returns a live `Batch`. See `Kit.sweep`."""
        return await asyncio.to_thread(self._submitter.submit_all, task, sweep_of(axes), MAX_LIMIT)

    async def study(self, objective: Callable[..., Any] | str | None = None, **definition: Any) -> Study:
        """Search for the best arguments of an objective; returns a live `Study`. See `Kit.study`."""
        return await asyncio.to_thread(partial(SubmitVerbs.study, self, objective, **definition))  # type: ignore[arg-type]


#: Names of the submitting verbs of a kit, and of those of `kit.aio`.
SUBMIT_VERBS, AIO_SUBMIT_VERBS = (
    [name for name in dir(each) if name[0] != "_"] for each in (SubmitVerbs, AioSubmitVerbs)
)

for _name in SUBMIT_VERBS:
    inspect.unwrap(getattr(SubmitVerbs, _name)).__qualname__ = f"kit.{_name}"  # as Python's own errors name it
for _name in AIO_SUBMIT_VERBS:
    getattr(AioSubmitVerbs, _name).__qualname__ = f"kit.aio.{_name}"  # as Python's warning names it if never awaited
