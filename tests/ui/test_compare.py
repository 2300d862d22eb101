"""The page that compares jobs, without a browser: its jobs, and no reads while it is hidden."""

from __future__ import annotations

import json
from types import SimpleNamespace

from jobkit.model.people import Person, Role
from jobkit.ui.access.actions import Actions
from jobkit.ui.app.pages import PAGES
from jobkit.ui.card.batch_feed import BatchFeed
from jobkit.ui.jobs.compare import ComparePage
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.page import PageSession
from jobkit.ui.live.shared_feed import open_feeds
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
