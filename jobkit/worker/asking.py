"""`Asker`: the questions of a worker's attempts, from the job's process to the store and back."""

from __future__ import annotations

import asyncio

from jobkit.codec import Codec
from jobkit.questions import AttemptQuestion, follow
from jobkit.store.redis import RedisStore
from jobkit.store.values import Claimed
from jobkit.worker.about import RetryPause


class Asker:
    """Follows the open questions of all attempts of one worker."""

    def __init__(self, store: RedisStore, codec: Codec, pause: RetryPause) -> None:
        self._store, self._codec, self._pause = store, codec, pause
        self._open: dict[asyncio.Task[None], tuple[Claimed, asyncio.Event]] = {}

    def ask(self, claimed: Claimed, asked: AttemptQuestion) -> None:
        """Follow a question until it is answered or late, or its attempt ends."""
        changed = asyncio.Event()
        following = follow(self._store, self._codec, claimed, asked, changed, self._pause.wait)
        task = asyncio.get_running_loop().create_task(following, name="jobkit-question")
        self._open[task] = claimed, changed
        task.add_done_callback(lambda ended: self._open.pop(ended, None))

    def look(self, job_id: str = "") -> None:
        """There may be answers: for one job or, after a cut of the worker's channel, for all."""
        for claimed, changed in self._open.values():
            if job_id in ("", claimed.spec.id):
                changed.set()

    def end(self, claimed: Claimed) -> None:
        """The attempt has ended."""
        for task, (of, _) in list(self._open.items()):
            if of is claimed:
                task.cancel()
