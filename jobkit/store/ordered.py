"""A set of ids in order of a score: what a sorted set is to Redis, for the store in memory."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator


class Ordered:
    """Ids by score, those of one score by id. Not thread-safe."""

    def __init__(self) -> None:
        self._scores: dict[str, float] = {}
        self._order: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, id: object) -> bool:
        return id in self._scores

    def add(self, id: str, score: float) -> None:
        """Put `id` at `score`, wherever it was before."""
        self.remove(id)
        self._scores[id] = score
        insort(self._order, (score, id))

    def remove(self, id: str) -> None:
        """Take `id` out, if it is in."""
        score = self._scores.pop(id, None)
        if score is not None:
            del self._order[bisect_left(self._order, (score, id))]

    def score(self, id: str) -> float:
        """Where `id` is; it has to be in."""
        return self._scores[id]

    def rank(self, id: str) -> int:
        """How many come before `id`, which has to be in."""
        return bisect_left(self._order, (self._scores[id], id))

    def first(self, count: int) -> list[str]:
        """The `count` ids of lowest score."""
        return [id for _, id in self._order[: max(0, count)]]

    def __iter__(self) -> Iterator[str]:
        return (id for _, id in self._order)

    def lowest(self) -> float | None:
        """The lowest score, or None where there is none."""
        return self._order[0][0] if self._order else None

    def until(self, score: float, limit: int) -> list[tuple[str, float]]:
        """Up to `limit` of `(id, score)` from the lowest score to `score`, which is included."""
        end = min(limit, bisect_right(self._order, score, key=lambda entry: entry[0]))
        return [(id, at) for at, id in self._order[:end]]

    def below(self, score: float) -> Iterator[tuple[str, float]]:
        """`(id, score)` from just below `score` downwards. Do not change the set meanwhile."""
        end = bisect_left(self._order, score, key=lambda entry: entry[0])
        return ((id, at) for at, id in reversed(self._order[:end]))
