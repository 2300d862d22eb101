"""When waiting jobs will start, from what is known: slots, what runs in them, the lines before them and past run times.

Pure, and as cheap for a long line as for a short one: the first starts are played through, later ones follow from their
rate. What is not known is not guessed: there is no time without run times of the tasks ahead.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from statistics import fmean

import msgspec

#: Maximum number of starts that are played through.
_PLAYED = 300

#: Share of its usual run time that a run takes longer if it is over that time already.
_OVERTIME = 0.1


class Slot(msgspec.Struct, frozen=True):
    """A slot of a worker.

    Attributes:
        queues: that it serves. weights: of these; {} if they are served in order.
        free_s: seconds until it is free; None if unknown.
    """

    queues: tuple[str, ...]
    free_s: float | None = 0.0
    weights: Mapping[str, float] = {}


class Line(msgspec.Struct, frozen=True):
    """Ready jobs of one queue: the usual run times of the first ones, and of some of the others (None: unknown).

    `size`: the number of all.
    """

    first: Sequence[float | None] = ()
    others: Sequence[float | None] = ()
    size: int = 0

    def usual_s(self, rank: int) -> float | None:
        """Return the run time of a job in the line, on average if that job was not read."""
        if rank < len(self.first):
            return self.first[rank]
        some = self.others or self.first
        return None if not some or None in some else fmean(each for each in some if each is not None)


def left_s(elapsed_s: float, usual_s: float) -> float:
    """Return the seconds that a run will probably take from now on, by the usual run time of its task."""
    return max(usual_s - elapsed_s, _OVERTIME * usual_s)


def starts(slots: Iterable[Slot], lines: Mapping[str, Line], ranks: Iterable[tuple[str, int]]) -> list[float | None]:
    """Return for each job, given by its queue and its rank in it, the seconds until it will start; None if unknown.

    Workers take jobs of the first of their queues that has any, or by weight. A slot counts as taken for good if it is
    unknown when it is free, and if that holds for more than half of the slots of a queue, nothing is known of its
    starts.

    Args:
        lines: of all queues that these slots serve.
    """
    wanted = list(ranks)
    need: dict[str, int] = {}
    for queue, rank in wanted:
        need[queue] = max(need.get(queue, 0), rank + 1)
    ready = {
        queue: max(line.size, need.get(queue, 0)) for queue, line in ({q: Line() for q in need} | dict(lines)).items()
    }
    serving = [slot for slot in slots if need.keys() & slot.queues]
    unknown = Counter(queue for slot in serving if slot.free_s is None for queue in slot.queues)
    total = Counter(queue for slot in serving for queue in slot.queues)
    along: dict[str, set[str]] = {
        queue: set() for queue in ready
    }  # wanted queues that wait for those of the same slots
    for queues in {slot.queues for slot in serving}:
        for queue in ready.keys() & queues:
            along[queue] |= need.keys() & queues
    begun: dict[str, list[float | None]] = {queue: [] for queue in ready}
    turns: dict[tuple[str, ...], dict[str, float]] = {slot.queues: dict.fromkeys(slot.queues, 0.0) for slot in serving}
    free = [(slot.free_s, i) for i, slot in enumerate(serving) if slot.free_s is not None]
    heapq.heapify(free)
    for _ in range(_PLAYED):
        queue = ""
        while free and not queue:
            slot = serving[free[0][1]]
            open_ = [each for each in slot.queues if each in ready and len(begun[each]) < ready[each]]
            if any(len(begun[each]) < need[each] for some in open_ for each in along[some]):
                queue = min(open_, key=turns[slot.queues].__getitem__) if slot.weights else open_[0]
            else:
                heapq.heappop(free)  # nothing that is wanted depends on it any more
        if not queue:
            break
        at, i = free[0]
        turns[slot.queues][queue] += 1 / slot.weights.get(queue, 1.0)
        usual = lines[queue].usual_s(len(begun[queue])) if queue in lines else None
        begun[queue].append(at if not at or 2 * unknown[queue] <= total[queue] else None)
        if usual is None:
            unknown.update(slot.queues)
            heapq.heappop(free)
        else:
            heapq.heapreplace(free, (at + usual, i))
    return [_start_at(begun[queue], rank) for queue, rank in wanted]


def _start_at(begun: Sequence[float | None], rank: int) -> float | None:
    """Return when a job starts: as played through, else by the rate of the starts before it."""
    if rank < len(begun):
        return begun[rank]
    first, last = (begun[0], begun[-1]) if len(begun) > 1 else (None, None)
    if first is None or last is None or len(begun) < _PLAYED // 10:
        return None
    return last + (rank - len(begun) + 1) * (last - first) / (len(begun) - 1)


def starts_at_gate(free_s: Sequence[float], rank: int, usual_s: float | None) -> float | None:
    """Return the seconds until a job will start that waits for one of a gate's places.

    Args:
        free_s: for each place, the seconds until it is free. rank: jobs before it at the gate.
        usual_s: run time of the jobs at the gate.
    """
    if not free_s or (usual_s is None and rank):
        return None
    times = sorted(free_s)
    rounds, place = divmod(rank, len(times))
    return times[place] + rounds * (usual_s or 0.0)


def in_seconds(now: datetime, seconds: float | None) -> datetime | None:
    """Return the time in so many seconds, None for None."""
    return None if seconds is None else now + timedelta(seconds=seconds)
