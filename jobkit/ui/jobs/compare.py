"""The pages that show jobs, their arguments and results side by side, as the card of a batch: chosen ones, or a batch.

    ?page=compare&set=mif3k2ab                      a selection of jobs, see `store/views.py`
    ?page=compare&ids=5f0c1234aabbccdd,77e0...      the same without the store's help: two of them side by side
    ?page=compare&ids=5f0c1234aabbccdd&with=before  a job, and the run of its task before it
    ?page=compare&q=tag:sweep-4711                  results of a search, newest first
    ?page=batch&id=5f0c1234aabbccdd                 the jobs of a batch

The header does not name them: a selection on the page of jobs, the row of a batch, or a job's card leads there.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import ClassVar

import panel as pn
import param

from jobkit.client.batch import Batch
from jobkit.client.checks import unknown_batch
from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.model import JobkitError, JobSnapshot, JobState
from jobkit.model.batch import BatchInfo
from jobkit.model.made import MadeBy
from jobkit.store.grammar import COUNTERS, read_search
from jobkit.store.query import Query
from jobkit.ui.card.cards import BatchCard
from jobkit.ui.jobs.pair import PairView
from jobkit.ui.live.component import Component, Notice
from jobkit.ui.live.page import PageSession
from jobkit.ui.words import assets

logger = logging.getLogger("jobkit.ui")

#: Jobs of a search that are compared at most.
MOST = 1000

#: Jobs of a batch that its page shows: the first ones.
MOST_SHOWN = 10_000

#: Ids in the URL, at most.
MOST_IDS = 50

_FORGOTTEN = "this selection is not kept any more: select the jobs again on the page of jobs"


class CardPage(pn.Column):
    """The card of the jobs that the URL names, while the page is shown; `find` says which."""

    def __init__(self, session: PageSession) -> None:
        super().__init__(sizing_mode="stretch_width", margin=0)
        self._session = session
        self._card: BatchCard | PairView | None = None
        self._asked = 0
        session.on_shown(self._read)
        session.on_query(lambda _: self._read())
        session.on_hidden(self._leave)
        session.bridge.on_close(self._leave)

    def _leave(self) -> None:
        if self._card is not None:
            self._card.stop()
            self._card = None

    def _read(self) -> None:
        self._asked += 1
        background.spawn(self._find(dict(self._session.query), self._asked))

    async def _find(self, asked: Mapping[str, str], n: int) -> None:
        """On the background loop."""
        try:
            found = await self.find(asked)
        except JobkitError as error:
            logger.info("jobs that were to be shown could not be read: %s", error)
            found = str(error)
        different = await self.differences(found) if isinstance(found, Batch) and not self.is_pair(found) else []
        self._session.bridge.push(partial(self._show, found, different, n))

    async def find(self, asked: Mapping[str, str]) -> Batch | str:
        """Return the jobs that a URL names; "" or a sentence if there are none to show."""
        raise NotImplementedError

    async def differences(self, batch: Batch) -> list[str]:
        """Return what differs in what made the jobs, a line for each group of them."""
        return []

    def is_pair(self, batch: Batch) -> bool:
        """Return whether the jobs are shown side by side."""
        return False

    nothing: ClassVar[tuple[str, str]]
    """Title and advice of the notice that is shown if there are none."""

    def _show(self, found: Batch | str, different: list[str], n: int) -> None:
        if n != self._asked or not self._session.is_shown:  # it was asked again, or the page is hidden
            return
        self._leave()
        if isinstance(found, str):
            title, advice = self.nothing
            self[:] = [Notice(title, f"{found[0].upper()}{found[1:]}" if found else advice)]
            return
        if self.is_pair(found):
            self._card = PairView(
                found._kit, [job.id for job in found], access=self._session.access, bridge=self._session.bridge,
                on_open=self._session.open, sizing_mode="stretch_width", margin=0,
            )  # fmt: skip
            self[:] = [self._card]
            return
        self._card = BatchCard(
            found,
            access=self._session.access,
            on_open=self._session.open,
            max_width=1600,
            stylesheets=[assets.css("batch"), assets.source("compare.css")],
        )
        self[:] = [Differences(different), self._card] if different else [self._card]


class Differences(Component):
    """The list of what differs in what made the jobs."""

    lines = param.List(default=[], item_type=str)

    MODULE = "differences"

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__(margin=0, sizing_mode="stretch_width", lines=list(lines))


def differences(jobs: Sequence[JobSnapshot], made: Sequence[MadeBy]) -> list[str]:
    """Return a line for each group of jobs that were made in another way than the first one.

    The seeds of more than two jobs do not count.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    known: dict[int, tuple[str, ...]] = {}
    for job, each in zip(jobs[1:], made[1:], strict=True):
        if id(each) not in known:
            found = made[0].differences(each)
            known[id(each)] = tuple(line for line in found if len(jobs) == 2 or not line.startswith("seed "))
        if shown := known[id(each)]:
            groups.setdefault(shown, []).append(job.id[:8])
    return [
        f"{', '.join(ids[:5])}{f' and {len(ids) - 5} more' if len(ids) > 5 else ''}: {', '.join(lines)}"
        for lines, ids in groups.items()
    ]


class ComparePage(CardPage):
    """The card of chosen jobs, or of those that a search finds."""

    nothing = "Nothing to compare", "Select two jobs or more on the page of jobs, then Compare."

    def is_pair(self, batch: Batch) -> bool:
        return len(batch) == 2

    async def find(self, asked: Mapping[str, str]) -> Batch | str:
        kit, access, store = self._session.kit, self._session.access, self._session.kit.verbs.store
        query, why = read_search(asked.get("q", ""), limit=MOST, zone=asked.get("tz"))
        if "set" in asked:
            ids, why = await store.selections.read(asked["set"]), _FORGOTTEN
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
        jobs = [job.snapshot for job in batch.jobs[:MOST_IDS]]
        with contextlib.suppress(JobkitError):
            return differences(jobs, await self._session.kit.verbs.made_all(jobs))
        return []


class BatchPage(CardPage):
    """The card of a stored batch, `?page=batch&id=3f0c...`: its id, or the first characters."""

    nothing = "No batch", "Open one on the page of jobs: a batch is one row there."

    async def find(self, asked: Mapping[str, str]) -> Batch | str:
        kit, access, batch_id = self._session.kit, self._session.access, asked.get("id", "")
        if not batch_id:
            return ""
        info: BatchInfo = await kit.aio.find_batch(batch_id, owner=access.person.only_owner)
        if not access.person.sees(info.spec.owner):
            return str(unknown_batch(batch_id))
        most = MOST_SHOWN if info.made > MOST_SHOWN else None
        batch: Batch = await kit.aio.batch(info.id, most)
        if access.person.sees_all or info.spec.kind:  # all jobs of a led batch have its owner
            return batch
        return Batch(
            kit, [job for job in batch.jobs if access.sees(job.snapshot)], axes=batch.axes
        )  # it may share some

    async def differences(self, batch: Batch) -> list[str]:
        jobs = [job.snapshot for job in batch.jobs if job.snapshot.worker]  # of the others only the submitter is known
        firsts: dict[tuple[str, str], JobSnapshot] = {}
        for job in jobs:
            firsts.setdefault((job.spec.made, job.worker), job)
        with contextlib.suppress(JobkitError):
            made = await self._session.kit.verbs.made_all(list(firsts.values())[:MOST_IDS])
            by_origin = dict(zip(firsts, made, strict=False))
            shown = [job for job in jobs if (job.spec.made, job.worker) in by_origin]
            return differences(shown, [by_origin[job.spec.made, job.worker] for job in shown])
        return []


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


async def nowhere(_: Kit) -> bool:
    """Return False: the header names the page only while it is shown."""
    return False
