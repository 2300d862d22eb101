"""`kit.limits`: limits of queues and tasks that were set while the system runs, listed when called."""

from __future__ import annotations

from typing import Any, ClassVar

from jobkit.client.connection import Connection
from jobkit.client.forms import Noun, on_loop
from jobkit.client.pauses import gate_of
from jobkit.client.tables import Table
from jobkit.model import InvalidParams, Rule
from jobkit.model.cells import Columns
from jobkit.model.limits import parse_rate
from jobkit.tasks.options import check_submit_options


class Rules(Table, list[Rule]):
    """Limits that were set while the system runs."""

    COLUMNS: ClassVar[Columns] = {
        "Limit of": lambda rule: rule.gate.replace(":", " ", 1),
        "Concurrency": lambda rule: rule.n or None,
        "Rate": lambda rule: rule.rate,
        "Running": lambda rule: rule.held,
    }
    EMPTY = "No limits. `jobkit limits set --queue NAME --concurrency 2` adds one."


class LimitVerbs:
    """Verbs about limits. Every one may raise `StoreUnavailable`."""

    def __init__(self, kit: Any) -> None:
        self._connection: Connection = kit.connection

    async def set(
        self,
        *,
        queue: str | None = None,
        task: str | None = None,
        concurrency: int | None = None,
        rate: str | None = None,
    ) -> Rule:
        """Limit a queue or a task while the system runs: `kit.limits.set(queue="gpu", concurrency=2)`.

        It holds at once, across all workers, until `remove`, and instead of what `@task` says; limits by key stay.
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
            raise InvalidParams("give concurrency or rate; kit.limits.remove(...) ends a limit", "concurrency")
        checked = check_submit_options({"concurrency": concurrency, "rate": rate})
        count, period_ms = (checked.rate and parse_rate(checked.rate)) or (None, None)
        change = {"n": checked.concurrency, "count": count, "period_ms": period_ms}
        return await self._connection.store.set_rule(gate, change)

    async def remove(self, *, queue: str | None = None, task: str | None = None) -> None:
        """Remove the limit that `set` has set; the limit in `@task`, if there is one, holds again."""
        change = {"n": None, "count": None, "period_ms": None}
        await self._connection.store.set_rule(gate_of(queue, task), change)

    async def list(self) -> Rules:
        """Return the limits that were set, by name; `held` is the number of attempts that run under a limit now."""
        return Rules(rule for rule in await self._connection.store.rules() if rule.n or rule.count)


class KitLimits(Noun):
    """`kit.limits()` lists the limits of queues and tasks that were set while the system runs.

    Example:
        >>> rule = kit.limits.set(queue="gpu", concurrency=2)
        >>> kit.limits.remove(queue="gpu")
    """

    _SERVICE = LimitVerbs

    __call__ = on_loop("verbs", LimitVerbs.list)
    set = on_loop("verbs", LimitVerbs.set)
    remove = on_loop("verbs", LimitVerbs.remove)
