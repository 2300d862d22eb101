"""The menu of saved views: who may change them, and the menu in a real browser."""

from __future__ import annotations

import pytest

from jobkit.client.loop import background
from jobkit.features.views.store import ViewStore
from jobkit.model.person import Person, Role
from jobkit.settings import user_name
from jobkit.ui.access.actions import Actions
from tests.support import wait_until
from tests.ui.conftest import Window
from tests.ui.conftest import _own_registry as _own_registry
from tests.ui.stage import Stage
from tests.ui.test_actions import act
from tests.ui.test_all_pages import findings
from tests.ui.test_jobs_page_in_browser import shows

#: What a view keeps.
SHOWN = {"search": "state:failed", "order": "", "hidden": "queue"}


@pytest.mark.parametrize("role", [str(role) for role in Role])
def test_everybody_who_may_look_saves_own_views(stage: Stage, role: str) -> None:
    access = Actions(stage.kit, Person("ada", Role(role)))

    reply = act(access, "save_view", ["late"], **SHOWN)

    saved = [view.name for view in background.call(stage.store.part(ViewStore).of("ada"))]
    assert (saved == ["late"]) is reply.is_ok is (role != "none"), reply
    if reply.is_ok:
        assert act(access, "rename_view", ["late"], to="later").is_ok
        assert act(Actions(stage.kit, Person("bob", Role.ADMIN)), "rename_view", ["later"], to="x").outcome == "failed"
        assert act(access, "delete_view", ["later"]).is_ok
        looking = Actions(stage.kit, Person("ada", Role(role)), only_looks=True)
        assert "only shows" in act(looking, "save_view", ["late"], **SHOWN).sentence


def test_a_visitor_without_a_name_has_no_part_in_the_views_of_the_servers_user(stage: Stage) -> None:
    assert act(Actions(stage.kit, Person()), "save_view", ["mine"], **SHOWN).is_ok

    act(Actions(stage.kit, Person("", Role.VIEW)), "delete_view", ["mine"])

    assert [view.name for view in background.call(stage.store.part(ViewStore).of(user_name()))] == ["mine"]


@pytest.mark.browser
def test_a_view_is_saved_renamed_shown_elsewhere_and_deleted(stage: Stage, url: str, window: Window) -> None:
    for n, owner in enumerate(("ada", "bob")):
        stage.submit(title=f"Job {n}", owner=owner)
    page = window.open(f"{url}?q=owner:ada", width=1440)
    shows(page, ["Job 0"])

    first = page.locator(".chooser summary").evaluate(
        "button => { button.click(); return button.getRootNode().querySelector('fieldset').getBoundingClientRect().y; }"
    )
    page.wait_for_selector(".searchbox .menu .view")
    assert page.locator(".menu fieldset").evaluate("columns => columns.getBoundingClientRect().y") == first, "it moves"
    page.click(".searchbox .menu label:has-text('Queue')")
    page.locator(".head .queue").wait_for(state="hidden")
    page.set_viewport_size({"width": 390, "height": 800})
    offered = page.locator(".menu fieldset label:visible")
    wait_until(lambda: offered.all_inner_texts() == ["Submitted", "Duration"], what="the columns that have room")
    page.set_viewport_size({"width": 1440, "height": 800})
    page.fill(".searchbox .menu input[type=text]", "Of Ada")
    page.keyboard.press("Enter")
    page.wait_for_selector(".searchbox .menu .view:has-text('owner:ada')")
    page.click(".searchbox .menu [aria-label='Rename Of Ada']")
    page.keyboard.type("Ada's")
    page.keyboard.press("Enter")
    page.wait_for_selector('.menu .view b:has-text("Ada\'s")')

    other = window.open(url, width=1440)
    shows(other, ["Job 0", "Job 1"])
    other.click(".chooser")
    other.click('.menu .view:has-text("Ada\'s") .go')
    shows(other, ["Job 0"])
    other.locator(".head .queue").wait_for(state="hidden")
    assert other.input_value(".search") == "owner:ada"
    wait_until(lambda: "hide=queue" in other.url, what="the URL")
    other.click(".chooser")
    other.wait_for_selector('.menu .view:has-text("Ada\'s")')
    assert findings(other, "the menu of views") == []
    other.click('.menu [aria-label="Delete Ada\'s"]')
    other.locator('.menu .view:has-text("Ada\'s")').wait_for(state="detached")
    other.keyboard.press("Escape")
    other.locator(".searchbox .menu").wait_for(state="hidden")
