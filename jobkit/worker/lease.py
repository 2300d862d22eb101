"""A worker's heartbeat, a thread beside its loop.

It renews the leases of running jobs over a separate connection. A thread, since a job that blocks the loop
must not cost the worker its leases. Each beat is one call for all jobs that the worker holds; the answer names those it
has lost and those that a user asked to stop.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import redis
from redis.exceptions import RedisError, ResponseError

from jobkit.model import StoreUnavailable
from jobkit.settings import Settings
from jobkit.store import library
from jobkit.store.connect import REPLY_TIMEOUT_S, explain, open_blocking
from jobkit.store.values import Renewal
from jobkit.store.wire import options, read_renewal, renew_args

logger = logging.getLogger("jobkit.worker")

#: Seconds between attempts while Redis does not answer.
_RETRY_S = 0.5

#: What goes on while the server is away or takes no changes, and while it only takes no new jobs.
_MEANWHILE = {
    "away": "running jobs go on, the worker waits",
    "full": "no job can be submitted, those that were accepted are run",
}


class LeaseKeeper:
    """Renews from `start()` until `stop()`.

    Args:
        held: what the worker runs now, job id to token; called in the keeper's thread, like the next four.
        facts: what others may see of the worker.
        barred: functions that must not run on a worker's loop, of this worker and, after each beat, of all.
        on_beat: the server has answered.
        on_renewal: what a beat learned, and what was held when it was sent.
        on_revoked: this machine was revoked.
        on_wiped: the server does not know what it knew before.
        on_failure: a beat has raised another error than that the server is away. The next beat comes as usual.
    """

    def __init__(
        self,
        settings: Settings,
        worker_id: str,
        *,
        held: Callable[[], Mapping[str, str]],
        facts: Callable[[], Mapping[str, Any]],
        barred: set[str],
        on_beat: Callable[[], object],
        on_renewal: Callable[[Renewal, Mapping[str, str]], None],
        on_revoked: Callable[[StoreUnavailable], object],
        on_wiped: Callable[[], object],
        on_failure: Callable[[Exception], object],
        outages: OutageLog,
    ) -> None:
        self._settings, self._worker_id, self._outages = settings, worker_id, outages
        self._held, self._facts, self._barred = held, facts, barred
        self._all_barred: frozenset[str] = frozenset()
        self._on_beat, self._on_renewal = on_beat, on_renewal
        self._on_revoked = on_revoked
        self._on_wiped, self._on_failure = on_wiped, on_failure
        self.is_full = False
        """By the last beat: the server takes nothing new, but lets what was accepted go on."""
        self._place = b""
        self._ttl_ms = max(1, int(settings.result_ttl * 1000))
        self._prefix = f"jk:{settings.namespace}:"
        self._redis: redis.Redis = open_blocking(settings, min(REPLY_TIMEOUT_S, max(0.5, settings.heartbeat)))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="jobkit-heartbeat", daemon=True)

    def beat(self) -> None:
        """One heartbeat, now, in the calling thread. Raises StoreUnavailable."""
        settings, self.is_full, held = self._settings, False, self._held()
        args = renew_args(
            self._worker_id,
            self._facts(),
            held,
            int(settings.lease * 1000),
            settings.max_losses,
            self._ttl_ms,
            self._barred - self._all_barred,
        )
        try:
            renewal = read_renewal(self.run("renew", args))
            self.run("prune", [options(limit=200, keep=settings.keep or None)])
            refused = self._refused()
            is_wiped = refused is None and self._is_wiped()  # one that is full takes no mark either
        except (RedisError, OSError) as error:
            raise explain(error, settings) from error
        if is_wiped:
            logger.warning(
                "Redis at %s was wiped or exchanged: it does not know this namespace any more; "
                "jobs that run here are stopped, and what was accepted before is lost",
                settings.masked_url,
            )
            self._on_wiped()
        self._on_beat()
        self._all_barred = renewal.barred
        self._barred |= renewal.barred
        if renewal.lost or renewal.cancelled or renewal.stop:
            self._on_renewal(renewal, held)
        if refused is not None:
            self.is_full = True
            self._outages.met(refused)
        else:
            self._outages.is_over()
        if renewal.has_left:
            self._settle()

    def run(self, verb: str, args: Sequence[Any]) -> Any:
        """Call a function of the library, from any thread. Raises RedisError or OSError."""
        return library.run_blocking(self._redis.execute_command, self._prefix, verb, args)

    def _settle(self) -> None:
        """Go on with what calls have left over, but not until the next beat is late."""
        until = time.monotonic() + self._settings.heartbeat / 2
        try:
            while time.monotonic() < until and self.run("settle", [self._ttl_ms]):
                pass
        except (RedisError, OSError) as error:
            raise explain(error, self._settings) from error

    def _refused(self) -> StoreUnavailable | None:
        """Why the server takes no submit just now, although it takes heartbeats: it is full."""
        try:
            self.run("submit", ["", ""])  # no job
        except ResponseError as error:
            refused = explain(error, self._settings)
            if not refused.only_reads:
                raise
            return refused
        return None

    def _is_wiped(self) -> bool:
        """Return whether the mark of the namespace, which is made once, has changed since the last beat."""
        key = f"{self._prefix}place"
        pipe = self._redis.pipeline(transaction=False)
        pipe.set(key, secrets.token_hex(8), nx=True)
        pipe.get(key)
        _, place = pipe.execute(raise_on_error=False)
        if isinstance(place, Exception):
            if not str(place).startswith("WRONGTYPE"):
                raise place
            self.run("mend", ["place", "string"])
            return False
        before, self._place = self._place, place
        return before not in (b"", place)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread and its connection; leases are not given up by this."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        self._redis.close()

    def _beat_on(self) -> None:
        while True:
            began = time.monotonic()
            try:
                self.beat()
                pause_s = self._settings.heartbeat - (time.monotonic() - began)
            except StoreUnavailable as error:
                self._outages.met(error)
                if error.is_revoked:
                    self._on_revoked(error)
                pause_s = _RETRY_S
            except Exception as error:
                self._on_failure(error)
                pause_s = self._settings.heartbeat
            if self._stopping.wait(max(0.0, pause_s)):
                return


class OutageLog:
    """Log of outages, a line for the begin and the end of each. For the heartbeat and the loop at once: thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kind = ""  # "", "away" or "full"

    def met(self, error: StoreUnavailable) -> None:
        """Log the error and what goes on meanwhile, once for each kind of outage; nothing if it ends the worker."""
        if error.is_revoked:
            return
        kind = "full" if error.only_reads else "away"
        with self._lock:
            is_news, self._kind = kind != self._kind, kind
        if is_news:
            logger.warning("%s; %s", error, _MEANWHILE[kind])

    def is_over(self) -> None:
        """Log the end of an outage: the store answers, and takes changes."""
        with self._lock:
            kind, self._kind = self._kind, ""
        if kind:
            logger.info("Redis %s again; leases renewed", "answers" if kind == "away" else "takes changes")
