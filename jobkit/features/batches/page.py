"""`CardPage`: a page with the card of the jobs that its URL names; `BatchPage`: that of a stored batch."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import panel as pn
import param

from jobkit.client.batch import Batch
from jobkit.client.checks import unknown_batch
from jobkit.client.loop import background
from jobkit.features.batches.batch_card import BatchCard
from jobkit.model import JobkitError, JobSnapshot
from jobkit.model.batch import BatchInfo
from jobkit.ui.live.component import Component, LivePage, Notice
from jobkit.ui.live.page import Page, PageSession, nowhere
from jobkit.ui.words import assets

logger = logging.getLogger("jobkit.ui")

#: Jobs of a batch that its page shows: the first ones.
MOST_SHOWN = 10_000

#: Jobs whose origins are compared, at most.
MOST_MADE = 50


class CardPage(pn.Column):
    """The card of the jobs that the URL names, while the page is shown; `find` says which."""

    def __init__(self, session: PageSession) -> None:
        super().__init__(sizing_mode="stretch_width", margin=0)
        self._session = session
        self._card: LivePage | None = None
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
        different: list[str] = []
        if isinstance(found, Batch):
            with contextlib.suppress(JobkitError):
                different = await self.differences(found)
        self._session.bridge.push(partial(self._show, found, different, n))

    async def find(self, asked: Mapping[str, str]) -> Batch | str:
        """Return the jobs that a URL names; "" or a sentence if there are none to show."""
        raise NotImplementedError

    async def differences(self, batch: Batch) -> list[str]:
        """Return what differs in what made the jobs, a line for each group of them."""
        jobs = [job.snapshot for job in batch.jobs if job.snapshot.worker]  # of the others only the submitter is known
        firsts: dict[tuple[str, str], JobSnapshot] = {}
        for job in jobs:
            firsts.setdefault((job.spec.made, job.worker), job)
        made = await self._session.kit.verbs.made_all(list(firsts.values())[:MOST_MADE])
        by_origin = dict(zip(firsts, made, strict=False))
        shown = [job for job in jobs if (job.spec.made, job.worker) in by_origin]
        return differences(shown, [by_origin[job.spec.made, job.worker] for job in shown])

    def card(self, batch: Batch) -> LivePage:
        """Return what shows the jobs."""
        return BatchCard(
            batch,
            access=self._session.access,
            on_open=self._session.open,
            max_width=1600,
            stylesheets=[assets.css("batch"), assets.source("batch_page.css")],
        )

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
        self._card = self.card(found)
        self[:] = [Differences(different), self._card] if different else [self._card]


class Differences(Component):
    """The list of what differs in what made the jobs."""

    lines = param.List(default=[], item_type=str)

    MODULE = "differences"

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__(margin=0, sizing_mode="stretch_width", lines=list(lines))


def differences(jobs: Sequence[JobSnapshot], made: Sequence[Any]) -> list[str]:
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


class BatchPage(CardPage):
    """The card of a stored batch, `?page=batch&id=3f0c...`: its id, or the first characters."""

    nothing = "No batch", "Open one on the page of jobs: a batch is one row there."

    async def find(self, asked: Mapping[str, str]) -> Batch | str:
        kit, access, batch_id = self._session.kit, self._session.access, asked.get("id", "")
        if not batch_id:
            return ""
        info: BatchInfo = await kit.aio.batches.find(batch_id, owner=access.person.only_owner)
        if not access.person.sees(info.spec.owner):
            return str(unknown_batch(batch_id))
        most = MOST_SHOWN if info.made > MOST_SHOWN else None
        batch: Batch = await kit.aio.batches.get(info.id, most)
        if access.person.sees_all or info.spec.kind:  # all jobs of a led batch have its owner
            return batch
        return Batch(
            kit, [job for job in batch.jobs if access.sees(job.snapshot)], axes=batch.axes
        )  # it may share some


PAGE = Page("batch", "Batch", BatchPage, own_too=True, is_shown=nowhere)
