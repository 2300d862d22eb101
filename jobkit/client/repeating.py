"""The kit's verbs that run an ended job once more, as it was or with other arguments."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from jobkit.client.blocking import Blocking
from jobkit.client.failures import repeating
from jobkit.client.prepare import limits_of
from jobkit.codec import Subject
from jobkit.model import ErrorKind, JobkitError, JobSnapshot, JobSpec, JobState
from jobkit.store.values import Submission
from jobkit.tasks.call import Call, encode_call, read_call, read_head, with_needs
from jobkit.tasks.references import Reference, ids_of, replaced
from jobkit.tasks.registry import registry
from jobkit.tasks.task import TaskDef, load_ref

if TYPE_CHECKING:
    from jobkit.client.job import Job


class RepeatingKit(Blocking):
    """Part of `jobkit.client.kit.Kit`. Every method may raise `StoreUnavailable`."""

    _owner: str

    def _send(self, prepared: Submission, again: Callable[[str], Submission] | None = None) -> Job:
        raise NotImplementedError

    def _reference_of(self, value: Any) -> Reference | None:
        raise NotImplementedError

    def retry(self, job_id: str, *, owner: str = "") -> Job:
        """Run an ended job once more with the same arguments: a new job, which names the old one as `retry_of`.

        If it ended because a job that it needs gave no result, that one runs again too, before it.

        Args:
            owner: of the new job; the person at this process unless given.

        Raises:
            JobkitError: it has not ended, or a job that it needs is no longer kept.
        """
        return self._retry(job_id, {}, owner)

    def _retry(self, job_id: str, again: dict[str, Job], owner: str = "") -> Job:
        """`retry`. `again` holds the jobs that run again, by the id of the old one: each of them once."""
        if job_id in again:
            return again[job_id]
        snapshot = self._ended(job_id)
        spec = snapshot.spec
        form, body = self._call(partial(self._verbs.call_of, spec))
        params = dict(spec.params)
        if spec.needs and snapshot.error is not None and snapshot.error.kind is ErrorKind.DEPENDENCY:
            renamed: dict[str, str] = {}
            for need in spec.needs:
                if self.snapshot(need).state in (JobState.FAILED, JobState.CANCELLED):
                    renamed[need] = self._retry(need, again, owner).id
            body = with_needs(body, renamed)
            spec = replace(spec, needs=tuple(renamed.get(need, need) for need in spec.needs))
            params = {name: _renamed(value, renamed) for name, value in params.items()}
        again[job_id] = self._again(replace(spec, id=job_id), form, body, params, owner)
        return again[job_id]

    def rerun(self, job_id: str, changes: Mapping[str, Any]) -> Job:
        """Submit a job once more with some arguments changed. Reads the old arguments, so it unpickles them.

        Raises:
            InvalidParams: a changed argument is refused.
        """
        spec = self.snapshot(job_id).spec
        form, body = self._call(partial(self._verbs.call_of, spec))
        head, inner = read_head(body)
        call = read_call(head, inner, allow_pickle=self.codec.allow_pickle)
        task = _task_of(spec, head.ref, call, may_import=self.codec.allow_pickle)
        changes = {**head.changes, **replaced(dict(changes), self._reference_of)}
        if task is not None:
            bound = task.signature.changed(task.bind(call.args, call.kwargs), changes)
            args, kwargs = task.signature.call_args(bound)
        else:
            args, kwargs = tuple(call.args), {**call.kwargs, **changes}
        # Other arguments are other work; whose place it takes is asked anew, where that can be.
        spec = replace(spec, needs=ids_of([args, kwargs]), once=None, cache_key="", cache_ms=0)
        if task is not None and spec.limits:
            spec = replace(spec, limits=limits_of(task, bound, spec.limits, self.codec))
        body = encode_call(
            self.codec, Call(call.function, args, kwargs), ref=head.ref, path=head.path, cwd=head.cwd,
            environment=head.environment if head.ref else None,
            has_references=bool(spec.needs), is_named=head.is_named,
        )  # fmt: skip
        return self._again(spec, form, body, bound if task is not None else {**spec.params, **changes})

    def _again(self, old: Any, form: bytes, body: bytes, params: Mapping[str, Any], owner: str = "") -> Job:
        spec = repeating(old, owner or self._owner, params)
        prepared = Submission(spec, self.codec.seal(form, body, Subject("args", spec.id, spec.task)))
        return self._send(prepared)

    def _ended(self, job_id: str) -> JobSnapshot:
        snapshot = self.snapshot(job_id)
        if not snapshot.is_terminal:
            raise JobkitError(f"job {job_id} is {snapshot.state}; only an ended job can be retried, so cancel it first")
        return snapshot


def _task_of(spec: JobSpec, ref: str, call: Call, *, may_import: bool) -> TaskDef[..., Any] | None:
    """The function that a job called, if this process can have it; a task of its name may be another one.

    Args:
        may_import: the payload is signed. An unsigned one could name any module.
    """
    if call.function is not None:
        return TaskDef(call.function, name=spec.task)
    if spec.task in registry.names() and registry.get(spec.task).ref == ref:
        return registry.get(spec.task)
    if may_import and not ref.startswith("jobkit.worker."):  # those run functions that only their worker knows
        with contextlib.suppress(Exception):  # a module of the worker's that is not here, for instance
            return registry.task_of(load_ref(ref))
    return None


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """An argument as it is shown, with the ids of other jobs in it."""
    if isinstance(value, str):
        for old, new in names.items():
            value = value.replace(old, new)
        return value
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    return {key: _renamed(item, names) for key, item in value.items()} if isinstance(value, dict) else value
