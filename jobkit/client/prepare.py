"""From a call to a submission: arguments checked, sealed and described, before anything is stored."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from msgspec.structs import replace

from jobkit.codec import MSGPACK, Codec, Subject
from jobkit.model import InvalidParams, JobSpec
from jobkit.settings import Settings
from jobkit.store.values import Submission
from jobkit.tasks.arguments import shown_and_abridged
from jobkit.tasks.call import Call, encode_call
from jobkit.tasks.info import TaskInfo, plain_arguments
from jobkit.tasks.options import JobOptions
from jobkit.tasks.registry import registry
from jobkit.tasks.task import TaskDef, own_paths, working_directory
from jobkit.tasks.work import work_of

#: Sealed arguments larger than this are refused: they belong in a file or a table store.
MAX_PAYLOAD_BYTES = 10_000_000

#: Options that a job's spec has unchanged.
_SAME = (
    "tags", "priority", "key", "isolation", "reuse", "timeout_s", "memory_limit_bytes", "cancel_grace_s", "retries",
    "backoff", "retry_on", "resources",
)  # fmt: skip
_same_of = attrgetter(*_SAME)


class Template(msgspec.Struct, frozen=True):
    """What all submissions of a task with the same options have in common."""

    options: JobOptions
    spec: JobSpec
    path: Sequence[str]


class Origin(msgspec.Struct, frozen=True):
    """Origin of submissions: settings and codec of a kit or worker, and the owner of their jobs."""

    settings: Settings
    codec: Codec
    owner: str = ""
    templates: WeakKeyDictionary[Any, Template] = msgspec.field(default_factory=WeakKeyDictionary)
    """Of the tasks that were submitted, if other processes can import them."""


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
        bound = task.signature.bind(args, kwargs)
        work = work_of(name, options, bound, codec, lambda: task.code_version)
        # What travels by value must not be imported, so the bare function goes, not the TaskDef around it. It may
        # import what lies beside the notebook or script, where the worker's machine has it.
        call, cwd = Call(None if ref else task.function, *task.signature.call_args(bound)), working_directory()
    encoded = encode_call(
        codec, call, has_references=bool(needs), ref=ref, path=template.path, cwd=cwd,
        is_named=isinstance(task, TaskInfo), cache_key=work["cache_key"],
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
    params, abridged = shown_and_abridged(bound)
    spec: JobSpec = replace(
        template.spec, id=job_id, params=params, abridged=abridged, owner=origin.owner, needs=needs, **work
    )
    if needs and spec.result_ttl_s is None:
        # One that ends because of another's end is kept as long as its submitter wants: no worker is there to say.
        spec = replace(spec, result_ttl_s=origin.settings.result_ttl)
    return Submission(spec, codec.seal(MSGPACK, encoded, Subject("args", job_id, name)))


def _template_of(task: TaskDef[..., Any] | TaskInfo, over: JobOptions, origin: Origin) -> Template:
    """Raises InvalidParams: it cannot be submitted, or its options contradict each other."""
    is_kept = isinstance(task, TaskDef) and not over.given
    if is_kept and (kept := origin.templates.get(task)) is not None:
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
        path = path if task.ref else own_paths()
    options = task.effective(over)
    title = options.title or task.title
    is_cached_longer = options.result_ttl_s is None and (options.cache_s or 0) > settings.result_ttl
    spec = JobSpec(
        id="",
        task=name,
        title="" if title == name else title,
        # Who submits decides first, then the routing table, which can be changed without touching code, then the task.
        queue=over.queue or settings.queue_for(name, options.queue or "default"),
        on_lost="" if options.on_lost == "retry" else options.on_lost,
        result_ttl_s=options.cache_s if is_cached_longer else options.result_ttl_s,
        is_fresh=options.fresh and options.cache_s is not None,
        delay_ms=int(max(options.delay_s, options.debounce_s or 0.0) * 1000),
        at_ms=int(options.at.timestamp() * 1000) if options.at else 0,
        **dict(zip(_SAME, _same_of(options), strict=True)),
    )
    template = Template(options, spec, path)
    if is_kept and task.ref:
        origin.templates[task] = template
    return template
