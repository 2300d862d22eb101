"""News of a running job, by kinds: its code emits them, its worker reads and checks them, an attempt takes them.

Log, progress, artifacts and requests have ways of their own (`Sink`). All other news are of a kind: `Recorder.emit`
sends them, from a job's process as a frame. The kinds of a feature stand in the `NEWS` of its `news.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self

from jobkit.features import modules

#: Largest body that news give the store to keep, in bytes, unless the store is in memory. More is a file.
STORED_BYTES = 1_000_000


class Takes(Protocol):
    """An attempt as the kinds of news see it: in a worker, or of `sync://`."""

    def gather(self, kind: str, news: Any) -> None:
        """Add to the news of a kind that wait for the next exchange with the store, see `Gathered`."""
        ...

    def awaits(self, job_ids: Sequence[str]) -> None:
        """The task waits for these jobs now, those of its newest wait first; empty: it goes on."""
        ...

    def show(self, **fields: Any) -> None:
        """Set fields of the job's snapshot, with its progress."""
        ...

    def keep(self, kind: str, name: str, facts: bytes, body: bytes, most: int) -> None:
        """Give something to the Lua of a feature ("keeps"), unless `most` of the kind come after it before that."""
        ...

    def can_go_on(self, *, is_fresh: bool = False) -> None:
        """Another attempt can go on with the work; `is_fresh`: from here, so that little is lost if this one ends."""
        ...


class Gathered(Protocol):
    """News of a kind that an attempt gathers; those of a job begin empty."""

    @classmethod
    async def of_job(cls, store: Any, job_id: str) -> Self:
        """Return those of a job's earlier attempts."""
        ...

    def add(self, news: Any, /) -> None: ...

    def take(self) -> tuple[str, bytes, bytes] | None:
        """Return what is new since the last call for the Lua of a feature ("keeps"): name, facts and body; or None."""
        ...

    def shown(self) -> dict[str, Any]:
        """Return fields of the job's snapshot, which are sent now and then."""
        ...


class News(NamedTuple):
    """A kind of news.

    Attributes:
        read: returns the news in a frame. Raises LookupError, TypeError, ValueError or OverflowError for those that no
            job has by its own means.
        apply: lets an attempt take them.
        gathers: for a kind that attempts `gather`.
    """

    read: Callable[[Any], Any]
    apply: Callable[[Takes, Any], None]
    gathers: type[Gathered] | None = None


class Taker:
    """Base of the attempts that take news."""

    __slots__ = ()

    def emit(self: Takes, kind: str, news: Any) -> None:
        """Take news, see `Sink`."""
        of(kind).apply(self, news)


_OWN = {
    "awaits": News(lambda ids: [str(job_id) for job_id in ids], lambda attempt, ids: attempt.awaits(ids)),
    "can_go_on": News(lambda _: None, lambda attempt, _: attempt.can_go_on()),
}


def of(kind: str) -> News:
    """Return a kind of news. Raises LookupError if there is none of this name."""
    return _kinds()[kind]


@functools.cache
def gathering() -> Mapping[str, type[Gathered]]:
    """Return the kinds that attempts gather."""
    return {kind: news.gathers for kind, news in _kinds().items() if news.gathers is not None}


@functools.cache
def _kinds() -> Mapping[str, News]:
    return _OWN | {kind: news for module in modules("news") for kind, news in module.NEWS.items()}
