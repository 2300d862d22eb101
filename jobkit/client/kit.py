"""`Kit`: a connection to one place where jobs go, with blocking verbs; `kit.aio` has the same as coroutines."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from jobkit.client import checks
from jobkit.client.aio import AioKit
from jobkit.client.batch import Batch, Jobs, arguments, listed, rule_of
from jobkit.client.bound import BoundKit
from jobkit.client.failures import FailureVerbs
from jobkit.client.hooks import Hook
from jobkit.client.job import Job
from jobkit.client.limiting import LimitingKit
from jobkit.client.loop import background
from jobkit.client.prepare import prepare, prepare_info
from jobkit.client.repeating import RepeatingKit
from jobkit.client.schedules import SchedulingKit
from jobkit.client.steering import SteeringVerbs
from jobkit.client.sweep import MAX_JOBS, MAX_LIMIT, Sweep, sweep_of
from jobkit.model import (
    EventType,
    InvalidParams,
    JobEvent,
    JobSnapshot,
    JobSpec,
    JobState,
    StoreUnavailable,
    apply,
)
from jobkit.settings import Settings, kinds_of, user_name
from jobkit.store.grammar import parse
from jobkit.store.query import Query
from jobkit.store.values import Submission, SubmitReply
from jobkit.tasks.options import SubmitOptions, check_submit_options
from jobkit.tasks.references import Reference, ids_of, replaced
from jobkit.tasks.registry import registry
from jobkit.tasks.task import BoundTask


class Kit(RepeatingKit, FailureVerbs, SteeringVerbs, SchedulingKit, LimitingKit):
    """A connection to one store of jobs: submits, finds and shows them. Made by `jobkit.connect()`.

    Args:
        settings: `settings.url` is a Redis or `sync://`; `local://` has been resolved to its socket.
        revive: called when an embedded server does not answer, before the next try; it starts the server again.
        before_submit: called once, before the first submit; it starts local workers that can run it.

    Raises:
        StoreUnavailable: the server does not answer.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        revive: Callable[[], object] | None = None,
        before_submit: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(settings, revive=revive)
        self._before_submit = before_submit
        self._owner = user_name()
        self._hooks: set[Hook] = set()
        self.aio = AioKit(self)
        if (
            "panel.io.server" in sys.modules
        ):  # a program that may serve pages: requests are judged from the first one on
            importlib.import_module("jobkit.ui.panel_server")

    def _ipython_display_(self) -> None:
        print(repr(self))
        if not self._closed and (jobs := self.jobs()):
            jobs._ipython_display_()

    # -- submitting ---------------------------------------------------------------------------------------------------

    def submit(self, task: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Job:
        """Submit a task, any other callable, or a task by name; returns a live `Job` at once.

        Raises:
            InvalidParams: an argument is refused; nothing was stored.
            UnknownTask: no task of that name.
            StoreUnavailable: the store did not answer.
        """
        return self._submit(task, args, kwargs, check_submit_options({}))

    def options(self, **options: Any) -> BoundKit:
        """This kit with options for its next submissions: `kit.options(queue="gpu").submit(len, "abc")`."""
        return BoundKit(self, check_submit_options(options))

    def map(
        self,
        task: Callable[..., Any] | str,
        items: Iterable[Any],
        /,
        *,
        stop_when: Callable[[Job], object] | str | None = None,
    ) -> Batch:
        """Submit a task once for each item, in bulk; returns a live `Batch`.

        Args:
            items: mappings are arguments by name, tuples by position, anything else is the one argument.
            stop_when: a rule after which the rest is cancelled, see `Batch.stop_when`.

        Raises:
            InvalidParams: there are none or too many, or one is refused; nothing was stored then.
        """
        return self._map(task, items, check_submit_options({}), stop_when)

    def sweep(self, task: Callable[..., Any] | str, /, **axes: Any) -> Batch:
        """Submit a task once for each combination of the axes' values: `kit.sweep(f, n=[1, 2], method=["a", "b"])`.

        Args:
            axes: arguments of the task, each with a list of values; and, as single values, `how` ("grid", "zip" or
                "random"), `samples` and `seed` of a random sweep, `limit` (at most so many points) and `stop_when`
                (see `Batch.stop_when`). A random sweep may also draw from `jobkit.Range(0.0, 1.0)`.

        Raises:
            InvalidParams: an axis is empty or unusable, or there are too many points; nothing was stored then.
        """
        return self._sweep(task, sweep_of(axes), check_submit_options({}))

    def submit_info(
        self, name: str, params: Mapping[str, Any], options: Mapping[str, Any] | None = None, *, owner: str = ""
    ) -> Job:
        """Submit a task by name with arguments by name, as forms, the command line and HTTP do.

        Args:
            params: values as of JSON; checked and coerced by the task's definition.
            options: queue, delay, at, key, tags, priority, timeout, retries, ...
            owner: who submits; the person at this process unless given.
        """
        over = check_submit_options(options or {})

        def prepared(job_id: str = "") -> Submission:
            made = self._prepare(name, (), params, over, job_id)
            return replace(made, spec=replace(made.spec, owner=owner)) if owner else made

        return self._send(prepared(), prepared)

    def map_info(
        self,
        name: str,
        items: Sequence[Mapping[str, Any]],
        options: Mapping[str, Any] | None = None,
        *,
        owner: str = "",
    ) -> Batch:
        """`submit_info` once for each of `items`, in bulk; see there."""
        return self._map(name, items, check_submit_options(options or {}), owner=owner)

    def _submit(
        self, task: Callable[..., Any] | str, args: Sequence[Any], kwargs: Mapping[str, Any], over: SubmitOptions
    ) -> Job:
        return self._send(self._prepare(task, args, kwargs, over), partial(self._prepare, task, args, kwargs, over))

    def _send(self, prepared: Submission, again: Callable[[str], Submission] | None = None) -> Job:
        """Store a submission and return its handle.

        Args:
            again: prepares the submission for another id, "" for a new one; see `SubmitReply.reseal_for`.
        """
        while True:
            spec = prepared.spec
            # An ended job may have been deleted meanwhile; then its key is free for a new job.
            if spec.key and (known := self._live.get(spec.id)) is not None and not known._is_over:
                return known
            with self._live.expecting(spec.id):
                reply = self._store_one(prepared)
                if reply.created_ms:
                    self._run_here(spec.id)
                if reply.reseal_for is None or again is None:
                    return self._accepted(spec, reply)
            prepared = again(reply.reseal_for)

    def _sweep(self, task: Callable[..., Any] | str, sweep: Sweep, over: SubmitOptions) -> Batch:
        return self._map(task, sweep.points, over, sweep.stop_when, sweep)

    def _map(
        self,
        task: Callable[..., Any] | str,
        items: Iterable[Any],
        over: SubmitOptions,
        stop_when: Callable[..., object] | str | None = None,
        sweep: Sweep | None = None,
        owner: str = "",
    ) -> Batch:
        if over.key:
            raise InvalidParams("a key names one job; it cannot name each job of a batch", "key")
        if over.debounce_s is not None:
            raise InvalidParams("debounce keeps the last submit alone; it cannot be of a batch", "debounce")
        rule = None if stop_when is None else rule_of(stop_when)
        most = MAX_JOBS if sweep is None else MAX_LIMIT
        prepared = [self._prepare(task, *arguments(item), over) for item in listed(items, most)]
        if owner:
            prepared = [replace(each, spec=replace(each.spec, owner=owner)) for each in prepared]
        with self._live.expecting(*(each.spec.id for each in prepared)):
            replies = self._call(partial(self._verbs.submit_many, prepared))
            jobs = [self._accepted(each.spec, reply) for each, reply in zip(prepared, replies, strict=True)]
        jobs = list({job.id: job for job in jobs}.values())  # the same work twice is one job
        batch = Batch(self, jobs, axes=sweep.axes if sweep else (), seed=sweep.seed if sweep else None)
        if rule is not None:
            batch.stop_when(rule)
        if self._inline is not None:
            for job in jobs:
                if not job.is_terminal:
                    self._run_here(job.id)
                batch._judge()
        return batch

    def _store_one(self, prepared: Submission) -> SubmitReply:
        self._ensure_open()
        if self._direct is not None and not background.is_here:
            began = time.monotonic()
            try:
                return self._direct.submit(prepared)
            except StoreUnavailable:
                # Its id makes it safe to repeat, on the way that can revive the server; but not to wait once more.
                if time.monotonic() - began > 1.0:
                    raise
        return self._call(partial(self._verbs.submit, prepared))

    def _accepted(self, spec: JobSpec, reply: SubmitReply) -> Job:
        """Return the handle of a stored submission. A new job's handle knows its first event, received or not."""
        submitted_ms = reply.created_ms
        if not submitted_ms:
            return self.get(reply.job_id)
        due = max(submitted_ms + spec.delay_ms, spec.at_ms)
        state = JobState.SCHEDULED if due > submitted_ms or spec.needs else JobState.QUEUED
        data = {"state": str(state), "submitted": submitted_ms, **({"due": due} if due > submitted_ms else {})}
        event = JobEvent(spec.id, 1, EventType.SUBMITTED, submitted_ms, data)
        snapshot = apply(JobSnapshot(spec, seq=0, state=state), event)
        assert snapshot is not None  # seq 1 follows seq 0
        return self._live.adopt_own(partial(Job, self), snapshot)

    def _prepare(
        self,
        task: Callable[..., Any] | str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        over: SubmitOptions,
        job_id: str = "",
    ) -> Submission:
        prepared = self._prepared(task, args, kwargs, over, job_id)
        if self._before_submit is not None:
            self._before_submit()
            self._before_submit = None
        return prepared

    def _prepared(
        self,
        task: Callable[..., Any] | str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        over: SubmitOptions,
        job_id: str,
    ) -> Submission:
        common: dict[str, Any] = {"settings": self.settings, "codec": self.codec, "owner": self._owner}
        common["job_id"] = job_id
        given = [list(args), dict(kwargs)]
        referring = replaced(given, self._reference_of)
        if referring is not given:
            args, kwargs = referring
            common["needs"] = ids_of(referring)
        if isinstance(task, str):
            if task in registry.names():
                return prepare(registry.get(task), args, kwargs, over, **common)
            infos = self._call(self._verbs.tasks)
            if task not in infos:
                raise self._verbs.unknown_task(task, {*infos, *registry.names()})
            if args:
                raise InvalidParams(f"task {task!r} is known by name only here: give its arguments by name")
            return prepare_info(infos[task], kwargs, over, **common)
        if isinstance(task, BoundTask):
            over = task.parsed.merged(over)
        return prepare(registry.task_of(task), args, kwargs, over, **common)

    def _reference_of(self, value: Any) -> Reference | None:
        """Return the placeholder for a job or batch among arguments, None for any other value."""
        if not isinstance(value, (Job, Batch, Jobs)):
            return None
        mine, its = self._store.settings, value._kit._store.settings
        if (mine.url, mine.namespace) != (its.url, its.namespace):
            its = value._kit.settings
            raise InvalidParams(
                f"an argument is a job of another kit ({its.masked_url}, namespace {its.namespace}), whose results the "
                f"workers of this one do not reach: pass its value, job.result()"
            )
        if isinstance(value, Job):
            return Reference([value.id])
        return Reference([job.id for job in value], is_many=True)

    # -- finding ------------------------------------------------------------------------------------------------------

    def get(self, job_id: str) -> Job:
        """The job with that id, from whichever process it came, with its whole past.

        Raises:
            JobNotFound: it is not kept.
        """
        known = self._live.get(checks.job_id(job_id))
        if known is not None and known.snapshot.is_terminal:
            return known
        return self._handle(self._call(partial(self._verbs.snapshot, job_id)))

    def last(self) -> Job | None:
        """The job that was submitted last, or None."""
        return next(iter(self.jobs(limit=1)), None)

    def jobs(
        self,
        state: str | Sequence[str] | None = None,
        task: str | None = None,
        queue: str | None = None,
        search: str | None = None,
        limit: int = 50,
        *,
        where: str = "",
        order: str = "",
    ) -> Jobs:
        """Jobs, newest first: a list, which a notebook shows as a live table.

        Args:
            state: one state or several. task, queue: their names; `*` stands for any text.
            search: text that stands in id, arguments, tags, message, error or result line.
            limit: at most so many.
            where: what the dashboard's search box takes: `"owner:ada age:<1h took:>10s lr=0.003"`.
            order: "took", "-started", "task", ...: another order than newest first; "-" for the largest first.

        Raises:
            InvalidParams: names the value that is refused, and what is allowed.
        """
        for name, value in {"task": task, "queue": queue, "search": search, "where": where, "order": order}.items():
            checks.text(name, value)
        base = Query(
            states=checks.states(state, JobState), task=task, queue=queue, limit=_limit(limit), order=order
        ).checked()
        wanted = parse(where, base)
        if search:
            wanted = replace(wanted, search=(*wanted.texts, search))
        page = self.page(wanted)
        return Jobs(self, [self._handle(snapshot) for snapshot in page.jobs])

    def _handle(self, snapshot: JobSnapshot) -> Job:
        known = self._live.get(snapshot.id)
        if known is not None:
            return known
        return self._live.adopt(Job(self, snapshot))

    # -- listening ----------------------------------------------------------------------------------------------------

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
        after = self._call(lambda: self._store.last_event_id())

        def register(call: Callable[[Job], object]) -> Hook:
            hook = Hook(self, call, kinds, task, after)
            self._hooks.add(hook)
            return hook

        return register

    def close(self) -> None:
        """End its connections and hooks. Jobs are not affected."""
        for hook in list(self._hooks):
            hook.stop()
        super().close()


def _limit(limit: int) -> int:
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= 100_000:
        raise InvalidParams(f"limit must be a whole number from 1 to 100000, not {limit!r}", "limit")
    return limit
