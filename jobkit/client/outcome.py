"""From an ended job to its value, or to the exception that says how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobkit.codec import Codec, Subject
from jobkit.files import FileStore
from jobkit.files.file_store import opened
from jobkit.model import (
    JobCancelled,
    JobFailed,
    JobSnapshot,
    JobState,
    ResultExpired,
    ResultUnavailable,
    SignatureError,
)


def outcome_of(
    snapshot: JobSnapshot,
    sealed: bytes,
    preview: Mapping[str, Any] | None,
    codec: Codec,
    file_store: FileStore | None = None,
) -> Any:
    """The value that the task returned. Unpickles it: call it only for a user who requested the result.

    Args:
        sealed: the result (or, of a failed job, the original exception) as the store has it; empty if it has none.
        preview: of the result, if there is no `sealed`.
        file_store: where large results are.

    Raises:
        JobFailed, JobCancelled: it did not succeed.
        ResultUnavailable: it did, but its value could not be written, or cannot be read here.
        ResultExpired: it did, but its value is no longer kept.
    """
    spec = snapshot.spec
    if snapshot.state is JobState.CANCELLED:
        reason = next((str(e.data["reason"]) for e in reversed(snapshot.history) if e.data.get("reason")), "")
        raise JobCancelled(f"job {spec.id} ({spec.task}) was cancelled" + (f": {reason}" if reason else ""))
    if snapshot.state is JobState.FAILED:
        original, problem = _original(snapshot, sealed, codec)
        raise _failure(snapshot, problem) from original
    if not sealed:
        what = f"the result of job {spec.id} ({spec.task}) is not available"
        if why := (preview or {}).get("unavailable"):
            raise ResultUnavailable(f"{what}: {why}")
        if snapshot.cached_from:
            raise ResultExpired(f"{what}: it is that of job {snapshot.cached_from}, which is no longer kept")
        raise ResultExpired(f"{what}: it has expired or was removed")
    form, body = opened(sealed, Subject("result", snapshot.result_id, spec.task), codec, file_store)
    try:
        return _decode(form, body)
    except Exception as error:  # unpickling runs code of the value's own classes
        raise ResultUnavailable(
            f"the result of job {spec.id} ({spec.task}) cannot be rebuilt here: {type(error).__name__}: {error}"
        ) from error


def _failure(snapshot: JobSnapshot, problem: str = "") -> JobFailed:
    error, spec = snapshot.error, snapshot.spec
    note = f"\n\n(its exception was not rebuilt: {problem})" if problem else ""
    if error is None:
        return JobFailed(f"job {spec.id} ({spec.task}) failed{note}")
    trace = f"\n\n{error.traceback.rstrip()}" if error.traceback else ""
    return JobFailed(f"job {spec.id} ({spec.task}) failed: {error}{trace}{note}", error)


def _original(snapshot: JobSnapshot, sealed: bytes, codec: Codec) -> tuple[BaseException | None, str]:
    """The exception itself, if it can be rebuilt, and what is wrong with its signature, or ""."""
    if not sealed:
        return None, ""
    try:
        form, body = codec.verify(sealed, Subject("error", snapshot.spec.id, snapshot.spec.task))
    except SignatureError as error:
        return None, str(error)
    try:
        found = _decode(form, body)
    except Exception:  # code of the exception's own class; the text tells the same
        return None, ""
    return (found if isinstance(found, BaseException) else None), ""


def _decode(form: bytes, body: bytes) -> Any:
    from jobkit.codec import decode

    return decode(form, body)
