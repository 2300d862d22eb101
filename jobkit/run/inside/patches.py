"""Changes of libraries for code that runs as a job: applied when the library is imported, or has been.

In a job their bars are its progress, for instance, and what they display is in its card. Outside a job they stay what
they were. Nothing is imported for this: an import hook waits for their modules.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from jobkit.features import modules
from jobkit.run.inside import by_value, shown_values
from jobkit.run.inside.import_hook import ImportHook

#: Whether this process runs nothing but jobs.
owns_process = False

_PATCHES: dict[str, Callable[[Any], None]] = {}

_HOOK = ImportHook(_PATCHES)


def install(*, owns: bool = False, is_shown: bool = False) -> None:
    """Apply the changes of features to libraries that are loaded or yet to be, and let `multiprocessing` take the
    functions of a job.

    Args:
        owns: this process runs nothing but jobs.
        is_shown: a notebook shows what libraries display.
    """
    global owns_process
    owns_process = owns
    shown_values.libraries()  # a zygote loads them once, not each of its children
    features = tuple(modules("patches"))
    for feature in features if owns else ():
        feature.own()
    if _HOOK in sys.meta_path:
        return
    for changes in (by_value, *(feature for feature in features if not (is_shown and feature.DISPLAYS))):
        _PATCHES.update(changes.PATCHES)
    for name, patch in _PATCHES.items():
        if (module := sys.modules.get(name)) is not None:
            patch(module)
    sys.meta_path.insert(0, _HOOK)
