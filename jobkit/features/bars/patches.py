"""Bars of tqdm and rich: in a job they are its progress, with no change of the user's code.

Outside a job they stay exactly what they were. Nothing is imported for this: an import hook waits for their modules.
"""

from __future__ import annotations

import functools
import io
import sys
import threading
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

from jobkit.run.inside import patches
from jobkit.run.inside.context import Context, active, active_recorder
from jobkit.run.inside.recorder import PROGRESS_INTERVAL_S, Bar, Recorder


def own() -> None:
    """Let tqdm have no thread that draws bars which seem to be stuck: without it the process can run another job."""
    if "tqdm.std" in sys.modules:
        sys.modules["tqdm.std"].tqdm.monitor_interval = 0


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
    if patches.owns_process:
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


DISPLAYS = False  #: See `jobkit/feature.py`.

PATCHES: dict[str, Callable[[Any], None]] = {
    "tqdm.std": _patch_std,
    "tqdm.notebook": _patch_notebook,
    "rich.progress": _patch_rich,
}
