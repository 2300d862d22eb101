"""Bringing jobs back from the archive, as an action of the pages."""

from __future__ import annotations

from jobkit.client.checks import unknown_job
from jobkit.ui.access.actions import ActionCall, action


async def _restore(call: ActionCall) -> None:
    # The gate cannot know the owner of a job that is not kept: the archive does.
    kept = set(await call.kit.aio.archive.reopen(list(call.targets), owner=call.person.only_owner))
    for job_id in call.targets:
        if job_id not in kept:
            call.refuse(job_id, unknown_job(job_id))


action("restore", _restore, "brought back from the archive", on="archived job", own_too=True)
