"""Any progress bar of rich in a job reports as progress, with no code change.

Patched where a task is added and where its display stops; in between the recorder looks at the tasks now and then, so
that an `advance` costs what it costs anyway. What rich draws at the end stays a line of the log.
"""

from __future__ import annotations

import functools
from typing import Any

from jobkit.run.inside.context import active
from jobkit.run.inside.recorder import Bar, Recorder


def patch(module: Any) -> None:
    """See to the classes of `rich.progress`."""
    cls = module.Progress
    add_task, stop = cls.add_task, cls.stop

    @functools.wraps(add_task)
    def patched_add_task(self: Any, *args: Any, **kwargs: Any) -> Any:
        number = add_task(self, *args, **kwargs)
        context = active()
        recorder = None if context is None else context.recorder
        if recorder is not None and not self.disable:
            self.__dict__.setdefault("_jobkit", {})[number] = _Watched(self, number, recorder)
        return number

    @functools.wraps(stop)
    def patched_stop(self: Any) -> None:
        for watched in self.__dict__.pop("_jobkit", {}).values():
            watched.look()
            watched.close()
        stop(self)

    cls.add_task, cls.stop = patched_add_task, patched_stop


class _Watched:
    """One of rich's tasks, as a bar of the job."""

    def __init__(self, progress: Any, number: Any, recorder: Recorder) -> None:
        self._progress, self._number, self._recorder = progress, number, recorder
        self._bar = Bar(poke=self.look)
        self._seen: tuple[Any, ...] = ()
        self._read()
        recorder.open_bar(self._bar)

    def look(self) -> None:
        """Called on each tick, from whatever thread."""
        if not self._read():
            return
        self._recorder.moved()
        task = self._progress._tasks.get(self._number)
        if task is None or task.finished:  # the next one is the job's progress from now on
            self.close()

    def close(self) -> None:
        self._recorder.close_bar(self._bar)

    def _read(self) -> bool:
        """Return whether there are new numbers."""
        task = self._progress._tasks.get(self._number)
        if task is None:
            self.close()
            return False
        now = task.completed, task.total, task.description
        if now == self._seen:
            return False
        self._seen = now
        self._bar.done, self._bar.total, self._bar.message = task.completed, task.total, _plain(task.description)
        return True


def _plain(markup: str) -> str:
    from rich.text import Text

    try:
        return Text.from_markup(markup).plain
    except Exception:  # not markup, but text with brackets
        return markup
