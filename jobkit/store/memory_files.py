"""The verbs of the store in memory that know of artifacts, and of the folders in which a job's files are."""

from __future__ import annotations

from collections.abc import Sequence

from jobkit.store.memory_part import MemoryPart
from jobkit.store.values import ArtifactInfo, Kept


class MemoryFiles(MemoryPart):
    async def keep(self, artifacts: Sequence[Kept]) -> list[bool]:
        with self._moving():
            return [self._keep(kept) for kept in artifacts]

    def _keep(self, kept: Kept) -> bool:
        record = self._jobs.held(kept.job_id, kept.token)
        if record is None:
            return False
        record.artifacts[kept.info.name] = kept.info, kept.body
        if kept.folder:
            self._jobs.filed[kept.job_id] = kept.folder
        return True

    async def artifacts(self, job_id: str) -> list[ArtifactInfo]:
        with self._moving():
            record = self._jobs.find(job_id)
            infos = [info for info, _ in record.artifacts.values()] if record else []
            return sorted(infos, key=lambda info: (info.at_ms, info.name))

    async def artifact(self, job_id: str, name: str) -> bytes | None:
        with self._moving():
            record = self._jobs.find(job_id)
            return record.artifacts[name][1] if record and name in record.artifacts else None

    async def folder(self, job_id: str) -> str:
        with self._moving():
            return self._jobs.filed.get(job_id, "")

    async def place(self) -> str:
        with self._moving():
            return self._jobs.place

    async def litter(self, limit: int = 100) -> list[str]:
        with self._moving():
            return sorted(self._jobs.litter)[:limit]

    async def swept(self, folders: Sequence[str]) -> None:
        with self._moving():
            self._jobs.litter.difference_update(folders)

    async def owned(self, submissions: Sequence[tuple[str, int]]) -> list[bool]:
        with self._moving():
            found = [(self._jobs.find(job_id), us) for job_id, us in submissions]
            return [record is not None and record.us == us for record, us in found]
