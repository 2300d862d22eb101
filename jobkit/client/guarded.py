"""Parameters whose watchers cannot harm each other: one that raises is reported once, and the others are called."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from param.parameterized import Parameters

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


class Guarded:
    """The `param` attribute of a class with guarded watchers: `param = Guarded()`."""

    def __get__(self, obj: Any, objtype: Any) -> Any:
        return objtype._param__parameters if obj is None else GuardedParameters(objtype, self=obj)
