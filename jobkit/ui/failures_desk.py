"""What may be done with groups of failures from a page; see `desk`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobkit.model import InvalidParams, UnknownTask
from jobkit.ui.desk import Errand, action, each
from jobkit.ui.form_values import read_field


async def _retry(errand: Errand, group: str) -> None:
    changes = await _changes(errand, group)
    came = await errand.kit.aio.retry_failures(group, changes=changes, owner=errand.person.name)
    for job_id in came.jobs.values():
        errand.make(job_id)
    errand.done = f"run again: {_jobs(len(came.jobs))}"
    if came.refused:
        why = next(iter(came.refused.values()))
        errand.refuse(group, f"{_jobs(len(came.refused))} could not be run again: {why}")
    elif not came.jobs:
        errand.refuse(group, "every job of this group has been run again already")


async def _changes(errand: Errand, group: str) -> dict[str, Any]:
    """The other arguments that were asked for, from the fields of a form."""
    fields = errand.details.get("changes")
    if not isinstance(fields, Mapping) or not fields:
        return {}
    task = (await errand.kit.aio.failure(group)).task
    infos = await errand.kit.aio.tasks()
    if task not in infos:
        why = errand.kit.verbs.refused_tasks.get(task) or f"task {task!r} is not known here"
        raise UnknownTask(f"{why}; so its arguments cannot be checked; run it from Python")
    specs = {spec.name: spec for spec in infos[task].params}
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name not in specs:
            raise InvalidParams(f"task {task!r} has no argument {str(name)[:60]!r}", str(name))
        values[name] = read_field(specs[name], field if isinstance(field, Mapping) else {"text": str(field)})
    changes: dict[str, Any] = infos[task].changes(values)
    return changes


async def _drop(errand: Errand, group: str) -> None:
    errand.done = f"dropped: {_jobs(await errand.kit.aio.drop(group))} deleted"


async def _mute(errand: Errand, group: str) -> None:
    await errand.kit.aio.mute(group, by=errand.person.name)


async def _resolve(errand: Errand, group: str) -> None:
    await errand.kit.aio.resolve(group, by=errand.person.name)


async def _reopen(errand: Errand, group: str) -> None:
    await errand.kit.aio.reopen(group, by=errand.person.name)


def _jobs(count: int) -> str:
    return f"{count:,} job{'' if count == 1 else 's'}"


action("retry_group", each(_retry), "run again", on="group", is_dangerous=True)
action("mute_group", each(_mute), "muted", on="group")
action("resolve_group", each(_resolve), "resolved", on="group")
action("reopen_group", each(_reopen), "opened again", on="group")
action("drop_group", each(_drop), "dropped", on="group", is_dangerous=True)

#: Those that the page of failures offers.
GROUP_ACTIONS = ("retry_group", "mute_group", "resolve_group", "reopen_group", "drop_group")
