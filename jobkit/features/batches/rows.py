"""Batches in the table of jobs: one row each in place of their jobs, unless single jobs or another order are asked for.

See `jobkit/ui/jobs/groups.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.features import leading
from jobkit.features.batches.best import read_best
from jobkit.features.batches.store import BatchStore, merged
from jobkit.model import ENDS, JobkitError, JobSnapshot, JobSpec, JobState
from jobkit.model.batch import BatchInfo, subscription
from jobkit.model.format import FACES, many
from jobkit.store.query import Query, QueryPage
from jobkit.ui.access.actions import ActionCall
from jobkit.ui.jobs.groups import Best, Groups

#: Faces in the order in which the bar stacks them.
_BAR = (*ENDS, JobState.RUNNING)

#: Jobs of a batch that its open row shows.
_SHOWN = 20


class BatchGroups(Groups):
    """Batches as rows of the table."""

    page_name = "batch"

    def row_id(self, group_id: str) -> str:
        return subscription(group_id)

    def folds(self, query: Query, only: str | None) -> bool:
        return query == Query(limit=query.limit, cursor=query.cursor, task=query.task, owner=only)

    def snapshot_of(self, info: BatchInfo) -> JobSnapshot:
        spec = info.spec
        size = max(spec.size, info.made)
        title = spec.name or spec.title
        if (led := leading(spec.kind)) is not None:
            title = led.title(spec)
        return JobSnapshot(
            JobSpec(subscription(info.id), spec.task, title, owner=spec.owner, queue=""),
            1,
            info.state,
            submitted_at=info.submitted_at,
            started_at=info.started_at,
            finished_at=info.ended_at,
            completed=float(info.made - info.open),
            total=float(size),
        )

    def cells(self, info: BatchInfo, best: str = "") -> dict[str, Any]:
        """Return what only the row of a batch has: `batch` {id, size, parts of the bar}, and words about its jobs.

        Args:
            best: words about the best one.
        """
        size = max(info.spec.size, info.made) or 1
        parts = [[face, info.counts[face] / size] for face in _BAR if info.counts.get(face)]
        words = ", ".join(f"{n:,} {FACES[face].lower()}" for face, n in info.counts.items())
        missing = info.spec.size - info.came
        if missing > 0 and not info.open and info.leader is None:
            words += f"; {missing:,} never submitted"
        words = f"{best} · {words}" if best else words
        if info.rule_problem:
            words = f"its stop rule failed; {words}"
        elif info.is_stopped and not info.spec.kind:
            words = f"stopped by its rule; {words}"
        led = leading(info.spec.kind)
        noun = "job" if led is None else led.NOUN
        return {
            "batch": {"id": info.id, "size": size, "parts": parts},
            "args": many(info.spec.size, noun) + (f" over {', '.join(info.spec.axes)}" if info.spec.axes else ""),
            "note": words,
        }

    async def page(self, kit: Kit, query: Query) -> tuple[QueryPage, dict[str, BatchInfo]]:
        store, searched = kit.verbs.store, None
        found: Sequence[JobSnapshot | BatchInfo | None]
        if query.is_plain:
            mixed, cursor = await _store(kit).folded(query.limit, int(query.cursor or 0))
            snapshots = await store.snapshots([one for one in mixed if isinstance(one, str)])
            jobs = {job.id: job for job in snapshots if job is not None}
            found = [jobs.get(one) if isinstance(one, str) else one for one in mixed]
        else:
            found, cursor, searched = await _some(kit, query)
        batches = {subscription(one.id): one for one in found if isinstance(one, BatchInfo)}
        rows = [self.snapshot_of(one) if isinstance(one, BatchInfo) else one for one in found]
        return QueryPage(tuple(filter(None, rows)), cursor, searched), batches

    async def refreshed(
        self, kit: Kit, known: Mapping[str, BatchInfo], others: set[str]
    ) -> dict[str, BatchInfo | None]:
        ids = sorted({info.id for info in known.values() if info.ended_at is None} | others)
        return dict(zip(map(subscription, ids), await _store(kit).infos(ids), strict=True))

    async def best(
        self, kit: Kit, groups: Mapping[str, BatchInfo], known: Mapping[str, Best]
    ) -> tuple[Mapping[str, Best], bool]:
        return await read_best(kit, groups, known)

    async def inside(self, kit: Kit, group_id: str) -> Sequence[str]:
        return [job_id for job_id, _ in await _store(kit).members(group_id, _SHOWN)]

    async def newest(self, kit: Kit, most: int, owner: str | None) -> Sequence[BatchInfo]:
        return await _store(kit).newest(most, owner=owner)

    async def infos(self, kit: Kit, ids: Sequence[str]) -> Sequence[BatchInfo | None]:
        return await _store(kit).infos(ids)

    async def homes(self, kit: Kit, job_ids: Sequence[str]) -> Sequence[str | None]:
        return await _store(kit).homes(job_ids)

    async def singles(self, kit: Kit, most: int) -> Sequence[str]:
        singles, _ = await _store(kit).singles(most)
        return [job_id for _, job_id in singles]


def _store(kit: Kit) -> BatchStore:
    return kit.verbs.store.part(BatchStore)


async def _some(kit: Kit, query: Query) -> tuple[Sequence[JobSnapshot | BatchInfo], str, int | None]:
    """Return a page of the batches that match a query and of the jobs of none, the next cursor, and `searched`."""
    store, below_us = _store(kit), int(query.cursor or 0)
    alone = await kit.verbs.page(msgspec.structs.replace(query, batch=("",)))
    ids = [job.id for job in alone.jobs]
    homes = [home for home in await store.homes(ids) if home]
    begun = {info.id for info in await store.infos(homes) if info is not None}
    times = await kit.verbs.store.fields(("us",), ids)
    jobs = [(int(raw[0]), job) for raw, job in zip(times, alone.jobs, strict=True) if raw and job.id not in begun]
    batches = await store.newest(query.limit + 1, below_us, owner=query.owner, task=query.task)
    rows, cursor = merged(jobs, batches, query.limit, below_us, alone.next_cursor)
    return rows, cursor, alone.searched


async def led(kit: Kit, job_ids: Sequence[str]) -> int:
    """Return the number of jobs that go when these are deleted, since these lead them."""
    return sum(info.made for info in await _store(kit).led_by(job_ids))


async def delete_led(call: ActionCall) -> None:
    """Delete the jobs of the batches that the targets of a delete lead; refuse leaders of open jobs."""
    batches = _store(call.kit)
    for info in await background.call_async(batches.led_by(call.targets)):
        if not info.state.is_terminal:
            continue  # it is refused like any job that runs
        if info.open:
            why = f"{many(info.open, 'job')} that {info.id[:8]} has submitted still wait or run"
            call.refuse(info.id, JobkitError(f"{why}; cancel it first, then it can be deleted"))
        else:
            members = await background.call_async(batches.members(info.id))
            await call.kit.aio.delete([job_id for job_id, _ in members])
    call.targets = [job_id for job_id in call.targets if job_id not in call.problems]


#: The answers of this module.
GROUPS = BatchGroups()
