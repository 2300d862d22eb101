"""`BoundKit`: the value of `kit.options(...)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from jobkit.client.batch import Batch
from jobkit.client.job import Job
from jobkit.client.sweep import sweep_of
from jobkit.tasks.options import SubmitOptions, check_submit_options

if TYPE_CHECKING:
    from jobkit.client.kit import Kit


class BoundKit:
    """A kit with options for its next submissions; see `Kit.options`."""

    def __init__(self, kit: Kit, over: SubmitOptions) -> None:
        self._kit, self._over = kit, over

    def submit(self, task: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Job:
        """Submit with these options; see `Kit.submit`."""
        return self._kit._submit(task, args, kwargs, self._over)

    def map(
        self,
        task: Callable[..., Any] | str,
        items: Iterable[Any],
        /,
        *,
        stop_when: Callable[[Job], object] | str | None = None,
    ) -> Batch:
        """Submit once for each item with these options; see `Kit.map`."""
        return self._kit._map(task, items, self._over, stop_when)

    def sweep(self, task: Callable[..., Any] | str, /, **axes: Any) -> Batch:
        """Submit once for each combination with these options; see `Kit.sweep`."""
        return self._kit._sweep(task, sweep_of(axes), self._over)

    def options(self, **options: Any) -> BoundKit:
        """Return a copy with further options; they replace those of the same name."""
        return BoundKit(self._kit, self._over.merged(check_submit_options(options)))
