"""Between the store and a runner: what a claim becomes for a runner, and what its outcome becomes for the store.

The worker and `sync://` share it, so that a job ends in the same way in both.
"""

from __future__ import annotations

import random

from jobkit.codec import PICKLE, Codec, Subject
from jobkit.model import ErrorKind, JobError, SignatureError
from jobkit.run.base import Assignment, Outcome
from jobkit.settings import Settings
from jobkit.store.base import Claimed, Ending

#: A sealed result larger than this is not kept; its preview is.
MAX_RESULT_BYTES = 50_000_000


def assignment(claimed: Claimed, codec: Codec, settings: Settings) -> Assignment:
    """What a runner gets, its payload verified.

    Raises:
        SignatureError: the payload was not sealed for this job by a key that we hold.
    """
    spec = claimed.spec
    _, call = codec.verify(claimed.payload, Subject("args", spec.id, spec.task))
    return Assignment(
        job_id=spec.id,
        task=spec.task,
        attempt=claimed.attempt,
        call=call,
        isolation=spec.isolation,
        timeout_s=spec.timeout_s,
        memory_limit_bytes=spec.memory_limit_bytes,
        cancel_grace_s=settings.cancel_grace if spec.cancel_grace_s is None else spec.cancel_grace_s,
        allow_pickle=codec.allow_pickle,
    )


def rejected(error: SignatureError) -> Outcome:
    """The outcome of a job whose payload was refused."""
    return Outcome("failed", error=JobError(ErrorKind.REJECTED, type(error).__name__, str(error)))


def ending(claimed: Claimed, outcome: Outcome, codec: Codec, settings: Settings) -> Ending:
    """What is stored of an outcome: a failure that may be retried becomes a wait, a value becomes sealed bytes."""
    spec = claimed.spec
    ttl_s = settings.result_ttl if spec.result_ttl_s is None else spec.result_ttl_s
    kind, delay_ms, result, preview = outcome.outcome, 0, b"", outcome.preview
    if kind == "failed":
        delay_s = spec.retry_policy.delay_s(
            retried=claimed.retried, error_types=outcome.error_types, random=random.random(), asked=outcome.retry
        )
        if delay_s is not None and outcome.error is not None and outcome.error.kind is not ErrorKind.REJECTED:
            kind, delay_ms = "retried", int(delay_s * 1000)
        elif outcome.error_body:
            result = codec.seal(PICKLE, outcome.error_body, Subject("error", spec.id, spec.task))
    elif kind == "succeeded" and len(outcome.body) > MAX_RESULT_BYTES:
        preview = {
            **(preview or {}),
            "unavailable": f"the result takes {len(outcome.body) / 1e6:.0f} MB, more than the "
            f"{MAX_RESULT_BYTES / 1e6:.0f} MB that are kept; save it to a file in the task and return its path",
        }
    elif kind == "succeeded" and outcome.form:
        result = codec.seal(outcome.form, outcome.body, Subject("result", spec.id, spec.task))
    return Ending(
        job_id=spec.id,
        token=claimed.token,
        outcome=kind,
        error=outcome.error,
        reason=outcome.reason,
        result=result,
        preview=preview,
        summary=outcome.summary,
        usage=outcome.usage,
        delay_ms=delay_ms,
        ttl_ms=max(1, int(ttl_s * 1000)),
    )
