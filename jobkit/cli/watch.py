"""`jobkit worker --watch`: when task code changes, new workers start on it and the old ones finish what they run.

Whole processes are replaced, since code that is already imported cannot be trusted to change. A change that does not
import is told, and the code from before goes on.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from jobkit.cli.keep import Keeper
from jobkit.embedded.children import Child, stop_all

#: Files are looked at this often, and must have been left alone for as long: editors write in several steps.
_LOOK_S = 0.5
#: A worker on old code waits for its jobs this long: for ever, in human terms.
FINISH_S = 30 * 86_400

_CHECK = "import sys\nfrom jobkit.cli.watch import check\nsys.exit(check(sys.argv[1:]))"

Stamp = dict[Path, int]


def folders_of(modules: Sequence[str]) -> list[tuple[Path, bool]]:
    """What to watch for task modules: `(folder, whole)`: a package whole, a module with its neighbours."""
    found: dict[Path, bool] = {}
    if os.getcwd() not in sys.path and "" not in sys.path:  # as the registry does
        sys.path.insert(0, os.getcwd())
    for name in modules:
        try:
            spec = importlib.util.find_spec(name.partition(".")[0])
        except (ImportError, ValueError):
            continue
        for folder in (spec and spec.submodule_search_locations) or ():
            found[Path(folder).resolve()] = True
        if spec is not None and not spec.submodule_search_locations and spec.origin and os.path.isfile(spec.origin):
            found.setdefault(Path(spec.origin).resolve().parent, False)
    return list(found.items())


def stamp_of(folders: Sequence[tuple[Path, bool]]) -> Stamp:
    """The time of the last change of each Python file."""
    stamp: Stamp = {}
    for folder, is_deep in folders:
        for file in folder.rglob("*.py") if is_deep else folder.glob("*.py"):
            try:
                stamp[file] = file.stat().st_mtime_ns
            except OSError:  # just now removed
                continue
    return stamp


def check(modules: Sequence[str]) -> int:
    """Import task modules in this process; 0, or 1 with one sentence on standard error."""
    from jobkit.model import JobkitError
    from jobkit.tasks.registry import registry

    try:
        registry.load(modules)
    except JobkitError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


class Watch:
    """Replaces the children of a keeper when files change; give `tick` to `Keeper.run`."""

    def __init__(
        self, keeper: Keeper, make: Callable[[int], Child], modules: Sequence[str], say: Callable[[str], None]
    ) -> None:
        self._keeper, self._make, self._modules, self._say = keeper, make, modules, say
        self._folders = folders_of(modules)
        self._known = self._seen = stamp_of(self._folders)
        self._looked_at = time.monotonic()
        self.retired: list[Child] = []
        """Still run jobs on old code."""

    def tick(self) -> None:
        self.retired = [child for child in self.retired if child.is_running]
        if time.monotonic() - self._looked_at < _LOOK_S:
            return
        stamp, before = stamp_of(self._folders), self._seen
        self._seen, self._looked_at = stamp, time.monotonic()
        if stamp == self._known or stamp != before:
            return
        changed = sorted(file.name for file in stamp.keys() | self._known if stamp.get(file) != self._known.get(file))
        self._known = stamp
        checked = subprocess.run(
            [sys.executable, "-c", _CHECK, *self._modules], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if checked.returncode:
            why = checked.stderr.strip().rpartition("\n")[2]
            self._say(f"{', '.join(changed[:5])} changed, but the code from before goes on: {why}")
            return
        self._say(f"{', '.join(changed[:5])} changed; workers start on the new code, running jobs finish on the old")
        old = self._keeper.children
        self._keeper.children = [self._make(n) for n in range(len(old))]
        for child in self._keeper.children:
            child.tend()
        for child in old:
            child.terminate()
        self.retired += old

    def stop(self, within_s: float) -> None:
        """End everybody, also those that finish jobs on old code: their jobs get the same time."""
        asked = max(1, self._keeper.signals)
        for child in self._keeper.children:  # the others have been asked; a second signal would mean: at once
            child.terminate()
        everybody = [*self._keeper.children, *self.retired]
        deadline = time.monotonic() + within_s
        while any(child.is_running for child in everybody) and time.monotonic() < deadline:
            if self._keeper.signals > asked:
                break
            time.sleep(0.02)
        stop_all([child for child in everybody if child.is_running], 0.0)
