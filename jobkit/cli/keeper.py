"""Keeping child processes alive in the foreground until Ctrl-C, and replacing workers when their code changes.

For `jobkit up`, `jobkit worker -n` and `jobkit worker --watch`. The last replaces whole processes, since reloading a
module that is imported already is not reliable. If changed code does not import, the old workers go on.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from jobkit.embedded.children import Child, stop_all

#: Seconds between two checks of the children.
_TICK_S = 0.2

#: Seconds between two checks of the files, and without a change before workers restart: editors write in steps.
_LOOK_S = 0.5
#: Seconds that a worker on old code may take to finish its jobs.
FINISH_S = 30 * 86_400

_CHECK = "import sys\nfrom jobkit.cli.keeper import check\nsys.exit(check(sys.argv[1:]))"

Stamp = dict[Path, int]


class Keeper:
    """Restarts children until a signal arrives or all of them have given up.

    The first Ctrl-C (or SIGTERM, or SIGHUP) stops them gracefully, the second kills them. A context manager: it handles
    the signals within its block.
    """

    def __init__(self, children: Sequence[Child]) -> None:
        self.children = list(children)
        self.retired: list[Child] = []
        """Former children, which have been asked to stop and finish their jobs."""
        self.signals = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Keeper:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # from signal.signal

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.signals += 1

    def run(self, tick: Callable[[], None] = lambda: None) -> None:
        """Run until a signal arrives or every child has given up. Calls `tick` about five times a second."""
        while not self.signals:
            for child in self.children:
                child.tend()
            if self.children and all(child.gave_up_with is not None for child in self.children):
                return
            tick()
            time.sleep(_TICK_S)

    def stop(self, within_s: float) -> None:
        """Stop all children within `within_s` seconds, or at once on another signal."""
        asked = max(1, self.signals)
        stop_all([*self.children, *self.retired], within_s, is_urgent=lambda: self.signals > asked)


def folders_of(modules: Sequence[str]) -> list[tuple[Path, bool]]:
    """Return the folders to watch, as `(folder, is_deep)`: packages with subfolders, folders of modules without."""
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
    """Return the time of the last change of each Python file."""
    stamp: Stamp = {}
    for folder, is_deep in folders:
        for file in folder.rglob("*.py") if is_deep else folder.glob("*.py"):
            try:
                stamp[file] = file.stat().st_mtime_ns
            except OSError:  # deleted just now
                continue
    return stamp


def check(modules: Sequence[str]) -> int:
    """Import task modules in this process. Returns 0, or 1 with one sentence on standard error."""
    from jobkit.model import JobkitError
    from jobkit.tasks.registry import registry

    try:
        registry.load(modules)
    except JobkitError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


class Watch:
    """Replaces the children of a keeper when files change; pass `tick` to `Keeper.run`."""

    def __init__(
        self, keeper: Keeper, make: Callable[[int], Child], modules: Sequence[str], say: Callable[[str], None]
    ) -> None:
        self._keeper, self._make, self._modules, self._say = keeper, make, modules, say
        self._folders = folders_of(modules)
        self._known = self._seen = stamp_of(self._folders)
        self._looked_at = time.monotonic()

    def tick(self) -> None:
        keeper = self._keeper
        keeper.retired = [child for child in keeper.retired if child.is_running]
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
            self._say(f"{', '.join(changed[:5])} changed, but the workers keep the old code: {why}")
            return
        self._say(
            f"{', '.join(changed[:5])} changed; workers restart with the new code, running jobs finish on the old code"
        )
        old = keeper.children
        keeper.children = [self._make(n) for n in range(len(old))]
        for child in keeper.children:
            child.tend()
        for child in old:
            child.terminate()
        keeper.retired += old
