"""Batches in the table of jobs: one row each in place of their jobs, unless single jobs or another order are asked for.

A row is the snapshot of a job that cannot exist, since no id of one has a space; what only batches have is beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from jobkit.client.kit import Kit
from jobkit.features import leading
from jobkit.model import ENDS, JobSnapshot, JobSpec, JobState
from jobkit.model.batch import BatchInfo
from jobkit.model.format import FACES, many
from jobkit.store.batches import merged, subscription
from jobkit.store.query import Query, QueryPage

#: Faces in the order in which the bar stacks them.
_BAR = (*ENDS, JobState.RUNNING)

#: Jobs of a batch that its open row shows.
SHOWN = 20


def folds(query: Query, only: str | None) -> bool:
    """Return True if batches have one row each on a page of this query, since all jobs of one match it, or none.

    Args:
        only: the owner whose jobs alone are shown, or None.
    """
    return query == Query(limit=query.limit, cursor=query.cursor, task=query.task, owner=only)


def snapshot_of(info: BatchInfo) -> JobSnapshot:
    """Return the batch as the snapshot of a job."""
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


def cells(info: BatchInfo, best: str = "") -> dict[str, Any]:
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


async def page(kit: Kit, query: Query) -> tuple[QueryPage, dict[str, BatchInfo]]:
    """Return a page of jobs with one row for each batch, and the batches by the ids of their rows."""
    store, searched = kit.verbs.store, None
    found: Sequence[JobSnapshot | BatchInfo | None]
    if query.is_plain:
        mixed, cursor = await store.batches.folded(query.limit, int(query.cursor or 0))
        snapshots = await store.snapshots([one for one in mixed if isinstance(one, str)])
        jobs = {job.id: job for job in snapshots if job is not None}
        found = [jobs.get(one) if isinstance(one, str) else one for one in mixed]
    else:
        found, cursor, searched = await _some(kit, query)
    batches = {subscription(one.id): one for one in found if isinstance(one, BatchInfo)}
    rows = [snapshot_of(one) if isinstance(one, BatchInfo) else one for one in found]
    return QueryPage(tuple(filter(None, rows)), cursor, searched), batches


async def _some(kit: Kit, query: Query) -> tuple[Sequence[JobSnapshot | BatchInfo], str, int | None]:
    """Return a page of the batches that match a query and of the jobs of none, the next cursor, and `searched`."""
    store, below_us = kit.verbs.store, int(query.cursor or 0)
    alone = await kit.verbs.page(msgspec.structs.replace(query, batch=("",)))
    ids = [job.id for job in alone.jobs]
    homes = [home for home in await store.batches.homes(ids) if home]
    begun = {info.id for info in await store.batches.infos(homes) if info is not None}
    times = await store.fields(("us",), ids)
    jobs = [(int(raw[0]), job) for raw, job in zip(times, alone.jobs, strict=True) if raw and job.id not in begun]
    batches = await store.batches.newest(query.limit + 1, below_us, owner=query.owner, task=query.task)
    rows, cursor = merged(jobs, batches, query.limit, below_us, alone.next_cursor)
    return rows, cursor, alone.searched


async def refreshed(kit: Kit, known: Mapping[str, BatchInfo], others: set[str]) -> dict[str, BatchInfo | None]:
    """Return the batches of a page that are open, or are among `others` (ids), as they are now, by their rows' ids."""
    ids = sorted({info.id for info in known.values() if info.ended_at is None} | others)
    return dict(zip(map(subscription, ids), await kit.verbs.store.batches.infos(ids), strict=True))
