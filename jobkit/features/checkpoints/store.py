"""Checkpoints of jobs in the store."""

from __future__ import annotations

import msgspec

from jobkit.features.checkpoints.checkpoint_info import CheckpointInfo
from jobkit.store.namespace import StorePart


class CheckpointStore(StorePart):
    """Reads the newest checkpoints of a job; their jobs keep them by news of the kind "checkpoint"."""

    async def of(self, job_id: str) -> tuple[tuple[CheckpointInfo, bytes], ...]:
        """Return the newest checkpoints of a job, oldest first: metadata and, unless they are files, their bytes."""
        key = f"checkpoints:{job_id}"
        found = self._ns.all_readable(key, lambda _, raw: _read(raw), (await self._ns.ask("HGETALL", key)).items())
        return tuple(sorted(found, key=lambda one: one[0].name))


def _read(raw: bytes) -> tuple[CheckpointInfo, bytes]:
    facts, _, body = raw.partition(b"\n")
    return CheckpointInfo.from_wire(msgspec.json.decode(facts)), body
