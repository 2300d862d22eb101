"""The best values of the sweeps and led batches of a page, which no event of theirs reports."""

from __future__ import annotations

from collections.abc import Mapping

from jobkit.client.kit import Kit
from jobkit.features.batches.batch_model import BatchModel, model_of
from jobkit.features.batches.store import BatchStore
from jobkit.model.batch import BatchInfo
from jobkit.model.format import number
from jobkit.ui.jobs.groups import Best

#: Jobs of a batch of which a row names the best one, at most; of larger ones, their cards do.
MOST = 500

#: Jobs that are read at a time for all rows.
_AT_A_TIME = 2_000


async def read_best(
    kit: Kit, batches: Mapping[str, BatchInfo], known: Mapping[str, Best]
) -> tuple[dict[str, Best], bool]:
    """Return the best values of batches by the ids of their rows, and whether all of them are known.

    Args:
        known: as they were returned before. Jobs of a batch are read again if others have succeeded since.
    """
    found: dict[str, Best] = {}
    read = 0
    for row_id, info in [*batches.items()]:
        succeeded = info.counts.get("succeeded", 0)
        if not succeeded or not (info.spec.kind or info.spec.axes) or info.made > MOST:
            continue
        found[row_id] = known.get(row_id, (0, ""))
        if found[row_id][0] == succeeded:
            continue
        if read > _AT_A_TIME:
            return found, False
        ids = [job_id for job_id, _ in await kit.verbs.store.part(BatchStore).members(info.id, MOST)]
        jobs = [job for job in await kit.verbs.store.snapshots(ids) if job is not None]
        found[row_id] = succeeded, words(model_of(info.spec, jobs, None))
        read += len(ids)
    return found, True


def words(model: BatchModel) -> str:
    """Return `best loss 0.02 (lr=0.01)`, `score 0.1 to 0.9` if no name says which of them is the best, or ""."""
    name, *ends = model.best() or [""]
    if not ends:
        return ""
    word, value, at = ends[0]
    if word in ("best", ""):
        return f"{word} {name} {number(value)} ({at})".strip()
    low, high = sorted(end[1] for end in ends)
    return f"{name} {number(low)} to {number(high)}"
