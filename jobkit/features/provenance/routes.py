"""`/api/jobs/{id}/made-by`."""

from __future__ import annotations

from typing import Any

from jobkit.http.api.jobs import find
from jobkit.http.api.routing import see
from jobkit.http.api.shapes import answer
from jobkit.http.core.handling import ApiCall

MadeByJson = answer(
    "MadeByJson",
    "Origin of a result. `submitted_from` and `ran_on` are facts of a process: host, Python, packages, git.",
    seed=int | None,
    commit=str,
    branch=str,
    dirty=bool | None,
    submitted_from=dict[str, Any] | None,
    ran_on=dict[str, Any] | None,
)


async def made_by(call: ApiCall) -> Any:
    """Read what made a job's result: git commit and diff, packages, Python, machine, seed."""
    found: Any = await call.kit.aio.made_by((await find(call)).id)
    return found.to_json()


ROUTES = (see("/api/jobs/{id}/made-by", made_by, MadeByJson),)
