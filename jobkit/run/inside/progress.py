"""`jobkit.progress`: a loop that is seen.

In a job the loop costs a counter and the look at one flag per iteration; the clock and the pipe are the recorder's
(`Recorder.tick`). Outside a job it is a tqdm bar where a person watches, and else just the loop.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Generic, TypeVar, overload

from jobkit.run.inside.context import active
from jobkit.run.inside.recorder import Bar, Recorder

T = TypeVar("T")


@overload
def progress(iterable: Iterable[T], desc: str = "", total: float | None = None) -> Progress[T]: ...
@overload
def progress(iterable: AsyncIterable[T], desc: str = "", total: float | None = None) -> AsyncProgress[T]: ...
def progress(
    iterable: Iterable[T] | AsyncIterable[T], desc: str = "", total: float | None = None
) -> Progress[T] | AsyncProgress[T]:
    """Iterate and show how far it is.

    Args:
        iterable: what to loop over (or an asynchronous iterable, for `async for`).
        desc: a few words beside the bar.
        total: number of items, where `len(iterable)` does not know it.

    Returns:
        An iterator over the same items, with a length if that is known. If bars are nested the outermost one is
        the job's progress, inner ones add to its message.

    Raises:
        TypeError: `iterable` cannot be looped over.
    """
    if isinstance(iterable, AsyncIterable):
        return AsyncProgress(iterable, desc, total)
    if not hasattr(iterable, "__iter__") and not hasattr(iterable, "__getitem__"):
        raise TypeError(f"progress() needs something to loop over, not {type(iterable).__name__}")
    return Progress(iterable, desc, total)


class Progress(Generic[T]):
    """Result of `progress`. `for` loops run over a plain generator, without a call in between."""

    def __init__(self, iterable: Iterable[T], desc: str = "", total: float | None = None) -> None:
        self._iterable = iterable
        self._desc = desc
        self._total = total
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
        context = active()
        if context is not None and context.recorder is not None:
            return _counted(self._iterable, Bar(self._desc, _size(self._iterable, self._total)), context.recorder)
        if _is_watched():
            from tqdm.auto import tqdm  # type: ignore[import-untyped]  # it has no type hints

            return iter(tqdm(self._iterable, desc=self._desc or None, total=self._total))
        return iter(self._iterable)


class AsyncProgress(Generic[T]):
    """Result of `progress` for an asynchronous iterable."""

    def __init__(self, iterable: AsyncIterable[T], desc: str = "", total: float | None = None) -> None:
        self._iterable = iterable
        self._desc = desc
        self._total = total

    async def __aiter__(self) -> AsyncIterator[T]:
        context = active()
        recorder = None if context is None else context.recorder
        if recorder is None:
            async for item in self._iterable:
                yield item
            return
        bar = Bar(self._desc, self._total)
        recorder.open_bar(bar)
        try:
            async for item in self._iterable:
                yield item
                bar.done += 1
                if bar.due:
                    bar.due = False
                    recorder.moved()
        finally:
            recorder.close_bar(bar)


def _counted(iterable: Iterable[T], bar: Bar, recorder: Recorder) -> Iterator[T]:
    done = 0
    recorder.open_bar(bar)
    try:
        for item in iterable:
            yield item
            bar.done = done = done + 1  # each time: the next item may take an hour, and a tick shows this meanwhile
            if bar.due:
                bar.due = False
                recorder.moved()
    finally:
        recorder.close_bar(bar)


def _size(iterable: object, total: float | None) -> float | None:
    """The number of items: as told, else its length, else what its iterator says of itself."""
    if total is not None:
        return total
    return operator.length_hint(iterable, 0) or None


def _is_watched() -> bool:
    """True where a person would see a bar: a terminal, or a notebook."""
    shell = sys.modules.get("IPython")
    if shell is not None and "ipykernel" in sys.modules and shell.get_ipython() is not None:
        return True
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # no stderr, or a closed one
        return False
