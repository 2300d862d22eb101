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
from typing import Any

import msgspec
from msgspec.structs import replace

from jobkit.codec import MSGPACK, Codec, Subject
from jobkit.model import Gate, InvalidParams, JobSpec, ScheduleSpec
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
from jobkit.tasks.task import TaskDef, own_paths
from jobkit.tasks.work import Work, work_of

logger = logging.getLogger("jobkit.worker")

#: Sealed arguments larger than this are refused: they belong in a file or a table store.
MAX_PAYLOAD_BYTES = 10_000_000


def new_id() -> str:
    """A fresh job id: 16 hexadecimal digits, of which people see the first 8."""
    return os.urandom(8).hex()


def id_of_key(task: str, key: str) -> str:
    """The id of the job that a key stands for: the same key and task give the same job as long as it is kept."""
    return "k" + hashlib.sha256(f"{task}\x00{key}".encode()).hexdigest()[:15]


def prepare(
    task: TaskDef[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    over: JobOptions,
    *,
    settings: Settings,
    codec: Codec,
    owner: str,
    retry_of: str = "",
    needs: tuple[str, ...] = (),
    job_id: str = "",
) -> Submission:
    """The submission for a call of a task that is known here.

    Args:
        job_id: of the waiting job whose place it takes; "" for a new one.
        needs: ids of the jobs to whose results arguments refer; those are checked when they are known.

    Raises:
        InvalidParams: an argument or option is refused; the message names it.
    """
    if task.is_generator:
        raise InvalidParams(
            f"{task.name} is a generator function, of which a call runs nothing: submit a function that returns a list "
            "instead of using yield",
            "task",
        )
    bound = task.bind(args, kwargs)
    over = task.chosen.merged(over) if task.given else over
    options = task.effective(over)
    work = work_of(task.name, options, bound, {}, codec, lambda: task.code_version)
    ref = task.ref
    # What travels by value may import what lies beside the notebook or script, where the worker's machine has it.
    path = [task.source_dir] if ref and task.source_dir else [] if ref else own_paths()
    call = task.signature.call_args(bound)
    # What travels by value must not be imported, so the bare function goes, not the TaskDef around it.
    function = None if ref else task.function
    encoded = encode_call(
        codec, Call(function, *call), ref=ref, path=path, cwd=_cwd(), has_references=bool(needs),
        cache_key=work.cache_key,
    )  # fmt: skip
    if not codec.allow_pickle and not _is_registered(task):
        raise InvalidParams(
            f"{task.name} is not a registered task, and without a signing key workers run only tasks of their own "
            "modules: decorate it with @jobkit.task in a module that workers import (-t), or set JOBKIT_SECRET to the "
            "same text here and on the workers",
            "task",
        )
    return _submission(
        task.name, task.title, bound, encoded, options, over,
        settings=settings, codec=codec, owner=owner, retry_of=retry_of, needs=needs, work=work, job_id=job_id,
    )  # fmt: skip


def prepare_info(
    info: TaskInfo,
    params: Mapping[str, Any],
    over: JobOptions,
    *,
    settings: Settings,
    codec: Codec,
    owner: str,
    needs: tuple[str, ...] = (),
    job_id: str = "",
) -> Submission:
    """The same for a task that only a worker knows: its code is not imported here."""
    bound = plain_arguments(info.check(params), info.params)
    options = info.effective(over)
    defaults = {spec.name: spec.default for spec in info.params if spec.has_default and not spec.default_text}
    work = work_of(info.name, options, bound, defaults, codec, lambda: options.version)
    path = [info.source_dir] if info.source_dir else []
    encoded = encode_call(
        codec, Call(None, (), bound), ref=info.ref, path=path, has_references=bool(needs), is_named=True,
        cache_key=work.cache_key,
    )  # fmt: skip
    return _submission(
        info.name, info.title, bound, encoded, options, over,
        settings=settings, codec=codec, owner=owner, needs=needs, work=work, job_id=job_id,
    )  # fmt: skip


def _submission(
    name: str,
    title: str,
    bound: Mapping[str, Any],
    encoded: bytes,
    options: JobOptions,
    over: JobOptions,
    *,
    settings: Settings,
    codec: Codec,
    owner: str,
    retry_of: str = "",
    needs: tuple[str, ...] = (),
    work: Work,
    job_id: str,
) -> Submission:
    if len(encoded) > MAX_PAYLOAD_BYTES:
        raise InvalidParams(
            f"the arguments of {name} take {len(encoded) / 1e6:.1f} MB, more than the {MAX_PAYLOAD_BYTES / 1e6:.0f} MB "
            "that travel through the queue; save the data to a file and pass its path"
        )
    job_id = job_id or (id_of_key(name, options.key) if options.key else new_id())
    delay_s = max(options.delay_s, options.debounce_s or 0.0)
    result_ttl_s = options.result_ttl_s
    if result_ttl_s is None and (work.cache_ms > settings.result_ttl * 1000 or needs):
        # One that ends because of another's end is kept as long as its submitter wants: no worker is there to say.
        result_ttl_s = max(settings.result_ttl, work.cache_ms / 1000)
    # Who submits decides first, then the routing table, which can be changed without touching code, then the task.
    queue = over.queue or settings.queue_for(name, options.queue or "default")
    params, abridged = shown_and_abridged(bound)
    spec = JobSpec(
        id=job_id,
        task=name,
        title="" if (options.title or title) == name else options.title or title,
        queue=queue,
        params=params,
        abridged=abridged,
        owner=owner,
        tags=options.tags,
        priority=options.priority,
        key=options.key,
        retry_of=retry_of,
        isolation=options.isolation or "process",
        reuse=options.reuse,
        timeout_s=options.timeout_s,
        memory_limit_bytes=options.memory_limit_bytes,
        cancel_grace_s=options.cancel_grace_s,
        on_lost="" if options.on_lost == "retry" else options.on_lost,
        retries=options.retries,
        backoff=options.backoff,
        retry_on=options.retry_on,
        result_ttl_s=result_ttl_s,
        limits=work.limits,
        resources=options.resources,
        once=work.once,
        cache_key=work.cache_key,
        cache_ms=work.cache_ms,
        is_fresh=options.fresh and bool(work.cache_key),
        delay_ms=int(delay_s * 1000),
        at_ms=int(options.at.timestamp() * 1000) if options.at else 0,
        needs=needs,
    )
    return Submission(spec, codec.seal(MSGPACK, encoded, Subject("args", job_id, name)))


def _is_registered(task: TaskDef[..., Any]) -> bool:
    known = registry.known(task.name)
    return known is not None and known.ref == task.ref


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed under us
        return ""


def limits_of(
    task: TaskDef[..., Any], bound: Mapping[str, Any], before: tuple[Gate, ...], codec: Codec
) -> tuple[Gate, ...]:
    """The gates of a job that runs again with other arguments; those it had where its task has no limits now."""
    found = work_of(task.name, task.effective(), bound, {}, codec, lambda: task.code_version).limits
    return found or before


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
    spec = ScheduleSpec(
        name or default_name(job.task, job.params),
        replace(job, id="", key="", delay_ms=0, at_ms=0),
        when.cron,
        when.every_ms,
        when.at_ms,
        when.tz,
        when.until_ms,
        **rules,
    )
    return spec, codec.seal(form, body, subject_of(spec))


def default_name(task: str, params: Mapping[str, Any]) -> str:
    """The name of a schedule that was given none: the same task with the same arguments has the same one."""
    name = re.sub(r"[^A-Za-z0-9_.:-]", "_", task)[:180]
    if name == task and not params:
        return name
    digest = hashlib.sha256(task.encode() + b"\0" + msgspec.json.encode(dict(params), order="sorted"))
    return f"{name}-{digest.hexdigest()[:6]}"


async def put_coded(store: RedisStore, tasks: Sequence[TaskDef[..., Any]], settings: Settings, codec: Codec) -> None:
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
        try:
            spec, payload = of_task(task, settings, codec)
        except Exception as error:  # of the user's: a hint that names what is not there, for instance
            logger.warning("task %s: its schedule is left out: %s", task.name, error)
            continue
        next_ms = Timing.of(spec).after(now_ms, now_ms)
        if next_ms is not None and not await store.schedules.put(spec, payload, next_ms):
            logger.info("schedule %s was changed at run time and stays so: the one in the code is not used", spec.name)
    for kept in await store.schedules.snapshots():
        module = kept.spec.module
        is_here = module in loaded or module in sys.modules
        if module and is_here and kept.spec.job.task not in coded and await store.schedules.remove(kept.name):
            logger.info("schedule %s is removed: its task has none any more", kept.name)


def of_task(task: TaskDef[..., Any], settings: Settings, codec: Codec) -> tuple[ScheduleSpec, bytes]:
    """The schedule in a task's code, and its sealed arguments (none).

    Raises:
        InvalidParams: the task cannot be called without arguments.
    """
    given = task.effective().schedule
    made = timing(**{name: given.get(name) for name in ("cron", "every", "tz")}, now_ms=0)
    prepared = prepare(task, (), {}, JobOptions(), settings=settings, codec=codec, owner="")
    rules = {name: given[name] for name in ("missed", "missed_limit", "overlap") if name in given}
    return scheduled(prepared, task.name, made, codec, module=task.ref.partition(":")[0], **rules)
