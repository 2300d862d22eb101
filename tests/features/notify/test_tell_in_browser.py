"""The button "Tell me" of cards in a real browser, by keyboard, at the width of a phone and in both themes."""

from __future__ import annotations

from typing import Any

import pytest

from jobkit.client.loop import background
from jobkit.features.notify.store import ToldStore
from jobkit.settings import user_name
from jobkit.ui import BatchCard, JobCard
from tests.support import wait_until
from tests.ui.conftest import Serve, Window
from tests.ui.stage import Stage
from tests.ui.test_all_pages import findings

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("kind", "theme", "width"), [("job", "light", 390), ("batch", "dark", 1440)])
def test_tell_me_is_pressed_by_keyboard_and_keeps_the_focus(
    stage: Stage, serve: Serve, window: Window, kind: str, theme: Any, width: int
) -> None:
    told = stage.kit.verbs.store.part(ToldStore)
    background.call(told.offer({user_name()}))
    batch, job = stage.batch({"n": 1})
    target = job if kind == "job" else batch
    url = serve(lambda: JobCard(stage.kit, job) if kind == "job" else BatchCard(stage.kit.batches.get(batch)))
    page = window.open(url, width=width, color_scheme=theme)
    button = page.locator(".actions .btn:has-text('Tell me')")

    button.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".actions .btn:focus[aria-pressed=true]:has-text('Tell me')")
    assert background.call(told.wanted([target])) == {target: {user_name()}}
    assert not findings(page, kind)
    page.keyboard.press("Enter")
    page.wait_for_selector(".actions .btn:focus[aria-pressed=false]:has-text('Tell me')")
    assert background.call(told.wanted([target])) == {}

    stage.start(job)
    stage.succeed(job)
    wait_until(lambda: not button.count(), what="no offer after the end")
