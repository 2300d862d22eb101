"""The parts of a dashboard together, without a browser."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobkit.ui.app.dashboard import Dashboard
from tests.support import wait_until
from tests.ui.stage import Stage


@pytest.mark.parametrize(
    ("slug", "covers", "is_open"), [("submit", True, False), ("submit", False, True), ("log", False, False)]
)
def test_a_card_that_leads_to_a_page_stays_open_beside_a_form_that_it_does_not_cover(
    stage: Stage, slug: str, covers: bool, is_open: bool
) -> None:
    job = stage.submit("train", {"n": 3})
    stage.start(job)
    stage.fail(job)
    page = Dashboard(stage.kit)
    page.open(job)
    card: Any = page._drawer[1]
    wait_until(lambda: '"failed"' in card.snapshot, what="the card")

    with card.changing():  # as a message of a browser does
        card.request = json.dumps({"action": "turn", "to": slug, "covers": covers, "n": "1"})

    assert (page.page, page.job) == (slug, job if is_open else "")
