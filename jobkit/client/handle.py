"""`Handle`, the base of the live handles: parameters for `param`; also waiting in slices, and views for notebooks.

`NamedHandles` has those of schedules and pools.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, Generic, TypeVar

import param
from param.parameterized import Parameterized, Parameters, discard_events

from jobkit.client.loop import background
from jobkit.model import StoreUnavailable
from jobkit.model.neighbours import HasNeighbours
from jobkit.run.inside import context
from jobkit.tasks.shown import Listed

S = TypeVar("S")
H = TypeVar("H", bound=Parameterized)
N = TypeVar("N", bound="NamedHandle[Any]")

logger = logging.getLogger("jobkit.client")

#: A wait in a job's thread notices a request to stop within so many seconds.
_SLICE_S = 0.25

#: Seconds that a wait gives a card for its last form.
_CARD_WAIT_S = 10.0

_making = threading.RLock()


class GuardedParameters(Parameters):
    """The type of `job.param`: param's own namespace, in which a watcher that raises does not stop the others.

    param calls watchers one after the other and stops at the first that raises; those behind it would miss an end of
    a job, which comes once.
    """

    def _execute_watcher(self, watcher: Any, events: Iterable[Any]) -> None:
        try:
            super()._execute_watcher(watcher, events)  # type: ignore[no-untyped-call,unused-ignore]  # param's
        except Exception:
            owner: Any = self.self_or_cls
            reported: set[int] = owner.__dict__.setdefault("_reported_watchers", set())
            if id(watcher.fn) not in reported:
                reported.add(id(watcher.fn))
                logger.exception("a watcher of %r raised; this is not reported again, and harms nothing else", owner)


class Guarded:
    """The `param` attribute of a class with guarded watchers: `param = Guarded()`.

    A class may leave out `super().__init__()`: param's part of an object, which costs more than the rest of a submit,
    is then made by the first use of `.param`.
    """

    def __get__(self, obj: Any, objtype: Any) -> Any:
        if obj is None:
            return objtype._param__parameters
        if not obj._param__private.initialized:
            with _making:
                if "_param__private" not in obj.__dict__:  # else this thread is making it
                    Parameterized.__init__(obj)  # type: ignore[no-untyped-call]  # param has no types here
        return GuardedParameters(objtype, self=obj)


class FromSnapshot(param.Parameter):  # type: ignore[type-arg]  # generic for type checkers only
    """A parameter whose value a handle reads from its snapshot.

    Args:
        read: name of the snapshot's attribute ("spec.id"), or a function of the snapshot.
    """

    __slots__ = ["read"]

    def __init__(self, read: str | Callable[[Any], Any], doc: str) -> None:
        super().__init__(doc=doc)
        self.read = attrgetter(read) if isinstance(read, str) else read

    def of(self, handle: Any, snapshot: Any) -> Any:
        """Return the value for a handle with this snapshot."""
        return self.read(snapshot)

    def __get__(self, obj: Any, objtype: Any = None) -> Any:
        return super().__get__(obj, objtype) if obj is None else self.of(obj, obj._shown)

    def __set__(self, obj: Any, val: Any) -> None:
        if obj is not None and not obj._is_telling:
            raise AttributeError(f"{self.name} of a {type(obj).__name__} cannot be set: it follows what happens")
        super().__set__(obj, val)  # type: ignore[no-untyped-call,unused-ignore]  # param's


def from_snapshot(read: str | Callable[[Any], Any], doc: str) -> Any:
    """Return a `FromSnapshot`; the annotation of the attribute says what reading it gives."""
    return FromSnapshot(read, doc)


@cache
def _readers(kind: type[Handle[Any]]) -> Mapping[str, Callable[[Any, Any], Any]]:
    return {name: each.of for name, each in kind.param.objects().items() if isinstance(each, FromSnapshot)}


class Handle(HasNeighbours, Listed, Parameterized, Generic[S]):
    """A live object whose parameters are read from a snapshot that moves.

    A change of an object without watchers sets no parameters. If there are some, their thread sets what has changed in
    param's own books, which calls them. By default a snapshot that waits for that is replaced by a newer one.

    In a process that was forked after a handle was made, the handle moves from its first use there on.
    """

    param = Guarded()
    _internal = frozenset({"advance", "cards", "come_along", "publish"})

    # Values of the class until a handle needs its own, because each submit makes a handle.
    id: str
    _waiting: tuple[S, ...] = ()  # to be published
    _told: Mapping[str, Any] = {}  # what param itself holds as the parameters' values
    _teller = 0  # the thread that calls watchers now
    _is_telling = False  # while param's own books are written
    cards: tuple[threading.Event, ...] = ()  # set when a card that a notebook shows has become static
    _generation = 0  # `background.generation` of the process in which it moves
    _renewed = 0  # that of the forked process that its locks belong to

    def __init__(self, snapshot: S) -> None:
        self._snapshot = self._published = snapshot
        self._lock = threading.RLock()  # guards the snapshot and what waits to be published
        if background.generation:
            self._generation = background.generation

    @property
    def snapshot(self) -> S:
        """All that is known now, as one frozen value."""
        self._touch()
        return self._snapshot

    @property
    def _own_name(self) -> str:
        return str(self.id)

    @property
    def _shown(self) -> S:
        """The snapshot that the parameters are read from."""
        return self.snapshot

    def _touch(self) -> None:
        """`come_along` for those who only read: while the server does not answer, it shows what is known."""
        if self._generation != background.generation:
            with contextlib.suppress(StoreUnavailable):
                self.come_along()

    def come_along(self) -> None:
        """Move in this process from now on, if it was forked after the handle was made. Raises StoreUnavailable."""
        if self._generation == background.generation:
            return
        with background.inheriting:
            if self._generation == background.generation:
                return  # another thread has begun
            if self._renewed != background.generation:
                self._renew()
                self._renewed = background.generation
            before, self._generation = self._generation, background.generation
        try:
            self._join()
        except BaseException:
            self._generation = before
            raise

    def _renew(self) -> None:
        """Replace what belongs to threads that do not exist here: they may hold the locks, and were to publish."""
        self._lock, self._waiting, self._published, self.cards = threading.RLock(), (), self._snapshot, ()
        self.__dict__.pop("_publishing", None)
        self._teller = 0

    def _join(self) -> None:
        """Subscribe to its events in this process. Other threads of it may use the handle meanwhile."""

    def _replaces(self, newer: S, older: S) -> bool:
        """Return True if watchers need not hear of an unpublished snapshot once there is a newer one."""
        return True

    def advance(self, snapshot: S) -> None:
        """Take a newer snapshot."""
        with self._lock:
            self._snapshot, waiting = snapshot, self._waiting
            if waiting:
                kept = waiting[:-1] if self._replaces(snapshot, waiting[-1]) else waiting
                self._waiting = (*kept, snapshot)
            elif (private := self.__dict__.get("_param__private")) is not None and private.watchers:
                self._waiting = (snapshot,)
                background.watchers_do(self.publish)
            else:
                self._published = snapshot

    def publish(self) -> None:
        """Move the parameters through every snapshot that waits; param must not be written from two threads at once."""
        with self.__dict__.setdefault("_publishing", threading.RLock()):
            before, self._teller = self._teller, threading.get_ident()
            try:
                while self._waiting:
                    with self._lock:
                        snapshot, self._waiting = self._waiting[0], self._waiting[1:]
                        old, self._published = self._published, snapshot
                    if not self._told:
                        with discard_events(self):
                            self._tell(old)
                    self._tell(snapshot)
            finally:
                self._teller = before

    def _tell(self, snapshot: S) -> None:
        now = {name: read(self, snapshot) for name, read in _readers(type(self)).items()}
        changed = {name: value for name, value in now.items() if name not in self._told or value != self._told[name]}
        self._told = {**self._told, **changed}
        self._is_telling = True
        try:
            self.param.update(**changed)
        finally:
            self._is_telling = False

    def _settle(self) -> None:
        """Let the parameters and the cards that a notebook shows take their last form while the cell that waits still
        runs: programs that run notebooks drop what arrives between two cells."""
        self.publish()
        for card in self.cards:
            card.wait(_CARD_WAIT_S)

    def __str__(self) -> str:
        return repr(self)


class EndingHandle(Handle[S]):
    """A handle to what ends: a job, a batch, a study."""

    @property
    def is_terminal(self) -> bool:
        """True after the end, whether with success or not."""
        raise NotImplementedError

    def done(self) -> bool:
        """Return True after the end, whether with success or not, as futures do; `is_terminal` says the same.

        Example:
            >>> job = simulate.submit(n=10)
            >>> while not job.done():
            ...     sleep(0.1)
        """
        return self.is_terminal


class NamedHandle(Handle[S]):
    """A handle to what has a name in the store, which is its id: a schedule, a pool. `verbs` of a kit act on it."""

    def __init__(self, verbs: Any, connection: Any, snapshot: S) -> None:
        super().__init__(snapshot)
        self._verbs, self._connection = verbs, connection

    def _join(self) -> None:
        self._verbs.handles.follow(self.id)


class NamedHandles(Generic[N]):
    """The handles of one kit that are still used: one for each name, moved by news of changes.

    Args:
        channel: of the news; an event names what has changed, or nothing if that may be all.
        make: returns the handle of a snapshot. read: returns the snapshots of these names, and perhaps others.
    """

    def __init__(
        self,
        connection: Any,
        channel: str,
        make: Callable[[Any], N],
        read: Callable[[Sequence[str]], Awaitable[Sequence[Any]]],
    ) -> None:
        self._connection, self._channel, self._make, self._read = connection, channel, make, read
        self._handles: weakref.WeakValueDictionary[str, N] = weakref.WeakValueDictionary()
        self._hub: Any = None
        self._lock = threading.Lock()

    def of(self, snapshot: Any) -> N:
        """Return the handle of this name, with this snapshot unless it has a newer one."""
        with self._lock:
            self._listen()
            handle = self._handles.get(snapshot.name)
            if handle is None:
                handle = self._handles[snapshot.name] = self._make(snapshot)
                return handle
        handle.advance(snapshot)
        return handle

    def follow(self, name: str) -> None:
        """Let a handle move in this process, which was forked from the handle's own."""
        self._lock = threading.Lock()
        self._connection.ensure_open()
        self._listen()
        self.read_again(name)

    def _listen(self) -> None:
        """Subscribe to changes, once for each hub: a forked child has another one."""
        hub = self._connection.hub
        if self._hub is not hub:
            self._hub = hub
            hub.listen(lambda event: self.read_again(str(event.data.get("name", ""))), self._channel)
            hub.on_status(lambda is_live: self.read_again() if is_live else None)

    def read_again(self, name: str = "") -> None:
        """Read the snapshot of a handle again soon, or those of all; from any thread."""
        names = [each for each in ([name] if name else list(self._handles)) if each in self._handles]
        if names and not self._connection.is_closed:
            background.spawn(self._advance(names))

    async def _advance(self, names: Sequence[str]) -> None:
        for snapshot in await self._read(names):
            if (handle := self._handles.get(snapshot.name)) is not None:
                handle.advance(snapshot)


class _Name(param.String):  # type: ignore[type-arg]  # generic for type checkers only
    """The parameter `name` of a handle: its id, or that of its user."""

    def __get__(self, obj: Any, objtype: Any = None) -> Any:
        return super().__get__(obj, objtype) if obj is None else obj._own_name


def named_by_id(kind: type[H]) -> type[H]:
    """Give the handles of a class their id as `name`, or what its `_own_name` says.

    param takes no subclass of String for it in a class's body.
    """
    kind.param.add_parameter("name", _Name(None, constant=True, doc="The same as its id."))
    return kind


def slices(seconds: float | None) -> Iterator[float | None]:
    """Split a wait of so many seconds (None for ever) into the pieces that it is to be done in.

    A job in a thread is stopped by an exception, which Python raises between two waits only.
    """
    if context.active() is None or threading.current_thread() is threading.main_thread():
        yield seconds
        return
    deadline = None if seconds is None else time.monotonic() + seconds
    while deadline is None:
        yield _SLICE_S
    while (left := deadline - time.monotonic()) > 0:
        yield min(left, _SLICE_S)
