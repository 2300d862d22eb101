"""Parameters that are made when first used, and whose watchers cannot harm each other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import Any

from param.parameterized import Parameterized, Parameters

logger = logging.getLogger("jobkit.client")


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


_making = threading.RLock()


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


def has_watchers(obj: Any) -> bool:
    """Return True if anything watches a parameter of an object with `Guarded` parameters."""
    private = obj.__dict__.get("_param__private")
    return private is not None and bool(private.watchers)
