"""The page of a batch, without a browser: its jobs, and what made them differ."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from jobkit.features.batches.page import BatchPage, CardPage, differences
from jobkit.features.provenance.made_by import MadeBy, Origin, ProcessFacts
from jobkit.model import JobSnapshot, JobSpec, JobState
from jobkit.model.person import Person, Role
from jobkit.ui.access.actions import Actions
from jobkit.ui.app.pages import PAGES
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.page import PageSession
from tests.support import wait_until
from tests.ui.stage import Stage


def shown_by(stage: Stage, person: Person, **query: str) -> tuple[PageSession, CardPage]:
    """Return the page of a batch as a person sees it."""
    known = next(each for each in PAGES if each.build is BatchPage)
    session = PageSession(known, Actions(stage.kit, person), SessionBridge(), SimpleNamespace(job=""))
    made = BatchPage(session)
    session.query = query
    session.show(True)
    return session, made


def test_the_page_of_a_batch_shows_what_its_person_may_see(stage: Stage) -> None:
    batch, *jobs = stage.batch({"n": 1}, {"n": 2}, owner="ada")
    stage.batch({"n": 3}, owner="zoe", id=f"{batch[:8]}-of-zoe")
    for name, role, asked, is_seen in (
        ("ada", Role.OWN, batch, True),
        ("ada", Role.OWN, batch[:6], True),
        ("zoe", Role.OWN, batch, False),
        ("zoe", Role.OWN, batch[:10], False),
        ("zoe", Role.VIEW, batch, True),
    ):
        session, page = shown_by(stage, Person(name, role), id=asked)
        if is_seen:
            wait_until(lambda page=page: jobs[1] in getattr(page._card, "table", ""), what="the table")
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

    monkeypatch.setattr(stage.kit.verbs, "made_all", made)

    session, page = shown_by(stage, Person("ada", Role.VIEW), id=batch)

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
