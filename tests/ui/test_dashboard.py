"""The parts of a dashboard together, without a browser."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobkit.ui.app.dashboard import Dashboard
from tests.support import wait_until
from tests.ui.stage import Stage


@pytest.mark.parametrize("is_card_first", [True, False])
def test_the_drawer_closes_once_the_form_is_filled_that_it_covers(stage: Stage, is_card_first: bool) -> None:
    """The two requests of a click come from two components, and in either order."""
    job = stage.submit("train", {"n": 3})
    stage.start(job)
    stage.fail(job)
    page = Dashboard(stage.kit)
    page.open(job)
    card: Any = page._drawer[1]
    wait_until(lambda: '"failed"' in card.snapshot, what="the card")
    asks = [(card, {"action": "rerun", "n": "1"}), (page._drawer[0], {"action": "edit", "covers": True, "n": "2"})]

    for component, asked in asks if is_card_first else reversed(asks):
        component.request = json.dumps(asked)

    assert (page.page, page.job) == ("submit", "")
