"""`ComparePage`: shows jobs, their arguments and results side by side.

?page=compare&set=19ae2f5c0b3                   a selection of jobs, see `SelectionStore`
?page=compare&ids=5f0c1234aabbccdd,77e0...      the same without the store's help
?page=compare&ids=5f0c1234aabbccdd&with=before  a job, and the run of its task before it
?page=compare&q=tag:sweep-4711                  results of a search, newest first
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from jobkit.client.batch import Batch
from jobkit.client.kit import Kit
from jobkit.features.batches.page import CardPage
from jobkit.features.compare.pair import PairView
from jobkit.features.compare.store import MOST_SELECTED, SelectionStore
from jobkit.model import JobkitError, JobSnapshot, JobState
from jobkit.store.grammar import COUNTERS, read_search
from jobkit.store.query import Query
from jobkit.ui.live.component import LivePage
from jobkit.ui.live.page import Page, Turn, nowhere

#: Ids in the URL, at most.
MOST_IDS = 50

_FORGOTTEN = "this selection is not kept any more: select the jobs again on the page of jobs"


class ComparePage(CardPage):
    """The card of chosen jobs, or of those that a search finds."""

    nothing = "Nothing to compare", "Select two jobs or more on the page of jobs, then Compare."

    async def find(self, asked: Mapping[str, str]) -> Batch | str:
        kit, access, store = self._session.kit, self._session.access, self._session.kit.verbs.store
        query, why = read_search(asked.get("q", ""), limit=MOST_SELECTED, zone=asked.get("tz"))
        if "set" in asked:
            ids, why = await store.part(SelectionStore).read(asked["set"]), _FORGOTTEN
        else:
            ids = [part for part in asked.get("ids", "").split(",") if part][:MOST_IDS]
        found: Sequence[JobSnapshot | None] = ()
        if asked and not ids and not why:
            found = (await kit.verbs.page(query)).jobs
            ids = [job.id for job in found if job is not None] if query.archived else []
        if ids:
            found = await store.snapshots(ids)
            gone = [job_id for job_id, job in zip(ids, found, strict=True) if job is None]
            if gone and kit.verbs.has_older:
                await access.act("restore", gone)
                found = await store.snapshots(ids)
        seen = [job for job in found if job is not None and access.sees(job)]
        if asked.get("with") == "before" and len(seen) == 1:
            before = await run_before(kit, seen[0], access.person.only_owner)
            why = f"{seen[0].spec.title or seen[0].spec.task} has no run before job {seen[0].id[:8]}"
            seen = [before, *seen] if before is not None else []
        elif ids and len(seen) < 2:
            why = f"of these {len(ids):,} jobs fewer than two are kept here and may be seen by you"
        return why if len(seen) < 2 else Batch(kit, [kit.handle(job) for job in seen])

    async def differences(self, batch: Batch) -> list[str]:
        return await super().differences(batch) if len(batch) > 2 else []

    def card(self, batch: Batch) -> LivePage:
        if len(batch) > 2:
            return super().card(batch)
        return PairView(
            self._session.kit, [job.id for job in batch], access=self._session.access, bridge=self._session.bridge,
            on_open=self._session.open, sizing_mode="stretch_width", margin=0,
        )  # fmt: skip


async def run_before(kit: Kit, job: JobSnapshot, only: str | None) -> JobSnapshot | None:
    """Return the newest ended run of the same task that was submitted before a job: of a failed one, that succeeded.

    only: the owner of the jobs that may be seen; None for all.
    """
    if job.submitted_at is None:
        return None
    age_s = (datetime.now(UTC) - job.submitted_at).total_seconds()
    states = ("succeeded",) if job.state is JobState.FAILED else COUNTERS["ended"]
    # By age the search begins near the job; clocks may differ by a few seconds.
    query = Query(states=states, task=job.spec.task, owner=only, older_s=max(0.0, age_s - 10), limit=20)
    found = (await kit.verbs.page(query)).jobs
    # Of jobs of the same millisecond, the list of jobs goes by the id.
    place = (job.submitted_at, job.id)
    older = (each for each in found if each.submitted_at and (each.submitted_at, each.id) < place)
    return next((each for each in older if only in (None, each.spec.owner)), None)  # a name is no pattern


async def of_jobs(kit: Kit, ids: Sequence[str], search: str, zone: str) -> Mapping[str, str]:
    """Return the part of the URL for selected jobs, or for all that a search finds."""
    if not ids:
        return {"q": search or "state:ended", "tz": zone}
    try:
        return {"set": await kit.verbs.store.part(SelectionStore).keep(ids)}
    except JobkitError:  # a server that takes no changes
        return {"ids": ",".join(ids)}


PAGE = Page(
    "compare",
    "Compare",
    ComparePage,
    own_too=True,
    is_shown=nowhere,
    turn=Turn(
        lambda job_id: {"ids": job_id, "with": "before"},
        "Compare",
        "With the run of this task before it; of a failed job, with the last one that succeeded",
        of_jobs=of_jobs,
        most=MOST_SELECTED,
    ),
)
