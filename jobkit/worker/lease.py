"""The heartbeat: a thread of its own, with a connection of its own, that renews the leases of running jobs.

A thread, since a job that blocks the worker's loop must not cost the worker its leases. Each beat is one script call
for all jobs that the worker holds; the answer names those it has lost and those that somebody asked to stop.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import redis
from redis.exceptions import RedisError

from jobkit.model import StoreUnavailable
from jobkit.settings import Settings
from jobkit.store.connect import REPLY_TIMEOUT_S, explain, open_blocking
from jobkit.store.scripts import run_blocking
from jobkit.store.values import Renewal
from jobkit.store.wire import read_renewal, renew_args

logger = logging.getLogger("jobkit.worker")

#: Seconds between attempts while Redis does not answer.
_RETRY_S = 0.5


class LeaseKeeper:
    """Renews from `start()` until `stop()`.

    Args:
        settings: URL, namespace and times.
        worker_id: whose leases.
        held: what the worker runs now, job id to token; called in the keeper's thread.
        facts: what others may see of the worker; likewise.
        on_renewal: what a beat learned; called in the keeper's thread.
        on_wiped: the server does not know what it knew before; likewise.
    """

    def __init__(
        self,
        settings: Settings,
        worker_id: str,
        *,
        held: Callable[[], Mapping[str, str]],
        facts: Callable[[], Mapping[str, Any]],
        on_renewal: Callable[[Renewal], None],
        on_wiped: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._worker_id = worker_id
        self._held, self._facts, self._on_renewal, self._on_wiped = held, facts, on_renewal, on_wiped
        self._place = b""
        self._prefix = f"jk:{settings.namespace}:"
        self._redis: redis.Redis = open_blocking(settings, min(REPLY_TIMEOUT_S, max(0.5, settings.heartbeat)))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jobkit-heartbeat", daemon=True)

    def beat(self) -> None:
        """One heartbeat, now, in the calling thread.

        Raises:
            StoreUnavailable: the server does not answer.
        """
        settings = self._settings
        args = renew_args(
            self._worker_id,
            self._facts(),
            self._held(),
            int(settings.lease * 1000),
            settings.max_losses,
            max(1, int(settings.result_ttl * 1000)),
        )
        try:
            renewal = read_renewal(run_blocking(self._redis, self._prefix, "renew", args))
            run_blocking(self._redis, self._prefix, "prune", [200, settings.keep or -1])
            is_wiped = self._is_wiped()
        except (RedisError, OSError) as error:
            raise explain(error, settings) from error
        if is_wiped:
            logger.warning(
                "Redis at %s was wiped or exchanged: it does not know this namespace any more; "
                "jobs that run here are stopped, and what was accepted before is lost",
                settings.masked_url,
            )
            self._on_wiped()
        if renewal.lost or renewal.cancelled or renewal.stop:
            self._on_renewal(renewal)

    def _is_wiped(self) -> bool:
        """Whether the mark of the namespace, which is made once, is another than at the beat before."""
        key = f"{self._prefix}place"
        pipe = self._redis.pipeline(transaction=False)
        pipe.set(key, secrets.token_hex(8), nx=True)
        pipe.get(key)
        _, place = pipe.execute()
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

    def _run(self) -> None:
        is_away = False
        while True:
            began = time.monotonic()
            try:
                self.beat()
                if is_away:
                    logger.info("Redis answers again; leases renewed")
                is_away, pause_s = False, self._settings.heartbeat - (time.monotonic() - began)
            except StoreUnavailable as error:
                if not is_away:
                    logger.warning("%s; running jobs go on, the worker waits", error)
                is_away, pause_s = True, _RETRY_S
            if self._stopping.wait(max(0.0, pause_s)):
                return
