"""Verbs for waiting jobs: pause and resume queues and tasks, move waiting jobs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from jobkit.client import checks
from jobkit.client.blocking import Blocking
from jobkit.model import InvalidParams, Pause
from jobkit.settings import checked_name
from jobkit.tasks.options import check_submit_options
from jobkit.tasks.task import checked_task_name

#: Jobs that one step moves.
_SLICE = 500


class SteeringVerbs(Blocking):
    """Part of `jobkit.client.kit.Kit`. Every method may raise `StoreUnavailable`."""

    _owner: str

    # -- pausing ------------------------------------------------------------------------------------------------------

    def pause(self, queue: str, *, by: str = "") -> bool:
        """Pause a queue until `resume`: submitted jobs wait, running ones go on.

        It is kept in the store, so restarts do not end it. False if it was paused already.

        Args:
            by: the acting person; the one at this process unless given.
        """
        return self._pause(f"queue:{checked_name('queue', queue)}", by)

    def resume(self, queue: str) -> bool:
        """Resume a paused queue; False if it was not paused."""
        return self._resume(f"queue:{checked_name('queue', queue)}")

    def pause_task(self, task: str, *, by: str = "") -> bool:
        """Pause a task in all queues until `resume_task`. Other jobs pass its jobs.

        False if it was paused already.
        """
        return self._pause(f"task:{checked_task_name(task)}", by)

    def resume_task(self, task: str) -> bool:
        """Resume a paused task: its jobs go on from their old places in the line. False if it was not paused."""
        return self._resume(f"task:{checked_task_name(task)}")

    def paused(self) -> list[Pause]:
        """Return the paused queues and tasks, by name."""
        pauses = [Pause.of(rule) for rule in self._call(self._verbs.store.rules)]
        return [pause for pause in pauses if pause is not None]

    def _pause(self, gate: str, by: str) -> bool:
        is_new = self._is_paused(gate) is None
        if is_new:
            self._call(partial(self._verbs.store.set_rule, gate, {"paused": {"by": by or self._owner}}))
        return is_new

    def _resume(self, gate: str) -> bool:
        was_paused = self._is_paused(gate) is not None
        if was_paused:
            self._call(partial(self._verbs.store.set_rule, gate, {"paused": None}))
            self._run_paused()
        return was_paused

    def _is_paused(self, gate: str) -> Pause | None:
        rules = self._call(self._verbs.store.rules)
        return next((Pause.of(rule) for rule in rules if rule.gate == gate), None)

    # -- moving -------------------------------------------------------------------------------------------------------

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
        who = by or self._owner
        refused: dict[str, str] = {}
        for start in range(0, len(ids), _SLICE):
            part = ids[start : start + _SLICE]
            reason = f"moved by {who}" if who else "moved"
            answers = self._call(partial(self._verbs.store.move, part, queue, priority, reason))
            refused |= {
                job_id: _why_not(job_id, answer) for job_id, answer in zip(part, answers, strict=True) if answer
            }
        self._run_paused()
        return refused


def _why_not(job_id: str, answer: str) -> str:
    if answer == "unknown":
        return f"no job {job_id[:60]!r} is kept here: it was never submitted, was removed, or has expired"
    if answer == "arq":
        return f"job {job_id} came by arq's client and waits in arq's own queue; only its priority can be changed"
    if answer == "running":
        return f"job {job_id} is running; only waiting jobs can be moved"
    return f"job {job_id} has already {answer}; only waiting jobs can be moved"
