"""The kit's verbs about limits: what holds for a queue or task from now on, and what a job waits for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from jobkit.client.blocking import Blocking
from jobkit.model import InvalidParams, Rule
from jobkit.model.limits import parse_rate
from jobkit.settings import checked_name
from jobkit.tasks import limit_options
from jobkit.tasks.task import checked_task_name


class LimitingKit(Blocking):
    """Part of `jobkit.client.kit.Kit`. Every method may raise `StoreUnavailable`."""

    def limit(
        self,
        *,
        queue: str | None = None,
        task: str | None = None,
        concurrency: int | None = None,
        rate: str | None = None,
    ) -> Rule:
        """Limit a queue or a task while the system runs: `kit.limit(queue="gpu", concurrency=2)`.

        It holds at once, across all workers, until `unlimit`, and instead of what `@task` says; limits by key stay.
        Jobs that run already count and go on; when they are more than `concurrency`, nothing starts until they are
        fewer.

        Args:
            concurrency: attempts at a time. rate: attempts that start in a time, like "10/m".

        Returns:
            The rule; its `held` is how many run now.

        Raises:
            InvalidParams: neither a queue nor a task, or both; no limit, or a value that is not allowed.
        """
        gate = gate_of(queue, task)
        if concurrency is None and rate is None:
            raise InvalidParams("give concurrency or rate (or both); kit.unlimit(...) ends a limit", "concurrency")
        change: dict[str, int | None] = {"n": None, "count": None, "period_ms": None}
        if concurrency is not None:
            change["n"] = limit_options.places("concurrency", concurrency)
        if rate is not None:
            change["count"], change["period_ms"] = parse_rate(limit_options.rate("rate", rate)) or (None, None)
        return self._call(partial(self._verbs.store.set_rule, gate, change))

    def unlimit(self, *, queue: str | None = None, task: str | None = None) -> None:
        """End what `limit` has set; what `@task` says holds again."""
        change = {"n": None, "count": None, "period_ms": None}
        self._call(partial(self._verbs.store.set_rule, gate_of(queue, task), change))

    def limits(self) -> list[Rule]:
        """Return the limits set by `limit`, by name; `held` is how many attempts run under it now."""
        return [rule for rule in self._call(self._verbs.store.rules) if rule.n or rule.count]

    def waits_for(self, job_id: str) -> str:
        """Return why a queued job cannot start yet, in words: "waits for 1 of 2 places of train ada; 3 before it".

        "" where nothing but a free slot does, or where the job is not queued.
        """
        return self.waits_for_many([job_id])[0]

    def waits_for_many(self, job_ids: Sequence[str]) -> list[str]:
        """`waits_for` of each of these jobs."""
        return self._call(partial(self._verbs.waits_for_many, job_ids))


def gate_of(queue: str | None, task: str | None) -> str:
    """The gate of a queue or a task.

    Raises:
        InvalidParams: neither is given, or both.
    """
    if (queue is None) == (task is None):
        raise InvalidParams("a limit is of a queue or of a task: give one of them", "queue")
    return f"queue:{checked_name('queue', queue)}" if queue is not None else f"task:{checked_task_name(task)}"
