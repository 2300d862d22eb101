"""Detect kills by the kernel because memory ran out, by the counter of this control group.

Linux counts such kills for each control group, in `memory.events` (version 2) or `memory.oom_control` (version 1). A
job's process is in the group of its worker, and `oom_score_adj` lets the kernel choose it. If there is no
counter, nothing is certain.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
#: A kill that no death was put down to within so many looks was of something else: a program that a job had started.
_LOOKS = 8


class KernelKills:
    """Reads the counter.

    Args:
        counter: the file, or None without one.
    """

    def __init__(self, counter: Path | None) -> None:
        self._counter = counter
        self._settled = self._read()
        self._looks = deque([self._settled], maxlen=_LOOKS)

    def look(self) -> None:
        """To be called now and then: forgets kills that are too old."""
        self._settled = max(self._settled, self._looks[0])
        self._looks.append(self._read())

    def take(self) -> bool:
        """Return whether there was a kill that does not explain another death yet, and count it as used."""
        if self._read() <= self._settled:
            return False
        self._settled += 1
        return True

    def _read(self) -> int:
        if self._counter is None:
            return 0
        try:
            lines = self._counter.read_text().split("\n")
        except OSError:  # the group was removed under us
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def counter_file(groups: str | None = None, root: Path = _ROOT) -> Path | None:
    """The counter of this process's control group.

    Args:
        groups: what `/proc/self/cgroup` says.
        root: where control groups are mounted.
    """
    if groups is None:
        try:
            groups = Path("/proc/self/cgroup").read_text()
        except OSError:  # not Linux
            return None
    found = dict(line.split(":", 2)[1:] for line in groups.splitlines() if line.count(":") >= 2)
    for path, mount, name in (
        (found.get("", "/"), root, "memory.events"),
        (found.get("memory", "/"), root / "memory", "memory.oom_control"),
    ):
        # In a container the path may be that of the host, while the container's own group is what is mounted.
        for folder in (mount / path.lstrip("/"), mount):
            if (folder / name).is_file():
                return folder / name
    return None
