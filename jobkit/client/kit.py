"""`Kit`: a connection to one place where jobs go, with blocking verbs; `kit.aio` has the same as coroutines.

The verbs are written once, in the services that a kit makes. The table in `Kit` gives them both forms; see
`jobkit.client.connection` for how.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, Self

from jobkit.client.awaiting import open_ids, wakeful
from jobkit.client.batch import Batch
from jobkit.client.connection import Connection, EmbeddedServer
from jobkit.client.events import Hook, all_events, events_of_job
from jobkit.client.forms import coroutine_of, in_thread, on_loop, stream, submitting
from jobkit.client.found import Jobs
from jobkit.client.job import Job
from jobkit.client.log_verbs import LogVerbs
from jobkit.client.pauses import Queues, QueueVerbs, Tasks
from jobkit.client.reader import JobReader, has_outcome
from jobkit.client.repeat import Repeater
from jobkit.client.submit import BoundKit
from jobkit.client.submit_verbs import AIO_SUBMIT_VERBS, AioSubmitVerbs, SubmitVerbs
from jobkit.client.verbs import Verbs
from jobkit.client.workers import Workers
from jobkit.feature import NounOf
from jobkit.features.nouns import Nouns
from jobkit.model import InvalidParams, JobkitError, JobState, StoreUnavailable
from jobkit.model.events import kinds_of
from jobkit.model.neighbours import KIT, HasNeighbours, similar
from jobkit.run.inside import context
from jobkit.settings import Settings
from jobkit.store.hub import EventHub
from jobkit.store.redis import RedisStore
from jobkit.tasks.shown import Shown


class Kit(Nouns, HasNeighbours, Shown, SubmitVerbs):
    """A connection to one store of jobs: submits, finds and shows them. Made by `jobkit.connect()`.

    Args:
        settings: `settings.url` is a Redis or `sync://`; `local://` has been resolved to its socket.
        embedded: starts the embedded server, if it is one. asked: the settings of `connect`, for
            processes beside this one; None for a kit that starts none.
        open_store, has_own_space: see `Connection`.

    Raises:
        StoreUnavailable: the server does not answer.

    Example:
        >>> with jobkit.connect("sync://") as kit:
        ...     kit.submit(len, "abc").result()
        3
    """

    _OTHER_NAMES = KIT
    _internal = frozenset(
        {
            "artifact", "asked", "cancel_many", "checked_changes", "codec", "connection", "counts", "delete_many",
            "expected_starts", "find_id", "handle", "hub", "job_events", "log_hits", "log_slice", "map_info",
            "metric_lines", "metrics_of", "outcome", "page", "queue_reasons", "reader", "refused", "repeater",
            "rerun_with", "retry_all", "retry_many", "runs_other_code", "snapshot", "submit_info", "submitter", "verbs",
            "waits_for_many"
        }
    )  # fmt: skip

    def __init__(
        self,
        settings: Settings,
        *,
        embedded: EmbeddedServer | None = None,
        asked: Settings | None = None,
        open_store: Callable[[Settings], RedisStore] = RedisStore,
        has_own_space: bool = False,
    ) -> None:
        connection = Connection(
            settings, partial(Job, self), embedded=embedded, open_store=open_store, has_own_space=has_own_space
        )
        self.codec = connection.codec
        self.connection = connection
        self.submitter = BoundKit(self, connection, None if embedded is None else embedded.want_workers)
        self.reader = JobReader(self, connection)
        self.repeater = Repeater(connection, self.submitter, self.reader)
        self.asked = asked
        self._hooks: set[Hook] = set()
        self.aio = AioKit(self)
        if "panel.io.server" in sys.modules:  # this program may serve pages: requests are judged from the first one on
            importlib.import_module("jobkit.ui.panel_server")

    # -- submitting ---------------------------------------------------------------------------------------------------

    submit_info = in_thread("submitter", BoundKit.submit_info)
    map_info = in_thread("submitter", BoundKit.map_info)

    # -- finding jobs and looking at them -----------------------------------------------------------------------------

    get = in_thread("reader", JobReader.get)
    last = in_thread("reader", JobReader.last)
    jobs = in_thread("reader", JobReader.jobs)
    page = on_loop("verbs", Verbs.page)
    find_id = on_loop("verbs", Verbs.find_id)
    snapshot = on_loop("verbs", Verbs.snapshot)
    counts = on_loop("verbs", Verbs.counts)
    stats = on_loop("verbs", Verbs.stats)
    queue_reasons = on_loop("verbs", Verbs.queue_reasons)
    refused = on_loop("verbs", Verbs.refused)
    waits_for = on_loop("verbs", Verbs.waits_for)
    waits_for_many = on_loop("verbs", Verbs.waits_for_many)
    expected_starts = on_loop("verbs", Verbs.expected_starts)
    events = stream("verbs", all_events)
    job_events = stream("verbs", events_of_job)

    # -- outputs of a job ---------------------------------------------------------------------------------------------

    outcome = in_thread("reader", JobReader.outcome)
    preview = on_loop("verbs", Verbs.preview)
    logs = in_thread("reader", JobReader.logs)
    log_hits = on_loop("verbs.logs", LogVerbs.log_hits)
    log_slice = on_loop("verbs.logs", LogVerbs.log_slice)
    log_file = in_thread("reader", JobReader.log_file)
    artifacts = in_thread("reader", JobReader.artifacts)
    artifact = in_thread("reader", JobReader.artifact)

    # -- stopping, deleting -------------------------------------------------------------------------------------------

    cancel = on_loop("verbs", Verbs.cancel)
    cancel_many = on_loop("verbs", Verbs.cancel_many)
    delete = on_loop("verbs", Verbs.delete)
    delete_many = in_thread("repeater", Repeater.delete_many)
    prune = on_loop("verbs", Verbs.prune)

    # -- running again ------------------------------------------------------------------------------------------------

    retry = submitting("repeater", Repeater.retry)
    retry_all = submitting("repeater", Repeater.retry_all)
    retry_many = submitting("repeater", Repeater.retry_many)
    rerun = submitting("repeater", Repeater.rerun)
    rerun_with = submitting("repeater", Repeater.rerun_with)
    checked_changes = in_thread("repeater", Repeater.checked_changes)
    runs_other_code = in_thread("repeater", Repeater.runs_other_code)

    # -- queues, tasks, workers, places in line -----------------------------------------------------------------------

    queues = NounOf(Queues)
    tasks = NounOf(Tasks)
    workers = NounOf(Workers)
    move = in_thread("queues.verbs", QueueVerbs.move)

    # -- hooks --------------------------------------------------------------------------------------------------------

    def on(self, *events: str, task: str = "*") -> Callable[[Callable[[Job], object]], Hook]:
        """Call a function for each job to which something happens, here in this process, as long as it lives.

            @kit.on("failed", task="train_*")
            def tell(job): ...

        Args:
            events: "submitted", "started", "failed", ... (see `jobkit.EventType`), or "ended" for every way to end.
            task: name or pattern of tasks.

        Returns:
            A decorator, which gives a `Hook`; its `stop()` ends it. It is called in a separate thread, once for each
            event from now on, with the job as it is by then; what it raises is logged and harms nothing.

        Raises:
            InvalidParams: an unknown event.
        """
        kinds = kinds_of(events)
        after = self.connection.call(self.verbs.store.last_event_id)

        def register(call: Callable[[Job], object]) -> Hook:
            hook = Hook(self.connection, call, kinds, task, after)
            self._hooks.add(hook)
            return hook

        return register

    # -- the connection -----------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        return self.connection.settings

    @property
    def hub(self) -> EventHub:
        """The process's subscriber: `listen(callback, job_id=None)`, `on_status`, `is_live`."""
        self.connection.ensure_open()
        return self.connection.hub

    @property
    def verbs(self) -> Verbs:
        """Coroutines for code that runs on the background loop, and the store."""
        self.connection.ensure_open()
        return self.connection.verbs

    @property
    def is_closed(self) -> bool:
        """True after `close`."""
        return self.connection.is_closed

    def handle(self, snapshot: Any) -> Job:
        """Return the live handle of the job of a snapshot."""
        self.connection.ensure_open()
        return self.connection.live.handle(snapshot)

    def close(self) -> None:
        """End its connections and hooks. Jobs are not affected."""
        for hook in self._hooks:
            hook.stop()
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """The pickle has no password and no key: `travelled_kit` connects again."""
        if self.is_closed:
            raise InvalidParams(f"this kit ({self.settings.masked_url}) is closed and cannot travel: connect again")
        return travelled_kit, (_mark_of(self), self.settings.namespace, self.settings.masked_url)

    def __repr__(self) -> str:
        place = f"{self.settings.masked_url} namespace={self.settings.namespace}"
        return f"<Kit {place} {'closed' if self.is_closed else 'open'}>"

    def _cell(self) -> Any:
        jobs, said = Jobs(self, ()), repr(self)
        if not self.is_closed:
            try:
                jobs = self.jobs()
            except StoreUnavailable as error:
                said = f"{said}\n{error}"
        shown = jobs._cell()
        shown.heading = shown.text = said
        return shown


class AioKit(AioSubmitVerbs):
    """The kit's verbs as coroutines, for code that already runs in an event loop (any loop)."""

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit.submitter)
        self._kit = kit

    def __dir__(self) -> list[str]:
        verbs = [name for name in dir(self._kit) if coroutine_of(self._kit, name) is not None or self._has_noun(name)]
        return sorted([*verbs, *AIO_SUBMIT_VERBS])

    def _has_noun(self, name: str) -> bool:
        return isinstance(getattr(type(self._kit), name, None), NounOf)

    async def outcome(self, job: Job) -> Any:
        """Return the value of `await job`, see `Job.result`. Cancelling it ends the waiting at once, not the job."""
        with wakeful(), contextlib.nullcontext() if job.is_over else context.waiting([job.id], blocks=False):
            await asyncio.shield(asyncio.wrap_future(job.ending))
        return await self._value(job)

    async def outcomes(self, batch: Batch) -> list[Any]:
        """Return the values of `await batch`, see `Batch.result`."""
        loop, jobs = asyncio.get_running_loop(), list(batch.jobs)
        ended: asyncio.Queue[tuple[Job, Future[None]]] = asyncio.Queue()

        def put(job: Job, end: Future[None]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(ended.put_nowait, (job, end))

        for job in jobs:
            job.ending.add_done_callback(partial(put, job))
        unended, is_job = deque(jobs), context.active() is not None
        for _ in jobs:
            awaited = open_ids(unended) if is_job else []
            with wakeful(), context.waiting(awaited, blocks=False) if awaited else contextlib.nullcontext():
                job, end = await ended.get()
            end.result()
            if job.snapshot.state is not JobState.SUCCEEDED:
                await self._value(job)
        if batch.cards:
            await asyncio.to_thread(batch.wait)
        batch.publish()
        return [await self._value(job) for job in jobs]

    async def _value(self, job: Job) -> Any:
        """Return the value of an ended job."""
        if job.cards:
            await asyncio.to_thread(job.wait)
        job.publish()
        outcome = self._kit.reader.outcome
        return outcome(job) if has_outcome(job) else await self._kit.connection.run_async(outcome, job)

    def __getattr__(self, name: str) -> Any:
        if self._has_noun(name):
            return getattr(self._kit, name).aio
        if (coroutine := coroutine_of(self._kit, name)) is None:
            raise AttributeError(f"kit.aio has no verb {name!r}{similar(self, name)}")
        return partial(coroutine, self._kit)


#: Open kits of this process, by the mark of their namespace (`RedisStore.place`).
_travelling: weakref.WeakValueDictionary[str, Kit] = weakref.WeakValueDictionary()


def _mark_of(kit: Kit) -> str:
    """Return the mark of a kit's namespace, by which `travelled_kit` finds the kit in this process."""
    place: str = kit.connection.call(kit.connection.store.place)
    _travelling[place] = kit
    return place


def travelled_kit(place: str, namespace: str, url: str) -> Kit:
    """Return the kit of a pickle: that of this process, or a new one in the process of a job.

    Args:
        place: mark of its namespace. url: for messages, without password.

    Raises:
        JobkitError: this is not the process of a job, or the worker serves another server.
    """
    if (known := _travelling.get(place)) is not None and not known.is_closed:
        return known
    running = context.active()
    settings: Mapping[str, Any] = running.kit_settings if running is not None else {}
    what = f"the kit of {url}, namespace {namespace},"
    if not settings:
        raise JobkitError(f"{what} can be used in jobs only: call jobkit.connect() here")
    kit = Kit(Settings.load(**settings, namespace=namespace))
    if _mark_of(kit) != place:
        kit.close()
        raise JobkitError(f"{what} is that of another server than this worker's: call jobkit.connect(...) in the job")
    return kit
