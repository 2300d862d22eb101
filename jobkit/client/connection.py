"""`Connection`: store, hub and live handles of a kit, and how its verbs run.

It is made anew after a fork, and has an embedded server started again if that does not answer.

There are two kinds of verbs. One that only uses the store is a coroutine that runs on the background loop (`call`). One
that also runs code of its caller (checks of arguments, pickles, a job of `sync://`) is a function that runs in the
caller's thread (`run`) and calls the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from jobkit.client.job import Job
from jobkit.client.live import LiveJobs
from jobkit.client.loop import background
from jobkit.client.verbs import Verbs
from jobkit.codec import Codec
from jobkit.keys import codec_of
from jobkit.model import JobkitError, JobNotFound, JobSnapshot, StoreUnavailable
from jobkit.model.errors import repeating
from jobkit.settings import Settings, submitter_name
from jobkit.store.hub import EventHub
from jobkit.store.private import Space
from jobkit.store.redis import RedisStore
from jobkit.store.sending import DirectSubmit, LoopSenders, is_small
from jobkit.store.silence import Silent
from jobkit.store.values import Submission, SubmitReply

if TYPE_CHECKING:
    from jobkit.client.inline import Inline

P = ParamSpec("P")
T = TypeVar("T")

_open: weakref.WeakSet[Connection] = weakref.WeakSet()

#: A submit that fails within so many seconds is repeated on the way that can revive the server. Its id makes that safe,
#: but no caller should wait twice for a server that does not answer.
_SLOW_S = 1.0

#: Parts that their last job takes with it between their upload and the submit are uploaded again, so often at most.
_UPLOADS = 3


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """The ways in which a kit starts its embedded server.

    Attributes:
        start: starts it unless it runs, and returns when it answers.
        start_again: the same if it has died. Raises StoreUnavailable if it was stopped: then a submit starts it, but
            reading and waiting do not.
        revive: `start_again` without waiting; returns True if this call has started it.
        want_workers: called once, before the first submit; starts local workers that can run it.
        has_other_machines: returns whether its home is shared now.
        keyed: returns settings with the keys of their home. A home that was deleted and made again has others.
    """

    start: Callable[[], object]
    start_again: Callable[[], object]
    revive: Callable[[], bool]
    want_workers: Callable[[], None]
    keyed: Callable[[Settings], Settings]
    has_other_machines: Callable[[], bool] = bool


class Connection:
    """One kit's connection; see `jobkit.client.kit.Kit`, which describes the arguments.

    Args:
        make_job: makes the handle of a job.
        open_store: opens the store of settings.
        has_own_space: a `sync://` kit shares no jobs with other kits of this process.
    """

    def __init__(
        self,
        settings: Settings,
        make_job: Callable[[JobSnapshot], Job],
        *,
        embedded: EmbeddedServer | None = None,
        open_store: Callable[[Settings], RedisStore] = RedisStore,
        has_own_space: bool = False,
    ) -> None:
        self.settings = settings
        # Nothing leaves the process of a `sync://` kit, so pickles are harmless.
        self.codec = Codec.from_secret("this process") if settings.scheme == "sync" else codec_of(settings)
        self.is_closed = False
        self._make_job, self._embedded = make_job, embedded
        self._open_store, self._has_own_space = open_store, has_own_space
        self._connect()
        _open.add(self)

    def close(self, *, is_exiting: bool = False) -> None:
        """Close the connections. Jobs are not affected. Waits for them raise, unless the program ends."""
        if not self.is_closed:
            self.is_closed = True
            if self._generation == background.generation:
                background.call(self._close(None if is_exiting else self._closed()))
                if self._direct is not None:
                    self._direct.close()
                self._senders.close()
            _open.discard(self)

    @property
    def owner(self) -> str:
        """Owner of what is submitted now: the logged-in user of the page session that calls, else this process's."""
        return submitter_name()

    @property
    def is_shared(self) -> bool:
        """True if workers may be on other machines."""
        if self._embedded is not None:
            return self._embedded.has_other_machines()
        return self.inline is None

    def ensure_open(self) -> None:
        """Connect anew in a forked child. Raises JobkitError if it is closed."""
        if self.is_closed:
            raise self._closed()
        self._connect_after_fork()

    def _closed(self) -> JobkitError:
        return JobkitError(f"this kit ({self.settings.masked_url}) is closed; connect again")

    def _connect_after_fork(self) -> None:
        if self.is_closed or self._generation == background.generation:
            return
        if background.is_here:
            raise JobkitError("a kit of the process that forked this one cannot connect on jobkit's own event loop")
        with background.connecting:
            if self._generation != background.generation:
                self._connect()

    def follow(self, job: Job) -> None:
        """Let a handle move in this process, which was forked from the handle's own."""
        self._connect_after_fork()
        if not self.is_closed:
            self.live.follow(job)

    def _connect(self) -> None:
        before = getattr(self, "live", None)
        self._direct: DirectSubmit | None = None
        self.inline: Inline | None = None
        if self.settings.scheme == "sync":
            self._space = Space.of(self.settings, is_shared=not self._has_own_space)
            self.store = self._open_store(self._space.settings)
            self.hub = EventHub(self.store)
            from jobkit.client.inline import Inline  # runs jobs here, which Windows cannot

            self.inline = Inline(self.store, self.hub, self.codec, self.settings, self._space.paused)
        else:
            self.store = self._open_store(self.settings)
            self.hub = EventHub(
                self.store, None if self._embedded is None else partial(self._started, self._embedded.revive)
            )
            self._direct = DirectSubmit(self.settings, self.hub.client_id)
        self._senders = LoopSenders(partial(self._open_store, self.settings), self.hub.client_id)
        self.verbs = Verbs(self.settings, self.store, self.hub, self.codec)
        self.live = LiveJobs(self.store, self.hub, self._make_job, before)
        background.call(self._begin())
        self._generation = background.generation

    async def _begin(self) -> None:
        try:
            await self.hub.start()
            await self.live.start()
        except BaseException:
            await self.hub.close()
            await self.store.close()
            raise

    async def _close(self, why: JobkitError | None) -> None:
        self.live.close(why)
        await self.verbs.close()
        await self.hub.close(str(why or ""))
        if self.inline is not None:
            await self._space.leave(self.store)
        await self.store.close()

    def start_stopped(self) -> None:
        """Start an embedded server that was stopped or has died; no-op while it is connected."""
        if self._embedded is not None and not self.hub.is_live:
            self._started(self._embedded.start)

    def _started(self, start: Callable[[], T]) -> T:
        """Start the embedded server in one of its ways, and use the key of its home."""
        assert self._embedded is not None
        started = start()
        settings = self._embedded.keyed(self.settings)
        if settings != self.settings:
            self.codec.sign_as(Codec.from_secret(settings.secret))
            self.settings = settings
        return started

    # -- running verbs ------------------------------------------------------------------------------------------------

    def run(self, verb: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a verb that blocks in this thread."""
        self._connect_after_fork()
        return verb(*args, **kwargs)

    async def run_async(self, verb: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`run` from a coroutine: in a thread, since it may take long."""
        return await asyncio.to_thread(partial(self.run, verb, *args, **kwargs))

    def run_started(self, verb: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`run`, on an embedded server that is started if it was stopped."""
        self.ensure_open()
        self.start_stopped()
        return verb(*args, **kwargs)

    async def run_started_async(self, verb: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`run_started` from a coroutine: in a thread."""
        return await asyncio.to_thread(partial(self.run_started, verb, *args, **kwargs))

    def spawn(self, verb: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a verb on the background loop; once more if an embedded server had died."""
        self.ensure_open()
        return background.spawn(self._settled(partial(verb, *args, **kwargs)))

    def call(self, verb: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """`spawn`, and wait for the value."""
        self.ensure_open()
        return background.call(self._settled(partial(verb, *args, **kwargs)))

    async def call_async(self, verb: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """`call` from a coroutine on any loop."""
        return await asyncio.wrap_future(self.spawn(verb, *args, **kwargs))

    async def _settled(self, verb: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return a verb's value; with `sync://` once its events are delivered to this process's listeners.

        An embedded server that has died is started again.
        """
        try:
            value = await verb()
        except ConnectionError as error:
            if self._embedded is None or isinstance(error.__cause__, Silent):  # frozen: no caller should wait twice
                raise
            with repeating(error):
                await asyncio.to_thread(self._started, self._embedded.start_again)
                value = await verb()
        if self.inline is not None:
            await self.hub.flush()
        return value

    def keep_parts(self, submissions: Sequence[Submission]) -> None:
        """Store the large parts of calls, before their submits; each once."""
        parts = self.verbs.parts
        if blobs := {blob.name: blob for each in submissions for blob in each.blobs if not parts.is_kept(blob.name)}:
            self.call(parts.keep, blobs.values())

    def send(self, submission: Submission) -> SubmitReply:
        """Submit a job, and its large parts before.

        Raises:
            JobNotFound: parts of its arguments are no longer kept, and not known here.
        """
        if not submission.blobs:
            return self._send(submission)
        for _ in range(_UPLOADS):
            self.keep_parts([submission])
            reply = self._send(submission)
            if not reply.lacks:
                return reply
            self.verbs.parts.lost(reply.lacks)
        raise no_longer_kept(submission)

    def _send(self, submission: Submission) -> SubmitReply:
        """Submit a job: over a separate connection of blocking code, if possible, not over the background loop."""
        began, first = time.monotonic(), None
        if self._direct is not None and not background.is_here and is_small([submission]):
            try:
                return self._direct.submit(submission)
            except StoreUnavailable as error:
                if time.monotonic() - began > _SLOW_S:
                    raise
                first = error
        with repeating(first):
            return self.call(self.verbs.sender.submit, submission)

    async def send_async(self, submission: Submission) -> SubmitReply:
        """`send` from a coroutine: over a connection of its loop. With large parts, in a thread."""
        if submission.blobs:
            return await asyncio.to_thread(self.send, submission)
        began, first = time.monotonic(), None
        if self._direct is not None:
            try:
                return await (await self._senders.of_this_loop()).submit(submission)
            except StoreUnavailable as error:
                if time.monotonic() - began > _SLOW_S:
                    raise
                first = error
        with repeating(first):
            return await self.call_async(self.verbs.sender.submit, submission)

    def job(self, job_id: str) -> Job:
        """Return the handle of a job of whichever process, as the store has it now."""
        known = self.live.get(job_id)
        is_over = known is not None and known.is_over
        fresh = self.call(self.verbs.snapshot, job_id)
        if known is not None and is_over:  # the store may have been restored to an older state
            old = known.snapshot
            is_over = not (old.is_terminal and fresh.is_terminal and old.submitted_at == fresh.submitted_at)
        return self.live.handle(fresh, outdated=known if is_over else None)

    def iterate(self, events: Callable[P, AsyncIterator[T]], *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        """Yield what an asynchronous iterator of the background loop yields."""
        self.ensure_open()
        source, generation = events(*args, **kwargs), background.generation
        try:
            while (item := background.call(anext_of(source))) is not None:
                yield item
                if background.generation != generation:
                    raise JobkitError("this iterator is of the process that forked this one: begin another one here")
        finally:
            if background.generation == generation and not sys.is_finalizing():
                with contextlib.suppress(JobkitError, RuntimeError):
                    background.call(end_of(source))

    async def iterate_async(
        self, events: Callable[P, AsyncIterator[T]], *args: P.args, **kwargs: P.kwargs
    ) -> AsyncIterator[T]:
        """`iterate` for a coroutine on any loop."""
        self.ensure_open()
        source = events(*args, **kwargs)
        try:
            while (item := await background.call_async(anext_of(source))) is not None:
                yield item
        finally:
            await background.call_async(end_of(source))

    # -- jobs of `sync://` --------------------------------------------------------------------------------------------

    def run_here(self, job_ids: Sequence[str], then: Callable[[], None] | None = None) -> None:
        """Run new jobs here, and `then` after each, if the kit is `sync://`; for other kits workers run them."""
        if self.inline is not None:
            self.inline.run_each(job_ids, then)

    def run_paused(self) -> None:
        """Run the jobs of a `sync://` kit that were submitted while their queue or task was paused."""
        if self.inline is not None:
            self.inline.run_paused()


def no_longer_kept(submission: Submission) -> JobNotFound:
    """Return the error for a submission whose large parts the store does not have."""
    of = f"job {submission.spec.retry_of!r}" if submission.spec.retry_of else submission.spec.task
    return JobNotFound(f"large parts of the arguments of {of} are no longer kept: submit it anew")


async def anext_of(source: AsyncIterator[T]) -> T | None:
    """Return the next item, None after the last, as a coroutine that can be handed to the loop."""
    return await anext(source, None)


async def end_of(source: AsyncIterator[Any]) -> None:
    """Close an async generator."""
    await source.aclose()  # type: ignore[attr-defined]  # an async generator


def close_all() -> None:
    """Close every open kit of this process."""
    for connection in list(_open):
        with contextlib.suppress(Exception):  # the process is ending
            connection.close(is_exiting=True)
