"""`sync://`: a submitted job runs here and now, with the same states, events, log and errors as anywhere else.

A delay and the backoff before a retry are not waited for: the job passes through the same states at once.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from jobkit.attempts import NeedMissing, artifact_subject, assignment, ending, lacking, needed
from jobkit.codec import RAW, Codec
from jobkit.model import LogLine
from jobkit.run import frame_locals
from jobkit.run.artifacts import Body, Bounds
from jobkit.run.inline import run_here
from jobkit.settings import Settings
from jobkit.store.memory import MemoryStore
from jobkit.store.values import ArtifactInfo, Claimed, Kept, Progress, WorkerInfo

T = TypeVar("T")

#: All of it stays in this process's memory.
_BOUNDS = Bounds(each_bytes=100_000_000, total_bytes=500_000_000)


class _Sink:
    """News of the running job, stored as they come."""

    def __init__(self, store: MemoryStore, codec: Codec, claimed: Claimed) -> None:
        self._store, self._codec, self._claimed = store, codec, claimed
        self._job_id, self._token = claimed.spec.id, claimed.token

    def progress(self, done: float | None, total: float | None, message: str) -> None:
        self._tell(Progress(self._job_id, self._token, True, done, total, message))

    def lines(self, lines: Sequence[LogLine]) -> None:
        self._tell(Progress(self._job_id, self._token, lines=lines))

    def awaits(self, job_ids: Sequence[str]) -> None:
        """There is no slot to lend: a job that is submitted here has ended when its submit returns."""

    def artifact(self, name: str, media: str, body: Body) -> None:
        content = body if isinstance(body, bytes) else body.read_bytes()
        spec = self._claimed.spec
        sealed = self._codec.seal(RAW, content, artifact_subject(spec, name, media))
        info = ArtifactInfo(name, media, len(content), time.time_ns() // 1_000_000)
        immediate(self._store.keep([Kept(spec.id, self._token, info, sealed)]))

    def _tell(self, news: Progress) -> None:
        immediate(self._store.progress([news]))


def run_inline(store: MemoryStore, codec: Codec, settings: Settings, job_id: str) -> None:
    """Run a stored job to its end, attempt after attempt, in the calling thread; then those that waited for it."""
    me = this_process()
    while job_id:
        while (claimed := immediate(store.claim_one(me, job_id))) is not None:
            run_claimed(store, codec, settings, claimed)
        job_id = store.take_freed()


def this_process(queues: Sequence[str] = ("default",)) -> WorkerInfo:
    """The worker that runs jobs where they are submitted."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return WorkerInfo(id="here", host=socket.gethostname(), pid=os.getpid(), python=python, queues=tuple(queues))


def run_claimed(store: MemoryStore, codec: Codec, settings: Settings, claimed: Claimed) -> None:
    """Run one attempt to its end, in the calling thread."""
    frame_locals.keep(settings.locals)
    try:
        given = immediate(needed(store, claimed.spec, codec)) if claimed.spec.needs else None
        how = assignment(claimed, codec, settings, bounds=_BOUNDS, given=given)
        outcome = run_here(how, _Sink(store, codec, claimed))
    except NeedMissing as error:
        outcome = lacking(error)
    immediate(store.finish([ending(claimed, outcome, codec, settings)]))


def immediate(coroutine: Coroutine[Any, Any, T]) -> T:
    """The value of a coroutine that never waits, as all verbs of the in-process store are."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    coroutine.close()
    raise RuntimeError("a verb of the in-process store waited")
