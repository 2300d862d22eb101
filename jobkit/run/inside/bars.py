"""Progress bars of a job: `jobkit.progress`, and any bar of tqdm or rich, with no change of the user's code.

In a job a loop costs a counter and the look at one flag per iteration; the clock and the pipe are the recorder's
(`Recorder.tick`). Outside a job `jobkit.progress` is a tqdm bar if a person watches, else just the loop, and bars of
tqdm and rich stay exactly what they were. Nothing is imported for this: an import hook waits for their modules.
"""

from __future__ import annotations

import functools
import io
import operator
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, Generic, TypeVar, overload

from jobkit.run.inside import by_value, displays
from jobkit.run.inside.context import Context, active, active_recorder
from jobkit.run.inside.import_hook import ImportHook
from jobkit.run.inside.recorder import PROGRESS_INTERVAL_S, Bar, Recorder

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


# -- the import hook ---------------------------------------------------------------------------------------------------

#: Whether tqdm may start its thread that draws bars which seem to be stuck.
_has_monitor = True


def install(*, has_monitor: bool = True, is_shown: bool = False) -> None:
    """See to it that tqdm, rich, IPython and pyplot, loaded or yet to be, report to the job they run in, and that
    `multiprocessing` takes its functions.

    Args:
        has_monitor: a process that runs nothing but jobs needs no monitor of tqdm: without its thread it can be used
            for another job.
        is_shown: a notebook shows what IPython and pyplot display.
    """
    global _has_monitor
    _has_monitor = has_monitor
    if not has_monitor:
        displays.name_builtin()
    if not has_monitor and "tqdm.std" in sys.modules:
        sys.modules["tqdm.std"].tqdm.monitor_interval = 0
    if _HOOK in sys.meta_path:
        return
    if is_shown:
        for name in displays.PATCHES:
            _PATCHES.pop(name, None)
    for name, patch in _PATCHES.items():
        if (module := sys.modules.get(name)) is not None:
            patch(module)
    sys.meta_path.insert(0, _HOOK)


# -- tqdm --------------------------------------------------------------------------------------------------------------


class _Nowhere(io.TextIOBase):
    """The file of a bar in a job: its text goes nowhere."""

    def write(self, text: str) -> int:
        return len(text)


def _watch(tqdm: Any, context: Context) -> None:
    """Give a new tqdm its bar in the job."""
    recorder = context.recorder
    if recorder is None or tqdm.disable:
        return
    known = weakref.ref(tqdm)

    def poke() -> None:
        # tqdm learns how many iterations it may skip before it looks at the clock. After a fast stretch that can be
        # seconds of slow ones, so let it look now.
        # A bar that other threads update (`thread_map`) may stand still after some steps at once: show them, too.
        if (known_bar := known()) is not None:
            _read(known_bar, bar)
            if known_bar._time() - known_bar.last_print_t > known_bar.mininterval:
                known_bar.miniters = 0

    bar = Bar("", tqdm.total, poke)
    tqdm.__dict__["_jobkit"] = bar, recorder
    tqdm.mininterval = min(tqdm.mininterval, PROGRESS_INTERVAL_S)
    _read(tqdm, bar)
    recorder.open_bar(bar)


def _read(tqdm: Any, bar: Bar) -> None:
    bar.completed, bar.total = tqdm.n, tqdm.total
    desc = (tqdm.desc or "").removesuffix(": ")
    bar.message = f"{desc} {tqdm.postfix}".strip() if tqdm.postfix else desc


def _quiet(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a bar that shall draw nothing on standard output or error, and be on unless switched off."""
    if len(args) < 5 and kwargs.get("file") in (None, sys.stdout, sys.stderr):
        kwargs["file"] = _Nowhere()
    if kwargs.get("disable", False) is None:  # "off unless on a terminal"
        kwargs["disable"] = False
    return kwargs


def _patch_std(module: ModuleType) -> None:
    cls: Any = module.tqdm
    if not _has_monitor:
        cls.monitor_interval = 0
    init, refresh, display, close = cls.__init__, cls.refresh, cls.display, cls.close

    @functools.wraps(init)
    def patched_init(self: Any, *args: Any, **kwargs: Any) -> None:
        context = active()
        if context is None:
            init(self, *args, **kwargs)
            return
        self.__dict__["_jobkit"] = None  # from now on nothing draws
        init(self, *args, **_quiet(args, kwargs))
        _watch(self, context)

    @functools.wraps(refresh)
    def patched_refresh(self: Any, nolock: bool = False, lock_args: Any = None) -> Any:
        if "_jobkit" not in self.__dict__:
            return refresh(self, nolock=nolock, lock_args=lock_args)
        if (watched := self.__dict__["_jobkit"]) is not None:  # None: still in its constructor, or switched off
            bar, recorder = watched
            _read(self, bar)
            recorder.moved()
        return True

    @functools.wraps(display)
    def patched_display(self: Any, *args: Any, **kwargs: Any) -> Any:
        return True if "_jobkit" in self.__dict__ else display(self, *args, **kwargs)

    @functools.wraps(close)
    def patched_close(self: Any) -> None:
        watched = None if getattr(self, "disable", True) else self.__dict__.get("_jobkit")
        close(self)
        if watched is not None:
            bar, recorder = watched
            _read(self, bar)
            recorder.close_bar(bar)

    cls.__init__, cls.refresh, cls.display, cls.close = patched_init, patched_refresh, patched_display, patched_close


def _patch_notebook(module: ModuleType) -> None:
    """A notebook bar in a job has no widget: it is a plain bar, of the next class in its order of resolution."""
    notebook: Any = module.tqdm_notebook
    new = notebook.__new__

    def patched_new(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if active() is None:
            return new(cls, *args, **kwargs)
        kwargs.pop("display", None)
        plain: Any = next(base for base in cls.__mro__ if not issubclass(base, notebook))
        return plain(*args, **kwargs)

    notebook.__new__ = staticmethod(patched_new)


# -- rich --------------------------------------------------------------------------------------------------------------


def _patch_rich(module: Any) -> None:
    """Follow tasks of `rich.progress` from when they are added until their display stops.

    In between the recorder looks at them now and then, so that an `advance` costs what it costs anyway. What rich draws
    at the end stays a line of the log.
    """
    cls = module.Progress
    add_task, stop = cls.add_task, cls.stop

    @functools.wraps(add_task)
    def patched_add_task(self: Any, *args: Any, **kwargs: Any) -> Any:
        number = add_task(self, *args, **kwargs)
        recorder = active_recorder()
        if recorder is not None and not self.disable:
            self.__dict__.setdefault("_jobkit", {})[number] = _RichTask(self, number, recorder)
        return number

    @functools.wraps(stop)
    def patched_stop(self: Any) -> None:
        for watched in self.__dict__.pop("_jobkit", {}).values():
            watched.look()
            watched.close()
        stop(self)

    cls.add_task, cls.stop = patched_add_task, patched_stop


class _RichTask:
    """One of rich's tasks, as a bar of the job."""

    def __init__(self, progress: Any, number: Any, recorder: Recorder) -> None:
        self._progress, self._number, self._recorder = progress, number, recorder
        self._bar = Bar(poke=self.look)
        self._seen: tuple[Any, ...] = ()
        self._lock = threading.Lock()
        self.look()
        recorder.open_bar(self._bar)

    def look(self) -> None:
        """Called on each tick, from whatever thread, while the task may move on in another one."""
        with self._lock:
            task = self._progress._tasks.get(self._number)
            is_over = task is None or task.finished  # first: the numbers below are the last ones then
            if task is not None:
                now = task.completed, task.total, task.description
                if now != self._seen:
                    self._seen = now
                    self._bar.completed, self._bar.total, self._bar.message = *now[:2], _plain(now[2])
                    self._recorder.moved()
            if is_over:  # the next one is the job's progress from now on
                self.close()

    def close(self) -> None:
        self._recorder.close_bar(self._bar)


def _plain(markup: str) -> str:
    from rich.text import Text

    try:
        return Text.from_markup(markup).plain
    except Exception:  # not markup, but text with brackets
        return markup


_PATCHES: dict[str, Callable[[Any], None]] = {
    "tqdm.std": _patch_std,
    "tqdm.notebook": _patch_notebook,
    "rich.progress": _patch_rich,
    **displays.PATCHES,
    **by_value.PATCHES,
}

_HOOK = ImportHook(_PATCHES)
