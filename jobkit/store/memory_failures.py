"""The verbs of the store in memory that know of groups of failed jobs."""

from __future__ import annotations

from collections.abc import Sequence

from jobkit.model import FailureGroup
from jobkit.store.memory_part import MemoryPart


class MemoryFailures(MemoryPart):
    async def failures(self, states: Sequence[str] = (), task: str = "", limit: int = 100) -> list[FailureGroup]:
        with self._moving():
            known = sorted(self._jobs.failures.groups.items(), key=lambda item: -item[1].us)
            all_of_them = [self._jobs.failures.read(id, self._jobs.now) for id, _ in known]
        return [
            group
            for group in all_of_them
            if group is not None and (not states or group.state in states) and task in ("", group.task)
        ][:limit]

    async def failure(self, group: str) -> FailureGroup | None:
        with self._moving():
            return self._jobs.failures.read(group, self._jobs.now)

    async def failed_jobs(
        self,
        group: str,
        *,
        before: str = "",
        limit: int = 100,
        oldest_first: bool = False,
        is_repeated: bool | None = None,
        until: float | None = None,
    ) -> tuple[list[str], str]:
        with self._moving():
            known = self._jobs.failures.groups.get(group)
            if known is None:
                return [], ""
            members = list(known.jobs.below(float("inf")))
            last = float("inf") if until is None else until
            if oldest_first:
                members = [(id, us) for id, us in reversed(members) if float(before or "-inf") < us <= last]
            else:
                members = [(id, us) for id, us in members if us < float(before or "inf")]
            if is_repeated is not None:
                members = [(id, us) for id, us in members if (id in known.again) == is_repeated]
            page = members[:limit]
            return [id for id, _ in page], f"{page[-1][1]:.0f}" if len(page) == limit else ""

    async def judge(self, groups: Sequence[str], state: str, by: str = "") -> list[bool]:
        with self._moving():
            now, failures = self._jobs.now, self._jobs.failures
            known = [failures.read(id, now) is not None for id in groups]
            for id in [id for id, is_known in zip(groups, known, strict=True) if is_known]:
                group = failures.groups[id]
                if state != "dropped":
                    group.wire |= {"state": state, "by": by, "changed": str(now)}
                    if not group.jobs:
                        failures.emptied(id, now)
                elif not group.jobs:
                    del failures.groups[id]
            self._jobs.tell_control()
            return known

    async def groups_of(self, job_ids: Sequence[str]) -> list[str]:
        with self._moving():
            return [self._jobs.failures.of.get(job_id, "") for job_id in job_ids]

    async def payloads(self, job_ids: Sequence[str]) -> list[bytes | None]:
        with self._moving():
            return [record.payload if (record := self._jobs.find(job_id)) else None for job_id in job_ids]
