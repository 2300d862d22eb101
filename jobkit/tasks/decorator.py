"""`@task`: makes a function a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, overload

from jobkit.tasks.registry import registry
from jobkit.tasks.task import TaskDef, new_task

P = ParamSpec("P")
R = TypeVar("R")


@overload
def task(function: Callable[P, R], /) -> TaskDef[P, R]: ...


@overload
def task(*, name: str = ..., **options: Any) -> Callable[[Callable[P, R]], TaskDef[P, R]]: ...


def task(function: Callable[..., Any] | None = None, /, *, name: str = "", **options: Any) -> Any:
    """Make a function a task: `@jobkit.task` or `@jobkit.task(queue="gpu", timeout=3600)`.

    Args:
        function: a plain function or an `async def`.
        name: name of the task; default: the function's name.
        options: queue, timeout, retries, backoff, retry_on, isolation, reuse, memory_limit, result_ttl, priority,
            schedule, cancel_grace, on_lost, tags, title; concurrency, rate, limit_key, resources; unique, unique_key,
            debounce, cache, cache_ignore, version. Durations are seconds, `timedelta` or text like
            "12h"; `memory_limit` is bytes or "2GB".

    Returns:
        A `TaskDef`: calling it runs the function as if undecorated, `submit` runs it in the background.

    Raises:
        InvalidParams: an unknown option, an invalid value, or another function with this name.

    The docstring's first line is the title in the dashboard, and its "Args" are the help of the form's fields.
    """

    def decorate(wrapped: Callable[..., Any]) -> TaskDef[..., Any]:
        made = new_task(wrapped, name=name, **options)
        registry.register(made)
        return made

    return decorate if function is None else decorate(function)
