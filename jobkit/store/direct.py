"""Submits from blocking code, in the caller's own thread.

The way over the background loop costs two changes of thread, and the answer waits behind the job's first events there:
together more than the submit itself.
"""

from __future__ import annotations

import threading
from typing import Any

import hiredis
from redis.exceptions import ReadOnlyError, ResponseError

from jobkit.settings import Settings
from jobkit.store import library, wire
from jobkit.store.connect import Reaching, open_blocking
from jobkit.store.values import Submission, SubmitReply


class DirectSubmit:
    """One connection that all blocking threads share, one submit at a time.

    Args:
        settings: URL and namespace.
        client: the submitter's own channel, see `RedisStore.submit`.
    """

    def __init__(self, settings: Settings, client: str) -> None:
        self._reaching = Reaching(settings)
        self._prefix = f"jk:{settings.namespace}:"
        self._client = client
        self._redis = open_blocking(settings)
        self._connection: Any = None
        self._lock = threading.Lock()

    def submit(self, job: Submission) -> SubmitReply:
        """Submit one job; see `RedisStore.submit`.

        Raises:
            StoreUnavailable: no answer; the job may be stored or not, and the submit may be repeated.
        """
        args = [self._client, *wire.submit_args([job])]
        with self._reaching, self._lock:
            reply = library.run_blocking(self._call, self._prefix, "submit", args)
        return wire.answers([job], reply)[0]

    def _call(self, *command: Any) -> Any:
        """A command's reply, without the bookkeeping of redis-py's pool."""
        if self._connection is None:
            self._connection = self._redis.connection_pool.get_connection()
        connection = self._connection
        is_whole = False
        try:
            # Connects if it is not connected.
            connection.send_packed_command([hiredis.pack_command(command)], check_health=False)
            reply = connection.read_response()
            is_whole = True
            return reply
        except ResponseError as error:
            is_whole = not isinstance(error, ReadOnlyError)  # a server that became a replica must be looked for again
            raise
        finally:
            if not is_whole:  # a reply may still be on its way
                connection.disconnect()

    def close(self) -> None:
        with self._lock:
            self._connection = None
            self._redis.close()
            self._redis.connection_pool.disconnect()
