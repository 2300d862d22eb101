"""Between the store and a runner: what a claim becomes for a runner, and what its outcome becomes for the store.

The worker and `sync://` share it, so that a job ends in the same way in both.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import platform
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from jobkit.codec import HEAD_BYTES, MSGPACK, PICKLE, RAW, Codec, Subject, decode, is_reference
from jobkit.features import FEATURES
from jobkit.files import FileStore
from jobkit.files.file_store import LARGE_BYTES, JobFolder, opened
from jobkit.model import ErrorKind, JobkitError, JobSnapshot, JobSpec, JobState, ResultUnavailable, SignatureError
from jobkit.model.errors import CannotStart
from jobkit.parts import PartStore
from jobkit.run.attempt import Assignment, Outcome, failed, not_kept, too_large
from jobkit.run.inside.shown_values import Bounds, preview_of
from jobkit.run.news import STORED_BYTES
from jobkit.run.shortage import Shortage, patiently, shortage
from jobkit.settings import Settings
from jobkit.store.values import Claimed, Ending
from jobkit.tasks.call import (
    Environment,
    Located,
    read_head,
    with_parts,
    with_results,
)

#: A result larger than this is not kept in the store; its preview is.
MAX_RESULT_BYTES = 50_000_000

#: Bounds of the artifacts of a job with a place for files; without one those that `Bounds` has by default.
FILE_BOUNDS = Bounds(each_bytes=2_000_000_000, total_bytes=10_000_000_000)

#: Kinds of errors that another attempt would not change.
_FINAL = (ErrorKind.REJECTED, ErrorKind.DEPENDENCY)


def artifact_subject(spec: JobSpec, name: str, media: str) -> Subject:
    """Return what an artifact's seal covers: also its name and media type."""
    return Subject(f"artifact\0{name}\0{media}", spec.id, spec.task)


def preview_subject(job_id: str) -> Subject:
    return Subject("preview", job_id, "")


async def read_preview(store: Any, job_id: str, codec: Codec) -> dict[str, Any] | None:
    """Return what any page may show of a job's result; None if nothing is kept.

    Small plain results have no preview in the store (`jobkit.run.ended.succeeded`): it is made here. A preview or
    result that its worker did not seal for this job is not shown: then its only parts are `unavailable`, a sentence
    that says so, and `problem`, which is "signature".
    """
    sealed = await store.preview(job_id)
    try:
        if sealed is None:
            return await _plain_preview(store, job_id, codec)
        try:
            _, body = codec.verify(sealed, preview_subject(job_id))
        except SignatureError:
            (snapshot,) = await store.snapshots([job_id])
            if snapshot is None or not snapshot.cached_from:
                raise
            await check_reuse(store, snapshot, codec)
            _, body = codec.verify(sealed, preview_subject(snapshot.cached_from))
        found = msgspec.json.decode(body, type=dict[str, Any])
    except SignatureError as error:
        return {"type": "", "unavailable": f"it is not shown: {error}", "problem": "signature"}
    except msgspec.MsgspecError as error:
        return {"type": "", "unavailable": f"its preview cannot be read: {error}"}
    return found


async def _plain_preview(store: Any, job_id: str, codec: Codec) -> dict[str, Any] | None:
    sealed, (snapshot,) = await asyncio.gather(store.result(job_id), store.snapshots([job_id]))
    if sealed is None or snapshot is None or snapshot.state is not JobState.SUCCEEDED or is_reference(sealed):
        return None
    await check_reuse(store, snapshot, codec)
    form, body = codec.verify(sealed, Subject("result", snapshot.result_id, snapshot.spec.task))
    return preview_of(decode(form, body))[0] if form == MSGPACK else None


async def check_reuse(store: Any, snapshot: JobSnapshot, codec: Codec) -> None:
    """Check that the kept result of another job is the result of this one too, if its record says so.

    The record is not signed, but the calls of both jobs are: they must name the same cache key, which is a digest of
    task, code version and arguments. One more round trip, and only for jobs with a reused result.

    Raises:
        SignatureError: they do not; nothing of that result may be shown as this job's.
    """
    if not snapshot.cached_from or not codec.has_key:
        return
    ids = [snapshot.id, snapshot.cached_from]
    keys = set()
    for job_id, payload in zip(ids, await store.payloads(ids), strict=True):
        _, call = codec.verify(payload or b"", Subject("args", job_id, snapshot.spec.task))
        keys.add(read_head(call).cache_key)
    if len(keys) != 1 or "" in keys:
        raise SignatureError(
            f"the record of job {snapshot.id} says that its result is that of job {snapshot.cached_from}, but by their "
            "signed calls the two are not the same work; run it again"
        )


def is_large(outcome: Outcome) -> bool:
    """Return whether `ending` has a file to write or much to sign, and so must not be called on a loop."""
    return bool(outcome.file) or len(outcome.body) > LARGE_BYTES


class NeedMissing(CannotStart):
    """A result that a job needs is not there."""


async def needed(
    store: Any, spec: JobSpec, codec: Codec, file_store: FileStore | None = None
) -> dict[str, tuple[bytes, bytes]]:
    """The results that a job needs by job id, as verified `(format, body)`; nothing is unpickled.

    Args:
        store: of the worker's loop, or the one of `sync://`. file_store: where large results are.

    Raises:
        NeedMissing: one is not kept any more. StoreUnavailable: the server does not answer. Shortage: there is no
            descriptor to read one.
    """
    given: dict[str, tuple[bytes, bytes]] = {}
    for start in range(0, len(spec.needs), 100):
        ids = spec.needs[start : start + 100]
        for job_id, snapshot in zip(ids, await store.snapshots(ids), strict=True):
            sealed = await store.result(job_id) if snapshot is not None else None
            if snapshot is None or sealed is None:
                preview = await read_preview(store, job_id, codec) if snapshot is not None else None
                why = (preview or {}).get("unavailable") or "it was removed, or has expired"
                name = f"job {job_id}" if snapshot is None else f"job {job_id} ({snapshot.spec.task})"
                raise NeedMissing(f"the result of {name}, which it needs, is not there: {why}")
            subject = Subject("result", snapshot.result_id, snapshot.spec.task)
            try:
                await check_reuse(store, snapshot, codec)
                if is_reference(sealed):
                    given[job_id] = await asyncio.to_thread(opened, sealed, subject, codec, file_store)
                else:
                    given[job_id] = codec.verify(sealed, subject)
            except (SignatureError, ResultUnavailable) as error:
                if error.__context__ is not None and (why := shortage(error.__context__)):
                    raise Shortage(why) from None
                raise NeedMissing(f"the result of job {job_id}, which it needs, cannot be read: {error}") from None
    return given


def assignment(
    claimed: Claimed,
    codec: Codec,
    settings: Settings,
    folder: JobFolder | None = None,
    bounds: Bounds | None = None,
    given: Mapping[str, tuple[bytes, bytes]] | None = None,
    environ: Mapping[str, str] | None = None,
    located: Mapping[str, Located] | None = None,
    environment: Environment | None = None,
    prepared: Mapping[str, Any] | None = None,
) -> Assignment:
    """Return the assignment for a runner, its payload verified.

    Args:
        folder: where its files go. bounds: of its artifacts without such a place.
        given: the results that it needs, see `needed`. environ: variables of its process. located: its large parts.
        environment: Python environment that was built for it. prepared: see the function of this name.

    Raises:
        SignatureError: the payload was not sealed for this job by a key that we hold, or is no call.
    """
    spec = claimed.spec
    if claimed.problem:
        raise SignatureError(claimed.problem)
    _, call = codec.verify(claimed.payload, Subject("args", spec.id, spec.task))
    try:
        head = read_head(call)
    except msgspec.MsgspecError as error:
        raise SignatureError(f"its call cannot be read: {error}") from None
    if given:
        call = with_results(call, given)
    if located:
        call = with_parts(call, located)
    if head.variables and not codec.allow_pickle:
        raise SignatureError("it sets environment variables, and those need a signing key (JOBKIT_SECRET)")
    kit_settings = {}
    if head.has_kit and codec.has_key:
        kit_settings = {name: getattr(settings, name) for name in ("url", "secret", "secret_file", "results")}
    return Assignment(
        job_id=spec.id,
        task=spec.task,
        attempt=claimed.attempt,
        call=call,
        isolation=spec.isolation,
        reuse=spec.reuse,
        timeout_s=spec.timeout_s,
        memory_limit_bytes=spec.memory_limit_bytes,
        cancel_grace_s=settings.cancel_grace if spec.cancel_grace_s is None else spec.cancel_grace_s,
        allow_pickle=codec.allow_pickle,
        bounds=FILE_BOUNDS if folder is not None else bounds or Bounds(),
        result_bytes=MAX_RESULT_BYTES if folder is None else 0,
        log_path=str((folder and folder.file_store.log_path(folder.path)) or ""),
        log_owner=folder.owner if folder is not None else "",
        is_suspect=claimed.losses > 0,
        is_alone=claimed.losses > 0 or spec.on_lost == "fail" or head.needs_process,
        environ={**head.variables, **(environ or {})},
        kit_settings=kit_settings,
        environment=environment,
        prepared=prepared or {},
        results=settings.results if folder is not None else "",
        seed=head.seed,
    )


async def prepared(
    store: Any,
    claimed: Claimed,
    codec: Codec,
    settings: Settings,
    file_store: FileStore | None = None,
    most: int = STORED_BYTES,
) -> dict[str, Any]:
    """Return what features give to the code of a job, by their names.

    Args:
        most: size of the largest body that news give the store to keep, in bytes.

    Raises:
        SignatureError: its call was not sealed for this job. StoreUnavailable: the server does not answer.
    """
    return {name: await prepare(store, claimed, codec, settings, file_store, most) for name, prepare in _preparing()}


@functools.cache
def _preparing() -> Sequence[tuple[str, Callable[..., Awaitable[Any]]]]:
    return [(feature.name, feature.load("prepare").prepare) for feature in FEATURES if "prepare" in feature.parts]


async def located_parts(claimed: Claimed, codec: Codec, part_store: PartStore) -> dict[str, Located]:
    """Return the large parts of a call, or the paths of their files. Nothing is unpickled.

    Raises:
        SignatureError: the payload was not sealed for this job by a key that we hold. PartUnavailable: a part is not
            kept, or not to be reached from here. StoreUnavailable: the server does not answer.
    """
    spec = claimed.spec
    _, call = codec.verify(claimed.payload, Subject("args", spec.id, spec.task))
    return await part_store.locate(read_head(call).part_names)


def refused(error: JobkitError) -> Outcome:
    """The outcome of a job that cannot be run: its payload was refused, or what it needs is not there."""
    if isinstance(error, NeedMissing):
        return failed(ErrorKind.DEPENDENCY, "dependency", str(error))
    return failed(ErrorKind.REJECTED, type(error).__name__, str(error))


def delete_file(outcome: Outcome) -> None:
    """Delete the file of an outcome that is not stored. Blocks."""
    if outcome.file:
        with contextlib.suppress(OSError):
            os.unlink(outcome.file)


def _without_file(outcome: Outcome, problem: str) -> Outcome:
    """Return an outcome whose file could not be stored: with its value, if that is not too large for Redis."""
    try:
        count = os.stat(outcome.file).st_size - HEAD_BYTES
        if count > MAX_RESULT_BYTES:
            return not_kept(outcome, too_large(count, MAX_RESULT_BYTES, problem))
        with open(outcome.file, "rb") as file:
            file.seek(HEAD_BYTES)
            return replace(outcome, body=file.read(), file="")
    except OSError:  # it was removed, or the disk has failed
        return not_kept(outcome, f"the task returned, but its result is lost: {problem}")
    finally:
        delete_file(outcome)


def ending(
    claimed: Claimed, outcome: Outcome, codec: Codec, settings: Settings, folder: JobFolder | None = None
) -> Ending:
    """Return what is stored of an outcome: a failure to retry becomes a wait, a value becomes sealed bytes.

    A large value becomes a file if there is a place for files; that blocks, see `is_large`.
    """
    spec = claimed.spec
    ttl_s = settings.result_ttl if spec.result_ttl_s is None else spec.result_ttl_s
    kind, delay_ms, result, problem = outcome.outcome, 0, b"", ""
    reason, is_unstarted = outcome.reason, kind == "unstarted"
    if is_unstarted:
        kind, reason = "released", f"it could not be started on {platform.node()}: {reason}"
    subject = Subject("result", spec.id, spec.task)
    if kind == "succeeded" and folder is not None and is_large(outcome):
        try:
            name = f"result.{claimed.attempt}"
            if outcome.file:
                result = patiently(folder.adopt, name, outcome.form, Path(outcome.file), subject, codec)
            else:
                result = patiently(folder.put, name, outcome.form, outcome.body, subject, codec)
        except OSError as error:
            problem = f"it could not be written to {folder.file_store.place.shown} ({error.strerror or error})"
            if outcome.file:
                outcome = _without_file(outcome, problem)
    if kind == "failed":
        types = outcome.error_types or ((str(outcome.error.kind),) if outcome.error is not None else ())
        delay_s = spec.retry_delay_s(
            retried=claimed.retried, error_types=types, random=random.random(), asked=outcome.retry
        )
        if delay_s is not None and outcome.error is not None and outcome.error.kind not in _FINAL:
            kind, delay_ms = "retried", int(delay_s * 1000)
        elif outcome.error_body:
            result = codec.seal(PICKLE, outcome.error_body, Subject("error", spec.id, spec.task))
    elif kind == "succeeded" and not result and len(outcome.body) > MAX_RESULT_BYTES:
        outcome = not_kept(outcome, too_large(len(outcome.body), MAX_RESULT_BYTES, problem))
    elif kind == "succeeded" and not result and outcome.form:
        result = codec.seal(outcome.form, outcome.body, subject)
    preview = outcome.preview
    return Ending(
        job_id=spec.id,
        token=claimed.token,
        outcome=kind,
        error=outcome.error,
        reason=reason,
        result=result,
        preview=codec.seal(RAW, msgspec.json.encode(preview), preview_subject(spec.id)) if preview else b"",
        problem=str(preview.get("unavailable", "")) if preview else "",
        summary=outcome.summary,
        usage=outcome.usage,
        delay_ms=delay_ms,
        is_unstarted=is_unstarted,
        ttl_ms=max(1, int(ttl_s * 1000)),
        max_losses=settings.max_losses,
        is_shared=outcome.is_shared,
        folder=folder.path if folder is not None and folder.file_store.has(folder.path) else "",
    )
