"""The other end of arq's client: takes notice of its queue, gives its jobs records, and writes results for its readers.

One turn is one look at the queue. A turn follows each change that Redis tells of (`KeyWatch`), and each `poll_delay`.
It is also the pulse of what arq does between its polls: cron jobs and the health key.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import inspect
import itertools
import logging
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from arq.connections import ArqRedis, RedisSettings
from arq.cron import CronJob
from arq.jobs import Deserializer, SerializationError, Serializer, deserialize_job_raw, serialize_result
from arq.utils import timestamp_ms, truncate
from arq.worker import Function, JobExecutionFailed
from redis.asyncio import Redis
from redis.connection import parse_url
from redis.exceptions import RedisError, ResponseError

from jobkit.codec import MSGPACK, Subject, is_reference
from jobkit.features.arq.queue import Adoption, ArqQueue, EndedInArq, Found, Scan
from jobkit.model import InvalidParams, JobSpec, StoreUnavailable
from jobkit.model.terminal import clean
from jobkit.run.inside.shown_values import safe_repr
from jobkit.tasks.call import DOOR, Call, encode_call
from jobkit.tasks.masking import MASK, is_secret, masked
from jobkit.tasks.values import shown_and_abridged
from jobkit.worker.worker import JobWorker

logger, arq_logger = logging.getLogger("jobkit.worker"), logging.getLogger("arq.worker")

# -- where arq's queue is ----------------------------------------------------------------------------------------------

#: What a URL's query may say of TLS: name in `RedisSettings` and in redis-py alike.
_TLS = ("ssl_keyfile", "ssl_certfile", "ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_data", "ssl_check_hostname")
#: Other names that the two differ in.
_ARQ_NAMES = {"path": "unix_socket_path", "db": "database"}


def url_of(settings: RedisSettings) -> str:
    """The URL of what `RedisSettings` describe."""
    known = {name: getattr(settings, name) for name in (*_TLS, "username", "password")}
    if settings.sentinel:
        if isinstance(settings.host, str):
            raise InvalidParams("redis_settings: sentinel=True needs a list of (host, port) as host", "redis_settings")
        return _url({**known, "db": settings.database}, hosts=settings.host, master=settings.sentinel_master)
    if not isinstance(settings.host, str):
        raise InvalidParams("redis_settings: a list of hosts needs sentinel=True", "redis_settings")
    place = {"host": settings.host, "port": settings.port, "path": settings.unix_socket_path, "db": settings.database}
    return _url({**known, **place}, is_tls=settings.ssl)


def url_of_pool(pool: ArqRedis) -> str:
    """The URL of what a pool is connected to."""
    connections: Any = pool.connection_pool
    options = connections.connection_kwargs
    if hasattr(connections, "sentinel_manager"):
        kinds = [client.connection_pool.connection_kwargs for client in connections.sentinel_manager.sentinels]
        hosts = [(kind["host"], kind["port"]) for kind in kinds]
        return _url(options, hosts=hosts, master=connections.service_name)
    return _url(options, is_tls="SSL" in connections.connection_class.__name__)


def redis_settings(url: str) -> RedisSettings:
    """A URL of ours as arq's settings."""
    found: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]  # redis-py has none here
    known = {_ARQ_NAMES.get(name, name): value for name, value in found.items()}
    known = {name: value for name, value in known.items() if name in RedisSettings.__dataclass_fields__}
    tls = {"ssl": True, "ssl_check_hostname": True} if url.startswith("rediss://") else {}
    return RedisSettings(**(tls | known))


def queue_of(key: str) -> str:
    """Return the name of arq's queue here: its key, if that may name a queue."""
    if re.fullmatch(r"[A-Za-z0-9_.:-]{1,200}", key):
        return key
    return f"{re.sub(r'[^A-Za-z0-9_.:-]', '-', key)[:100]}-{zlib.crc32(key.encode()):08x}"


def _url(options: Mapping[str, Any], *, is_tls: bool = False, hosts: Any = (), master: str = "") -> str:
    """The URL of these options of redis-py; with `hosts`, of sentinels that know the master."""
    user, password = options.get("username") or "", options.get("password") or ""
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    database = options.get("db") or 0
    if hosts:
        places = ",".join(f"{host}:{port}" for host, port in hosts)
        return f"redis+sentinel://{login}{places}/{quote(master)}/{database}"
    if path := options.get("path"):
        return f"unix://{login}{quote(str(path))}?db={database}"
    host = str(options.get("host") or "localhost")
    host = f"[{host}]" if ":" in host else host
    url = f"redis{'s' if is_tls else ''}://{login}{host}:{options.get('port') or 6379}/{database}"
    tls = {name: options[name] for name in _TLS if is_tls and options.get(name) is not None}
    return f"{url}?{urlencode(tls)}" if tls else url


# -- arq's bytes and ours ----------------------------------------------------------------------------------------------

#: What the call of such a job refers to, instead of a function.
ARQ_DOOR = f"{DOOR}arq"

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

    Raises UnicodeDecodeError for an id that arq cannot have made.
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
        return MASK if name and is_secret(name, value) else masked(safe_repr(value, _LOGGED))

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


def ended_result(
    ended: EndedInArq, value: Any, order: Order, queue: str, serializer: Serializer | None
) -> bytes | None:
    """The result, as arq's readers want it, of a job that ended without its worker; None if it cannot be written.

    `value` is what it returned or raised, if that is known.
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
        arq_logger.info("%6.2fs ⊘ %s:%s aborted before start", age_s, arq_id, order.function)
    elif not success:
        arq_logger.warning("%6.2fs ! %s:%s %s", age_s, arq_id, order.function, ended.why)
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


# -- the queue ---------------------------------------------------------------------------------------------------------

_AGAIN_S = 0.5


class KeyWatch:
    """Sets `changed` when one of the keys has changed since `arm`; `run` it in a task.

    arq's client only adds to a sorted set and publishes nothing. Redis, however, notifies a connection when a key that
    it has read is changed (client tracking, made for caches). If a server or an access list refuses this, changes are
    found by polling, as arq does.
    """

    def __init__(self, redis: Redis, keys: Sequence[str]) -> None:
        self._pool: Any = redis.connection_pool
        self._keys = keys
        self._asking: Any = None
        self._hearing: Any = None
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Listen until cancelled, through every cut of the connection."""
        while True:
            try:
                await self._listen()
            except ResponseError as error:
                logger.info("this Redis does not tell of changes (%s): arq's queue is polled", error)
                return
            except (RedisError, OSError):
                await asyncio.sleep(_AGAIN_S)

    async def arm(self) -> None:
        """From now on, the next change sets `changed`."""
        self.changed.clear()
        asking = self._asking
        if asking is not None:
            try:
                await asking.send_command("EXISTS", *self._keys)
                await asking.read_response()
            except (RedisError, OSError):
                if self._hearing is not None:
                    await self._hearing.disconnect(nowait=True)

    async def _listen(self) -> None:
        # Two connections, because one that is subscribed takes no other commands in RESP 2. If the URL asks for RESP 3,
        # the confirmation and the messages are pushes and not replies.
        async with self._connection() as hearing, self._connection() as asking:
            await hearing.send_command("CLIENT", "ID")
            me = await hearing.read_response()
            await hearing.send_command("SUBSCRIBE", "__redis__:invalidate")
            await hearing.read_response(push_request=True)
            await asking.send_command("CLIENT", "TRACKING", "ON", "REDIRECT", me)
            await asking.read_response()
            self._asking, self._hearing = asking, hearing
            try:
                while True:
                    self.changed.set()
                    await hearing.read_response(push_request=True)
            finally:
                self._asking = self._hearing = None

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        connection = await self._pool.get_connection()
        try:
            yield connection
        finally:
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)


#: Seconds between two looks, at least, even if arq's `poll_delay` is shorter: changes wake it anyway.
_LEAST_TICK_S = 0.05


class Bridge:
    """See the module's docstring. `run_cron` enqueues cron jobs, and counts them."""

    def __init__(
        self, worker: JobWorker, queue: ArqQueue, run_cron: Callable[[datetime, float], Awaitable[int]]
    ) -> None:
        self._worker, self._queue, self._run_cron = worker, queue, run_cron
        self._turning = asyncio.Lock()

    @property
    def tick_s(self) -> float:
        return max(_LEAST_TICK_S, self._worker.poll_delay_s or 0.0)

    async def run(self) -> None:
        """Until cancelled, through every outage."""
        watch = KeyWatch(self._worker.store.redis, self._queue.watched)
        listening = asyncio.create_task(watch.run(), name="jobkit-arq-watch")
        failures = 0
        try:
            while True:
                await watch.arm()
                try:
                    await self.turn()
                    failures = 0
                except (StoreUnavailable, RedisError, OSError) as error:
                    if failures == 0:
                        logger.warning("arq's queue cannot be read: %s", error)
                    await self._worker.pause.wait(failures)
                    failures += 1
                    continue
                except Exception:  # ours, or a serializer of the user's: the worker must not go deaf
                    logger.exception("arq's queue cannot be served")
                    await asyncio.sleep(5.0)
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.tick_s):
                        await watch.changed.wait()
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def turn(self) -> int:
        """One look; return how many jobs stand in arq's queue. Raises StoreUnavailable or RedisError."""
        async with self._turning:
            worker = self._worker
            while True:
                scan = await self._queue.scan(worker.queue_read_limit, obeys_aborts=worker.allow_abort_jobs)
                if scan.ended:
                    await self._settle(scan)
                adopted = await self._adopt(scan) if scan.new and worker.allow_pick_jobs else 0
                if not scan.ended and not adopted:
                    break
            now = datetime.fromtimestamp(scan.now_ms / 1000, tz=worker.timezone)
            fired = await self._run_cron(now, max(worker.poll_delay_s or 0.0, 0.5)) if worker.cron_jobs else 0
            if fired and worker.allow_pick_jobs:
                scan = await self._queue.scan(worker.queue_read_limit, obeys_aborts=False)
                await self._adopt(scan)
            await worker.record_health()
            return scan.members

    async def _settle(self, scan: Scan) -> None:
        """Results for jobs that ended without a worker."""
        worker = self._worker
        results = []
        for ended in scan.ended:
            order = read_order(ended.payload, worker.job_deserializer)
            value = await self._value(ended)
            body = ended_result(ended, value, order, worker.queue_name, worker.job_serializer)
            ttl_ms = result_ttl_ms(worker, worker.functions.get(order.function))
            results.append((ended.arq_id, body or b"", ttl_ms if body else 0))
            worker.jobs_failed += ended.state != "succeeded"
        await self._queue.settle(results)

    async def _value(self, ended: EndedInArq) -> Any:
        """Return the value or exception of a job whose end another process than its worker stored (Redis was away until
        the worker had stopped); None if it is not kept."""
        store, codec = self._worker.store, self._worker.codec
        sealed = None if ended.state == "cancelled" else await store.result(ended.id)
        (found,) = await store.snapshots([ended.id]) if sealed else (None,)
        if sealed is None or found is None or is_reference(sealed):
            return None
        try:
            kind = "result" if ended.state == "succeeded" else "error"
            return codec.loads(sealed, Subject(kind, ended.id, found.spec.task))
        except Exception as error:  # not ours, or a pickle of the user's
            logger.warning("the outcome of job %s cannot be read: %s", ended.id, error)
            return None

    async def _adopt(self, scan: Scan) -> int:
        """Make records of new members of the queue, and return the number of these records."""
        worker = self._worker
        adoptions = []
        for found in scan.new:
            order = read_order(found.payload, worker.job_deserializer)
            try:
                adoptions.append(adoption(worker, self._queue.name, found, order, scan.now_ms))
            except Exception as error:  # one that cannot be understood must not hold up the others
                logger.warning("%r in arq's queue %s is put aside: %s", found.arq_id, worker.queue_name, error)
                await self._queue.quarantine(found.arq_id)
        return sum(await self._queue.adopt(adoptions)) if adoptions else 0
