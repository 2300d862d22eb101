"""From a call to a submission: arguments checked, sealed and described, before anything is stored.

Also from a submission to a schedule of such jobs, and the schedules in the code: `@task(schedule="0 3 * * *")`. Each
worker and each dashboard that knows the tasks stores their schedules at its start: they come with the code, change with
it, and go with it. A change at run time stays until the schedule is removed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec
from msgspec.structs import asdict, replace

from jobkit.codec import MSGPACK, Codec, Subject
from jobkit.model import InvalidParams, JobSpec, ScheduleSpec
from jobkit.schedules.firing import subject_of
from jobkit.schedules.timing import Timing, timing
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore
from jobkit.store.values import Submission
from jobkit.tasks.arguments import shown_and_abridged
from jobkit.tasks.call import Call, encode_call
from jobkit.tasks.info import TaskInfo, plain_arguments
from jobkit.tasks.options import JobOptions
from jobkit.tasks.registry import registry
from jobkit.tasks.task import TaskDef, own_paths, working_directory
from jobkit.tasks.work import work_of

logger = logging.getLogger("jobkit.worker")

#: Sealed arguments larger than this are refused: they belong in a file or a table store.
MAX_PAYLOAD_BYTES = 10_000_000


class Origin(msgspec.Struct, frozen=True):
    """Origin of submissions: settings and codec of a kit or worker, and the owner of their jobs."""

    settings: Settings
    codec: Codec
    owner: str = ""


def new_id() -> str:
    """A fresh job id: 16 hexadecimal digits, of which people see the first 8."""
    return os.urandom(8).hex()


def prepare(
    task: TaskDef[..., Any] | TaskInfo,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    over: JobOptions,
    origin: Origin,
    *,
    needs: tuple[str, ...] = (),
    job_id: str = "",
) -> Submission:
    """Return the submission for a call of a task, which is a `TaskInfo` if only a worker has its code.

    Args:
        needs: ids of the jobs to whose results arguments refer; those are checked when they are known.
        job_id: of the waiting job whose place it takes; "" for a new one.

    Raises:
        InvalidParams: an argument or option is refused; the message names it.
    """
    codec, name, ref = origin.codec, task.name, task.ref
    path = [task.source_dir] if task.source_dir else []
    if isinstance(task, TaskInfo):
        if args:
            raise InvalidParams(f"task {name!r} is known by name only here: give its arguments by name")
        bound = plain_arguments(task.check(kwargs), task.params)
        options = task.effective(over)
        defaults = {spec.name: spec.default for spec in task.params if spec.has_default and not spec.default_text}
        work = work_of(name, options, {**defaults, **bound}, codec, lambda: options.version)
        call, cwd = Call(None, (), bound), ""
    else:
        if task.is_generator:
            raise InvalidParams(
                f"{name} is a generator function, of which a call runs nothing: submit a function that returns a list "
                "instead of using yield",
                "task",
            )
        bound = task.signature.bind(args, kwargs)
        over = task.chosen.merged(over) if task.given else over
        options = task.effective(over)
        work = work_of(name, options, bound, codec, lambda: task.code_version)
        # What travels by value must not be imported, so the bare function goes, not the TaskDef around it. It may
        # import what lies beside the notebook or script, where the worker's machine has it.
        call, cwd = Call(None if ref else task.function, *task.signature.call_args(bound)), working_directory()
        path = path if ref else own_paths()
    encoded = encode_call(
        codec, call, has_references=bool(needs), ref=ref, path=path, cwd=cwd, is_named=isinstance(task, TaskInfo),
        cache_key=work["cache_key"],
    )  # fmt: skip
    if not codec.allow_pickle and isinstance(task, TaskDef):
        known = registry.known(name)
        if known is None or known.ref != ref:
            raise InvalidParams(
                f"{name} is not a registered task, and without a signing key workers run only tasks of their own "
                "modules: decorate it with @jobkit.task in a module that workers import (-t), or set JOBKIT_SECRET to "
                "the same text here and on the workers",
                "task",
            )
    if len(encoded) > MAX_PAYLOAD_BYTES:
        raise InvalidParams(
            f"the arguments of {name} take {len(encoded) / 1e6:.1f} MB, more than the {MAX_PAYLOAD_BYTES / 1e6:.0f} MB "
            "that travel through the queue; save the data to a file and pass its path"
        )
    if not job_id:  # the same key and task give the same job as long as it is kept
        key = options.key
        job_id = "k" + hashlib.sha256(f"{name}\x00{key}".encode()).hexdigest()[:15] if key else new_id()
    settings, result_ttl_s = origin.settings, options.result_ttl_s
    if result_ttl_s is None and (work["cache_ms"] > settings.result_ttl * 1000 or needs):
        # One that ends because of another's end is kept as long as its submitter wants: no worker is there to say.
        result_ttl_s = max(settings.result_ttl, work["cache_ms"] / 1000)
    title = options.title or task.title
    params, abridged = shown_and_abridged(bound)
    spec = JobSpec(
        id=job_id,
        task=name,
        title="" if title == name else title,
        # Who submits decides first, then the routing table, which can be changed without touching code, then the task.
        queue=over.queue or settings.queue_for(name, options.queue or "default"),
        params=params,
        abridged=abridged,
        owner=origin.owner,
        on_lost="" if options.on_lost == "retry" else options.on_lost,
        result_ttl_s=result_ttl_s,
        is_fresh=options.fresh and bool(work["cache_key"]),
        delay_ms=int(max(options.delay_s, options.debounce_s or 0.0) * 1000),
        at_ms=int(options.at.timestamp() * 1000) if options.at else 0,
        needs=needs,
        **work,
        **dict(zip(_SAME, _same_of(options), strict=True)),
    )
    return Submission(spec, codec.seal(MSGPACK, encoded, Subject("args", job_id, name)))


#: Options that a job's spec has unchanged.
_SAME = (
    "tags", "priority", "key", "isolation", "reuse", "timeout_s", "memory_limit_bytes", "cancel_grace_s", "retries",
    "backoff", "retry_on", "resources",
)  # fmt: skip
_same_of = attrgetter(*_SAME)


def scheduled(prepared: Submission, name: str, when: Timing, codec: Codec, **rules: Any) -> tuple[ScheduleSpec, bytes]:
    """The schedule whose jobs are like the prepared one, and its arguments, sealed for it.

    Args:
        name: "" for one made of the task and its arguments.
        rules: further fields of `ScheduleSpec`.

    Raises:
        InvalidParams: an argument is a job, whose result would be the same each time.
    """
    job = prepared.spec
    if job.needs:
        raise InvalidParams("an argument of a schedule cannot be a job: pass its value, job.result()")
    form, body = codec.verify(prepared.payload, Subject("args", job.id, job.task))
    if not name:  # the same task with the same arguments has the same one
        name = re.sub(r"[^A-Za-z0-9_.:-]", "_", job.task)[:180]
        if name != job.task or job.params:
            call = job.task.encode() + b"\0" + msgspec.json.encode(dict(job.params), order="sorted")
            name += f"-{hashlib.sha256(call).hexdigest()[:6]}"
    job = replace(job, id="", key="", delay_ms=0, at_ms=0)
    spec = ScheduleSpec(name, job, **asdict(when), **rules)
    return spec, codec.seal(form, body, subject_of(spec))


async def put_coded(store: RedisStore, tasks: Sequence[TaskDef[..., Any]], origin: Origin) -> None:
    """Keep the schedules of these tasks, and remove those that their modules do not have any more.

    A schedule whose task cannot run without arguments, or has a signature that cannot be read, is left out, and the log
    says so.

    Raises:
        StoreUnavailable: the server does not answer.
    """
    coded = {task.name: task for task in tasks if task.effective().schedule and task.ref}
    loaded = {task.ref.partition(":")[0] for task in tasks if task.ref}
    now_ms = await store.now_ms() if coded else 0
    for task in coded.values():
        given = task.effective().schedule
        made = timing(**{name: given.get(name) for name in ("cron", "every", "tz")}, now_ms=0)
        rules = {name: given[name] for name in ("missed", "missed_limit", "overlap") if name in given}
        try:
            prepared = prepare(task, (), {}, JobOptions(), origin)
        except Exception as error:  # of the user's: a hint that names what is not there, for instance
            logger.warning("task %s: its schedule is left out: %s", task.name, error)
            continue
        module = task.ref.partition(":")[0]
        spec, payload = scheduled(prepared, task.name, made, origin.codec, module=module, **rules)
        next_ms = made.after(now_ms, now_ms)
        if next_ms is not None and not await store.schedules.put(spec, payload, next_ms):
            logger.info("schedule %s was changed at run time and stays so: the one in the code is not used", spec.name)
    for kept in await store.schedules.snapshots():
        module = kept.spec.module
        is_here = module in loaded or module in sys.modules
        if module and is_here and kept.spec.job.task not in coded and await store.schedules.remove(kept.name):
            logger.info("schedule %s is removed: its task has none any more", kept.name)
