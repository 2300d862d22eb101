"""The page that compares jobs, without a browser: its jobs, and no reads while it is hidden."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace

import msgspec
import pytest

from jobkit.client.loop import background
from jobkit.model import JobSnapshot, JobSpec, JobState
from jobkit.model.made import MadeBy, Origin, ProcessFacts
from jobkit.model.person import Person, Role
from jobkit.ui.access.actions import Actions
from jobkit.ui.app.pages import PAGES
from jobkit.ui.card.batch_feed import BatchFeed
from jobkit.ui.card.cards import BatchCard
from jobkit.ui.jobs.compare import BatchPage, CardPage, ComparePage, differences, run_before
from jobkit.ui.jobs.pair import PairFeed, PairView
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.page import PageSession
from jobkit.ui.live.shared_feed import open_feeds
from tests.support import wait_until
from tests.ui.stage import Stage


def shown_by(
    stage: Stage, person: Person, page: type[CardPage] = ComparePage, **query: str
) -> tuple[PageSession, CardPage]:
    """Return a page as a person sees it."""
    known = next(each for each in PAGES if each.build is page)
    session = PageSession(known, Actions(stage.kit, person), SessionBridge(), SimpleNamespace(job=""))
    made = page(session)
    session.query = query
    session.show(True)
    return session, made


def test_only_visible_jobs_are_compared_and_only_on_a_visible_page(stage: Stage) -> None:
    jobs = [stage.submit("train", {"n": n}, owner=owner) for n, owner in enumerate(("ada", "zoe", "ada", "ada"))]

    session, page = shown_by(stage, Person("ada", Role.OWN), ids=",".join(jobs))

    wait_until(lambda: page._card is not None, what="the card")
    card = page._card
    assert isinstance(card, BatchCard)
    wait_until(lambda: jobs[2] in card.table, what="the table")
    assert [row[2][-1] for row in json.loads(card.table)["rows"]] == [jobs[0], *jobs[2:]]
    [feed] = open_feeds(stage.kit, BatchFeed)
    session.show(False)
    assert page._card is None
    wait_until(lambda: not open_feeds(stage.kit, BatchFeed), what="the feed to end")
    assert feed.batch._listeners == ()
    session.take({"q": "owner:zoe"}, is_asked=True)
    session.show(True)
    wait_until(lambda: "Nothing to compare" in str(getattr(page[0], "said", "")), what="nothing of others")
    session.bridge.close()


def test_two_jobs_stand_side_by_side_for_those_who_may_see_both(stage: Stage) -> None:
    jobs = [stage.submit("train", {"n": n}, owner=owner) for n, owner in enumerate(("ada", "zoe"))]
    name = background.call(stage.store.selections.keep(jobs))

    session, page = shown_by(stage, Person("zoe", Role.VIEW), set=name)
    wait_until(lambda: isinstance(page._card, PairView) and page._card.picture, what="the comparison")
    assert isinstance(page._card, PairView)
    data = json.loads(page._card.picture)
    assert [side["id"] for side in data["sides"]] == jobs
    assert ["Arguments", "n 0 → 1"] in [[kind, text.partition(" (")[0]] for kind, text in data["changed"]]
    stage.start(jobs[0])
    stage.succeed(jobs[0], summary="42")
    wait_until(lambda: '"succeeded"' in page._card.picture, what="the end of the job")
    session.show(False)
    wait_until(lambda: not open_feeds(stage.kit, PairFeed), what="the feed to end")
    session.bridge.close()

    for person, query, sentence in (
        (Person("zoe", Role.OWN), {"set": name}, "fewer than two are kept here and may be seen"),
        (Person("zoe", Role.VIEW), {"set": "zz"}, "is not kept any more"),
    ):
        session, page = shown_by(stage, person, **query)
        wait_until(lambda page=page: len(page) > 0, what="a sentence")
        assert sentence in page[0].more
        session.bridge.close()


def test_a_job_is_compared_with_the_run_before_it_and_a_failed_one_with_the_last_that_succeeded(stage: Stage) -> None:
    jobs = [stage.submit("train", {"n": n}) for n in range(3)]
    other = stage.submit("test")
    for job, end in zip(jobs, (stage.succeed, stage.fail, stage.fail), strict=True):
        stage.start(job)
        end(job)
    stage.start(other)
    stage.succeed(other)

    for job, before in ((jobs[2], jobs[0]), (jobs[0], None), (other, None)):
        session, page = shown_by(stage, Person("ada", Role.VIEW), **{"ids": job, "with": "before"})
        if before is None:
            wait_until(lambda page=page: len(page) and "has no run before" in getattr(page[0], "more", ""))
        else:
            wait_until(lambda page=page: isinstance(page._card, PairView) and page._card.picture, what="the two")
            assert isinstance(page._card, PairView)
            assert [side["id"] for side in json.loads(page._card.picture)["sides"]] == [before, job]
        session.bridge.close()


def test_of_runs_of_the_same_millisecond_the_one_before_has_the_lower_id(stage: Stage) -> None:
    job = stage.running("train")
    stage.succeed(job)
    ended = stage.kit.snapshot(job)
    for other, before in ((f"{job}-later", job), (job[:-1], None)):
        at_once = msgspec.structs.replace(ended, spec=msgspec.structs.replace(ended.spec, id=other))
        found = background.call(run_before(stage.kit, at_once, None))
        assert (found and found.id) == before


def test_a_user_whose_name_reads_like_a_pattern_gets_no_run_of_others(stage: Stage) -> None:
    for owner in ("adam", "a*"):
        job = stage.running(owner=owner)
        stage.succeed(job)
    found = background.call(run_before(stage.kit, stage.kit.snapshot(job), "a*"))
    assert found is None


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
        session, page = shown_by(stage, Person(name, role), BatchPage, id=asked)
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

    session, page = shown_by(stage, Person("ada", Role.VIEW), BatchPage, id=batch)

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
