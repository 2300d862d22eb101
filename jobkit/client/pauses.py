"""`kit.queues` and `kit.tasks`: listed, paused and resumed; and moves of waiting jobs.

What resumes or moves jobs blocks, since jobs of `sync://` then run with the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobkit.client import checks
from jobkit.client.connection import Connection
from jobkit.client.forms import Deed, Noun, in_thread, on_loop
from jobkit.client.reader import JobReader
from jobkit.client.verbs import Verbs
from jobkit.features import DOORS
from jobkit.model import InvalidParams, Pause
from jobkit.settings import checked_name
from jobkit.tasks.options import check_submit_options
from jobkit.tasks.task import checked_task_name


class _PauseVerbs:
    """Base of the verbs of queues and of tasks. Every verb may raise `StoreUnavailable`."""

    def __init__(self, kit: Any) -> None:
        self._connection: Connection = kit.connection
        self.reader: JobReader = kit.reader

    async def _pause(self, gate: str, by: str) -> bool:
        is_new = await self._is_paused(gate) is None
        if is_new:
            await self._connection.store.set_rule(gate, {"paused": {"by": by or self._connection.owner}})
        return is_new

    def _resume(self, gate: str) -> bool:
        was_paused = self._connection.call(self._is_paused, gate) is not None
        if was_paused:
            self._connection.call(self._connection.store.set_rule, gate, {"paused": None})
            self._connection.run_paused()
        return was_paused

    async def _paused(self, kind: str) -> list[Pause]:
        return [pause for pause in await self._connection.verbs.pauses() if pause.kind == kind]

    async def _is_paused(self, gate: str) -> Pause | None:
        return next((rule.pause for rule in await self._connection.store.rules() if rule.gate == gate), None)


class QueueVerbs(_PauseVerbs):
    """Verbs of queues."""

    async def pause(self, queue: str, *, by: str = "") -> bool:
        """Pause a queue: submitted jobs wait, running jobs go on.

        It is kept in the store, so restarts do not end it. False if it was paused already.

        Args:
            by: the acting person; the one at this process unless given.
        """
        return await self._pause(gate_of(queue=queue), by)

    def resume(self, queue: str) -> bool:
        """Resume a paused queue. False if it was not paused."""
        return self._resume(gate_of(queue=queue))

    async def paused(self) -> list[Pause]:
        """Return the paused queues, by name."""
        return await self._paused("queue")

    def move(
        self, job_ids: str | Sequence[str], *, queue: str | None = None, priority: int | None = None, by: str = ""
    ) -> dict[str, str]:
        """Move waiting jobs to another queue or priority. They keep the time they have waited.

        Args:
            job_ids: one id or several.
            queue, priority: where to; at least one of them. Higher priorities come first.
            by: the acting person, for the jobs' events; the one at this process unless given.

        Returns:
            why not, in one sentence, by the id of each job that could not be moved.

        Raises:
            InvalidParams: a queue's name or a priority that is not allowed, or neither.
        """
        ids = list(dict.fromkeys(checks.job_ids(job_ids)))
        if queue is None and priority is None:
            raise InvalidParams("give a queue or a priority to move to", "queue")
        given = {"queue": queue, "priority": priority}
        check_submit_options({name: value for name, value in given.items() if value is not None})
        who = by or self._connection.owner
        reason = f"moved by {who}" if who else "moved"
        answers = self._connection.call(self._connection.store.move, ids, queue, priority, reason)
        self._connection.run_paused()
        return {job_id: _why_not(job_id, answer) for job_id, answer in zip(ids, answers, strict=True) if answer}


class TaskVerbs(_PauseVerbs):
    """Verbs of tasks."""

    async def pause(self, task: str, *, by: str = "") -> bool:
        """Pause a task in all queues. Jobs of other tasks pass its jobs.

        It is kept in the store, so restarts do not end it. False if it was paused already.

        Args:
            by: the acting person; the one at this process unless given.
        """
        return await self._pause(gate_of(task=task), by)

    def resume(self, task: str) -> bool:
        """Resume a paused task: its jobs go on from their old places in the line. False if it was not paused."""
        return self._resume(gate_of(task=task))

    async def paused(self) -> list[Pause]:
        """Return the paused tasks, by name."""
        return await self._paused("task")


#: Of queues and of tasks.
_DEEDS = (Deed("pause", "paused", "paused already"), Deed("resume", "resumed", "not paused"))


class Queues(Noun):
    """`kit.queues()` lists the queues with their numbers; `kit.queues.pause("gpu")` and others act on one.

    Example:
        >>> kit.queues.pause("gpu")
        True
        >>> kit.queues.resume("gpu")
        True
    """

    ON = "queue"
    DEEDS = _DEEDS
    _SERVICE = QueueVerbs

    __call__ = on_loop("connection.verbs", Verbs.queues)
    pause = on_loop("verbs", QueueVerbs.pause)
    resume = in_thread("verbs", QueueVerbs.resume)
    paused = on_loop("verbs", QueueVerbs.paused)


class Tasks(Noun):
    """`kit.tasks()` lists the tasks by name; `kit.tasks.pause("train")` and others act on one.

    Example:
        >>> kit.tasks.pause("train")
        True
        >>> kit.tasks.resume("train")
        True
    """

    ON = "task"
    DEEDS = _DEEDS
    _SERVICE = TaskVerbs

    __call__ = in_thread("verbs.reader", JobReader.tasks)
    pause = on_loop("verbs", TaskVerbs.pause)
    resume = in_thread("verbs", TaskVerbs.resume)
    paused = on_loop("verbs", TaskVerbs.paused)


def gate_of(queue: str | None = None, task: str | None = None) -> str:
    """Return the gate of a queue or of a task, of which one is given."""
    if (queue is None) == (task is None):
        raise InvalidParams("a limit is of a queue or of a task: give one of them", "queue")
    return f"queue:{checked_name('queue', queue)}" if queue is not None else f"task:{checked_task_name(task)}"


def _why_not(job_id: str, answer: str) -> str:
    if answer == "unknown":
        return str(checks.unknown_job(job_id))
    if answer in DOORS:
        place = f"{answer}'s client and waits in {answer}'s own queue"
        return f"job {job_id} came by {place}; only its priority can be changed"
    if answer == "running":
        return f"job {job_id} is running; only waiting jobs can be moved"
    return f"job {job_id} has already {answer}; only waiting jobs can be moved"
