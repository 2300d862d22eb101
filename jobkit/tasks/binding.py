"""Hooks through which a task reaches what lies above this package: the default kit, its form, its display.

`tasks/` imports neither the client nor the dashboard; `jobkit/__init__.py` sets these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobkit.model import JobkitError

#: Gives the process-wide kit: `kit.submit(task, *args, **kwargs)`, `kit.options(**options)`, `kit.map`, `kit.sweep`.
default_kit: Callable[[], Any] | None = None

#: Gives the form of a task: `form(task)`.
form: Callable[[Any], Any] | None = None

#: Shows the form of a task in the current cell of a notebook; False where there is none.
show: Callable[[Any], bool] | None = None

#: Gives what a notebook shows for a task, by MIME type: `display(task)`; None where there is nothing better than text.
display: Callable[[Any], dict[str, Any] | None] | None = None


def kit() -> Any:
    """The default kit.

    Raises:
        JobkitError: none is set; `import jobkit` does it.
    """
    if default_kit is None:
        raise JobkitError("a task can be submitted once jobkit is imported: write import jobkit")
    return default_kit()
