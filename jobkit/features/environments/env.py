"""`env="project"` and `rerun(env="recorded")`: the list of packages that travels with a call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from jobkit.features.environments.recorded import LOCK, PROJECT, REQUIREMENTS, recorded_packages
from jobkit.features.shipping.pack import packed
from jobkit.model import InvalidParams, JobSnapshot
from jobkit.tasks.call import CallHead

if TYPE_CHECKING:
    from jobkit.client.connection import Connection

#: What `env` of a submit may be, beside variables, and what that is for; and `env` of a rerun.
SUBMITTED: Mapping[str, str] = {"project": "the packages of the project"}
REPEATED: Mapping[str, str] = {"recorded": "the packages that each job had (needs uv)"}


def submitted(folder: str, task: str) -> bytes:
    """Return the pack of the files that say which packages the project around a folder needs.

    Raises:
        InvalidParams: there are none.
    """
    for each in (Path(folder), *Path(folder).parents):
        if (each / LOCK).is_file() and (each / PROJECT).is_file():
            return packed({LOCK: each / LOCK, PROJECT: each / PROJECT}, task)
        if (each / REQUIREMENTS).is_file():
            return packed({REQUIREMENTS: each / REQUIREMENTS}, task)
    raise InvalidParams(
        f"env='project' needs a {LOCK} (with its {PROJECT}) or a {REQUIREMENTS} in {folder} or above it", "env"
    )


def repeated(env: str, connection: Connection, job: JobSnapshot, head: CallHead) -> bytes:
    """Return the pack with the packages that a job had.

    Raises:
        InvalidParams: no environment can be built for it. JobkitError: the packages are not known.
    """
    if env not in REPEATED:
        raise InvalidParams("env of a rerun is 'recorded', or left out for the packages of its first run", "env")
    if connection.inline is not None:
        raise InvalidParams("env='recorded' needs a worker, and a sync:// kit runs jobs in this process", "env")
    made = connection.call(connection.verbs.made_all, [job])
    return recorded_packages(made[0] if made else None, job, head.ref.partition(":")[0] if head.code is None else "")
