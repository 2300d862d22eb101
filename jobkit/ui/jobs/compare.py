"""The page that compares jobs, their arguments and results side by side, as the card of a batch.

    ?page=compare&ids=5f0c1234aabbccdd,77e0...      chosen jobs
    ?page=compare&q=tag:sweep-4711                  results of a search, newest first

The header does not name it: a selection on the page of jobs leads to it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial

import panel as pn

from jobkit.client import Batch, Kit
from jobkit.client.loop import background
from jobkit.model import JobkitError, JobSnapshot
from jobkit.store.grammar import read_search
from jobkit.ui.card.cards import BatchCard
from jobkit.ui.live.component import Notice
from jobkit.ui.live.page import PageSession
from jobkit.ui.words import assets

logger = logging.getLogger("jobkit.ui")

#: Jobs of a search that are compared at most.
MOST = 1000

#: Ids in the URL, at most.
MOST_IDS = 50


class ComparePage(pn.Column):
    """The card of the jobs that the URL names, while the page is shown."""

    def __init__(self, session: PageSession) -> None:
        super().__init__(sizing_mode="stretch_width", margin=0)
        self._session = session
        self._card: BatchCard | None = None
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
        kit, access = self._session.kit, self._session.access
        ids = [part for part in asked.get("ids", "").split(",") if part][:MOST_IDS]
        query, why = read_search(asked.get("q", ""), limit=MOST)
        found: Sequence[JobSnapshot | None] = ()
        try:
            if asked and not ids and not why:
                found = (await kit.verbs.page(query)).jobs
                ids = [job.id for job in found if job is not None] if query.archived else []
            if ids:
                found = await kit.verbs.store.snapshots(ids)
                gone = [job_id for job_id, job in zip(ids, found, strict=True) if job is None]
                if gone and kit.settings.archive:
                    await access.act("restore", gone)
                    found = await kit.verbs.store.snapshots(ids)
        except JobkitError as error:
            logger.info("jobs that were to be compared could not be read: %s", error)
            why = str(error)
        seen = [job for job in found if job is not None and access.sees(job)]
        self._session.bridge.push(partial(self._show, seen, why, n))

    def _show(self, jobs: list[JobSnapshot], why: str, n: int) -> None:
        if n != self._asked or not self._session.is_shown:  # it was asked again, or the page is hidden
            return
        self._leave()
        if len(jobs) < 2:
            self[:] = [
                Notice("Nothing to compare", why or "Choose two jobs or more on the page of jobs, then Compare.")
            ]
            return
        kit = self._session.kit
        is_list = len({job.spec.task for job in jobs}) > 1  # they have no arguments in common then
        batch = Batch(kit, [kit.handle(job) for job in jobs])
        self._card = BatchCard(
            batch,
            is_list=is_list,
            access=self._session.access,
            on_open=self._session.open,
            max_width=1600,
            stylesheets=[assets.css("batch"), assets.source("compare.css")],
        )
        self[:] = [self._card]


async def nowhere(_: Kit) -> bool:
    """Return False: the header names the page only while it is shown."""
    return False
