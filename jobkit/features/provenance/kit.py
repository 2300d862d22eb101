"""`kit.made_by` and `job.made_by`: what made the result of a job."""

from __future__ import annotations

from jobkit.client.forms import on_loop
from jobkit.client.verbs import Verbs
from jobkit.features.provenance.made_by import JobMadeBy, MadeBy

__all__ = ["JobMadeBy", "KitMadeBy"]


async def made_by(verbs: Verbs, job_id: str) -> MadeBy:
    """Return what made a job's result: git commit and diff, packages, Python, machine, seed.

    Raises:
        JobNotFound: the job is not kept.
    """
    made: list[MadeBy] = await verbs.made_all([await verbs.snapshot(job_id)])
    return made[0]


class KitMadeBy:
    """The verb about what made jobs that the kit itself has."""

    made_by = on_loop("verbs", made_by)
