"""The page of a log: all of its lines, searched on the server, drawn as far as they are seen."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobkit.client.loop import background
from jobkit.files import log_reader
from jobkit.files.log import LogFile, mark_of, pieces_of
from jobkit.http.tornado_app import LOG_ADDRESS
from jobkit.model import LogLine
from jobkit.model.person import Person, Role
from jobkit.store.values import AttemptNews
from jobkit.ui import Dashboard
from jobkit.ui.access.actions import Actions
from jobkit.ui.card import job_feed
from jobkit.ui.card.card_html import card_html
from jobkit.ui.card.downloads import answer
from jobkit.ui.card.log_lines import line_html
from jobkit.ui.log.log_view import LogControl
from tests.support import PATIENCE_S, wait_until
from tests.ui.conftest import CANARY, Window, text_of, wait_for
from tests.ui.page_server import PageServer
from tests.ui.stage import Stage
from tests.ui.test_all_pages import findings
from tests.ui.test_card_model import STARTED, at, queued


@pytest.fixture
def running(stage: Stage) -> str:
    return stage.running("train", {"n": 1}, title="Train", retries=1)


def log(stage: Stage, job: str, *texts: str) -> None:
    """Log printed text, with its colours."""
    lines = [LogLine.read(text, at_ms=1) for text in texts]
    stage._do(stage.store.progress([AttemptNews(job, stage._tokens[job].token, lines=lines)]))


def in_file(stage: Stage, job: str, path: Path, count: int) -> LogFile:
    """Give a job a log file of `count` lines, each hundredth of which is a warning."""
    file = LogFile(path, f"{job} 1\n")
    for n in range(1, count + 1, 100):
        file.add([f"step {i}" for i in range(n, n + 99)], mark_of("stdout", at_ms=1_000))
        file.add([f"bad {n + 99}"], mark_of("log", "WARNING", 1_000))
    file.write(file.take())

    async def folder(job_id: str) -> str:
        return "folder" if job_id == job else ""

    class Place:
        def log(self, folder: str, *, has_ended: bool = True) -> Any:
            return pieces_of(path)

    stage.store.folder = folder
    stage.kit.verbs.__dict__["file_store"] = Place()
    return file


def asked(stage: Stage, job: str, action: str, **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(answer(stage.kit, job, {"action": action, **more}))
    return told


def test_lines_of_the_store_say_where_the_dropped_ones_are_missing(stage: Stage, running: str) -> None:
    for n in range(30):
        log(stage, running, *[f"{n} {i} " + "x" * 900 for i in range(60)])

    told = asked(stage, running, "log-lines", after=0)
    behind = asked(stage, running, "log-lines", after=told["gap_after"] + told["dropped"])

    assert told["total"] == 1_800
    assert told["dropped"] > 0
    assert behind["lines"][0]["n"] == told["gap_after"] + told["dropped"] + 1


def test_hits_are_places_in_the_whole_log(stage: Stage, running: str, tmp_path: Path) -> None:
    in_file(stage, running, tmp_path / "log", 2_000)

    found = asked(stage, running, "log-hits", search="BAD", level="")
    errors = asked(stage, running, "log-hits", search="", level="error")
    refused = asked(stage, running, "log-hits", search="x" * 300, level="")

    assert (found["numbers"], found["matched"], found["cursor"]) == ([*range(100, 2_001, 100)], 20, 0)
    assert errors["numbers"] == []
    assert "search" in refused["problem"]


def test_the_answer_to_a_repeated_question_is_not_thrown_away(
    stage: Stage, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(stage, running, "hello")
    begun, go_on, texts = threading.Event(), threading.Event(), list[str]()

    def slow(*given: Any) -> str:
        if not begun.is_set():
            begun.set()
            go_on.wait(PATIENCE_S)
            return answer(*given)
        return "{}"

    monkeypatch.setattr(job_feed, "answer", slow)
    control = LogControl(Actions(stage.kit), lambda whole, parts: texts.append(whole.get("page", "")))
    control.follow(running)
    wait_until(lambda: control.model is not None, what="the job")
    control.do("log-lines", {"action": "log-lines", "name": "1", "n": "1"})
    assert begun.wait(PATIENCE_S)
    control.do("log-lines", {"action": "log-lines", "name": "1", "n": "2"})
    go_on.set()

    wait_until(lambda: any("hello" in text for text in texts), what="the answer")
    control.stop()


@pytest.mark.parametrize(("name", "is_answered"), [("ada", True), ("eve", False)])
def test_a_log_is_read_for_those_who_may_see_its_job(stage: Stage, running: str, name: str, is_answered: bool) -> None:
    texts: list[str] = []
    control = LogControl(Actions(stage.kit, Person(name, Role.OWN)), lambda whole, parts: texts.extend(whole))
    control.follow(running)
    wait_until(lambda: control.model is not None, what="the job")

    for action in ("log-lines", "log-hits"):
        control.do(action, {"action": action, "name": "1"})
    background.call(asyncio.sleep(0))
    if is_answered:
        wait_until(lambda: {"page", "hits"} <= set(texts), what="two answers")

    assert ("page" in texts) == is_answered
    control.stop()


def test_a_saved_card_shows_colours_and_no_markup_of_a_job() -> None:
    view = queued()
    view.take(STARTED)
    view.log([LogLine.read(f"\x1b[1;31m{CANARY}\x1b[0m", n=1)])
    html = card_html(view, at(1))

    assert "font-weight:700;color:light-dark(#" in html
    assert "<img" not in html
    assert line_html(LogLine.read("\x1b[1mabcdef"), 3) == '<span style="font-weight:700">abc</span>…'


@pytest.mark.browser
def test_a_log_of_many_lines_is_searched_linked_and_narrowed(
    stage: Stage, url: str, window: Window, running: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The document has only lines that are seen; the rest is on the server, which searches in parts."""
    monkeypatch.setattr(log_reader, "SEARCH_BYTES", 200_000)
    file = in_file(stage, running, tmp_path / "log", 300_000)
    stage.log(running, "news")
    page = window.open(f"{url}?page=log&id={running}")
    page.wait_for_selector(".jk-log .line:has-text('bad 300000')")  # at the end, which it follows
    assert page.locator(".jk-log .line").count() < 120
    assert text_of(page, ".jk-log .count") == "300,000 lines"

    page.keyboard.press("/")
    page.keyboard.type("Step 5000")
    page.wait_for_selector(".jk-log .found:has-text('1 of 9 lines')")  # 50001 to 50009; 50000 is a warning
    page.keyboard.press("Shift+Enter")
    page.wait_for_selector(".jk-log .found:has-text('9 of 9 lines')")
    page.wait_for_selector(".jk-log .line.current mark:has-text('step 5000')")
    wait_for(page, "location.search.includes('q=Step')")

    page.fill(".jk-log .find", "")
    page.click(".jk-log .segments button:has-text('Warnings')")
    page.wait_for_selector(".jk-log .count:has-text('3,000 of 300,000 lines')")
    page.wait_for_selector(".jk-log .line .text:has-text('bad')")
    assert page.locator(".jk-log .line .text:has-text('step')").count() == 0

    page.click(".jk-log .segments button:has-text('All')")
    wait_for(page, "!location.search.includes('level=')")
    page.evaluate("location.hash = '#L277777-L277779'")
    page.wait_for_selector(".jk-log .line.marked[data-n='277778'] .text:has-text('step 277778')")
    page.click(".jk-log .line[data-n='277776'] .num")
    page.click(".jk-log .line[data-n='277780'] .num", modifiers=["Shift"])
    wait_for(page, "location.hash === '#L277776-L277780'")
    assert page.locator(".jk-log .line.marked").count() == 5

    file.add(["the newest"], mark_of("stdout", at_ms=2_000))
    file.write(file.take())
    stage.log(running, "news")
    page.click(".jk-log .pill:has-text('1 new line')")
    page.wait_for_selector(".jk-log .line .text:has-text('the newest')")


@pytest.mark.browser
def test_a_log_has_colours_attempts_times_and_no_findings_of_axe(
    stage: Stage, url: str, window: Window, running: str
) -> None:
    log(stage, running, f"\x1b[31mred\x1b[0m {CANARY}")
    stage.log(running, "bad", source="log", level="ERROR", logger="train")
    stage.retry_later(running)
    stage.start(running, "gpu-2")
    stage.log(running, "long " * 100, source="stderr")
    stage.fail(running)
    page = window.open(f"{url}?job={running}", permissions=["clipboard-read", "clipboard-write"])
    page.wait_for_selector(".jk-card .attempt:has-text('on gpu-2')")
    assert page.locator(".jk-card .text span:has-text('red')").evaluate("e => e.style.color")

    page.click(".jk-card a[aria-label='Show the whole log on a page']")
    page.wait_for_selector(".jk-log .attempt:has-text('attempt 2, ')")
    wait_for(page, f"location.search === '?page=log&id={running}'")
    assert page.locator(".jk-card:visible").count() == 0
    assert CANARY in text_of(page, ".jk-log .line[data-n='1'] .text")
    page.click(".jk-log button:has-text('Since start')")
    page.wait_for_selector(".jk-log .line[data-n='2'] time:text-matches('^\\\\+\\\\d')")
    assert page.locator(".jk-log .line[data-n='3']").bounding_box()["height"] < 20
    page.keyboard.press("w")
    wait_until(lambda: page.locator(".jk-log .line[data-n='3']").bounding_box()["height"] > 30, what="wrapped lines")
    page.click(".jk-log [aria-label='Copy']")
    wait_until(lambda: "long long" in page.evaluate("navigator.clipboard.readText()"), what="the copy")
    assert findings(page, "log") == []

    page.goto(f"{url}?page=log&id={running}&level=error")
    page.wait_for_selector(".jk-log .count:has-text('1 of 3 lines')")
    page.wait_for_selector(".jk-log .line .text:has-text('bad')")
    assert page.locator(".jk-log .line").count() == 1
    page.goto(f"{url}?page=log&id=no-such-job")
    page.wait_for_selector(".jk-log .nothing:has-text('no job')")


def test_a_short_address_leads_to_the_page_below_the_prefix_of_the_server(stage: Stage) -> None:
    server = PageServer(lambda: Dashboard(stage.kit).__panel__(), prefix="/team", extra_patterns=[LOG_ADDRESS])
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60, trust_env=False) as client:
            led = client.get("/team/job/a&b%2F%3F/log?q=x&page=audit")
            shown = client.get(led.headers["location"])
    finally:
        server.close()

    assert (led.status_code, led.headers["location"]) == (302, "/team/?page=log&id=a%26b%2F%3F&q=x")
    assert shown.headers["location"].endswith("page?page=log&id=a%26b%2F%3F&q=x")


def test_the_end_of_a_log_is_read_without_its_rest(stage: Stage, running: str) -> None:
    for n in range(100):
        log(stage, running, *[f"{n} {i} " + "x" * 900 for i in range(20)])
    whole = stage.kit.log_slice(running)

    end = asked(stage, running, "log-lines", after=1_900, newest=True)

    assert [line["n"] for line in end["lines"]] == [*range(1_901, 2_001)]
    assert (end["total"], end["dropped"], end["gap_after"]) == (whole.total, whole.dropped, whole.gap_after)
    assert whole.gap_after > 0
