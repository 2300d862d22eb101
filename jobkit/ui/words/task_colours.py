"""`TaskColours`: the colour of each task, the same after every load and on every page that colours tasks."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

#: Colours (`--jk-series-1` and so on in `tokens.css`), and textures that tell tasks of one colour apart.
COLOURS, TEXTURES = 8, 3


class TaskColours:
    """Numbers of tasks: `number % COLOURS` is the colour, `number // COLOURS` the texture, 0 for none.

    A task has the colour of the hash of its name. If another task has that already, it has the next free one; with more
    tasks than colours, textures are used. All tasks of a kit are numbered first, in one order, whichever of them a page
    shows.
    """

    def __init__(self, tasks: Iterable[str] = ()) -> None:
        self._numbers: dict[str, int] = {}
        for task in sorted(tasks):
            self.of(task)

    def of(self, task: str) -> int:
        """Return the number of a task: 0 to `COLOURS * TEXTURES - 1`."""
        if task not in self._numbers:
            self._numbers[task] = self._free(int.from_bytes(sha256(task.encode("utf-8", "replace")).digest()[:4]))
        return self._numbers[task]

    def _free(self, hashed: int) -> int:
        taken = set(self._numbers.values())
        plain = ((hashed + n) % COLOURS + texture * COLOURS for texture in range(TEXTURES) for n in range(COLOURS))
        return next((number for number in plain if number not in taken), hashed % (COLOURS * TEXTURES))
