"""`jobkit.progress`: a loop that shows how far it is.

In a job it costs a counter and the look at one flag per iteration; the clock and the pipe are the recorder's
(`Recorder.tick`). Outside a job it is a tqdm bar if a person watches, else just the loop.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Generic, TypeVar, overload

from jobkit.run.inside.context import active_recorder
from jobkit.run.inside.recorder import Bar, Recorder

T = TypeVar("T")

# -- jobkit.progress ---------------------------------------------------------------------------------------------------


@overload
def progress(iterable: Iterable[T], desc: str = "", total: float | None = None) -> Progress[T]: ...
@overload
def progress(iterable: AsyncIterable[T], desc: str = "", total: float | None = None) -> AsyncIterator[T]: ...
def progress(
    iterable: Iterable[T] | AsyncIterable[T], desc: str = "", total: float | None = None
) -> Progress[T] | AsyncIterator[T]:
    """Iterate and show how far it is.

    Args:
        iterable: what to loop over (or an asynchronous iterable, for `async for`).
        desc: a few words beside the bar.
        total: number of items, where `len(iterable)` does not know it.

    Returns:
        An iterator over the same items, with a length if that is known. It can be looped over as often as `iterable`.
        If bars are nested the outermost one is the job's progress, inner ones add to its message.

    Raises:
        TypeError: `iterable` cannot be looped over.

    Example:
        >>> def total(numbers):
        ...     return sum(jobkit.progress(numbers, desc="numbers"))
        >>> kit.submit(total, [1, 2, 3]).progress
        1.0
    """
    if isinstance(iterable, AsyncIterable):
        return AsyncProgress(iterable, desc, total)
    if not hasattr(iterable, "__iter__") and not hasattr(iterable, "__getitem__"):
        hint = f": write progress(range({iterable}))" if isinstance(iterable, int) else ""
        raise TypeError(f"progress() needs something to loop over, not {type(iterable).__name__}{hint}")
    return Progress(iterable, desc, total)


class Progress(Generic[T]):
    """Result of `progress`. `for` loops run over a plain generator, without a call in between."""

    def __init__(self, iterable: Iterable[T], desc: str = "", total: float | None = None) -> None:
        self._iterable, self._desc, self._total = iterable, desc, total
        self._started: Iterator[T] | None = None

    def __iter__(self) -> Iterator[T]:
        return self._start() if self._started is None else self._started

    def __next__(self) -> T:
        if self._started is None:
            self._started = self._start()
        return next(self._started)

    def __len__(self) -> int:
        return len(self._iterable)  # type: ignore[arg-type]  # raises TypeError where the iterable has no length

    def __length_hint__(self) -> int:
        return operator.length_hint(self._iterable)

    def _start(self) -> Iterator[T]:
        if (recorder := active_recorder()) is not None:
            total = (operator.length_hint(self._iterable, 0) or None) if self._total is None else self._total
            return _count(self._iterable, Bar(self._desc, total), recorder)
        if _is_watched():
            from tqdm.auto import tqdm  # type: ignore[import-untyped]  # it has no type hints

            return iter(tqdm(self._iterable, desc=self._desc or None, total=self._total))
        return iter(self._iterable)


class AsyncProgress(Generic[T]):
    """Result of `progress` for an asynchronous iterable."""

    def __init__(self, iterable: AsyncIterable[T], desc: str, total: float | None) -> None:
        self._iterable, self._desc, self._total = iterable, desc, total
        self._started: AsyncIterator[T] | None = None
        self._newest: AsyncIterator[T] | None = None

    def __aiter__(self) -> AsyncIterator[T]:
        self._newest = self._start() if self._started is None else self._started
        return self._newest

    async def __anext__(self) -> T:
        if self._started is None:
            self._started = self._newest = self._start()
        return await anext(self._started)

    async def aclose(self) -> None:
        """End the newest loop; called by `contextlib.aclosing`."""
        if isinstance(self._newest, AsyncGenerator):
            await self._newest.aclose()

    def _start(self) -> AsyncIterator[T]:
        recorder = active_recorder()
        if recorder is None:
            return aiter(self._iterable)
        return _count_async(self._iterable, Bar(self._desc, self._total), recorder)


def _count(iterable: Iterable[T], bar: Bar, recorder: Recorder) -> Iterator[T]:
    completed = 0
    recorder.open_bar(bar)
    try:
        for item in iterable:
            yield item
            bar.completed = completed = (
                completed + 1
            )  # each time: the next item may take an hour, and a tick shows this meanwhile
            if bar.due:
                bar.due = False
                recorder.moved()
    finally:
        recorder.close_bar(bar)


async def _count_async(iterable: AsyncIterable[T], bar: Bar, recorder: Recorder) -> AsyncIterator[T]:
    recorder.open_bar(bar)
    try:
        async for item in iterable:
            yield item
            bar.completed += 1
            if bar.due:
                bar.due = False
                recorder.moved()
    finally:
        recorder.close_bar(bar)


def _is_watched() -> bool:
    """True where a person would see a bar: a terminal, or a notebook."""
    shell = sys.modules.get("IPython")
    if shell is not None and "ipykernel" in sys.modules and shell.get_ipython() is not None:
        return True
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # no stderr, or a closed one
        return False
