"""The dashboard on a phone: all is reachable by a thumb, and nothing is wider than the window."""

from __future__ import annotations

from typing import Any

import pytest

from jobkit.client.loop import background
from jobkit.model import JobSpec
from jobkit.store.values import Submission
from jobkit.ui import PAGES
from tests.ui.conftest import Window, wait_for
from tests.ui.stage import Stage
from tests.ui.test_all_pages import fill, turn

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844, "is_mobile": True, "has_touch": True}

#: Names of what can be pressed and is smaller than a finger, with the edge that is not seen. The numbers of a log's
#: lines are as close as the lines.
SMALL = """() => {
  const found = [];
  const look = (root) => {
    for (const el of root.querySelectorAll("*")) {
      if (el.shadowRoot) look(el.shadowRoot);
      if (!el.matches("a[href]:not(.num), button, input, select, textarea, summary") || !el.checkVisibility()) continue;
      const boxes = [el, el.closest("label") || el].map((each) => each.getBoundingClientRect());
      if (!boxes[0].width || !boxes[0].height) continue;
      const edges = ["::before", "::after"].map((name) => getComputedStyle(el, name));
      const sizes = edges.filter(({position}) => position === "absolute");
      const most = (side) => Math.max(...[...boxes, ...sizes].map((each) => parseFloat(each[side]) || 0));
      const size = [most("width"), most("height")];
      if (Math.min(...size) < 43.5) found.push(`${el.className} ${el.textContent.trim().slice(0, 20)} ${size}`);
    }
  };
  look(document);
  return found;
}"""


@pytest.fixture
def page(stage: Stage, url: str, window: Window) -> Any:
    opened = window.open(url, **PHONE)
    opened.wait_for_selector("text=No jobs yet")
    return opened


def test_the_menu_the_order_pause_and_the_actions_of_a_job_are_in_reach_of_a_thumb(stage: Stage, page: Any) -> None:
    failed = fill(stage)
    background.call(stage.store.submit([Submission(JobSpec(f"m{n}", "many"), b"") for n in range(60)]))
    page.wait_for_selector(".row[data-face=failed]")
    page.select_option("select[aria-label=Order]", "task")
    wait_for(page, "location.search.includes('sort=task')")
    page.tap(".foot button:has-text('Next')")
    page.wait_for_selector(".foot:has-text('Page 2')")
    page.locator(".foot button:has-text('Next')").wait_for(state="hidden")  # the last page has come
    buttons = page.locator(".foot button:visible").all()
    assert len(buttons) == 2  # First and Previous
    assert all(each.bounding_box()["x"] + each.bounding_box()["width"] <= 390 for each in buttons)

    page.tap("[aria-label=Menu]")
    page.tap(".tab:has-text('Workers')")
    page.locator(".tab:has-text('Workers')").wait_for(state="hidden")  # the menu has closed
    page.wait_for_selector(".jk-workers button:has-text('Pause')")
    assert page.inner_text(".jk-nav .here") == "Workers"

    turn(page, "jobs", failed)
    head, actions = page.locator(".jk-drawer").bounding_box(), page.locator(".jk-card .actions").bounding_box()
    assert (head["x"], head["y"], head["width"]) == (0, 0, 390)  # the card is the page
    assert actions["y"] + actions["height"] == 844
    assert page.locator(".jk-card .actions button:has-text('Retry')").is_visible()
    page.tap(".jk-drawer [aria-label=Close]")
    page.locator(".jk-card .title").wait_for(state="hidden")

    page.tap(".jk-nav .submit")
    page.wait_for_selector(".tab[data-page=submit][aria-current=page]", state="attached")


@pytest.mark.nightly
def test_what_can_be_pressed_is_as_large_as_a_finger_on_every_page(stage: Stage, page: Any) -> None:
    failed = fill(stage)
    small: list[str] = []

    for slug, job in [*((each.slug, "") for each in PAGES), ("jobs", failed)]:
        turn(page, slug, job)
        small += [f"{slug}: {each}" for each in page.evaluate(SMALL)]
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, slug

    assert not small, "\n".join(small)
