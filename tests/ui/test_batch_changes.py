"""Changes by a session's callback reach the browser, also while Panel is writing other changes."""

from __future__ import annotations

import threading
from typing import Any

import panel as pn
import pytest
from bokeh.server.session import ServerSession
from panel.io import document as panel_document

from jobkit.ui.app.header import Nav
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.component import Notice
from tests.ui.conftest import Serve, Window

pytestmark = pytest.mark.browser


def _as_a_write_ends() -> None:
    """Do what Panel's coroutine does at its end: remove the mark that others set while it wrote."""
    document: Any = pn.state.curdoc
    panel_document._WRITE_BLOCK[document] = True
    document.session_context.session._loop.add_callback(panel_document._WRITE_BLOCK.pop, document, None)


class _Site:
    """Pages with nothing but a header, and their bridges."""

    def __init__(self) -> None:
        self.navs: list[Nav] = []
        self.bridges: list[SessionBridge] = []

    def page(self) -> Nav:
        self.bridges.append(SessionBridge())
        self.navs.append(
            Nav(
                bridge=self.bridges[-1],
                pages=[["jobs", "Jobs"], ["submit", "Submit"]],
                page="jobs",
                home="jobs",
                on={"page": lambda asked: self._turn(asked["page"])},
            )
        )
        return self.navs[-1]

    def _turn(self, slug: str) -> None:
        _as_a_write_ends()
        self.navs[-1].page = slug


@pytest.mark.nightly
def test_what_is_pushed_while_panel_writes_is_not_left_behind(serve: Serve, window: Window) -> None:
    site = _Site()
    page = window.open(serve(site.page))
    page.wait_for_selector(".status[data-status=live]")

    def change() -> None:
        _as_a_write_ends()
        site.navs[-1].status = "reconnecting"

    site.bridges[-1].push(change)

    page.wait_for_selector(".status[data-status=reconnecting]")


@pytest.mark.nightly
def test_what_a_request_changes_while_panel_writes_is_not_left_behind(serve: Serve, window: Window) -> None:
    page = window.open(serve(_Site().page))
    page.wait_for_selector(".status[data-status=live]")

    page.click(".tab:text-is('Submit')")

    page.wait_for_selector(".tab[aria-current]:text-is('Submit')")


@pytest.mark.nightly
def test_nothing_that_the_server_tells_looks_like_a_wish_of_the_browser(
    serve: Serve, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Panel would take it for one, and drop what a request sets to the same value."""
    wished: set[str] = set()
    process = Nav._process_events
    monkeypatch.setattr(Nav, "_process_events", lambda nav, events: (wished.update(events), process(nav, events))[1])
    site = _Site()
    page = window.open(serve(site.page))
    page.wait_for_selector(".status[data-status=live]")

    site.bridges[-1].push(lambda: site.navs[-1]._tell_again({"status", "place"}))
    page.click(".tab:text-is('Submit')")

    page.wait_for_selector(".tab[aria-current]:text-is('Submit')")
    assert wished - {"beat"} == {"request"}  # the header asks for beats as it opens


@pytest.mark.nightly
def test_what_another_thread_pushes_is_handed_over_on_the_servers_own(
    serve: Serve, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another one it is lost, where the server has just written down what the document held."""
    site = _Site()
    page = window.open(serve(site.page))
    page.wait_for_selector(".status[data-status=live]")
    bridge, threads = site.bridges[-1], list[str]()
    add = bridge._document.add_next_tick_callback

    def noted(callback: Any) -> Any:
        if "SessionBridge" in getattr(callback, "__qualname__", ""):  # Panel adds callbacks as well
            threads.append(threading.current_thread().name)
        return add(callback)

    monkeypatch.setattr(bridge._document, "add_next_tick_callback", noted)
    bridge.push(lambda: setattr(site.navs[-1], "status", "reconnecting"))

    page.wait_for_selector(".status[data-status=reconnecting]")
    assert threads == ["page server"]


def test_what_is_pushed_while_a_browser_fetches_the_page_comes_when_it_has_it(
    serve: Serve, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[SessionBridge, pn.Column]] = []

    def page() -> pn.Column:
        made.append((SessionBridge(), pn.Column(Notice("First"))))
        return made[-1][1]

    async def pulled(self: Any, *values: Any, old: Any = ServerSession._handle_pull) -> Any:
        reply = await old(self, *values)
        [(bridge, column)] = made
        bridge.push(lambda: column.append(Notice("Second")))
        bridge.push(lambda: column.append(Notice("Third")))
        return reply

    monkeypatch.setattr(ServerSession, "_handle_pull", pulled)

    shown = window.open(serve(page))

    shown.wait_for_selector(":text('Third')")
    assert [each.said for each in made[0][1] if isinstance(each, Notice)] == ["First", "Second", "Third"]
