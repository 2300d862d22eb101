"""`kit.aio`: the kit's verbs as coroutines."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from jobkit.client.job import Job
from jobkit.client.listening import end_events, next_event
from jobkit.client.loop import background
from jobkit.codec import is_reference
from jobkit.model import JobEvent, JobState
from jobkit.run.inside import context
from jobkit.store.values import LogSlice
from jobkit.tasks.options import check_submit_options

if TYPE_CHECKING:
    from jobkit.client.kit import Kit

T = TypeVar("T")


#: A kernel that awaits a job sees an interrupt within so many seconds.
_WAKE_S = 0.25

_waiting: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, int] = weakref.WeakKeyDictionary()
_ticking: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


@contextlib.contextmanager
def _wakeful() -> Iterator[None]:
    """Let the running loop wake up now and then, in the kernel of a notebook.

    ipykernel's handler of SIGINT schedules the end of the cell with `call_soon`, which does not wake a loop that sleeps
    in `select`: without this, stopping a cell that awaits a job takes until the job says something.
    """
    if "ipykernel" not in sys.modules:
        yield
        return
    loop = asyncio.get_running_loop()

    def tick() -> None:
        if _waiting.get(loop):
            loop.call_later(_WAKE_S, tick)
        else:
            _ticking.discard(loop)

    _waiting[loop] = _waiting.get(loop, 0) + 1
    if loop not in _ticking:
        _ticking.add(loop)
        tick()
    try:
        yield
    finally:
        _waiting[loop] -= 1


class AioKit:
    """The kit's verbs as coroutines, for code that already runs in an event loop (any loop)."""

    #: Verbs whose coroutines are the background loop's own; the others do a little work in a thread.
    _DIRECT = frozenset(
        {"page", "snapshot", "counts", "queues", "workers", "stats", "preview"}
        | {"cancel", "cancel_many", "delete", "prune", "audit"}
        | {"waits_for_many"}
    )

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def submit(self, task: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Job:
        """Submit a task, any other callable, or a task by name; see `Kit.submit`."""
        kit = self._kit
        if kit._inline is not None or isinstance(task, str):
            return await asyncio.to_thread(kit.submit, task, *args, **kwargs)
        prepared = kit._prepare(task, args, kwargs, check_submit_options({}))
        spec = prepared.spec
        if spec.once is not None:  # may take several steps
            return await asyncio.to_thread(partial(kit.submit, task, *args, **kwargs))
        with kit._live.expecting(spec.id):
            reply = await self._run(kit.verbs.submit(prepared))
            if reply.created_ms:
                return kit._accepted(spec, reply)
        known: Job = await self.get(reply.job_id)
        return known

    async def outcome(self, job: Job) -> Any:
        """Return the value of `await job`, see `Job.result`. Cancelling it ends the waiting at once, not the job."""
        with _wakeful(), contextlib.nullcontext() if job._ended.done() else context.waiting([job.id], blocks=False):
            await asyncio.shield(asyncio.wrap_future(job._ended))
        job._publish()
        if job._cards:
            await asyncio.to_thread(job._settle)
        is_here = bool(job._result) and not is_reference(job._result) and not job.snapshot.cached_from
        if is_here or job.snapshot.state is JobState.CANCELLED:
            return self._kit._outcome(job, job._result)
        return await asyncio.to_thread(self._kit._outcome, job, job._result)

    async def logs(
        self,
        job_id: str,
        *,
        after: int = 0,
        before: int | None = None,
        tail: int | None = None,
        search: str = "",
        level: str = "",
        limit: int | None = None,
    ) -> LogSlice:
        """Lines of a job's log; see `Kit.log_slice`."""
        read = self._kit.verbs.logs
        return await self._run(
            read(job_id, after=after, before=before, tail=tail, search=search, level=level, limit=limit)
        )

    def events(self, after: str | None = None) -> AsyncIterator[JobEvent]:
        """All jobs' events; see `Kit.events`."""
        return self._iterate(self._kit.verbs.events(after))

    def job_events(self, job_id: str, after: int = 0) -> AsyncIterator[JobEvent]:
        """One job's events, to its end; see `Kit.job_events`."""
        return self._iterate(self._kit.verbs.job_events(job_id, after))

    async def _iterate(self, source: AsyncIterator[JobEvent]) -> AsyncIterator[JobEvent]:
        try:
            while True:
                yield await self._run(next_event(source))
        except StopAsyncIteration:
            return
        finally:
            await self._run(end_events(source))

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if name.startswith("_") or not callable(getattr(type(self._kit), name, None)):
            raise AttributeError(f"kit.aio has no verb {name!r}")
        kit = self._kit
        if name in self._DIRECT:
            return lambda *args, **kwargs: self._run(getattr(kit.verbs, name)(*args, **kwargs))
        return partial(asyncio.to_thread, getattr(kit, name))

    @staticmethod
    async def _run(coroutine: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(background.spawn(coroutine))
