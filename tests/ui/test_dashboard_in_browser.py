"""The dashboard in a real browser: two windows, one truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobkit.client.loop import background
from jobkit.store.hub import STATUS
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.specs import Choice, ParamSpec
from tests.support import by_default, wait_until
from tests.ui.conftest import CANARY, Serve, Window, text_of
from tests.ui.stage import Stage

pytestmark = pytest.mark.browser


TRAIN = TaskInfo(
    name="train",
    title="Train a model",
    doc="Train a model.\n\nOn real data.",
    ref="tests.ui.stage:Stage",
    params=(
        ParamSpec(name="n", kind="int", min=1, max=10, help="How many."),
        ParamSpec(name="lr", kind="float", required=False, default=0.1),
        ParamSpec(
            name="method",
            kind="choice",
            required=False,
            default="rk4",
            choices=(Choice("euler", "euler"), Choice("rk4", "rk4")),
        ),
        ParamSpec(name="day", kind="date", required=False, default="2026-11-24"),
        ParamSpec(name="deep", kind="bool", required=False, default=False),
    ),
)


@pytest.fixture
def url(stage: Stage, url: str) -> str:
    stage.publish(TRAIN)
    return url


def names(page: Any) -> list[str]:
    found: list[str] = page.locator(".jk-table .row:not(.head) .name b").all_inner_texts()
    return found


def count(page: Any, name: str) -> str:
    return text_of(page, f".counter[data-name='{name}'] b")


def test_two_windows_see_the_same_job_from_its_start_to_its_end(stage: Stage, url: str, window: Window) -> None:
    one, two = window.open(url), window.open(url)
    for page in (one, two):
        page.wait_for_selector("text=No jobs yet")
        assert "import jobkit" in text_of(page, ".nothing pre")

    job = stage.submit("train", {"n": 3}, title="Train a model")
    stage.start(job, "gpu-1")
    stage.progress(job, 37, 100)

    for page in (one, two):
        page.wait_for_selector(".row[data-face=running] .note:has-text('37 %')")
        wait_until(lambda page=page: count(page, "running") == "1", what="the counter")
        assert text_of(page, ".row[data-face=running] .worker") == "gpu-1"
        assert text_of(page, ".row[data-face=running] .name").split("\n") == ["Train a model", "n=3"]
    stage.succeed(job, summary="DataFrame 3 × 4")
    for page in (one, two):
        page.wait_for_selector(".row[data-face=succeeded] .note:has-text('DataFrame 3 × 4')")
        wait_until(lambda page=page: count(page, "succeeded") == "1", what="the counter")


def test_a_row_opens_the_card_beside_the_list_and_the_url_names_it(stage: Stage, url: str, window: Window) -> None:
    job = stage.submit("train", {"n": 3}, title="Train a model")
    page = window.open(url, width=1440)

    page.click(".row[data-face=queued]")

    page.wait_for_selector(".jk-card .title:has-text('Train a model')")
    wait_until(lambda: f"job={job}" in page.evaluate("location.search"), what="the URL")
    assert page.locator(".jk-table").is_visible()
    linked = window.open(page.url, width=380)
    linked.wait_for_selector(".jk-card .title:has-text('Train a model')")
    linked.wait_for_selector(".jk-drawer")
    linked.click(".jk-drawer button:has-text('Close')")
    linked.locator(".jk-card .title").wait_for(state="hidden")
    page.keyboard.press("Escape")
    page.locator(".jk-card .title").wait_for(state="hidden")
    wait_until(lambda: "job=" not in page.evaluate("location.search"), what="the URL")


@pytest.mark.nightly
def test_a_link_names_a_line_of_the_log_and_opens_at_it(stage: Stage, url: str, window: Window) -> None:
    jobs = [stage.submit("train", title=title) for title in ("First", "Second")]
    for job in jobs:
        stage.start(job)
        stage.log(job, *[f"line {n}" for n in range(1, 401)])
    in_sight = """row => {
      const [line, pane] = [row, row.parentNode].map((el) => el.getBoundingClientRect());
      return line.top >= pane.top && line.bottom <= pane.bottom;
    }"""
    page = window.open(f"{url}?job={jobs[0]}#L182", width=1440)

    page.wait_for_selector(".line.marked .text:text-is('line 182')")
    wait_until(lambda: page.locator(".line.marked").evaluate(in_sight), what="the line to be in sight")
    stage.log(jobs[0], "line 401")  # it runs, and the log stays where the reader is
    page.wait_for_selector(".pill:has-text('1 new line')")
    assert page.locator(".line.marked").evaluate(in_sight)

    page.click(".line:has(.text:text-is('line 180')) .num")
    page.wait_for_selector(".line.marked .text:text-is('line 180')")
    assert page.evaluate("location.hash") == "#L180"
    assert f"job={jobs[0]}" in page.url
    linked = window.open(page.url, width=380)
    linked.wait_for_selector(".line.marked .text:text-is('line 180')")
    wait_until(lambda: linked.locator(".line.marked").evaluate(in_sight), what="the line to be in sight")
    page.evaluate("location.hash = '#L390'")
    page.wait_for_selector(".line.marked .text:text-is('line 390')")
    wait_until(lambda: page.locator(".line.marked").evaluate(in_sight), what="the line to be in sight")

    page.click(".row:has-text('Second')")
    page.wait_for_selector(".jk-card .title:has-text('Second')")
    page.wait_for_selector(".line .text:text-is('line 400')")
    wait_until(lambda: page.evaluate("location.hash") == "" and jobs[1] in page.url, what="the URL of the other job")
    assert page.locator(".line.marked").count() == 0


@pytest.mark.nightly
def test_on_a_small_screen_the_card_is_the_page_until_it_is_closed(stage: Stage, url: str, window: Window) -> None:
    job = stage.running("train", title="Train a model")
    stage.log(job, *[f"line {n}" for n in range(40)])
    stage.fail(job, "ValueError", "a long message " * 60, "no frames here\n" * 60)
    page = window.open(url, width=380)

    page.click(".row[data-face=failed]")

    page.wait_for_selector(".jk-card .failure")
    head = page.locator(".jk-drawer").bounding_box()
    assert head is not None
    assert (head["x"], head["y"], head["width"]) == (0, 0, 380)
    page.click(".jk-drawer button:has-text('Close')")
    page.locator(".jk-card .title").wait_for(state="hidden")
    assert page.locator(".row[data-face=failed]").is_visible()


@pytest.mark.nightly
def test_counters_and_search_filter_and_stand_in_the_url(stage: Stage, url: str, window: Window) -> None:
    for n in range(3):
        job = stage.running("train", {"n": n}, title=f"Train {n}")
        if n:
            stage.fail(job)
        else:
            stage.succeed(job)
    page = window.open(url)
    wait_until(lambda: len(names(page)) == 3, what="three rows")

    page.click(".counter[data-name=failed]")
    wait_until(lambda: names(page) == ["Train 2", "Train 1"], what="the failed ones")
    page.keyboard.press("/")
    page.keyboard.type('state:failed "train 2"')

    wait_until(lambda: names(page) == ["Train 2"], what="the job of the search")
    wait_until(lambda: "q=state%3Afailed+%22train+2%22" in page.url, what="the URL of the whole search")
    again = window.open(page.url)
    wait_until(lambda: names(again) == ["Train 2"], what="the linked search")
    again.fill(".search", "nothing like this")
    again.wait_for_selector("text=No job matches")
    again.click("text=Show all jobs")
    wait_until(lambda: len(names(again)) == 3, what="all rows")


@pytest.mark.nightly
def test_new_jobs_wait_behind_a_pill_while_the_user_reads(stage: Stage, url: str, window: Window) -> None:
    old = stage.submit("train", title="Old")
    page = window.open(url)
    page.hover(".row:has-text('Old')")
    stage.start(old)
    page.wait_for_selector(".row:has-text('Old') .icon .spin")  # so it has caught up with what came while it loaded

    stage.submit("train", title="New 1")
    stage.submit("train", title="New 2")

    page.wait_for_selector(".pill:has-text('2 new jobs')")
    assert names(page) == ["Old"]
    page.click(".jk-table .pill")
    assert names(page) == ["Old", "New 1", "New 2"]  # what runs, then in the order of start


@pytest.mark.nightly
def test_the_keyboard_walks_the_list(stage: Stage, url: str, window: Window) -> None:
    for n in range(3):
        stage.submit("train", title=f"Train {n}")
    page = window.open(url, width=1440)
    page.wait_for_selector(".row:has-text('Train 0')")

    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Enter")

    page.wait_for_selector(".jk-card .title:has-text('Train 1')")
    page.keyboard.press("k")
    page.wait_for_selector(".jk-card .title:has-text('Train 0')")


@pytest.mark.nightly
def test_deleting_asks_and_says_how_many(stage: Stage, url: str, window: Window) -> None:
    for n in range(2):
        job = stage.running("train", title=f"Train {n}")
        stage.succeed(job)
    page = window.open(url)
    page.hover(".row:has-text('Train 0')")

    page.check(".row:has-text('Train 0') .pick")
    page.click(".bulk button:has-text('Delete 1')")
    assert len(names(page)) == 2
    page.click(".bulk button.danger:has-text('Delete 1 job')")
    page.wait_for_selector(".bulk:has-text('Deleting 1 job in')")

    wait_until(lambda: names(page) == ["Train 1"], what="the row to go")
    assert stage.kit.counts()["succeeded"] == 1


def test_a_form_refuses_beside_the_field_and_its_job_appears_at_once(stage: Stage, url: str, window: Window) -> None:
    page = window.open(url, width=1440)
    page.click(".tab:has-text('Submit')")
    page.wait_for_selector("h2:has-text('Train a model')")

    page.fill("[data-name=n] input.input", "many")
    page.wait_for_selector("[data-name=n] .message:has-text('n must be a whole number from 1 to 10')")  # after a pause
    assert page.locator("[data-name=n] input.input").input_value() == "many"
    page.fill("[data-name=n] input.input", "7")
    page.click("[data-name=method] button:has-text('euler')")
    page.check("[data-name=deep] input")
    assert text_of(page, ".call code") == 'train.submit(n=7, method="euler", deep=True)'
    page.keyboard.press("Control+Enter")

    page.wait_for_selector(".jk-card .title:has-text('Train a model')")
    (job,) = stage.kit.page(_everything()).jobs
    assert dict(job.spec.params) == {"n": 7, "method": "euler", "deep": True}
    assert page.locator("[data-name=n] .message").is_hidden()


@pytest.mark.parametrize("width", by_default([390, 1440]))
def test_run_again_with_changes_fills_the_form_in(stage: Stage, url: str, window: Window, width: int) -> None:
    job = stage.submit("train", {"n": 3, "method": "euler", "day": "2026-01-02"}, title="Train a model", queue="gpu")
    stage.start(job, queue="gpu")
    stage.fail(job)
    page = window.open(f"{url}?job={job}", width=width)

    page.click(".actions button:has-text('Edit and run')")

    wait_until(
        lambda: (
            text_of(page, ".call code") == 'train.options(queue="gpu").submit(n=3, method="euler", day="2026-01-02")'
        ),
        what="the form to be filled in",
    )
    page.click("[data-name=n] input", trial=True)  # nothing covers it


@pytest.mark.nightly
def test_a_task_without_its_argument_is_not_submitted(stage: Stage, url: str, window: Window) -> None:
    page = window.open(f"{url}?page=submit")
    page.click("button.submit")

    page.wait_for_selector("[data-name=n] .message:has-text('n is required')")
    assert stage.kit.page(_everything()).jobs == ()


@pytest.mark.nightly
def test_nothing_that_a_user_wrote_runs_on_any_page(stage: Stage, url: str, window: Window) -> None:

    evil = TaskInfo(
        name="evil",
        title=CANARY,
        doc=f"{CANARY}\n\n{CANARY}",
        params=(
            ParamSpec(name="a", kind="str", label=CANARY, help=CANARY, required=False, default=CANARY),
            ParamSpec(name="b", kind="choice", choices=tuple(Choice(f"{CANARY}{n}", n) for n in range(9))),
            ParamSpec(name="c", kind="any", required=False, default=None, default_text=CANARY),
        ),
    )
    stage.publish(evil)
    job = stage.submit(CANARY, {CANARY: CANARY}, title=CANARY, owner=CANARY)
    stage.start(job, CANARY)
    stage.fail(job, CANARY, CANARY)

    page = window.open(f"{url}?job={job}", width=1440)
    page.wait_for_selector(".jk-card .failure")
    page.wait_for_selector(".row[data-face=failed]")
    page.click(".tab:has-text('Submit')")
    page.click(".task:has-text('evil')")
    page.wait_for_selector("[data-name=b] select")

    assert page.evaluate("window.boom === undefined")


@pytest.mark.nightly
def test_a_closed_window_is_no_longer_fed(stage: Stage, url: str, window: Window) -> None:
    from jobkit.ui.jobs.board import BoardFeed
    from jobkit.ui.live.shared_feed import open_feeds

    page = window.open(url)
    page.wait_for_selector("text=No jobs yet")
    assert open_feeds(stage.kit, BoardFeed)

    page.goto("about:blank")

    wait_until(lambda: not open_feeds(stage.kit, BoardFeed), what="the feed to end")
    stage.submit("train")  # without an error


@pytest.mark.nightly
def test_the_page_follows_the_dark_system_and_remembers_a_choice(stage: Stage, url: str, window: Window) -> None:
    page = window.open(url, color_scheme="dark")
    page.wait_for_selector(".jk-table[data-theme=dark]")

    page.click("[aria-label='Toggle theme']")
    page.wait_for_selector(".jk-table[data-theme=light]")
    page.reload()

    page.wait_for_selector("text=No jobs yet")
    wait_until(lambda: page.evaluate("localStorage.getItem('jobkit-theme')") == "light", what="the choice to be kept")
    assert page.locator(".jk-table").get_attribute("data-theme") == "light"


@pytest.mark.nightly
@pytest.mark.parametrize("width", [380, 1280, 1440, 2560])
def test_no_page_is_wider_than_its_window(stage: Stage, url: str, window: Window, width: int, tmp_path: Path) -> None:
    for n in range(30):
        job = stage.submit("train", {"n": n, "text": "x" * 200}, title=f"Train a model of a long name, number {n}")
        stage.start(job, "a-worker-with-a-long-name.4711")
        if n % 3 == 0:
            stage.fail(job, "ValueError", "a long message " * 20)
    page = window.open(url, width=width, height=900)
    page.wait_for_selector(".row[data-face=running]")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width == 1440:
        rows = page.locator(".jk-table .rows .row").all()
        in_sight = [row for row in rows if (box := row.bounding_box()) and box["y"] + box["height"] <= 900]
        assert len(in_sight) >= 18

    page.click(".jk-nav a:has-text('Submit'):visible")
    page.wait_for_selector("h2:has-text('Train a model')")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def _everything() -> Any:
    from jobkit.store.query import Query

    return Query()


def say_status(stage: Stage, is_live: bool) -> None:
    """Do what the hub does when Redis goes or is back: on its loop."""
    background.start().call_soon_threadsafe(stage.kit.hub._listeners.tell, STATUS, is_live)  # type: ignore[attr-defined]


@pytest.mark.nightly
def test_a_server_that_is_away_is_told_on_every_part_of_the_page(stage: Stage, url: str, window: Window) -> None:
    job = stage.submit("train")
    stage.start(job)  # otherwise the waiting job would soon show that its queue has no worker
    page = window.open(f"{url}?job={job}", width=1440)
    page.wait_for_selector(".status:has-text('live')")
    page.wait_for_selector(".jk-card .chip:has-text('Running')")

    say_status(stage, is_live=False)

    page.wait_for_selector(".jk-table .notice:has-text('Redis does not answer')")
    page.wait_for_selector(".status:has-text('reconnecting')")
    page.wait_for_selector(".jk-card .notice:has-text('Connection lost')")
    say_status(stage, is_live=True)
    page.locator(".jk-table .notice").wait_for(state="hidden")
    page.locator(".jk-card .notice").wait_for(state="hidden")

    stage.kit.hub.stopped = "the embedded server was stopped"
    say_status(stage, is_live=False)
    page.wait_for_selector(".status:has-text('stopped')")
    page.wait_for_selector(".jk-card .notice:has-text('the embedded server was stopped')")
    stage.kit.hub.stopped = ""
    say_status(stage, is_live=True)
    page.wait_for_selector(".status:has-text('live')")
    page.wait_for_selector(".status:has-text('live')")


@pytest.mark.nightly
def test_what_may_be_old_is_grey_on_every_page_until_the_server_is_back(stage: Stage, url: str, window: Window) -> None:
    stage.beat("gpu-1.4711")
    page = window.open(f"{url}?page=workers", width=1440)
    page.wait_for_selector(".jk-workers .worker")
    is_grey = """selector => {
      const inside = (root) => [...root.querySelectorAll("*")].map((el) => el.shadowRoot && find(el.shadowRoot));
      const find = (root) => root.querySelector(selector) || inside(root).find(Boolean);
      for (let node = find(document); node; node = node.parentNode || node.host)
        if (node.nodeType === 1 && getComputedStyle(node).filter !== "none") return true;
      return false;
    }"""
    assert not page.evaluate(is_grey, ".jk-workers")

    say_status(stage, is_live=False)

    wait_until(lambda: page.evaluate(is_grey, ".jk-workers"), what="the page to be grey")
    page.click(".tab:has-text('Submit')")
    page.wait_for_selector(".jk-form")
    assert not page.evaluate(is_grey, ".jk-form")
    page.click(".tab:has-text('Jobs')")
    page.wait_for_selector(".jk-table")
    assert not page.evaluate(is_grey, ".jk-table")  # its rows are, by themselves
    page.click(".tab:has-text('Timeline')")
    page.wait_for_selector(".jk-timeline")
    assert page.evaluate(is_grey, ".jk-timeline")
    say_status(stage, is_live=True)
    wait_until(lambda: not page.evaluate(is_grey, ".jk-timeline"), what="the page to be as it was")


@pytest.mark.nightly
def test_a_page_of_running_jobs_lays_out_nothing_while_there_is_no_news(stage: Stage, url: str, window: Window) -> None:
    jobs = [stage.submit("train", {"n": n}, title=f"Train {n}") for n in range(1, 9)]
    for n, job in enumerate(jobs):
        stage.start(job)
        if n % 2:
            stage.progress(job, n, 10)
    stage.kit.get(jobs[0]).cancel()
    page = window.open(url)
    page.wait_for_selector(".row .bar.cancelling")
    wait_until(lambda: page.locator(".row .bar.unknown").count() == 3, what="three rows without numbers")
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def layouts() -> int:
        """Return the number of layouts in 60 frames."""

        def so_far() -> int:
            found = session.send("Performance.getMetrics")["metrics"]
            return next(int(one["value"]) for one in found if one["name"] == "LayoutCount")

        before = so_far()
        page.evaluate(
            """() => new Promise(done => { let n = 0;
            const step = () => ++n < 60 ? requestAnimationFrame(step) : done(); step(); })"""
        )
        return so_far() - before

    wait_until(lambda: layouts() < 15, what="a page that lays out little more than its clocks")


@pytest.mark.nightly
def test_what_a_page_is_told_while_a_browser_is_loading_it_reaches_that(
    stage: Stage, serve: Serve, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Panel sends nothing between the browser's request of the document and its readiness."""
    from jobkit.ui.app.dashboard import Dashboard
    from jobkit.ui.app.header import StoreBannerFeed

    sentence, reads, held, seen = "", [], [], set()

    async def read(_: StoreBannerFeed) -> dict[str, Any]:
        reads.append(sentence)
        return {"said": sentence}

    def make() -> Any:
        return Dashboard(stage.kit).__panel__()

    def between(browser: Any) -> None:
        """Delay the browser's message that it has the document."""
        server = browser.connect_to_server()

        def told(message: str) -> None:
            seen.update(kind for kind in ("PULL-DOC-REPLY",) if kind in message)
            browser.send(message)

        server.on_message(told)
        browser.on_message(lambda message: held.append((server, message)) if seen else server.send(message))

    monkeypatch.setattr(StoreBannerFeed, "data", read)
    monkeypatch.setattr(StoreBannerFeed, "LOOK_S", 0.05)
    page = window.open("about:blank")
    page.route_web_socket("**/ws*", between)
    page.goto(serve(make))
    page.wait_for_selector(".jk-nav .status[data-status=live]")  # so it has the document

    sentence = "It takes no changes."
    wait_until(lambda: reads.count(sentence) > 1, what="the page to hear of the change")
    seen.clear()
    for server, message in held:
        server.send(message)

    page.wait_for_selector(f".jk-banner:has-text('{sentence}')")
