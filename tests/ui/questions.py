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
    """Return the reason, in its row."""
    return walk.sees(f"{walk.row('waits')} .note", walk.ids["why"])


def whose_jobs_failed(walk: Walk) -> str:
    """Return the row of a failed job: owner, error, attempts and retries."""
    walk.click(".counter[data-name=failed]")
    walk.page.wait_for_selector(".jk-table .row.head .state:has-text('Result')")
    return walk.sees(f"{walk.row('failed')}:has(.owner:text-is('chen'))", "run again →")


def what_changed(walk: Walk) -> str:
    """Return the differences between a run and the one before it."""
    walk.click(walk.row("ended"))
    walk.click(".jk-card .btn:has-text('Compare')")
    return walk.sees(".jk-pair .glance", "lr")


def how_long_it_takes(walk: Walk) -> str:
    """Return the time left, in its row."""
    return walk.sees(f"{walk.row('job')} .note", walk.ids["takes"])


def the_loss(walk: Walk) -> str:
    """Return the words of the chart, on its card."""
    walk.click(walk.row("job"))
    return walk.sees(".jk-card .chart:has(path.line)", "loss")


def the_best_arguments(walk: Walk) -> str:
    """Return the best value and its arguments, on the page of the batch."""
    walk.click(walk.row("batch"))
    return walk.sees(".jk-batch .best", "best")


def who_cancelled(walk: Walk) -> str:
    """Return who, when and why, in its row."""
    walk.search("state:cancelled")
    return walk.sees(f"{walk.row('cancelled')} .note", "Cancelled by chen")


def the_results(walk: Walk) -> str:
    """Return the head of the saved file."""
    walk.click(walk.row("batch"))
    with walk.page.expect_download() as saved:
        walk.click(".jk-batch [title='Save these rows as CSV']")
    return saved.value.path().read_text("utf-8").splitlines()[0]


def is_the_queue_stuck(walk: Walk) -> str:
    """Return the row of the queue on the page of workers."""
    walk.click(".tab:has-text('Workers')")
    return walk.sees(".jk-workers tbody tr:has(.name:text-is('gpu'))")


def what_uses_memory(walk: Walk) -> str:
    """Return the jobs with the most memory, on the page of workers."""
    walk.click(".tab:has-text('Workers')")
    return walk.sees(".jk-workers .most", "Most memory")


def what_runs_on_a_host(walk: Walk) -> str:
    """Return a host with its workers and jobs, on the page of workers."""
    walk.click(".tab:has-text('Workers')")
    return walk.sees(".jk-workers .host:has(.job)")


def tell_me(walk: Walk) -> str:
    """Return what the bell in the header then says."""
    walk.page.context.grant_permissions(["notifications"])
    walk.click(".jk-nav .bell")
    walk.sees(".jk-nav .bell[aria-pressed=true]")
    return walk.page.locator(".jk-nav .bell").get_attribute("title") or ""


#: The last four are also tested beside their pages.
QUESTIONS: dict[str, Callable[[Walk], str]] = {
    "Why does my job wait?": why_it_waits,
    "Whose jobs failed last night, why, and were they retried?": whose_jobs_failed,
    "What changed between two runs?": what_changed,
    "How long will it take?": how_long_it_takes,
    "Show the loss while it trains.": the_loss,
    "What are the best arguments of the sweep?": the_best_arguments,
    "Who cancelled it?": who_cancelled,
    "Download a sweep's results.": the_results,
    "Is the GPU queue stuck?": is_the_queue_stuck,
    "What uses memory?": what_uses_memory,
    "What runs on host B?": what_runs_on_a_host,
    "Tell me when it is done.": tell_me,
}
