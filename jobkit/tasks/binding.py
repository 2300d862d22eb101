"""Hooks by which a task reaches higher rooms: the default kit, its form, its display.

`tasks/` must not import the client or the dashboard; `jobkit/__init__.py` sets these hooks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobkit.model import JobkitError

#: Returns the process-wide kit: `kit.submit(task, *args, **kwargs)`, `kit.options(**options)`, `kit.map`, `kit.sweep`.
default_kit: Callable[[], Any] | None = None

#: Returns the form of a task: `form(task)`.
form: Callable[[Any], Any] | None = None

#: Displays the form of a task in the current notebook cell; returns False if that is not possible.
show: Callable[[Any], bool] | None = None

#: Returns the notebook display of a task by MIME type; None if there is only text.
display: Callable[[Any], dict[str, Any] | None] | None = None


def kit() -> Any:
    """Return the default kit.

    Raises:
        JobkitError: no kit is set; `import jobkit` sets it.
    """
    if default_kit is None:
        raise JobkitError("a task can be submitted once jobkit is imported: write import jobkit")
    return default_kit()
