"""The page that compares jobs, without a browser: its jobs, and no reads while it is hidden."""

from __future__ import annotations

import json
from types import SimpleNamespace

import msgspec

from jobkit.client.loop import background
from jobkit.features.batches.batch_card import BatchCard
from jobkit.features.batches.batch_feed import BatchFeed
from jobkit.features.compare.page import PAGE, ComparePage, run_before
from jobkit.features.compare.pair import PairFeed, PairView
from jobkit.features.compare.store import SelectionStore
from jobkit.model.person import Person, Role
from jobkit.ui.access.actions import Actions
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.page import PageSession
from jobkit.ui.live.shared_feed import open_feeds
from tests.support import wait_until
from tests.ui.conftest import _own_registry as _own_registry
from tests.ui.stage import Stage


def shown_by(stage: Stage, person: Person, **query: str) -> tuple[PageSession, ComparePage]:
    """Return the page as a person sees it."""
    session = PageSession(PAGE, Actions(stage.kit, person), SessionBridge(), SimpleNamespace(job=""))
    made = ComparePage(session)
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
    name = background.call(stage.store.part(SelectionStore).keep(jobs))

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
