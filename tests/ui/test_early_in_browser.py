"""Home is drawn with the values in its document, before the scripts of Bokeh and Panel are there."""

from __future__ import annotations

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import panel as pn
import pytest

from jobkit.ui import panel_server
from jobkit.ui.jobs.job_table import JobTable
from tests.support import PATIENCE_S, wait_until
from tests.ui.conftest import CANARY, Window, wait_for
from tests.ui.page_server import PageServer
from tests.ui.stage import Stage

pytestmark = pytest.mark.browser


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents wait for their rows, also on a slow machine."""
    monkeypatch.setattr(panel_server, "HOLD_S", PATIENCE_S)


def early(url: str) -> dict[str, Any] | None:
    """Return the values in a document; None if it has none."""
    with urllib.request.urlopen(url) as answer:
        assert answer.headers["Cache-Control"] == "no-store"  # no browser shows it again after a logout
        _, is_there, rest = answer.read().decode().partition('id="jk-early">')
    values: dict[str, Any] = json.loads(rest.partition("</script>")[0]) if is_there else {}
    return values or None


def test_rows_can_be_used_before_panel_has_loaded_and_live_on_in_its_views(
    url: str, stage: Stage, window: Window
) -> None:
    for n in range(60):
        stage.submit(params={"n": n})
    page = window.open("about:blank", height=500)
    held: list[Any] = []
    page.route("**/panel.min.js*", lambda route: held.append(route))
    page.goto(url, wait_until="commit")
    page.wait_for_selector(".jk-table .row[data-id]")
    table = page.locator(".jk-table").element_handle()
    page.locator(".jk-table .rows").evaluate("rows => { rows.scrollTop = 300; }")
    page.locator(".jk-table .row[data-id]").nth(12).click()  # kept until there is a session
    page.evaluate("() => { const now = Date.now; Date.now = () => now() + 2000; }")
    page.keyboard.press("/")
    assert page.locator(".jk-nav .status").get_attribute("data-status") == "connecting"

    wait_until(lambda: page.wait_for_timeout(10) or held, what="the script")
    held[0].continue_()
    page.wait_for_selector(".jk-card .title")
    page.wait_for_selector(".jk-nav .status[data-status=live]")

    assert page.locator(".jk-table").count() == 1
    assert page.locator(".jk-table").evaluate("(table, before) => table === before", table)
    assert page.locator(".jk-table .rows").evaluate("rows => rows.scrollTop") == 300
    assert page.locator(".jk-table input[type=search]:focus").count() == 1
    stage.submit()
    page.wait_for_selector(".counter[data-name=''] b:text-is('61')")


def test_text_that_is_selected_stays_selected_in_panels_views(url: str, stage: Stage, window: Window) -> None:
    stage.submit(title="solve the grid")
    stage.submit()
    page = window.open("about:blank")
    held: list[Any] = []
    page.route("**/panel.min.js*", lambda route: held.append(route))
    page.goto(url, wait_until="commit")
    page.locator(".jk-table .row[data-id] b:text-is('solve the grid')").evaluate(
        "title => document.getSelection().setBaseAndExtent(title.firstChild, 0, title.firstChild, 5)"
    )

    wait_until(lambda: page.wait_for_timeout(10) or held, what="the script")
    held[0].continue_()
    page.wait_for_selector(".jk-nav .status[data-status=live]")
    stage.submit()
    page.wait_for_selector(".counter[data-name=''] b:text-is('3')")

    assert page.evaluate("String(document.getSelection())") == "solve"


def test_what_is_typed_asked_and_open_meanwhile_goes_on_in_panels_views(url: str, stage: Stage, window: Window) -> None:
    job_id = stage.submit()
    page = window.open("about:blank")
    held: list[Any] = []
    page.route("**/panel.min.js*", lambda route: held.append(route))
    page.goto(url, wait_until="commit")
    page.locator(".jk-table .row[data-id]").click()
    page.evaluate("() => { const now = Date.now; Date.now = () => now() + 2000; }")
    page.locator(".jk-table input[type=search]").focus()
    page.keyboard.type("task:")  # half a word, which is not searched for until the box is left
    page.evaluate(  # the next request comes at once, so that one message has to carry all of them
        """() => new MutationObserver((changes, each) => {
            const gone = changes.flatMap(({removedNodes}) => [...removedNodes]);
            if (!gone.some((node) => node.style?.position === "fixed")) return;
            each.disconnect();
            const inside = (el) => [el, ...(el.shadowRoot ? deep(el.shadowRoot) : [])];
            const deep = (root) => [...root.querySelectorAll("*")].flatMap(inside);
            deep(document).find((el) => el.matches(".by")).click();
        }).observe(document.body, {childList: true})"""
    )

    wait_until(lambda: page.wait_for_timeout(10) or held, what="the script")
    held[0].continue_()

    page.wait_for_selector(".jk-card .title")
    wait_for(page, "() => location.search.includes('sort=state')")
    assert f"job={job_id}" in page.url
    assert "q=" not in page.url
    box = page.locator(".jk-table input[type=search]:focus")
    assert box.input_value() == "task:"


def test_a_button_that_is_pressed_while_panel_loads_gets_its_click(url: str, stage: Stage, window: Window) -> None:
    stage.submit()
    page = window.open("about:blank")
    held: list[Any] = []
    page.route("**/panel.min.js*", lambda route: held.append(route))
    page.goto(url, wait_until="commit")
    page.locator(".jk-table .row[data-id]").hover()
    page.evaluate("() => { performance.now = () => 0; }")  # however long a slow machine takes
    page.mouse.down()

    wait_until(lambda: page.wait_for_timeout(10) or held, what="the script")
    held[0].continue_()
    wait_for(page, "() => globalThis.Bokeh?.index?.roots?.length")  # so it has its place
    page.mouse.up()

    page.wait_for_selector(".jk-card .title")


def test_the_list_of_keys_stays_in_front(url: str, window: Window) -> None:
    page = window.open("about:blank")
    held: list[Any] = []
    page.route("**/panel.min.js*", lambda route: held.append(route))
    page.goto(url, wait_until="commit")
    page.wait_for_selector(".jk-nav .tab")
    page.keyboard.press("?")
    page.wait_for_selector(".jk-nav dialog:modal")

    wait_until(lambda: page.wait_for_timeout(10) or held, what="the script")
    held[0].continue_()
    page.wait_for_selector(".jk-nav .status[data-status=live]")

    assert page.locator(".jk-nav dialog:modal").count() == 1
    page.keyboard.press("Escape")
    assert page.locator(".jk-nav dialog[open]").count() == 0


def test_a_document_has_the_rows_as_text_and_only_if_home_is_all_that_it_shows(url: str, stage: Stage) -> None:
    job_id = stage.submit(title=CANARY)

    values = early(url)

    assert values is not None
    assert [*values] == ["Nav", "Notice", "JobTable"]
    (row,) = json.loads(values["JobTable"]["page"])["rows"]
    assert row["name"] == CANARY  # none of it ends the element that it stands in
    assert early(f"{url}?q=state:failed") is not None
    assert early(f"{url}?page=workers") is None
    assert early(f"{url}?job={job_id}") is None


def test_a_document_that_other_people_get_too_has_nothing_of_the_first_session(
    url: str, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.submit()
    monkeypatch.setattr(pn.state, "_sessions", {})
    monkeypatch.setattr(pn.state, "_session_key_funcs", {})
    monkeypatch.setattr(pn.config, "reuse_sessions", True)

    assert early(url) is None
    assert early(f"{url}?q=state:failed") is None


def test_of_a_crowd_few_documents_wait_for_rows_and_their_sessions_live_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobkit.ui.app.dashboard import Dashboard

    monkeypatch.setattr(JobTable, "_deliver", lambda *_: None)  # no rows come
    server = PageServer(
        lambda: Dashboard(stage.kit).__panel__(),
        unused_session_lifetime_milliseconds=1,
        check_unused_sessions_milliseconds=20,
    )
    url = f"http://localhost:{server.port}/page"
    with ThreadPoolExecutor() as threads:
        try:
            first = [threads.submit(early, url) for _ in range(panel_server.HELD_MOST)]
            wait_until(lambda: len(panel_server._holding) == len(first), what="documents that wait")
            assert early(url) is not None
            sessions = server._running[0].get_sessions
            wait_until(lambda: len(sessions("/page")) == len(first), what="the end of a session without a browser")
        finally:
            for held in list(panel_server._holding):
                held.set_result(None)
        assert all(each.result() for each in first)
    server.close()
