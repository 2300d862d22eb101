"""Rules of `stop_when`: how many ends of a kind are enough, which the store counts, or a function, which a job applies.

A function is sent as the argument of `apply_rule`, a job beside those of the batch. So it outlives the process that
made the batch, runs again if its worker dies, and cannot harm a worker. While it waits, it lends its slot to others.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable
from copy import copy
from typing import Any

import msgspec

from jobkit.model import InvalidParams, JobkitError, JobNotFound, JobSpec
from jobkit.model.batch import BatchSpec, subscription
from jobkit.tasks.options import MAX_PRIORITY, check_submit_options
from jobkit.tasks.values import short_repr

#: Seconds that `apply_rule` waits for further jobs of a batch whose submit has not been completed.
_COMES_S = 60.0

#: Points of priority by which a job that serves others is before them.
_SOONER = 10

#: Words of a rule that is a function.
FUNCTION_RULE = "stops when a function holds for a job"

_COUNTED = re.compile(r"(?:([1-9]\d{0,6}) )?(failed|succeeded)")


class StopRule(msgspec.Struct, frozen=True):
    """A checked rule: so many jobs in a state, or a function of a job that has succeeded or failed; or none."""

    state: str = ""
    count: int = 1
    function: Callable[[Any], object] | None = None

    @property
    def counted(self) -> str:
        """Rule that the store counts: "failed 3"; "" for a function."""
        return f"{self.state} {self.count}" if self.state else ""

    @property
    def words(self) -> str:
        """Words for people: "stops when 3 jobs have failed"."""
        if self.function is not None:
            return FUNCTION_RULE
        if not self.state:
            return ""
        many = "a job has" if self.count == 1 else f"{self.count:,} jobs have"
        return f"stops when {many} {self.state}"


def rule_of(rule: object) -> StopRule:
    """Return the checked rule of `stop_when=`.

    Raises:
        InvalidParams: it is neither a function nor a known text.
    """
    if isinstance(rule, str) and (found := _COUNTED.fullmatch(rule)):
        return StopRule(found[2], int(found[1] or 1))
    if not callable(rule):
        raise InvalidParams(
            'stop_when must be a function of a job, like lambda job: job.result() < 0.1, or "failed", "3 failed", '
            f'"10 succeeded", not {short_repr(rule, 60)}',
            "stop_when",
        )
    return StopRule(function=rule)


def sends_rules(submitter: Any) -> bool:
    """Return True if a worker applies functions; else the submitting process does. `submitter`: a `BoundKit`."""
    return submitter.connection.inline is None and bool(submitter.origin.codec.allow_pickle)


def judge_of(submitter: Any, batch: BatchSpec, rule: StopRule, like: JobSpec) -> Any:
    """Return the submission of the job that applies a function. It starts before `like`, a job of the batch.

    Raises:
        InvalidParams: the function cannot be sent.
    """
    bound = beside(submitter, like, title=f"Stop rule of {batch.name or batch.title or batch.task}")
    return bound.prepared(apply_rule, (submitter.kit, batch.id, rule.function), {}, batch.owner)


def beside(submitter: Any, like: JobSpec, **options: Any) -> Any:
    """Return what submits a job that serves jobs like this one: in their queue and before them, with these options."""
    bound = copy(submitter)
    priority = min(MAX_PRIORITY, like.priority + _SOONER)
    bound.over = check_submit_options({"queue": like.queue, "priority": priority, **options})
    return bound


def apply_rule(kit: Any, batch_id: str, rule: Any) -> str | None:
    """Cancel the rest of a batch once a rule holds for one of its jobs; the function of a job.

    Returns:
        The id of the job for which it held, or None.

    Raises:
        JobkitError: the rule raised; the batch goes on without it.
    """
    heard, key, connection = threading.Event(), subscription(batch_id), kit.connection
    with contextlib.ExitStack() as stops:
        stops.callback(connection.hub.listen(lambda _: heard.set(), key))
        stops.callback(connection.hub.on_heard(lambda topic: heard.set() if topic == key else None))  # after a cut
        connection.call(connection.hub.ready, key)
        return _applied(kit, batch_id, rule, heard)


def _applied(kit: Any, batch_id: str, rule: Any, heard: threading.Event) -> str | None:
    """See `apply_rule`. `heard` is set with each event of the batch."""
    while (batch := _kept(kit, batch_id)) is None:  # its first jobs are on their way
        if not heard.wait(_COMES_S):
            return None
        heard.clear()
    batch.listen(lambda *_: heard.set())  # also when it has read further jobs
    batch.judge_by(rule)
    while True:
        heard.clear()
        batch.wait()
        batch.judge()
        if batch.problem is not None:
            raise JobkitError(f"the rule raised, so the batch goes on without it: {batch.problem}") from batch.problem
        if batch.stopping_job is not None:
            return str(batch.stopping_job.id)
        info = kit.batches.info(batch_id)
        if info.is_stopped or (info.came >= info.spec.size and not info.open) or not heard.wait(_COMES_S):
            return None


def _kept(kit: Any, batch_id: str) -> Any:
    with contextlib.suppress(JobNotFound):
        return kit.batches.get(batch_id)
    return None
