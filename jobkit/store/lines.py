"""The lines of waiting jobs: their heads, their lengths and a sample of the rest, and the jobs that run.

What is read does not depend on the number of jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from jobkit.store.query import Candidate
from jobkit.store.redis import RedisStore

#: Maximum number of queues that are read.
_QUEUES = 50
#: Maximum number of jobs that are read at the head of a line, and of others in it.
HEAD, _SPREAD = 20, 20
#: Maximum number of running jobs that are read.
MOST_RUNNING = 200


class Lines(msgspec.Struct, frozen=True):
    """Waiting jobs by queue, each list in the order of start.

    Attributes:
        ready: ids of the first that nothing but slots keeps waiting. size: number of these jobs.
        spread: ids of some of the others, for their run times.
        held: ids of the first that wait at a gate. due: of the first that wait for a time.
    """

    ready: Mapping[str, Sequence[str]]
    size: Mapping[str, int]
    spread: Mapping[str, Sequence[str]]
    held: Mapping[str, Sequence[str]]
    due: Mapping[str, Sequence[str]]


async def read_lines(store: RedisStore, queues: Iterable[str] | None = None, others: Iterable[str] = ()) -> Lines:
    """Return the lines of these queues, or of all, and as many of the others as are read. Three round trips."""
    if queues is None:
        queues = store.names("queues", await store.ask("SMEMBERS", "queues"))
    names = [*dict.fromkeys([*sorted(queues), *sorted(others)])][:_QUEUES]
    reads = [
        read
        for q in names
        for read in (
            ("ZRANGE", f"ready:{q}", 0, HEAD - 1),
            ("ZCARD", f"ready:{q}"),
            ("ZRANGE", f"held:{q}", 0, HEAD - 1),
            ("ZRANGE", f"due:{q}", 0, HEAD - 1),
        )
    ]
    found = await store.many(reads) if reads else []
    by_queue = {q: found[4 * i : 4 * i + 4] for i, q in enumerate(names)}
    size = {q: look[1] for q, look in by_queue.items()}
    ranks = [(q, rank) for q, n in size.items() for rank in _spread(n)]
    some = await store.many([("ZRANGE", f"ready:{q}", rank, rank) for q, rank in ranks]) if ranks else []
    spread: dict[str, list[str]] = {q: [] for q in names}
    for (q, _), ids in zip(ranks, some, strict=True):
        spread[q] += store.names(f"ready:{q}", ids)
    return Lines(
        ready={q: store.names(f"ready:{q}", look[0]) for q, look in by_queue.items()},
        size=size,
        spread=spread,
        held={q: store.names(f"held:{q}", look[2]) for q, look in by_queue.items()},
        # Entries with "!" are no jobs: a limit by rate lets another one start.
        due={q: [name for name in store.names(f"due:{q}", look[3]) if name[:1] != "!"] for q, look in by_queue.items()},
    )


def _spread(size: int) -> list[int]:
    """Return ranks behind the head of a line, evenly over the rest."""
    rest = size - HEAD
    count = max(0, min(rest, _SPREAD))
    return [HEAD + i * rest // count for i in range(count)]


async def running_jobs(store: RedisStore) -> list[Candidate]:
    """Return running jobs, those that were submitted last first; of very many the first ones."""
    ids = store.names("state:running", await store.ask("ZREVRANGE", "state:running", 0, MOST_RUNNING - 1))
    return [one for one in await store.finder.candidates(ids) if one is not None and one.job.state == "running"]
