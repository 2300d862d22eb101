"""Plan of a run, drawn from a seed alone: the same seed gives the same plan on any machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random

from tests.chaos.outages import OUTAGES


@dataclass(frozen=True, slots=True)
class Step:
    """An outage that begins at a time (s) of its phase, with the source of its random choices."""

    at_s: float
    name: str
    rng: Random


def steps(seed: int, seconds: float, names: Sequence[str]) -> Iterator[Step]:
    """Yield outages one by one, by their weights. If there is one name only, it happens every second or two."""
    rng = Random(seed)
    weights = [OUTAGES[name].weight or 1.0 for name in names]
    pause_s = (0.1, 1.4) if len(names) > 1 else (1.0, 2.0)
    at_s = 0.0
    while names and (at_s := at_s + rng.uniform(*pause_s)) < seconds:
        name, choices = rng.choices(names, weights)[0], Random(rng.random())
        if not (OUTAGES[name].disturbs and _is_lull(at_s)):
            yield Step(at_s, name, choices)


def _is_lull(at_s: float) -> bool:
    """True in the middle third of each 20 seconds: workers still die, but pages must be up to date."""
    return 7 < at_s % 20 < 15


def pairs(seed: int, names: Sequence[str]) -> Iterator[tuple[Step, Step]]:
    """Yield all pairs of outages in random order. The second begins at the same moment or soon after the first."""
    rng = Random(seed)
    every = [list(pair) for pair in combinations(sorted(names), 2)]
    rng.shuffle(every)
    for pair in every:
        rng.shuffle(pair)
        later_s = 1.0 + rng.choice([0.0, rng.uniform(0.1, 1.0)])
        yield Step(1.0, pair[0], Random(rng.random())), Step(later_s, pair[1], Random(rng.random()))
