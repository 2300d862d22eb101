"""`sync://`: a submitted job runs here and now, with the same states, events, log and errors as anywhere else.

A delay, the backoff before a retry and limits are not waited for: the job passes through the same states at once.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from jobkit.attempts import (
    artifact_subject,
    assignment,
    ending,
    located_parts,
    needed,
    prepared,
    refused,
)
from jobkit.client.loop import background
from jobkit.codec import RAW, Codec
from jobkit.features import serving
from jobkit.model import LogLine, SignatureError
from jobkit.model.errors import CannotStart
from jobkit.parts import PartStore
from jobkit.run.inside.answers import JobRequest, Reply
from jobkit.run.inside.shown_values import Body, Bounds
from jobkit.run.inside.tracebacks import keep_locals
from jobkit.run.news import Gathered, Taker, gathering
from jobkit.run.shared import run_here
from jobkit.settings import Settings
from jobkit.store.hub import EventHub
from jobkit.store.redis import RedisStore
from jobkit.store.values import ArtifactInfo, AttemptNews, Claimed, Ending, Kept, WorkerInfo

#: All of it stays in the memory of this process's own server.
_BOUNDS = Bounds(each_bytes=100_000_000, total_bytes=500_000_000)


class Inline:
    """Runs the jobs of one kit in the thread that submits them. `paused`: ids of jobs that wait for `run_paused`."""

    def __init__(
        self, store: RedisStore, hub: EventHub, codec: Codec, settings: Settings, paused: dict[str, None]
    ) -> None:
        self._store, self._hub, self._codec, self._settings = store, hub, codec, settings
        self._paused = paused
        self._parts = PartStore(store, lambda: None)
        self.is_at_once = True  # else jobs wait for `jobkit.testing.MemoryKit.run`
        self.person: Callable[[Any], Any] | None = None
        """Answers requests of jobs to people, in place of the person at the terminal."""

    def run_each(self, job_ids: Sequence[str], then: Callable[[], None] | None = None) -> None:
        """Run stored jobs in their order; `then` is called after each."""
        for job_id in job_ids if self.is_at_once else ():
            self._run(job_id)
            if then is not None:
                then()

    def _run(self, job_id: str) -> None:
        """Run a job to its end, attempt after attempt, then the jobs that waited for its result.

        While its queue or task is paused it is left for `run_paused`.
        """
        waiting = deque([job_id])
        while waiting:
            job_id = waiting.popleft()
            while True:
                claimed, is_paused = background.call(self._store.claim_one(this_process(), job_id))
                if is_paused:
                    self._paused[job_id] = None
                if claimed is None:
                    break
                waiting += self.attempt(claimed)
        background.call(self._hub.flush())

    def run_paused(self) -> None:
        """Run what was submitted while it was paused, in the order of the submits."""
        left = list(self._paused)
        self._paused.clear()
        for job_id in left:
            self._run(job_id)

    def attempt(self, claimed: Claimed) -> list[str]:
        """Run one attempt to its end; return the ids of the jobs that waited for it."""
        keep_locals(self._settings.locals)
        try:
            needs = claimed.spec.needs
            given = background.call(needed(self._store, claimed.spec, self._codec)) if needs else None
            located = None
            if claimed.spec.has_parts:
                located = background.call(located_parts(claimed, self._codec, self._parts))
            how = assignment(
                claimed,
                self._codec,
                self._settings,
                bounds=_BOUNDS,
                given=given,
                located=located,
                prepared=background.call(
                    prepared(self._store, claimed, self._codec, self._settings, None, _BOUNDS.each_bytes)
                ),
            )
            sink = _StoreSink(self._store, self._hub, self._codec, claimed, self.person)
            try:
                outcome = run_here(how, sink)
            finally:
                sink.end()
        except (CannotStart, SignatureError) as error:
            outcome = refused(error)
        return background.call(self._finish(ending(claimed, outcome, self._codec, self._settings)))

    async def _finish(self, ending: Ending) -> list[str]:
        followers = await self._store.followers(ending.job_id)
        await self._store.finish([ending])
        return followers


class _StoreSink(Taker):
    """Stores the news of the running job as they come."""

    def __init__(
        self, store: RedisStore, hub: EventHub, codec: Codec, claimed: Claimed, person: Callable[[Any], Any] | None
    ) -> None:
        self._store, self._hub, self._codec, self._claimed, self._person = store, hub, codec, claimed, person
        self._job_id, self._token = claimed.spec.id, claimed.token
        self._more: dict[str, Any] = {}
        self._numbers: tuple[float | None, float | None, str] = (None, None, "")
        self._gathered: dict[str, Gathered] = {}
        self._serving: list[Future[None]] = []  # requests
        # Threads that may answer: not those that the job starts, nor jobkit's, except those that call users' hooks.
        own, idle = threading.current_thread(), re.compile("jobkit-(?!hook-)|asyncio_").match
        self._others = [each for each in threading.enumerate() if each is not own and not idle(each.name)]

    def progress(self, completed: float | None, total: float | None, message: str) -> None:
        self._numbers = completed, total, message
        self._tell(AttemptNews(self._job_id, self._token, True, completed, total, message, more=self._more))

    def gather(self, kind: str, news: Any) -> None:
        if (gathered := self._gathered.get(kind)) is None:
            gathered = self._gathered[kind] = background.call(gathering()[kind].of_job(self._store, self._job_id))
        gathered.add(news)
        if (given := gathered.take()) is not None:
            self.keep(kind, *given, 1)
        self.show(**gathered.shown())

    def lines(self, lines: Sequence[LogLine]) -> None:
        self._tell(AttemptNews(self._job_id, self._token, lines=lines))

    def awaits(self, job_ids: Sequence[str]) -> None:
        """Do nothing: there is no slot to lend. A job that is submitted here has ended when its submit returns."""

    def can_go_on(self, *, is_fresh: bool = False) -> None:
        """Do nothing: no worker stops here."""

    def show(self, **fields: Any) -> None:
        self._more |= fields
        self.progress(*self._numbers)

    def keep(self, kind: str, name: str, facts: bytes, body: bytes, most: int) -> None:
        background.call(self._store.keep([Kept.of_feature(self._job_id, self._token, kind, name, facts, body)]))

    def sync(self, key: str, reply: Callable[[Reply], None]) -> bool:
        """Do nothing: what the job says is stored at once."""
        return False

    def request(self, feature: str, key: str, body: bytes, reply: Callable[[Reply], None]) -> None:
        module, first = serving(feature), Future[Reply]()

        def take(found: Reply) -> None:
            reply(found)
            if not first.done():
                first.set_result(found)

        self._serving.append(background.spawn(self._serve(module, JobRequest(feature, key, body, take))))
        if first.result().kind == "wait":
            (snapshot,) = background.call(self._store.snapshots([self._job_id]))
            given = self._store, self._codec, snapshot, key, self._person, self._has_others
            if snapshot is not None and (found := module.here(*given)) is not None:
                reply(found)

    def _has_others(self) -> bool:
        """Return whether another thread of the process may do what the job waits for."""
        return any(other.is_alive() for other in self._others)

    def end(self) -> None:
        """End with the attempt: nothing waits for replies any more."""
        for each in self._serving:
            each.cancel()

    async def _serve(self, module: Any, request: JobRequest) -> None:
        changed = asyncio.Event()
        stop = self._hub.listen(lambda event: changed.set(), self._job_id)
        try:
            await self._hub.ready(self._job_id)
            await module.serve(
                self._store, self._codec, self._claimed, request, changed, lambda failures: asyncio.sleep(0.1)
            )
        finally:
            stop()

    def artifact(self, name: str, media: str, body: Body) -> None:
        content = body if isinstance(body, bytes) else body.read_bytes()
        spec = self._claimed.spec
        sealed = self._codec.seal(RAW, content, artifact_subject(spec, name, media))
        info = ArtifactInfo(name, media, len(content), time.time_ns() // 1_000_000)
        background.call(self._store.keep([Kept(spec.id, self._token, info, sealed)]))

    def _tell(self, news: AttemptNews) -> None:
        background.call(self._store.progress([news]))


def this_process(queues: Sequence[str] = ("default",)) -> WorkerInfo:
    """Return the worker that runs jobs in the process that submits them."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return WorkerInfo(id="here", host=socket.gethostname(), pid=os.getpid(), python=python, queues=tuple(queues))
