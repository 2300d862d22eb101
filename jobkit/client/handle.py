"""Common parts of the live handles: parameters for `param`, waiting in slices, views for notebooks and pages."""

from __future__ import annotations

import importlib
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import param
from param.parameterized import Parameterized, Parameters

from jobkit.run.inside import context

H = TypeVar("H", bound=Parameterized)

logger = logging.getLogger("jobkit.client")

#: A wait in a job's thread notices a request to stop within so many seconds.
_SLICE_S = 0.25

#: Seconds that a wait gives a card for its last form.
_CARD_WAIT_S = 10.0

_making = threading.RLock()


class GuardedParameters(Parameters):
    """The type of `job.param`: param's own namespace, in which a watcher that raises does not stop the others.

    param calls watchers one after the other and stops at the first that raises; those behind it would miss an end of
    a job, which comes once.
    """

    def _execute_watcher(self, watcher: Any, events: Iterable[Any]) -> None:
        try:
            super()._execute_watcher(watcher, events)  # type: ignore[no-untyped-call,unused-ignore]  # param's
        except Exception:
            owner: Any = self.self_or_cls
            reported: set[int] = owner.__dict__.setdefault("_reported_watchers", set())
            if id(watcher.fn) not in reported:
                reported.add(id(watcher.fn))
                whose = f"job {owner.id}" if hasattr(owner, "id") else repr(owner)
                logger.exception("a watcher of %s raised; this is not reported again, and harms nothing else", whose)


class Guarded:
    """The `param` attribute of a class with guarded watchers: `param = Guarded()`.

    A class may leave out `super().__init__()`: param's part of an object, which costs more than the rest of a submit,
    is then made by the first use of `.param`.
    """

    def __get__(self, obj: Any, objtype: Any) -> Any:
        if obj is None:
            return objtype._param__parameters
        if not obj._param__private.initialized:
            with _making:
                if "_param__private" not in obj.__dict__:  # else this thread is making it
                    Parameterized.__init__(obj)  # type: ignore[no-untyped-call]  # param has no types here
        return GuardedParameters(objtype, self=obj)


class FromSnapshot(param.Parameter):  # type: ignore[type-arg]  # generic for type checkers only
    """A parameter whose value a handle reads from its snapshot, by `_parameter(name)`.

    So an event of a handle without watchers sets no parameters. If there are some, the handle sets what has changed in
    param's own books, which calls them.
    """

    def __get__(self, obj: Any, objtype: Any = None) -> Any:
        return super().__get__(obj, objtype) if obj is None else obj._parameter(str(self.name))


class _Name(param.String):  # type: ignore[type-arg]  # generic for type checkers only
    """The parameter `name` of a handle: its id."""

    def __get__(self, obj: Any, objtype: Any = None) -> Any:
        return super().__get__(obj, objtype) if obj is None else obj.id


def named_by_id(kind: type[H]) -> type[H]:
    """Give the handles of a class their id as `name`. param takes no subclass of String for it in a class's body."""
    kind.param.add_parameter("name", _Name(None, constant=True, doc="The same as its id."))
    return kind


def has_watchers(obj: Any) -> bool:
    """Return True if anything watches a parameter of an object with `Guarded` parameters."""
    private = obj.__dict__.get("_param__private")
    return private is not None and bool(private.watchers)


def ui() -> Any:
    """Return `jobkit.ui`, loaded at its first use. It imports this room, so this room knows it by name only."""
    return importlib.import_module("jobkit.ui")


def slices(seconds: float | None) -> Iterator[float | None]:
    """Split a wait of so many seconds (None for ever) into the pieces that it is to be done in.

    A job in a thread is stopped by an exception, which Python raises between two waits only.
    """
    if context.active() is None or threading.current_thread() is threading.main_thread():
        yield seconds
        return
    deadline = None if seconds is None else time.monotonic() + seconds
    while deadline is None:
        yield _SLICE_S
    while (left := deadline - time.monotonic()) > 0:
        yield min(left, _SLICE_S)


def settle(cards: Iterable[threading.Event]) -> None:
    """Let the cards that a notebook shows take their last form while the cell that waits still runs: programs that run
    notebooks drop what arrives between two cells."""
    for card in cards:
        card.wait(_CARD_WAIT_S)
