"""What may be done from a page with what waits: pause and resume queues and tasks, move waiting jobs; see `desk`."""

from __future__ import annotations

from jobkit.model import InvalidParams, JobkitError
from jobkit.ui.desk import Errand, action, each


async def _pause(errand: Errand, queue: str) -> None:
    if not await errand.kit.aio.pause(queue, by=errand.person.name):
        raise JobkitError(f"queue {queue} is paused already")


async def _resume(errand: Errand, queue: str) -> None:
    if not await errand.kit.aio.resume(queue):
        raise JobkitError(f"queue {queue} is not paused")


async def _pause_task(errand: Errand, task: str) -> None:
    if not await errand.kit.aio.pause_task(task, by=errand.person.name):
        raise JobkitError(f"task {task} is paused already")


async def _resume_task(errand: Errand, task: str) -> None:
    if not await errand.kit.aio.resume_task(task):
        raise JobkitError(f"task {task} is not paused")


async def _move(errand: Errand) -> None:
    queue = str(errand.details.get("queue") or "").strip() or None
    level = str(errand.details.get("priority") or "").strip()
    try:
        priority = int(level) if level else None
    except ValueError:
        raise InvalidParams(f"priority must be a whole number, not {level[:40]!r}", "priority") from None
    jobs = list(errand.targets)
    refused = await errand.kit.aio.move(jobs, queue=queue, priority=priority, by=errand.person.name)
    for job_id, why in refused.items():
        errand.refuse(job_id, why)
    to = [*([f"queue {queue}"] if queue else []), *([f"priority {priority}"] if priority is not None else [])]
    errand.done = f"moved to {' and '.join(to)}"


action("pause_queue", each(_pause), "paused", on="queue")
action("resume_queue", each(_resume), "resumed", on="queue")
action("pause_task", each(_pause_task), "paused", on="task")
action("resume_task", each(_resume_task), "resumed", on="task")
action("move", _move, "moved", own_too=False)

PAUSE_ACTIONS = ("pause_queue", "resume_queue", "pause_task", "resume_task")
