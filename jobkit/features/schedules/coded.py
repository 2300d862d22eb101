"""`introduce`: the schedules that stand in the code of tasks, `@task(schedule=...)`, kept like all others."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

from jobkit.codec import Codec
from jobkit.features.schedules.firing import scheduled
from jobkit.features.schedules.store import ScheduleStore
from jobkit.features.schedules.timing import RULES, timing
from jobkit.files import FileStore
from jobkit.model import StoreUnavailable
from jobkit.parts import PartStore
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore
from jobkit.tasks.options import JobOptions
from jobkit.tasks.task import TaskDef

logger = logging.getLogger("jobkit.worker")


async def introduce(store: RedisStore, tasks: Sequence[TaskDef[..., Any]], settings: Settings, codec: Codec) -> None:
    """Store the schedules in the code of these tasks, and remove those that their modules do not have any more.

    Each worker and each dashboard that knows the tasks does so at its start: they come with the code, change with it,
    and go with it. A change at run time stays until the schedule is removed. A schedule whose task cannot run without
    arguments, or has a signature that cannot be read, is left out, and the log says so.
    """
    schedules = store.part(ScheduleStore)
    coded = {task.name: task for task in tasks if task.effective().schedule and task.ref}
    if not coded and not any(kept.spec.module for kept in await schedules.snapshots()):
        return
    from jobkit.client.submit import SubmitOrigin, prepare  # the client takes 8 MB and 0.05 s

    origin = SubmitOrigin(settings, codec)
    loaded = {task.ref.partition(":")[0] for task in tasks if task.ref}
    now_ms = await store.now_ms() if coded else 0
    parts = PartStore(store, lambda: None if settings.scheme == "sync" else FileStore.of(settings))
    for task in coded.values():
        given = task.effective().schedule
        made = timing(**{name: given.get(name) for name in ("cron", "every", "tz")}, now_ms=0)
        rules = {name: given[name] for name in RULES if name in given}
        try:
            prepared = prepare(task, (), {}, JobOptions(), origin)
            await parts.keep(prepared.blobs)
        except StoreUnavailable:
            raise
        except Exception as error:  # of the user's: a hint that names what is not there, for instance
            logger.warning("task %s: its schedule is left out: %s", task.name, error)
            continue
        module = task.ref.partition(":")[0]
        spec, payload = scheduled(prepared, task.name, made, origin.codec, module=module, **rules)
        next_ms = made.after(now_ms, now_ms)
        if next_ms is not None and not await schedules.put(spec, payload, next_ms):
            logger.info("schedule %s was changed at run time and stays so: the one in the code is not used", spec.name)
    for kept in await schedules.snapshots():
        module = kept.spec.module
        is_here = module in loaded or module in sys.modules
        if module and is_here and kept.spec.job.task not in coded and await schedules.remove(kept.name):
            logger.info("schedule %s is removed: its task has none any more", kept.name)
