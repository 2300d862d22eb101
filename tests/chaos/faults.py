"""Deliberate faults, in this process only: in copies of the library, or in classes. What has to be caught.

Each says who is to find it: the state machine that holds both stores to each other (`tests.store.machine`), where the
order of a few verbs brings it out, or a run of chaos, where it takes processes, cut connections, pages and streams.
"""

from __future__ import annotations

import importlib
import itertools
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobkit.store import library

_HUSH = """function Records.hush(rec, kind, data, set)
  call('HSET', P .. 'job:' .. rec.id, unpack(set))
end

"""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        changes: (file of the library or "*", text to be replaced, its replacement).
        patch: or what changes the classes of this process.
        machine: the verbs with which the state machine finds it, "" where it cannot.
        only: what has to go wrong (`world.WEIGHTS`) for a run of chaos to find it, "" where it is not asked to.
        shows: what has to be said then, as a pattern: nothing else counts as found.
    """

    changes: tuple[tuple[str, str, str], ...] = ()
    patch: Callable[[], None] | None = None
    machine: str = ""
    only: str = ""
    shows: str = ""


def _every(n: int, module: str, owner: str, method: str, instead: Callable[..., Any]) -> Callable[[], None]:
    """A patch: each `n`th call of a method is `instead(original, self, ...)`."""

    def patch() -> None:
        kind = getattr(importlib.import_module(module), owner)
        original, count = getattr(kind, method), itertools.count(1)

        def faulty(*args: Any, **options: Any) -> Any:
            return original(*args, **options) if next(count) % n else instead(original, *args, **options)

        setattr(kind, method, faulty)

    return patch


def _not_at_all(*_: Any) -> None:
    """The call is lost."""


def _jump(_: Any, live: Any, job: Any, fresh: Any) -> None:
    """`LiveJobs._catch_up` without what was in between."""
    if fresh.seq > job.snapshot.seq:
        live._advance(job, fresh)


def _deaf_and_jumping() -> None:
    _every(3, "jobkit.client.live", "LiveJobs", "take", _not_at_all)()
    _every(1, "jobkit.client.live", "LiveJobs", "_catch_up", _jump)()


async def _but_the_first(original: Any, *args: Any, **options: Any) -> Any:
    found = await original(*args, **options)
    return found[1:] if len(found) > 1 else found


async def _no_count(_: Any, feed: Any) -> None:
    """`BoardFeed._count`, which reads nothing."""
    feed._counting = feed._counts_due = False


def _first_counters() -> None:
    first: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def load(original: Any, board: Any, page: Any, counts: Any, total: Any = None) -> None:
        original(board, page, first.setdefault(board, dict(counts)), total)

    _every(1, "jobkit.ui.jobs.board_feed", "BoardFeed", "_count", _no_count)()
    _every(1, "jobkit.ui.jobs.board", "Board", "load", load)()  # after a cut it reads all of its page again


FAULTS: dict[str, Fault] = {
    # Whoever comes last has ended the job, whether it still holds it or not, and is not told that it does not.
    "no fence": Fault(
        (
            ("verbs/finish", "rec.state == 'running' and rec.token == token", "rec.token"),
            ("verbs/renew", "lost[#lost + 1] = args[i]\n", ""),
        ),
        machine="lives",
        only="sleep",
        shows="ran at the same time|succeeded with|showed|had .* attempts|with [2-9] terminal events",
    ),
    # A worker that wakes up too late takes its job back from the one that runs it now.
    "no fence at renewal": Fault(
        (
            ("verbs/renew", "rec[1] == args[i + 1] and rec[2] == 'running'", "rec[2] == 'running'"),
            ("verbs/finish", "rec.token == token then", "true then"),
        ),
        machine="lives",
    ),
    # The job of a dead worker is forgotten.
    "no recovery": Fault((("*", "    Queue.ready(rec, rec.us)", ""),), machine="lives"),
    # A transition that nobody is told of.
    "silent start": Fault(
        (
            ("*", "-- The indexes that pages", _HUSH + "-- The indexes that pages"),
            ("*", "Records.emit(rec, 'started',", "Records.hush(rec, 'started',"),
        ),
        machine="lives",
    ),
    # A repeated submit stores the job once more.
    "not idempotent": Fault(
        (("lib/lifecycle", "not is_new and has_record(id)", "false"),),
        machine="lives",
        only="swallow",
        shows="ran .* times in|ran as|gaps|showed|had .* attempts|with [2-9] terminal events",
    ),
    # Losses are not counted: a job that kills its workers does so for ever.
    "endless poison": Fault((("*", "rec.losses >= max_losses", "false"),), machine="deaths"),
    # An ended job's arguments stay for ever.
    "no ttl": Fault((("*", "call('PEXPIRE', P .. 'args:' .. rec.id, ttl_ms)", ""),), machine="lives"),
    # A result that is not kept.
    "no result": Fault((("verbs/finish", "if result ~= ''", "if false"),), machine="lives"),
    # A live handle that has missed an event shows what is, and not what was in between.
    "jumping handle": Fault(patch=_deaf_and_jumping, only="kill", shows="the handle of .* showed"),
    # The reader of all events misses the first of several that it reads at once.
    "skipping reader": Fault(
        patch=_every(1, "jobkit.store.redis", "RedisStore", "events", _but_the_first),
        only="swallow",
        shows="kit.events",
    ),
    # Likewise a stream of events to a browser.
    "skipping stream": Fault(
        patch=_every(1, "jobkit.http.core.tail", "Tail", "after", _but_the_first),
        only="swallow",
        shows="the stream gave",
    ),
    # The table of the dashboard misses an event now and then.
    "stale table": Fault(
        patch=_every(5, "jobkit.ui.jobs.board_feed", "BoardFeed", "take", _not_at_all),
        only="kill",
        shows="the table shows",
    ),
    # Its counters are those of the first moment.
    "stale counters": Fault(patch=_first_counters, only="kill", shows="the counters"),
    # A job's card is told nothing.
    "stale card": Fault(
        patch=_every(1, "jobkit.ui.card.job_feed", "JobFeed", "take", _not_at_all), only="kill", shows="the card"
    ),
}


def apply(name: str) -> None:
    """Change the library and classes of this process.

    Raises:
        KeyError: no such fault. ValueError: the library has changed, and the fault with it.
    """
    if not name:
        return
    fault = FAULTS[name]
    if fault.patch is not None:
        fault.patch()
    sources = dict(library.current.sources)
    for file, old, new in fault.changes:
        changed = [path for path in sources if file in ("*", path) and old in sources[path]]
        if not changed:
            raise ValueError(f"the fault {name!r} does not find {old!r} in {file}")
        for path in changed:
            sources[path] = sources[path].replace(old, new)
    library.current = library.Library(sources)
