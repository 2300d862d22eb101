"""Schedules that stand in the code: `@task(schedule="0 3 * * *")`.

Each worker and each dashboard that knows the tasks puts them at its start: they come with the code, change with it, and
go with it. A change at run time stays until the schedule is removed.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

from jobkit.client.prepare import prepare
from jobkit.client.scheduling import scheduled
from jobkit.codec import Codec
from jobkit.model import ScheduleSpec
from jobkit.schedules.timing import Timing, timing
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore
from jobkit.tasks.options import SubmitOptions
from jobkit.tasks.task import TaskDef

logger = logging.getLogger("jobkit.worker")


async def put_coded(store: RedisStore, tasks: Sequence[TaskDef[..., Any]], settings: Settings, codec: Codec) -> None:
    """Keep the schedules of these tasks, and remove those that their modules do not have any more.

    A schedule whose task cannot run without arguments, or has a signature that cannot be read, is left out, and the log
    says so.

    Raises:
        StoreUnavailable: the server does not answer.
    """
    coded = {task.name: task for task in tasks if task.effective().schedule and task.ref}
    loaded = {task.ref.partition(":")[0] for task in tasks if task.ref}
    now_ms = await store.now_ms() if coded else 0
    for task in coded.values():
        try:
            spec, payload = of_task(task, settings, codec)
        except Exception as error:  # of the user's: a hint that names what is not there, for instance
            logger.warning("task %s: its schedule is left out: %s", task.name, error)
            continue
        next_ms = Timing.of(spec).after(now_ms, now_ms)
        if next_ms is not None and not await store.schedules.put(spec, payload, next_ms):
            logger.info("schedule %s was changed at run time and stays so: the one in the code is not used", spec.name)
    for kept in await store.schedules.snapshots():
        module = kept.spec.module
        is_here = module in loaded or module in sys.modules
        if module and is_here and kept.spec.job.task not in coded and await store.schedules.remove(kept.name):
            logger.info("schedule %s is removed: its task has none any more", kept.name)


def of_task(task: TaskDef[..., Any], settings: Settings, codec: Codec) -> tuple[ScheduleSpec, bytes]:
    """The schedule in a task's code, and its sealed arguments (none).

    Raises:
        InvalidParams: the task cannot be called without arguments.
    """
    given = task.effective().schedule
    made = timing(**{name: given.get(name) for name in ("cron", "every", "tz")}, now_ms=0)
    prepared = prepare(task, (), {}, SubmitOptions(), settings=settings, codec=codec, owner="")
    rules = {name: given[name] for name in ("missed", "missed_limit", "overlap") if name in given}
    return scheduled(prepared, task.name, made, codec, module=task.ref.partition(":")[0], **rules)
