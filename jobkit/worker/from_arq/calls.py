"""Between arq's bytes and ours: what a member of arq's queue becomes, and what its end is for arq's readers."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import inspect
import itertools
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from arq.cron import CronJob
from arq.jobs import Deserializer, SerializationError, Serializer, deserialize_job_raw, serialize_result
from arq.utils import timestamp_ms, truncate
from arq.worker import Function, JobExecutionFailed

from jobkit.codec import MSGPACK, Subject
from jobkit.model import JobSpec
from jobkit.run.attempt import ARQ_DOOR
from jobkit.run.inside.lines import clean
from jobkit.run.inside.values import safe_repr
from jobkit.store.arq import Adoption, Ended, Found
from jobkit.tasks.arguments import MASK, shown_and_abridged
from jobkit.tasks.call import Call, encode_call
from jobkit.tasks.hints import is_secret_name
from jobkit.worker.worker import JobWorker

logger = logging.getLogger("arq.worker")

#: The one argument of `ARQ_DOOR`. Others are those of the function that `job.rerun` changes.
ENTRY = "__arq__"

#: Ended jobs are shown at least so long, also where arq keeps no result.
_SHOWN_S = 3600.0

UNKNOWN = "<unknown>"

#: Characters of one argument in a log line.
_LOGGED = 80


@dataclass(frozen=True, slots=True)
class Order:
    """Call by arq's client. `problem` is why it cannot be read, or None."""

    function: str = UNKNOWN
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    tries: int = 0
    enqueued_ms: int = 0
    problem: Exception | None = None


@dataclass(frozen=True, slots=True)
class ArqEntry:
    """The argument of `ARQ_DOOR`.

    Attributes:
        arq_id: as text. `payload`: arq's bytes, or empty if they had expired.
        score: from when on it might run, ms. `tries`: those before the first attempt here.
        expires_ms: not to be started from this moment on (by the server's clock), or 0.
    """

    arq_id: str
    payload: bytes
    score: int
    tries: int
    expires_ms: int


def read_order(payload: bytes, deserializer: Deserializer | None) -> Order:
    """Read arq's bytes. Runs code if they are a pickle, as arq's worker does."""
    if not payload:
        return Order(problem=JobExecutionFailed("job expired"))
    try:
        function, args, kwargs, tries, enqueued_ms = deserialize_job_raw(payload, deserializer=deserializer)
        if not isinstance(function, str):
            raise TypeError(f"a function has a name, not {type(function).__name__}")
        return Order(function, tuple(args), dict(kwargs), int(tries or 0), int(enqueued_ms))
    except SerializationError as error:
        return Order(problem=error)
    except (TypeError, ValueError) as error:
        problem = SerializationError("unable to deserialize job")
        problem.__cause__ = error
        return Order(problem=problem)


def changed(order: Order, function: Function | CronJob | None, changes: Mapping[str, Any]) -> Order:
    """The order with other arguments, by name."""
    positional = _positional(function, order)
    args = tuple(changes.get(name, value) for name, value in positional)
    others = {name: value for name, value in changes.items() if name not in dict(positional)}
    return replace(order, args=args, kwargs={**order.kwargs, **others})


def adoption(worker: JobWorker, queue: str, found: Found, order: Order, now_ms: int) -> Adoption:
    """The record of a member of arq's queue. The limits of its function, if that is known here, go before the worker's.

    Raises:
        UnicodeDecodeError: its id is none that arq could have made.
    """
    function = worker.functions.get(order.function)
    keep_ms = result_ttl_ms(worker, function)
    arq_id = found.arq_id.decode()
    job_id = _job_id(arq_id, now_ms if found.is_taken else None)
    task = clean(str(order.function))[:200].encode("utf-8", "replace").decode() or UNKNOWN
    tries = max(found.tries, order.tries - 1)
    timeout_s, max_tries = worker.job_timeout_s, worker.max_tries
    if function is not None:
        timeout_s = timeout_s if function.timeout_s is None else function.timeout_s
        max_tries = max_tries if function.max_tries is None else function.max_tries
    named = {name or f"arg {n}": value for n, (name, value) in enumerate(_positional(function, order), 1)}
    params, abridged = shown_and_abridged(named | order.kwargs)
    spec = JobSpec(
        id=job_id,
        task=task,
        queue=queue,
        params=params,
        abridged=abridged,
        key=clean(arq_id)[:200] if job_id != arq_id else "",
        isolation="async",
        timeout_s=timeout_s,
        retries=max(0, max_tries - 1 - tries),
        retry_on=("jobkit.model.spec.Retry",),  # what `Visit.call` raises; errors are final
        result_ttl_s=None if keep_ms < 0 else max(_SHOWN_S, keep_ms / 1000),
        at_ms=found.score if found.score > now_ms else 0,
    )
    expires_ms = 0 if found.ttl_ms is None else now_ms + found.ttl_ms
    entry = {"arq_id": arq_id, "payload": found.payload, "score": found.score, "tries": tries, "expires_ms": expires_ms}
    call = encode_call(worker.codec, Call(None, (), {ENTRY: entry}), ref=ARQ_DOOR)
    return Adoption(found.arq_id, spec, worker.codec.seal(MSGPACK, call, Subject("args", job_id, task)), tries)


def _job_id(arq_id: str, taken_ms: int | None) -> str:
    """Return arq's id if it is valid here and no earlier job of that id is kept; else one made from it."""
    if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,200}", arq_id):
        readable = re.sub(r"[^A-Za-z0-9_.:-]+", "-", arq_id)[:60].strip("-")
        arq_id = f"{readable or 'arq'}-{hashlib.sha256(arq_id.encode()).hexdigest()[:8]}"
    return arq_id if taken_ms is None else f"{arq_id[:180]}.{taken_ms:x}"


def call_text(function: Function | CronJob, order: Order) -> str:
    """The arguments for a log line: `1, b='x'`, bounded, secrets masked."""

    def shown(name: str, value: Any) -> str:
        return MASK if name and is_secret_name(name) else safe_repr(value, _LOGGED)

    texts = [shown(name, value) for name, value in _positional(function, order)]
    return truncate(", ".join([*texts, *(f"{name}={shown(name, value)}" for name, value in order.kwargs.items())]))


def _positional(function: Function | CronJob | None, order: Order) -> list[tuple[str, Any]]:
    """Positional arguments with their names; "" if that is not known here."""
    coroutine: Any = None if function is None else function.coroutine
    names = () if coroutine is None else _names(coroutine)[: len(order.args)]
    return list(itertools.zip_longest(names, order.args, fillvalue=""))


@functools.lru_cache(maxsize=1_000)
def _names(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of a function's positional arguments, without `ctx`."""
    try:
        kinds = list(inspect.signature(function).parameters.values())[1:]
    except (TypeError, ValueError):
        return ()
    return tuple(p.name for p in kinds if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))


def ended_result(ended: Ended, value: Any, order: Order, queue: str, serializer: Serializer | None) -> bytes | None:
    """The result, as arq's readers want it, of a job that ended without its worker; None if it cannot be written.

    Args:
        value: what it returned or raised, if that is known; else None.
    """
    is_cancelled, success = ended.state == "cancelled", ended.state == "succeeded"
    result: Any = value
    if is_cancelled:
        result = asyncio.CancelledError(ended.why)
    elif not success and not isinstance(value, Exception):
        result = JobExecutionFailed(ended.why)
    now_ms, arq_id = timestamp_ms(), ended.arq_id.decode("utf-8", "replace")
    age_s = max(0, now_ms - order.enqueued_ms) / 1000 if order.enqueued_ms else 0.0
    if is_cancelled:
        logger.info("%6.2fs ⊘ %s:%s aborted before start", age_s, arq_id, order.function)
    elif not success:
        logger.warning("%6.2fs ! %s:%s %s", age_s, arq_id, order.function, ended.why)
    return serialize_result(
        order.function, order.args, order.kwargs, max(1, order.tries), order.enqueued_ms, success, result,
        now_ms, now_ms, f"{arq_id}:{order.function}", queue, arq_id, serializer=serializer,
    )  # fmt: skip


def result_ttl_ms(worker: JobWorker, function: Function | CronJob | None) -> int:
    """Return how long arq's readers find a result (ms): 0 not at all, below 0 for ever."""
    keep_s, keeps = worker.keep_result_s, worker.keep_result_forever
    if function is not None:
        keep_s = keep_s if function.keep_result_s is None else function.keep_result_s
        keeps = keeps if function.keep_result_forever is None else function.keep_result_forever
    return -1 if keeps else int((keep_s or 0) * 1000)
