"""A stage for pages: a real kit of `sync://`, and a worker that the test plays."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import msgspec

from jobkit.attempts import artifact_subject, preview_subject
from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.codec import RAW
from jobkit.features.questions.asking import AskCall
from jobkit.features.questions.requests import serve
from jobkit.features.studies.controller import FACTS
from jobkit.features.studies.store import JournalStore
from jobkit.model import ErrorKind, JobSpec, LogLine
from jobkit.model.batch import BatchSpec
from jobkit.model.metrics import Curves, Point
from jobkit.model.snapshot import JobError
from jobkit.run.inside.answers import Answers, JobRequest
from jobkit.settings import Settings
from jobkit.store.values import ArtifactInfo, AttemptNews, Claimed, Ending, Kept, Submission, WorkerInfo
from jobkit.tasks.info import TaskInfo, sealed_definition
from tests.support import wait_until

T = TypeVar("T")


class Stage:
    """Submission of jobs, and their played worker."""

    def __init__(self, kit: Kit | None = None) -> None:
        # The played worker sends heartbeats only at the test's request: a short lease would expire on a slow machine.
        self.kit = kit or Kit(Settings(url="sync://", lease=3600.0))
        self.store: Any = self.kit.verbs.store
        self._tokens: dict[str, Claimed] = {}
        self._ids = itertools.count(1)
        self._questions: list[Future[None]] = []

    def close(self) -> None:
        for following in self._questions:
            following.cancel()
        self.kit.close()

    def _do(self, verb: Coroutine[Any, Any, T]) -> T:
        """Await a verb of the store, and until its events have been delivered."""
        value = background.call(verb)
        background.call(self.kit.hub.flush())
        return value

    def submit(self, task: str = "train", params: Mapping[str, Any] | None = None, **spec: Any) -> str:
        """Submit a waiting job; return its id."""
        job_id, payload = spec.pop("id", f"{next(self._ids):08x}-stage"), spec.pop("payload", b"")
        whole = JobSpec(id=job_id, task=task, params=dict(params or {}), **{"owner": "ada", **spec})
        self._do(self.store.submit([Submission(whole, payload)]))
        return job_id

    def running(self, task: str = "train", params: Mapping[str, Any] | None = None, **spec: Any) -> str:
        """Submit a job and start it on "gpu-1"; return its id."""
        job_id = self.submit(task, params, **spec)
        self.start(job_id, queue=spec.get("queue", "default"))
        return job_id

    def batch(self, *params: Mapping[str, Any], task: str = "train", owner: str = "", **spec: Any) -> list[str]:
        """Submit a batch with a job for each of `params`; return its id and those of the jobs."""
        batch_id = spec.pop("id", None) or secrets.token_hex(8)
        jobs = [
            JobSpec(f"{batch_id}-{n}", task, params=each, owner=owner, batch=batch_id) for n, each in enumerate(params)
        ]
        batch = BatchSpec(batch_id, task, spec.pop("size", len(jobs)), owner=owner, **spec)
        self._do(self.store.submit([Submission(job, b"") for job in jobs], "", batch))
        return [batch_id, *(job.id for job in jobs)]

    def study(self, title: str = "Study of train", **params: Any) -> str:
        """Start a job that runs a study, without any trial; return its id."""
        study_id = self.submit("jobkit.study", params, title=title, queue="studies")
        token = self.start(study_id, "gpu-2", "studies").token
        self._do(JournalStore(self.store).append(study_id, token, 0, ["{}"]))
        return study_id

    def tell(self, study_id: str, **facts: Any) -> None:
        """Say of a study what the job that runs it knows."""
        self.save(study_id, FACTS, "application/json", msgspec.json.encode(facts))

    def start(self, job_id: str, worker: str = "gpu-1", queue: str = "default") -> Claimed:
        """Claim jobs until this one runs; the ones before it in the queue run too."""
        info = WorkerInfo(id=worker, host="box", queues=(queue,), slots=64)
        while job_id not in self._tokens:
            claimed, _ = self._do(self.store.claim(info, 1))
            if not claimed:
                raise AssertionError(f"job {job_id} is not in queue {queue}")
            self._tokens[claimed[0].spec.id] = claimed[0]
        return self._tokens[job_id]

    def beat(self, worker: str = "gpu-1", queues: str = "default", slots: int = 4, **facts: Any) -> None:
        """A worker's heartbeat, without which it is not listed."""
        held = {job_id: claimed.token for job_id, claimed in self._tokens.items() if claimed.token.startswith(worker)}
        self._do(self.store.renew(worker, held, {"host": "box", "queues": queues, "slots": slots, **facts}))

    def kill(self, worker: str) -> None:
        """End a worker as SIGKILL does; another one notices it."""
        self._do(self.store.renew(worker, {}, {"process": f"process of {worker}"}))
        self._do(self.store.report_dead(lambda process: process == f"process of {worker}"))
        self.beat("observer")
        self._do(self.store.leave("observer"))
        self._tokens = {id: each for id, each in self._tokens.items() if not each.token.startswith(f"{worker}:")}

    def progress(self, job_id: str, done: float, total: float | None = None, message: str = "", **more: Any) -> None:
        token = self._tokens[job_id].token
        self._do(self.store.progress([AttemptNews(job_id, token, True, done, total, message, more=more)]))

    def measure(self, job_id: str, curves: Curves, **batch: Sequence[Point]) -> None:
        """Add points to the curves of a running job."""
        curves.add(batch)
        line = curves.take()
        assert line is not None
        token, more = self._tokens[job_id].token, {"metrics": curves.summary().to_wire()}
        self._do(self.store.progress([AttemptNews(job_id, token, True, None, None, "", more=more)]))
        self._do(self.store.keep([Kept.of_feature(job_id, token, "metrics", *line)]))

    def log(self, job_id: str, *lines: str, source: str = "stdout", level: str = "", logger: str = "") -> None:
        at = int(time.time() * 1000)
        made = [LogLine(text, at, source, level, logger) for text in lines]
        self._do(self.store.progress([AttemptNews(job_id, self._tokens[job_id].token, lines=made)]))

    def save(self, job_id: str, name: str, media_type: str, content: bytes) -> None:
        token, spec = self._tokens[job_id].token, self.kit.snapshot(job_id).spec
        body = self.kit.codec.seal(RAW, content, artifact_subject(spec, name, media_type))
        info = ArtifactInfo(name, media_type, len(content), int(time.time() * 1000))
        self._do(self.store.keep([Kept(job_id, token, info, body)]))

    def succeed(
        self, job_id: str, preview: Mapping[str, Any] | None = None, summary: str = "", result: bytes = b""
    ) -> None:
        preview = preview or {"type": "int", "text": "42"}
        self._finish(job_id, "succeeded", preview=preview, summary=summary, result=result)

    def ask(self, job_id: str, wanted: Any, text: str, show: Any = None, timeout_s: float | None = None) -> str:
        """Ask a question as a running job does; return its key."""
        claimed, asked = self._tokens[job_id], AskCall(wanted, text, show, timeout_s, "")
        key, body = next(asked.questions(Answers()))
        question = JobRequest("questions", key, body, lambda reply: None)
        following = serve(self.store, self.kit.codec, claimed, question, asyncio.Event(), asyncio.sleep)
        self._questions.append(background.spawn(following))
        wait_until(lambda: self.kit.snapshot(job_id).asking, what="the question")
        background.call(self.kit.hub.flush())
        return key

    def publish(self, *infos: TaskInfo) -> None:
        """Publish tasks, as a worker does at its start."""
        sealed = {info.name: sealed_definition(info.to_json(), self.kit.codec) for info in infos}
        self._do(self.store.publish_tasks(sealed))

    def fail(
        self,
        job_id: str,
        type: str = "ValueError",
        message: str = "bad",
        traceback: str = "",
        where: str = "",
        source: str = "",
    ) -> None:
        self._finish(job_id, "failed", error=JobError(ErrorKind.EXCEPTION, type, message, traceback, where, source))

    def retry_later(self, job_id: str, message: str = "try again", delay_ms: int = 0) -> None:
        error = JobError(ErrorKind.EXCEPTION, "OSError", message)
        self._finish(job_id, "retried", error=error, delay_ms=delay_ms)

    def cancelled(self, job_id: str) -> None:
        self._finish(job_id, "cancelled", reason="stopped within 0.1 s")

    def _finish(self, job_id: str, outcome: str, **ending: Any) -> None:
        token = self._tokens.pop(job_id).token
        if preview := ending.pop("preview", None):
            ending["preview"] = self.kit.codec.seal(RAW, msgspec.json.encode(preview), preview_subject(job_id))
        self._do(self.store.finish([Ending(job_id, token, outcome, **ending)]))
