"""The action of a form whose arguments are swept: it submits a batch."""

from __future__ import annotations

import itertools

from jobkit.ui.access.actions import ActionCall, action, each


async def _sweep(call: ActionCall, task: str) -> None:
    axes = call.table("axes")
    points = [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]
    each_params = [{**call.table("params"), **point} for point in points]
    jobs = await call.kit.aio.map_info(task, each_params, call.table("options"), owner=call.person.name, axes=axes)
    call.made += [job.id for job in jobs]
    call.done = f"submitted {len(points):,} times"


action("sweep", each(_sweep), "submitted", on="task", own_too=True)
