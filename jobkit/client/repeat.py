"""Ended jobs once more, as they were or with other arguments; and many of them deleted.

`rerun` reads the old arguments, so it unpickles them with its caller. Nothing else here unpickles: a job is run again
from its sealed call as it is, and changed arguments travel beside it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec
from msgspec.structs import replace

from jobkit.client import checks
from jobkit.client.connection import Connection, no_longer_kept
from jobkit.client.job import Job
from jobkit.client.reader import JobReader
from jobkit.client.sent import Sent
from jobkit.client.submit import BoundKit, active_span, new_id
from jobkit.codec import CLOUDPICKLE, MSGPACK, RAW, Blob, Subject
from jobkit.features import modules
from jobkit.model import (
    UNSUCCESSFUL,
    ErrorKind,
    InvalidParams,
    JobkitError,
    JobNotFound,
    JobSnapshot,
    JobSpec,
    UnknownTask,
)
from jobkit.model.errors import SignatureError
from jobkit.store.values import Submission
from jobkit.tasks.call import (
    DOOR,
    Call,
    CallHead,
    LargeParts,
    encode_call,
    needed_python,
    python_version,
    read_call,
    read_head,
    with_changes,
    with_needs,
    with_packages,
    with_source,
)
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.option_values import env_module
from jobkit.tasks.options import check_submit_options
from jobkit.tasks.references import ids_of, replaced
from jobkit.tasks.registry import registry
from jobkit.tasks.specs import ParamSpec
from jobkit.tasks.task import TaskDef, load_ref
from jobkit.tasks.values import shown_and_abridged, with_part
from jobkit.tasks.work import gates_of

#: Jobs that one step runs again or deletes: a worker's claim must not wait long behind it.
SLICE = 100

#: Options that a repetition may have otherwise, as fields of a record.
_CHANGED = frozenset({"queue", "tags", "priority", "timeout_s", "retries", "memory_limit_bytes", "resources"})

#: Called after each step with how many are done so far.
Progress = Callable[[int], object]


class Repeated(msgspec.Struct):
    """The result of running jobs again.

    Attributes:
        jobs: the new job's id by the old one's. refused: why not, by the old one's.
    """

    jobs: dict[str, str] = {}
    refused: dict[str, str] = {}


class Repeater:
    """Verbs that repeat and delete jobs. They block; every one may raise `StoreUnavailable`."""

    def __init__(self, connection: Connection, submitter: BoundKit, reader: JobReader) -> None:
        self._connection, self.submitter = connection, submitter
        self._reader = reader

    def retry(self, job_id: str, *, owner: str = "", from_checkpoint: bool = False) -> Job:
        """Run an ended job once more with the same arguments: a new job, which names the old one as `retry_of`.

        If it ended because a job that it needs gave no result, that one runs again too, before it.

        Args:
            owner: of the new job; the person at this process unless given.
            from_checkpoint: it goes on from the newest checkpoint of this one.

        Raises:
            JobkitError: it has not ended, or a job that it needs is no longer kept.
            NoCheckpoint: (a JobkitError) it has none.
        """
        if from_checkpoint:
            made = self._repetition(self._snapshot(job_id), self._payload(job_id), owner, from_checkpoint=True)
            return self.submitter.send(made)
        return self._retry(job_id, owner, {})

    def retry_all(self, job_ids: Sequence[str]) -> list[Job]:
        """`retry` of each of these jobs; a job that several of them need runs again once."""
        again: dict[str, Job] = {}
        return [self._retry(job_id, "", again) for job_id in job_ids]

    def _retry(self, job_id: str, owner: str, again: dict[str, Job]) -> Job:
        """`retry`. `again` holds the jobs that run again, by the id of the old one: each of them once."""
        if job_id not in again:
            old = self._snapshot(job_id)
            renamed: dict[str, str] = {}
            for need in old.spec.needs if _lacked_a_need(old) else ():
                if self._snapshot(need).state in UNSUCCESSFUL:
                    renamed[need] = self._retry(need, owner, again).id
            again[job_id] = self.submitter.send(self._repetition(old, self._payload(job_id), owner, renamed=renamed))
        return again[job_id]

    def rerun(self, job_id: str, changes: Mapping[str, Any], *, from_checkpoint: bool = False, env: str = "") -> Job:
        """Submit a job once more with some arguments changed. Reads the old arguments, so it unpickles them.

        Args:
            from_checkpoint: the new job goes on from the newest checkpoint of this one.
            env: word for the Python environment that it runs in, see `env_module`.

        Raises:
            InvalidParams: a changed argument is refused, or the environment.
            NoCheckpoint: (a JobkitError) it has none. JobkitError: its packages are not known.
        """
        snapshot, codec = self._snapshot(job_id), self._connection.codec
        spec = snapshot.spec
        form, body = self._call_of(spec, self._payload(job_id))
        packages: tuple[Blob, ...] = ()
        if env:
            body, packages = self._with_env(env, snapshot, form, body)
            if not changes:  # nothing has to be read, so code of another Python version is no obstacle
                body = with_source(body, self._source(job_id, read_head(body)) if from_checkpoint else None)
                spec = _as_other_work(spec)
                made = self._sealed(spec, "", spec.params, form, body)
                return self.submitter.send(replace(made, blobs=_with_contents(made.blobs, packages)))
        head = read_head(body)
        if CLOUDPICKLE in head.forms and head.python != python_version():
            raise JobkitError(
                f"job {job_id} was submitted from Python {head.python}, whose functions this Python {python_version()} "
                f"cannot read: rerun it from Python {head.python}, or without other arguments by job.retry()"
            )
        if head.parts:
            located = self._connection.call(self._connection.verbs.parts.locate, head.part_names)
            head = replace(head, located=located)
        source = self._source(job_id, head) if from_checkpoint else None
        call = read_call(head, allow_pickle=codec.allow_pickle)
        task = _task_of(spec, head.ref, call, may_import=codec.allow_pickle)
        changes = {**head.changes, **replaced(dict(changes), self.submitter.reference_of)}
        if task is not None:
            bound = task.signature.changed(task.signature.bind(call.args, call.kwargs), changes)
            args, kwargs = task.signature.call_args(bound)
        else:
            bound = {**spec.params, **changes}
            args, kwargs = tuple(call.args), {**call.kwargs, **changes}
        # Other arguments are other work; whose place it takes is asked anew, where that can be.
        spec = replace(_as_other_work(spec), needs=ids_of([args, kwargs]))
        if task is not None and spec.limits:
            spec = replace(spec, limits=gates_of(task.name, task.effective(), bound) or spec.limits)
        large = LargeParts(spec.task)
        body = encode_call(
            codec, Call(call.function, args, kwargs), ref=head.ref, path=head.path, cwd=head.cwd,
            environment=head.environment if head.ref else None,
            has_references=bool(spec.needs), is_named=head.is_named, variables=head.variables, large=large,
            resumes=source, seed=head.seed, is_drawn=head.is_drawn, code=head.code, packages=head.packages,
        )  # fmt: skip
        made = self._sealed(spec, "", bound, form, body)
        blobs = _with_contents(made.blobs, [*large.blobs.values(), *packages])
        return self.submitter.send(replace(made, blobs=blobs))

    def _with_env(self, env: str, job: JobSnapshot, form: bytes, body: bytes) -> tuple[bytes, tuple[Blob, ...]]:
        """Return the call of a job with the list of packages that a word stands for, and that list."""
        if not self._connection.codec.allow_pickle:
            raise InvalidParams("env needs a signing key: set JOBKIT_SECRET to one text here and on the workers", "env")
        head = read_head(body) if form == MSGPACK else None
        if head is None or head.door:
            raise InvalidParams(f"job {job.id} came by {_client(head)}, and runs in its worker's environment", "env")
        if (module := env_module(env)) is None:
            raise InvalidParams(f"no feature knows env={env!r}", "env")
        large = LargeParts(job.spec.task)
        listed = module.repeated(env, self._connection, job, head)
        return with_packages(body, large.add([], RAW, listed, "the list of packages")), tuple(large.blobs.values())

    def _source(self, job_id: str, head: CallHead) -> tuple[str, int]:
        """Return the job that a repetition of this one goes on from, and its time of submit."""
        for module in modules("source"):
            found: tuple[str, int] = module.source(self._connection, job_id, head)
            return found
        raise InvalidParams("no job goes on from another one here", "from_checkpoint")

    def rerun_with(
        self, job_id: str, changes: Mapping[str, Any], options: Mapping[str, Any] | None = None, *, owner: str = ""
    ) -> Job:
        """Submit an ended job once more with other values for some arguments; the others keep theirs, unread.

        Args:
            changes: values as of JSON, by name; checked by the task's definition.
            options: of the new job: delay, at, queue, tags, priority, timeout, retries, memory_limit and resources.
            owner: who submits; the person at this process unless given.

        Raises:
            InvalidParams: a change or option is refused. UnknownTask: the task's definition is not known here.
        """
        over = check_submit_options(options or {})
        old = self._snapshot(job_id)
        plain = self.checked_changes(old.spec.task, changes, [job_id]) if changes else {}
        made = self._repetition(old, self._payload(job_id), owner, plain)
        chosen: dict[str, Any] = {name: getattr(over, name) for name in over.given & _CHANGED}
        chosen |= {"delay_ms": round(over.delay_s * 1000), "at_ms": int(over.at.timestamp() * 1000) if over.at else 0}
        return self.submitter.send(replace(made, spec=replace(made.spec, **chosen)))

    def _snapshot(self, job_id: str) -> JobSnapshot:
        return self._connection.call(self._connection.verbs.snapshot, job_id)

    def _payload(self, job_id: str) -> bytes | None:
        return self._connection.call(self._connection.store.payload, job_id)

    def _call_of(self, spec: JobSpec, payload: bytes | None) -> tuple[bytes, bytes]:
        """Return `(format, body)` of a job's verified call; not unpickled."""
        if payload is None:
            raise JobNotFound(f"the arguments of job {spec.id!r} are no longer kept")
        return self._connection.codec.verify(payload, Subject("args", spec.id, spec.task))

    def _repetition(
        self,
        old: JobSnapshot,
        payload: bytes | None,
        owner: str,
        changes: Mapping[str, Any] | None = None,
        renamed: Mapping[str, str] | None = None,
        *,
        from_checkpoint: bool = False,
    ) -> Submission:
        """Return the submission that repeats an ended job.

        Args:
            changes: checked values of some arguments. renamed: new ids of jobs that it needs, by their old ids.
        """
        spec = old.spec
        if not old.is_terminal:
            raise JobkitError(f"job {spec.id} is {old.state}; only an ended job can be run again, so cancel it first")
        form, body = self._call_of(spec, payload)
        body = with_source(body, self._source(spec.id, read_head(body)) if from_checkpoint else None)
        params = dict(spec.params)
        if changes:
            head = read_head(body) if form == MSGPACK else None
            if head is None or head.door:
                raise JobkitError(f"job {spec.id} came by {_client(head)}; its arguments cannot be changed here")
            body = with_changes(body, changes)
            for name, value in changes.items():
                first, dot, rest = name.partition(".")
                params[first] = with_part(params.get(first), rest, value) if dot and first in params else value
            spec = _as_other_work(spec)
        if renamed:
            body = with_needs(body, renamed)
            spec = replace(spec, needs=tuple(renamed.get(need, need) for need in spec.needs))
            params = {name: _renamed(value, renamed) for name, value in params.items()}
        return self._sealed(spec, owner, params, form, body)

    def _sealed(self, old: JobSpec, owner: str, params: Mapping[str, Any], form: bytes, body: bytes) -> Submission:
        """Return the submission of a job like `old`, at once: it neither reuses a kept result nor replaces a job."""
        params, abridged = shown_and_abridged(params)
        kept = [name for name in old.abridged if params.get(name) == old.params.get(name)]
        head = read_head(body) if form == MSGPACK else None
        blobs = tuple(map(Blob, head.part_names)) if head is not None else ()
        spec = replace(
            old,
            id=new_id(),
            has_parts=bool(blobs),
            python=old.python if head is None else needed_python(head),
            key="",
            retry_of=old.id,
            owner=owner or self._connection.owner,
            params=params,
            abridged=tuple(dict.fromkeys([*kept, *abridged])),
            delay_ms=0,
            at_ms=0,
            once=None if old.once is not None and old.once.scope == "debounce" else old.once,
            is_fresh=bool(old.cache_key),
            traceparent=active_span(),
            made=self.submitter.made_by() if head is not None and head.ref else old.made,  # or it brings old code
        )
        return Submission(spec, self._connection.codec.seal(form, body, Subject("args", spec.id, spec.task)), blobs)

    # -- many at once -------------------------------------------------------------------------------------------------

    def retry_many(
        self,
        job_ids: Iterable[str],
        *,
        changes: Mapping[str, Any] | None = None,
        owner: str = "",
        on_step: Progress | None = None,
    ) -> Repeated:
        """Run ended jobs again, each as a new job that names the old one; in steps of some hundred at most.

        Args:
            changes: other values for some arguments, checked by the task's definition before anything is submitted.
            owner: of the new jobs; the person at this process unless given.
            on_step: called after each step with how many have been seen to.

        Raises:
            InvalidParams: a change is refused, or the jobs are of several tasks; nothing was submitted then.
            UnknownTask: the jobs were submitted by name, and the task's definition is not known here, so changes could
                not be checked.
        """
        ids = list(dict.fromkeys(job_ids))
        plain = self._checked_changes(ids, changes) if changes else {}
        out, again = Repeated(), dict[str, Job]()
        for start in range(0, len(ids), SLICE):
            part = ids[start : start + SLICE]
            snapshots = self._connection.call(self._connection.store.snapshots, part)
            payloads = self._connection.call(self._connection.store.payloads, part)
            made: dict[str, Submission] = {}
            for job_id, old, payload in zip(part, snapshots, payloads, strict=True):
                try:
                    if old is None:
                        raise checks.unknown_job(job_id)
                    if _lacked_a_need(old) and not plain:
                        out.jobs[job_id] = self._retry(job_id, owner, again).id
                    else:
                        made[job_id] = self._repetition(old, payload, owner, plain)
                except JobkitError as error:
                    if isinstance(error, ConnectionError):
                        raise
                    out.refused[job_id] = str(error)
            with Sent([each.spec.id for each in made.values()]):
                replies = self._connection.call(self._connection.verbs.sender.submit_many, [*made.values()])
            for job_id, reply in zip(made, replies, strict=True):
                if reply.lacks:
                    out.refused[job_id] = str(no_longer_kept(made[job_id]))
                    continue
                out.jobs[job_id] = reply.job_id  # that of another job if the same work waits or runs already
                if reply.created_ms:
                    self._connection.run_here([reply.job_id])
            if on_step is not None:
                on_step(min(start + SLICE, len(ids)))
        return out

    def checked_changes(
        self, task: str, changes: Mapping[str, Any] | Iterable[str], job_ids: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Other values for some arguments of a task, checked, as plain data.

        Args:
            changes: by name, or a command line's `["n=5"]`.
            job_ids: jobs to change. If the first one does not run the task that is known here, but a function of its
                own, only the names are checked; the job's own process checks the values.

        Raises:
            InvalidParams: one is refused. UnknownTask: the task's definition is not known here.
        """
        infos = self._reader.tasks()
        info = infos.get(task)
        for job_id in islice(job_ids, 1):
            spec = self._snapshot(job_id).spec
            head = self._head_of(spec)
            is_known = head is None or (head.is_named if info is None else info.is_run_by(spec, head))
            if not is_known and task not in self._connection.verbs.refused_tasks:
                info = _own_info(spec, has_texts=not isinstance(changes, Mapping))
        if info is None:
            raise UnknownTask(
                f"{self._connection.verbs.unknown_task(task, infos)}; so changed arguments cannot be checked here"
            )
        return info.changes(changes)

    def runs_other_code(self, job_id: str) -> bool:
        """Return True if a job ran other code than the task of its name that is known here.

        Its function came with its call, or is of another module. False if there is no such task.
        """
        spec = self._snapshot(job_id).spec
        info, head = self._reader.tasks().get(spec.task), self._head_of(spec)
        return info is not None and head is not None and not info.is_run_by(spec, head)

    def _head_of(self, spec: JobSpec) -> CallHead | None:
        """Return the head of a job's call; None if it came by another client, or cannot be verified."""
        try:
            form, body = self._call_of(spec, self._payload(spec.id))
        except (JobNotFound, SignatureError):  # who runs it again is told so
            return None
        head = read_head(body) if form == MSGPACK else None
        return None if head is None or head.door else head

    def _checked_changes(self, ids: Sequence[str], changes: Mapping[str, Any]) -> dict[str, Any]:
        tasks: set[str] = set()
        for start in range(0, len(ids), 500):
            found = self._connection.call(self._connection.store.snapshots, ids[start : start + 500])
            tasks |= {snapshot.spec.task for snapshot in found if snapshot is not None}
        if len(tasks) > 1:
            raise InvalidParams(f"arguments can be changed for jobs of one task, not of {', '.join(sorted(tasks))}")
        return self.checked_changes(next(iter(tasks)), changes, ids) if tasks else {}

    def delete_many(self, job_ids: Iterable[str], *, on_step: Progress | None = None) -> int:
        """Delete ended jobs with all they own, in steps; return how many are gone. Others stay."""
        ids, gone = list(dict.fromkeys(job_ids)), 0
        for start in range(0, len(ids), SLICE):
            gone += sum(self._connection.call(self._connection.verbs.delete, ids[start : start + SLICE]))
            if on_step is not None:
                on_step(min(start + SLICE, len(ids)))
        return gone


def _as_other_work(spec: JobSpec) -> JobSpec:
    """Return the record of a job with other arguments or packages: not the same work, and no part of its batch."""
    return replace(spec, once=None, cache_key="", cache_ms=0, batch="", batch_name="")


def _own_info(spec: JobSpec, *, has_texts: bool) -> TaskInfo:
    """Return the arguments of a job as the definition of its function.

    Args:
        has_texts: values come as texts. An argument that was text stays text.
    """

    def kind_of(name: str) -> str:
        return "str" if has_texts and isinstance(spec.params[name], str) and name not in spec.abridged else "any"

    return TaskInfo(spec.task, params=tuple(ParamSpec(name=name, kind=kind_of(name)) for name in spec.params))


def _with_contents(blobs: Iterable[Blob], known: Iterable[Blob]) -> tuple[Blob, ...]:
    """Return the parts of a call, those that are known here with their contents."""
    contents = {blob.name: blob for blob in known}
    return tuple(contents.get(blob.name, blob) for blob in blobs)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Return an argument as it is shown, with the new ids of other jobs in its texts."""
    if isinstance(value, str):
        for old, new in names.items():
            value = value.replace(old, new)
        return value
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    return {key: _renamed(item, names) for key, item in value.items()} if isinstance(value, dict) else value


def _client(head: CallHead | None) -> str:
    return "another client" if head is None else f"{head.door}'s client"


def _lacked_a_need(snapshot: JobSnapshot) -> bool:
    """Return True if a job that it needs gave no result, and has to run again before it."""
    return snapshot.error is not None and snapshot.error.kind is ErrorKind.DEPENDENCY


def _task_of(spec: JobSpec, ref: str, call: Call, *, may_import: bool) -> TaskDef[..., Any] | None:
    """The function that a job called, if this process can have it; a task of its name may be another one.

    An unsigned payload could name any module, so it may not import one.
    """
    if call.function is not None:
        return TaskDef(call.function, name=spec.task)
    if (known := registry.known(spec.task)) is not None and known.ref == ref:
        return known
    if may_import and not ref.startswith(DOOR):
        with contextlib.suppress(Exception):  # a module of the worker's that is not here, for instance
            return registry.task_of(load_ref(ref))
    return None
