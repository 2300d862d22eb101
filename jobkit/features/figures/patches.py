"""`display()` of IPython and `show()` of pyplot, Plotly, Bokeh and PIL: in a job they become pictures of its card.

A call at the same place of the code replaces what it showed before, so a loop has one picture. Outside a job both stay
what they were. Nothing is imported for this: an import hook waits for their modules.
"""

from __future__ import annotations

import builtins
import functools
import sys
import weakref
from collections.abc import Callable
from typing import Any

from jobkit.run.inside.context import active_recorder
from jobkit.run.inside.recorder import Recorder

_LIBRARIES = ("IPython", "matplotlib", "plotly", "bokeh", "PIL", "altair")

#: Places in the code that have shown something, with the number of each, by job.
_places: weakref.WeakKeyDictionary[Recorder, dict[tuple[str, str, int, int], int]] = weakref.WeakKeyDictionary()


def own() -> None:
    """Give code that was written in a notebook the `display` that notebooks have without an import."""
    if not hasattr(builtins, "display"):
        builtins.display = display  # type: ignore[attr-defined]  # IPython does the same


def display(*objects: Any, display_id: Any = None, **options: Any) -> None:
    """Show objects in the card of this job; outside a job, print them."""
    recorder = active_recorder()
    if recorder is None:
        print(*objects, sep="\n")
    else:
        _show_all(recorder, objects, display_id)


def _show_all(recorder: Recorder, objects: tuple[Any, ...], display_id: Any = None, kind: str = "output") -> None:
    for i, obj in enumerate(objects):
        name = display_id if isinstance(display_id, str) and display_id else _named(recorder, kind, i)
        recorder.show(name, obj)


def _named(recorder: Recorder, kind: str, i: int) -> str:
    """Return a name for the `i`-th object of a call: the number of its place, in the order of their first calls."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_library(frame.f_globals.get("__name__")):
        frame = frame.f_back
    places = _places.setdefault(recorder, {})
    place = kind, frame.f_code.co_filename, frame.f_lineno, i
    return f"{kind} {places.setdefault(place, 1 + len(places))}"


def _is_library(module: Any) -> bool:
    """Return True for code between the user's call and here: `figure.show()` of Plotly calls a function."""
    return module == __name__ or (isinstance(module, str) and module.partition(".")[0] in _LIBRARIES)


def _patch(owner: Any, name: str, show: Callable[..., Any]) -> None:
    """Let a job call `show`, with its recorder first, instead of a function of a module or class."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def patched(*args: Any, **options: Any) -> Any:
        recorder = active_recorder()
        return original(*args, **options) if recorder is None else show(recorder, *args, **options)

    setattr(owner, name, patched)


def _patch_ipython(module: Any) -> None:
    def show(recorder: Recorder, *objects: Any, display_id: Any = None, **options: Any) -> Any:
        _show_all(recorder, objects, display_id)
        return None if not display_id else module.DisplayHandle(display_id if isinstance(display_id, str) else None)

    _patch(module, "display", show)


def _patch_pyplot(module: Any) -> None:
    _patch(module, "show", lambda recorder, *args, **options: _show_figures(recorder, module))


def _patch_show(owner: Any) -> None:
    """Patch a module or class with a `show` whose first argument is what is shown."""
    _patch(owner, "show", lambda recorder, obj, *args, **options: _show_all(recorder, (obj,), kind="figure"))


def _show_figures(recorder: Recorder, pyplot: Any) -> None:
    """Show all open figures and close them, as notebooks do."""
    for i, number in enumerate(pyplot.get_fignums()):
        figure = pyplot.figure(number)
        label = figure.get_label()
        recorder.show(label if isinstance(label, str) and label else _named(recorder, "figure", i), figure)
        pyplot.close(figure)


DISPLAYS = True  #: See `jobkit/feature.py`.

PATCHES: dict[str, Callable[[Any], None]] = {
    "IPython.core.display_functions": _patch_ipython,
    "matplotlib.pyplot": _patch_pyplot,
    "plotly.io._renderers": _patch_show,
    "bokeh.io.showing": _patch_show,
    "PIL.Image": lambda module: _patch_show(module.Image),
}
