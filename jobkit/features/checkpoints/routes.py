"""`/api/jobs/{id}/checkpoints`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from jobkit.http.api.jobs import find
from jobkit.http.api.routing import see
from jobkit.http.api.shapes import answer
from jobkit.http.core.handling import ApiCall


class CheckpointJson(Struct):
    """The state of a job at one moment; `text` says which, like "epoch 43", if its value tells."""

    text: str
    attempt: int
    size_bytes: int
    files: list[str]
    created_at: datetime


CheckpointsJson = answer("CheckpointsJson", checkpoints=list[CheckpointJson])


async def checkpoints(call: ApiCall) -> Any:
    """List the newest two checkpoints of a job, oldest first."""
    found: Any = await call.kit.aio.checkpoints((await find(call)).id)
    return {"checkpoints": [one.to_json() for one in found]}


ROUTES = (see("/api/jobs/{id}/checkpoints", checkpoints, CheckpointsJson),)
