"""The page that compares jobs, without a browser: its jobs, and no reads while it is hidden."""

from __future__ import annotations

from types import SimpleNamespace

from jobkit.model.people import Person, Role
from jobkit.ui.access.actions import Actions
from jobkit.ui.app.pages import PAGES
from jobkit.ui.jobs.compare import ComparePage
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.page import PageSession
from tests.support import wait_until
from tests.ui.stage import Stage

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
    assert [job.id for job in card._feed.batch.jobs] == [jobs[0], jobs[2]]
    wait_until(lambda: "zoe" not in card.table and jobs[2] in card.table, what="the table")
    session.show(False)
    assert page._card is None
    assert card._feed._is_stopped
    session.take({"q": "owner:zoe"}, is_asked=True)
    session.show(True)
    wait_until(lambda: "Nothing to compare" in str(getattr(page[0], "said", "")), what="nothing of others")
    session.bridge.close()
