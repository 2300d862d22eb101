"""The page that compares jobs, without a browser: its jobs, and no reads while it is hidden."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from jobkit.model import JobSnapshot, JobSpec, JobState
from jobkit.model.made import MadeBy, Origin, ProcessFacts
from jobkit.model.people import Person, Role
from jobkit.ui.access.actions import Actions
from jobkit.ui.app.pages import PAGES
from jobkit.ui.card.batch_feed import BatchFeed
from jobkit.ui.jobs.compare import BatchPage, ComparePage, differences
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.page import PageSession
from jobkit.ui.live.shared_feed import open_feeds
from tests.support import wait_until
from tests.ui.stage import Stage

BATCH = next(page for page in PAGES if page.slug == "batch")
COMPARE = next(page for page in PAGES if page.slug == "compare")


def test_only_visible_jobs_are_compared_and_only_on_a_visible_page(stage: Stage) -> None:
    jobs = [stage.submit("train", {"n": n}, owner=owner) for n, owner in enumerate(("ada", "zoe", "ada"))]
    session = PageSession(
        COMPARE, Actions(stage.kit, Person("ada", Role.OWN)), SessionBridge(), SimpleNamespace(job="")
    )
    page = ComparePage(session)
    session.query = {"ids": ",".join(jobs)}

    session.show(True)

    wait_until(lambda: page._card is not None, what="the card")
    card = page._card
    assert card is not None
    wait_until(lambda: jobs[2] in card.table, what="the table")
    assert [row[2][-1] for row in json.loads(card.table)["rows"]] == [jobs[0], jobs[2]]
    [feed] = open_feeds(stage.kit, BatchFeed)
    session.show(False)
    assert page._card is None
    wait_until(lambda: not open_feeds(stage.kit, BatchFeed), what="the feed to end")
    assert feed.batch._listeners == ()
    session.take({"q": "owner:zoe"}, is_asked=True)
    session.show(True)
    wait_until(lambda: "Nothing to compare" in str(getattr(page[0], "said", "")), what="nothing of others")
    session.bridge.close()


def test_the_page_of_a_batch_shows_what_its_person_may_see(stage: Stage) -> None:
    batch, *jobs = stage.batch({"n": 1}, {"n": 2}, owner="ada")
    for name, role, is_seen in (("ada", Role.OWN, True), ("zoe", Role.OWN, False), ("zoe", Role.VIEW, True)):
        session = PageSession(BATCH, Actions(stage.kit, Person(name, role)), SessionBridge(), SimpleNamespace(job=""))
        page = BatchPage(session)
        session.query = {"id": batch}
        session.show(True)
        if is_seen:
            wait_until(lambda page=page: page._card is not None and jobs[1] in page._card.table, what="the table")
        else:
            wait_until(lambda page=page: "No batch" in str(getattr(page[0], "said", "")) if len(page) else False)
            assert "is kept here" in str(page[0].more)
        session.bridge.close()


def test_the_page_of_a_batch_names_what_made_its_jobs_differ(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, *jobs = stage.batch({"n": 1}, {"n": 2}, {"n": 3}, {"n": 4})
    for job, worker in zip(jobs, ("gpu-1", "gpu-2", "gpu-2"), strict=False):
        stage.start(job, worker)

    async def made(found: Sequence[JobSnapshot]) -> list[MadeBy]:
        return [MadeBy(None, None, Origin(ProcessFacts(host=job.worker), {})) for job in found]

    monkeypatch.setattr(stage.kit.verbs.made, "of", made)
    session = PageSession(BATCH, Actions(stage.kit, Person("ada", Role.VIEW)), SessionBridge(), SimpleNamespace(job=""))
    page = BatchPage(session)
    session.query = {"id": batch}

    session.show(True)

    wait_until(lambda: page._card is not None and len(page) == 2, what="the card")
    assert page[0].lines == [f"{jobs[1][:8]}, {jobs[2][:8]}: host gpu-1 → gpu-2"]
    session.bridge.close()


def test_jobs_that_were_made_otherwise_are_listed_by_what_differs() -> None:
    def made(numpy: str, seed: int | None = None) -> MadeBy:
        return MadeBy(seed, None, Origin(ProcessFacts(host="h"), {"numpy": numpy}))

    jobs = [JobSnapshot(JobSpec(f"{n}" * 16, "train"), 1, JobState.QUEUED) for n in range(4)]

    assert differences(jobs, [made("2.4", 1), made("2.4", 2), made("2.5"), made("2.5")]) == [
        "22222222, 33333333: numpy 2.4 → 2.5"
    ]
    assert differences(jobs[:2], [made("2.4", 1), made("2.4", 2)]) == ["11111111: seed 1 → 2"]
