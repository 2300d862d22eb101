"""From the arguments of a submit to a live handle, for blocking code, coroutines and bulk.

`prepare` checks, seals and describes the arguments before anything is stored; `BoundKit` sends what it has made.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from copy import copy
from functools import partial
from operator import attrgetter
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from msgspec.structs import replace

from jobkit.client.batch import Batch, arguments, listed, named
from jobkit.client.connection import Connection
from jobkit.client.found import Jobs
from jobkit.client.job import Job
from jobkit.client.sent import Sent
from jobkit.client.stop_rules import StopRule, judge_of, rule_of, sends_rules
from jobkit.client.submit_verbs import SUBMIT_VERBS, SubmitVerbs
from jobkit.client.sweep import MAX_JOBS, Sweep
from jobkit.codec import MSGPACK, RAW, Codec, Subject
from jobkit.features import modules
from jobkit.model import EventType, InvalidParams, JobEvent, JobSnapshot, JobSpec, JobState, StoreUnavailable
from jobkit.model.batch import NO_BATCH, BatchInfo, BatchSpec, part_id
from jobkit.model.neighbours import KIT, HasNeighbours
from jobkit.model.snapshot import changes
from jobkit.settings import Settings
from jobkit.store.sending import sliced
from jobkit.store.values import Submission, SubmitReply
from jobkit.tasks.call import Call, LargeParts, call_head, encode_head, needed_python
from jobkit.tasks.info import TaskInfo, plain_arguments
from jobkit.tasks.option_values import ENV_WORD, env_module
from jobkit.tasks.options import OPTIONS, JobOptions, check_submit_options
from jobkit.tasks.references import PLAIN, Reference, ids_of, replaced
from jobkit.tasks.registry import registry
from jobkit.tasks.task import TaskDef, own_paths, working_directory
from jobkit.tasks.values import shown_and_abridged
from jobkit.tasks.work import work_of

#: Options that a job's spec has unchanged.
_SAME = (
    "tags", "priority", "key", "isolation", "reuse", "timeout_s", "memory_limit_bytes", "cancel_grace_s", "retries",
    "backoff", "retry_on", "resources",
)  # fmt: skip
_same_of = attrgetter(*_SAME)


class SubmitTemplate(msgspec.Struct, frozen=True):
    """The part that all submissions of a task with the same options have in common."""

    options: JobOptions
    spec: JobSpec
    path: Sequence[str]
    """To import its module from, unless it is sent by value."""


class SubmitOrigin(msgspec.Struct, frozen=True):
    """Origin of submissions: settings and codec of a kit or worker, and the owner of their jobs."""

    settings: Settings
    codec: Codec
    owner: str = ""
    templates: WeakKeyDictionary[Any, SubmitTemplate] = msgspec.field(default_factory=WeakKeyDictionary)
    """Of the tasks that were submitted, if other processes can import them, and of the patterns of others."""
    ships: Callable[[], bool] = bool
    """Returns whether workers may be on other machines: then modules travel with functions that are sent by value."""


def new_id() -> str:
    """A fresh job id: 16 hexadecimal digits, of which people see the first 8."""
    return os.urandom(8).hex()


def random_seed() -> int:
    """Return a seed that all libraries take."""
    return int.from_bytes(os.urandom(4), "big")


def prepare(
    task: TaskDef[..., Any] | TaskInfo,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    over: JobOptions,
    origin: SubmitOrigin,
    *,
    needs: tuple[str, ...] = (),
    job_id: str = "",
    made_by: Callable[[], str] = str,
    large: LargeParts | None = None,
    batch: BatchSpec = NO_BATCH,
) -> Submission:
    """Return the submission for a call of a task, which is a `TaskInfo` if only a worker has its code.

    Args:
        needs: ids of the jobs to whose results arguments refer; those are checked when they are known.
        job_id: that it is sealed for; "" for that of the options, or a new one. batch: that it is a part of.
        made_by: returns the name of the facts about this process.
        large: has the large parts of the other calls of its batch.

    Raises:
        InvalidParams: an argument or option is refused; the message names it.
    """
    codec, name, ref, large = origin.codec, task.name, task.ref, large or LargeParts(task.name)
    template = _template_of(task, over, origin)
    options = template.options
    if isinstance(task, TaskInfo):
        if args:
            raise InvalidParams(f"task {name!r} is known by name only here: give its arguments by name")
        bound = plain_arguments(task.check(kwargs), task.params)
        defaults = {spec.name: spec.default for spec in task.params if spec.has_default and not spec.default_text}
        work = work_of(name, options, {**defaults, **bound}, codec, lambda: options.version)
        call, cwd = Call(None, (), bound), ""
    else:
        bound = task.signature.bind(args, kwargs, name, OPTIONS["submission"])
        work = work_of(name, options, bound, codec, lambda: task.code_version)
        # What travels by value must not be imported, so the bare function goes, not the TaskDef around it. It may
        # import what lies beside the notebook or script, where the worker's machine has it.
        call, cwd = Call(None if ref else task.function, *task.signature.call_args(bound)), working_directory()
    path = template.path if ref or isinstance(task, TaskInfo) else own_paths()
    seed = random_seed() if options.seed is True else options.seed
    pack, is_here = None, origin.settings.scheme == "sync"
    may_travel = not ref and origin.ships() and template.spec.isolation != "thread"
    if isinstance(task, TaskDef) and not is_here and (may_travel if options.ship is None else options.ship):
        roots = [*path, *own_paths()] if ref else path
        pack = next((module.packer(name, options.ship, ref, roots) for module in modules("packer")), None)
    variables, packages = dict(options.env), None
    if (word := variables.pop(ENV_WORD, "")) and not is_here:
        listed = env_module(word).submitted(task.source_dir or working_directory(), name)
        packages = large.add([], RAW, listed, "the list of packages")
    head = call_head(
        codec, call, has_references=bool(needs), ref=ref, path=path, cwd=cwd,
        is_named=isinstance(task, TaskInfo), cache_key=work["cache_key"], variables=variables, large=large,
        pack=pack, packages=packages, seed=seed, is_drawn=options.seed is True,
    )  # fmt: skip
    blobs = tuple(large.blobs[part] for part in head.part_names) if large.blobs else ()
    if not codec.allow_pickle and (why := origin.settings.only_reads):
        raise StoreUnavailable(why, is_refusal=True)
    if options.env and not codec.allow_pickle:
        raise InvalidParams("env needs a signing key: set JOBKIT_SECRET to one text here and on the workers", "env")
    if not codec.allow_pickle and isinstance(task, TaskDef):
        known = registry.known(name)
        if known is None or known.ref != ref:
            raise InvalidParams(
                f"{name} is not a registered task, and without a signing key workers run only tasks of their own "
                "modules: decorate it with @jobkit.task in a module that workers import (-t), or set JOBKIT_SECRET to "
                "the same text here and on the workers",
                "task",
            )
    if not job_id:  # the same key and task give the same job as long as it is kept
        of_key = options.key and "k" + hashlib.sha256(f"{name}\x00{options.key}".encode()).hexdigest()[:15]
        job_id = options.id or of_key or new_id()
    params, abridged = shown_and_abridged(bound)
    result_ttl_s = template.spec.result_ttl_s
    if needs and result_ttl_s is None:
        # One that ends because of another's end is kept as long as its submitter wants: no worker is there to say.
        result_ttl_s = origin.settings.result_ttl
    spec: JobSpec = replace(
        template.spec, id=job_id, params=params, abridged=abridged, owner=origin.owner, needs=needs, seed=seed,
        made=made_by(), batch=batch.id, batch_name=batch.name, has_parts=bool(blobs), result_ttl_s=result_ttl_s,
        traceparent=active_span(), python=needed_python(head), **work,
    )  # fmt: skip
    return Submission(spec, codec.seal(MSGPACK, encode_head(head), Subject("args", job_id, name)), blobs)


def active_span() -> str:
    """Return the W3C trace context of the active OpenTelemetry span, or "". Without its API loaded there is none."""
    trace = sys.modules.get("opentelemetry.trace")
    context = None if trace is None else trace.get_current_span().get_span_context()
    if context is None or not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _sent(spec: JobSpec) -> Sent:
    """Return the block that sends one job. An id does not make it safe to repeat a retry, nor a job with debounce."""
    is_debounced = spec.once is not None and spec.once.scope == "debounce"
    return Sent([spec.id], id="" if spec.key or spec.retry_of or is_debounced else spec.id, key=spec.key)


def _template_of(task: TaskDef[..., Any] | TaskInfo, over: JobOptions, origin: SubmitOrigin) -> SubmitTemplate:
    """Raises InvalidParams: it cannot be submitted, or its options contradict each other."""
    key = (task.pattern or (task if task.ref else None)) if isinstance(task, TaskDef) and not over.given else None
    if key is not None and (kept := origin.templates.get(key)) is not None:
        return kept
    name, settings, path = task.name, origin.settings, [task.source_dir] if task.source_dir else []
    if isinstance(task, TaskDef):
        if task.is_generator:
            raise InvalidParams(
                f"{name} is a generator function, of which a call runs nothing: submit a function that returns a list "
                "instead of using yield",
                "task",
            )
        over = task.chosen.merged(over) if task.given else over
    options = task.effective(over)
    title = options.title or task.title
    is_cached_longer = options.result_ttl_s is None and (options.cache_s or 0) > settings.result_ttl
    spec = JobSpec(
        id="",
        task=name,
        title="" if title == name else title,
        is_anonymous=isinstance(task, TaskDef) and task.is_anonymous,
        # Who submits decides first, then the routing table, which can be changed without touching code, then the task.
        queue=over.queue or settings.queue_for(name, options.queue or "default"),
        on_lost="" if options.on_lost == "retry" else options.on_lost,
        result_ttl_s=options.cache_s if is_cached_longer else options.result_ttl_s,
        is_fresh=options.fresh and options.cache_s is not None,
        delay_ms=int(max(options.delay_s, options.debounce_s or 0.0) * 1000),
        at_ms=int(options.at.timestamp() * 1000) if options.at else 0,
        **dict(zip(_SAME, _same_of(options), strict=True)),
    )
    template = SubmitTemplate(options, spec, path)
    if key is not None:
        origin.templates[key] = template
    return template


class BoundKit(HasNeighbours, SubmitVerbs):
    """Submits for a kit, with options for all of its submissions.

    Args:
        kit: of the batches. before_submit: called once, before the first submit.
    """

    _OTHER_NAMES = KIT

    def __init__(self, kit: Any, connection: Connection, before_submit: Callable[[], None] | None) -> None:
        self.kit, self.connection = kit, connection
        self._before_submit = [before_submit] if before_submit else []
        self._submitters = [module.submitter(connection) for module in modules("submitter")]
        self.over = JobOptions()
        ships = partial(getattr, connection, "is_shared")
        self.origin = SubmitOrigin(connection.settings, connection.codec, connection.owner, ships=ships)

    @property
    def submitter(self) -> BoundKit:
        return self

    def with_options(self, options: Mapping[str, Any]) -> BoundKit:
        """Return this with further options; they replace those of the same name."""
        bound = copy(self)
        bound.over = self.over.merged(check_submit_options(options))
        return bound

    def told(self, part: str = "") -> str:
        """Return the code that gives this, or a part of the kit with its options."""
        fields = {name: field.name for name, field in OPTIONS["submission"].items() if field.name in self.over.given}
        given = ", ".join(f"{name}={getattr(self.over, field)!r}" for name, field in fields.items())
        return f"{self.kit!r}{part}{f'.options({given})' if given else ''}"

    def __repr__(self) -> str:
        return self.told()

    def __dir__(self) -> list[str]:
        return SUBMIT_VERBS

    # -- verbs --------------------------------------------------------------------------------------------------------

    def submit_one(self, task: Callable[..., Any] | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Job:
        """See `submit`."""
        self.connection.ensure_open()
        again = partial(self.prepared, task, args, kwargs)
        return self.send(again(), again)

    async def submit_async(self, task: Callable[..., Any] | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Job:
        """`submit_one` from a coroutine, over a connection of its loop. Rare cases block, so they run in a thread."""
        self.connection.ensure_open()
        if isinstance(task, str) or self.connection.inline is not None or not self.connection.hub.is_live:
            return await asyncio.to_thread(self.submit_one, task, args, kwargs)
        if not all(each.is_ready for each in self._submitters):
            await asyncio.to_thread(self.made_by)
        again = partial(self.prepared, task, args, kwargs)
        prepared = again()
        spec = prepared.spec
        if (known := self._known(spec)) is not None:
            return known
        with self.connection.live.expecting(spec.id):
            with _sent(spec):
                reply = await self.connection.send_async(prepared)
            if reply.created_ms:
                return self.accepted(spec, reply)
        if reply.reseal_for is None:
            return await asyncio.to_thread(self._found, spec, reply)
        return await asyncio.to_thread(self.send, again(job_id=reply.reseal_for), again)

    def submit_info(
        self, name: str, params: Mapping[str, Any], options: Mapping[str, Any] | None = None, *, owner: str = ""
    ) -> Job:
        """Submit a task by name with arguments by name, as forms, the command line and HTTP do.

        Args:
            params: values as of JSON; checked and coerced by the task's definition.
            options: queue, delay, at, key, tags, priority, timeout, retries, ...
            owner: who submits; unless given, the logged-in user of the page session, or this process's user.
        """
        again = partial(self.with_options(options or {}).prepared, name, (), params, owner)
        return self.send(again(), again)

    def map_info(
        self,
        name: str,
        items: Sequence[Mapping[str, Any]],
        options: Mapping[str, Any] | None = None,
        *,
        owner: str = "",
        axes: Iterable[str] = (),
    ) -> Batch:
        """`submit_info` once for each of `items`, in bulk; see there. `axes`: arguments that are swept."""
        return self.with_options(options or {}).submit_all(name, Sweep(items, tuple(axes)), owner=owner)

    def submit_all(self, task: Callable[..., Any] | str, sweep: Sweep, most: int = MAX_JOBS, owner: str = "") -> Batch:
        """Submit a task once for each point of a sweep, of which there may be so many; see `map`."""
        rule = StopRule() if sweep.stop_when is None else rule_of(sweep.stop_when)
        self.connection.ensure_open()
        owner = owner or self.connection.owner
        definition, points = self.definition(task), listed(sweep.points, most)
        spec = BatchSpec(
            self.options_of(definition).id or new_id(), definition.name, len(points),
            "" if definition.title == definition.name else definition.title,
            named(sweep.name), owner, sweep.axes, sweep.seed, rule.words, rule.counted,
        )  # fmt: skip
        like = _template_of(definition, self.over, self.origin).spec
        judge = judge_of(self, spec, rule, like) if rule.function is not None and sends_rules(self) else None
        jobs = self.submit_each(definition, points, owner, spec, judge)
        batch = Batch(self.kit, list({job.id: job for job in jobs}.values()), BatchInfo(spec))  # each job once
        if rule.function is not None and judge is None:
            batch.judge_by(rule.function)
        self.connection.run_here([job.id for job in batch.jobs], batch.judge)
        return batch

    def options_of(self, definition: TaskDef[..., Any] | TaskInfo) -> JobOptions:
        return self.over if isinstance(definition, TaskInfo) else definition.chosen.merged(self.over)

    def submit_each(
        self,
        task: Callable[..., Any] | TaskInfo | str,
        items: Sequence[Any],
        owner: str = "",
        batch: BatchSpec | None = None,
        judge: Submission | None = None,
    ) -> list[Job]:
        """Return the jobs of these items, see `map`; of a batch that is stored with them, or of none.

        Those of `sync://` have not run. `judge`: the job that applies the rule of the batch.
        """
        self.connection.ensure_open()
        definition = self.definition(task)
        over = self.options_of(definition)
        if over.key:
            raise InvalidParams("a key names one job; it cannot name each job of a batch", "key")
        if over.debounce_s is not None:
            raise InvalidParams("debounce keeps the last submit alone; it cannot be of a batch", "debounce")
        call_id, large = batch.id if batch is not None else over.id or new_id(), LargeParts(definition.name)
        make = partial(self.prepared, definition, owner=owner, batch=batch or NO_BATCH, large=large)
        prepared = [make(*arguments(item), job_id=part_id(call_id, i)) for i, item in enumerate(items)]
        job_ids = [each.spec.id for each in prepared]
        self.connection.keep_parts(prepared)
        if judge is not None:
            self.send(judge)
        with Sent(job_ids, id=call_id) as on_way, self.connection.live.expecting(*job_ids):
            jobs: list[Job] = []
            submit, parts = self.connection.verbs.sender.submit_many, list(sliced(prepared))
            on_way.sent = len(parts[0])
            replies, sent = self.connection.call(submit, parts[0], batch), None
            try:
                for i, part in enumerate(parts, start=1):  # the server stores the next part while handles are made
                    on_way.accepted = on_way.sent
                    if i < len(parts):
                        on_way.sent += len(parts[i])
                    sent = self.connection.spawn(submit, parts[i], batch, on_way.accepted) if i < len(parts) else None
                    for each, reply in zip(part, replies, strict=True):
                        jobs.append(self.accepted(each.spec, self.connection.send(each) if reply.lacks else reply))
                    replies = sent.result() if sent is not None else []
            finally:
                if sent is not None:
                    sent.cancel()  # no-op unless this was interrupted
        return jobs

    # -- steps --------------------------------------------------------------------------------------------------------

    def send(self, prepared: Submission, again: Callable[..., Submission] | None = None) -> Job:
        """Store a submission and return its handle. `again` prepares it for an id, see `SubmitReply.reseal_for`."""
        self.connection.ensure_open()
        while True:
            spec = prepared.spec
            if (known := self._known(spec)) is not None:
                return known
            with self.connection.live.expecting(spec.id):
                with _sent(spec):
                    reply = self.connection.send(prepared)
                if reply.created_ms:
                    self.connection.run_here([spec.id])
                if reply.reseal_for is None or again is None:
                    return self._found(spec, reply)
            prepared = again(job_id=reply.reseal_for)

    def _known(self, spec: JobSpec) -> Job | None:
        """Return the handle of the job with the same key. None if it has ended: once deleted, its key is free."""
        known = self.connection.live.get(spec.id) if spec.key else None
        return None if known is None or known.is_over else known

    def _found(self, spec: JobSpec, reply: SubmitReply) -> Job:
        """`accepted` for one job. If a known job cannot be read, an earlier try may have stored it."""
        with _sent(spec) as on_way:
            on_way.accepted = 1
            return self.accepted(spec, reply)

    def accepted(self, spec: JobSpec, reply: SubmitReply) -> Job:
        """Return the handle of an accepted submission: of its new job, or of the job that does the same work."""
        submitted_ms = reply.created_ms
        if not submitted_ms:
            job = self.connection.job(reply.job_id)
            if job.id == spec.id and job.task != spec.task:
                raise InvalidParams(f"id {spec.id!r} is that of a job of another task: choose another one", "id")
            return job
        due = max(submitted_ms + spec.delay_ms, spec.at_ms)
        state = JobState.SCHEDULED if due > submitted_ms or spec.needs else JobState.QUEUED
        data = {"state": str(state), "submitted": submitted_ms, **({"due": due} if due > submitted_ms else {})}
        event = JobEvent(spec.id, 1, EventType.SUBMITTED, submitted_ms, data)
        return self.connection.live.adopt_own(JobSnapshot(spec, 1, history=(event,), **changes(data)))

    def definition(self, task: Callable[..., Any] | TaskInfo | str) -> TaskDef[..., Any] | TaskInfo:
        """Return the definition of a task; that of a worker if only its name is known here."""
        self.connection.start_stopped()
        if not isinstance(task, str):
            return task if isinstance(task, TaskInfo) else registry.task_of(task)
        if (known := registry.known(task)) is not None:
            return known
        verbs = self.connection.verbs
        infos = self.connection.call(verbs.tasks)
        if task not in infos:
            raise verbs.unknown_task(task, {*infos, *registry.names()})
        return infos[task]

    def prepared(
        self,
        task: Callable[..., Any] | TaskInfo | str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        owner: str = "",
        *,
        job_id: str = "",
        large: LargeParts | None = None,
        batch: BatchSpec = NO_BATCH,
    ) -> Submission:
        """Check and seal the arguments of a call; for a new job unless an id is given."""
        task = self.definition(task)
        needs: tuple[str, ...] = ()
        if not (PLAIN.issuperset(map(type, args)) and PLAIN.issuperset(map(type, kwargs.values()))):
            given = [list(args), dict(kwargs)]
            referring = replaced(given, self.reference_of)
            if referring is not given:
                args, kwargs = referring
                needs = ids_of(referring)
        owner = owner or self.connection.owner
        origin = self.origin if owner == self.origin.owner else replace(self.origin, owner=owner)
        made = prepare(
            task, args, kwargs, self.over, origin, needs=needs, job_id=job_id, made_by=self.made_by, large=large,
            batch=batch,
        )  # fmt: skip
        if self._before_submit:
            self._before_submit[0]()
            self._before_submit.clear()
        return made

    def made_by(self) -> str:
        """Return the name of what is kept of this process, "" for nothing. Blocks if that has changed."""
        return next((each.name() for each in self._submitters), "")

    def reference_of(self, value: Any) -> Reference | None:
        """Return the placeholder for a job, its future or a batch among arguments, None for any other value."""
        if isinstance(value, Future):
            value = getattr(value, "job", value)
        if not isinstance(value, (Job, Batch, Jobs)):
            return None
        mine, its = self.connection.store.settings, value.kit.verbs.store.settings
        if (mine.url, mine.namespace) != (its.url, its.namespace):
            its = value.kit.settings
            raise InvalidParams(
                f"an argument is a job of another kit ({its.masked_url}, namespace {its.namespace}), whose results the "
                f"workers of this one do not reach: pass its value, job.result()"
            )
        return Reference([value.id]) if isinstance(value, Job) else Reference([job.id for job in value], is_many=True)
