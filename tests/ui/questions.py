"""Questions of a team, each as a walk from home: what a user clicks and types, and where the answer then stands.

`test_questions_in_browser.py` walks at a small place that it plays, `docs/make_screenshots.py --questions` at that of
`docs/team_place.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

#: The row of a job or batch.
ROW = ".jk-table .row[data-id='{}']"


class Walk:
    """Steps of a user on an open page.

    Args:
        ids: of the jobs and the batch of the place by name, and "why" one waits and how long one "takes" in words.

    Attributes:
        clicks: how often they have clicked. searches: how often they have typed into the search box.
    """

    def __init__(self, page: Page, ids: Mapping[str, str]) -> None:
        self.page, self.ids = page, ids
        page.set_default_timeout(20_000)
        self.clicks = self.searches = 0

    def click(self, selector: str) -> None:
        self.page.locator(selector).first.click()
        self.clicks += 1

    def search(self, text: str) -> None:
        self.page.wait_for_selector(".jk-table .filters input")
        self.page.keyboard.press("/")
        self.page.keyboard.type(text)
        self.page.keyboard.press("Enter")
        self.searches += 1

    def row(self, name: str) -> str:
        return ROW.format(self.ids[name] if name != "batch" else f"batch {self.ids[name]}")

    def sees(self, selector: str, text: str = "") -> str:
        """Wait for something with this text on the screen; return all of its text on one line."""
        found = self.page.locator(selector).filter(has_text=text, visible=True).first
        found.wait_for()
        box: Any = found.bounding_box()
        size: Any = self.page.viewport_size
        assert box["y"] < size["height"], f"{selector} is below the fold"
        return " ".join(found.inner_text().split())


def why_it_waits(walk: Walk) -> str:
    """Why does my job wait?"""
    return walk.sees(f"{walk.row('waits')} .note", walk.ids["why"])


def whose_jobs_failed(walk: Walk) -> str:
    """Whose jobs failed last night, why, and were they retried?"""
    walk.click(".counter[data-name=failed]")
    return walk.sees(f"{walk.row('failed')}:has(.owner:text-is('chen'))", "run again →")


def what_changed(walk: Walk) -> str:
    """What changed between two runs?"""
    walk.click(walk.row("ended"))
    walk.click(".jk-card .btn:has-text('Compare')")
    return walk.sees(".jk-pair .glance", "lr")


def how_long_it_takes(walk: Walk) -> str:
    """How long will it take?"""
    return walk.sees(f"{walk.row('job')} .note", walk.ids["takes"])


def the_loss(walk: Walk) -> str:
    """Show the loss while it trains."""
    walk.click(walk.row("job"))
    return walk.sees(".jk-card .chart:has(path.line)", "loss")


def the_best_arguments(walk: Walk) -> str:
    """What are the best arguments of the sweep?"""
    walk.click(walk.row("batch"))
    return walk.sees(".jk-batch .best", "best")


def who_cancelled(walk: Walk) -> str:
    """Who cancelled it?"""
    walk.search("state:cancelled")
    return walk.sees(f"{walk.row('cancelled')} .note", "Cancelled by chen")


def the_results(walk: Walk) -> str:
    """Download a sweep's results."""
    walk.click(walk.row("batch"))
    with walk.page.expect_download() as saved:
        walk.click(".jk-batch [title='Save these rows as CSV']")
    return saved.value.path().read_text("utf-8").splitlines()[0]


QUESTIONS: tuple[Callable[[Walk], str], ...] = (
    why_it_waits,
    whose_jobs_failed,
    what_changed,
    how_long_it_takes,
    the_loss,
    the_best_arguments,
    who_cancelled,
    the_results,
)
