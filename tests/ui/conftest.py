"""A stage, a server with a page, and a browser that opens it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.support import wait_until
from tests.ui.page_server import PageServer
from tests.ui.stage import Stage

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.ui.screen import Screen

#: Sets `window.boom`: in a user's text it must never run.
CANARY = "<img src=x onerror='window.top.boom=1'><script>window.top.boom=1</script>\"'"


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.close()


@pytest.fixture
def browser(chromium_of_the_run: Browser) -> Iterator[Browser]:
    """The browser of this process, whose loop is the running one of this thread during the test alone."""
    asyncio._set_running_loop(chromium_of_the_run._loop)
    yield chromium_of_the_run
    asyncio._set_running_loop(None)


@pytest.fixture
def look(stage: Stage) -> Iterator[Look]:
    """`look(query, own, feed)`: a page of jobs, as of `Screen`, once it has been read."""
    from tests.ui.screen import Screen

    opened: list[Screen] = []

    def begin(*query: Any) -> Screen:
        screen = Screen(stage, *query)
        opened.append(screen)
        wait_until(lambda: screen.told, what="the page")
        return screen

    yield begin
    for each in opened:
        each.close()


#: Of what a page received by its websocket, the last messages that a report shows, and characters of each.
_FRAMES, _FRAME = 12, 600


class Window:
    """Browser windows that record their network requests and errors."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[Any] = []
        self._frames: dict[Page, deque[str]] = {}
        self.hosts: set[str] = set()
        self.errors: list[str] = []

    def open(self, url: str, *, width: int = 1280, height: int = 800, **context: Any) -> Page:
        made = self._browser.new_context(viewport={"width": width, "height": height}, **context)
        self._contexts.append(made)
        page = made.new_page()
        page.set_default_timeout(40_000)
        page.on("request", lambda request: self._asked(request.url))
        page.on("pageerror", lambda error: self.errors.append(error.stack or str(error)))
        page.on("console", self._said)
        frames = self._frames[page] = deque(maxlen=_FRAMES)
        page.on(
            "websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(str(frame)[:_FRAME]))
        )
        page.goto(url)
        return page

    def sections(self) -> Iterator[tuple[str, str]]:
        """Yield what a report of a failed test shows: for each page what it says, and what it has last received."""
        for page, frames in self._frames.items():
            with contextlib.suppress(Exception):  # closed, or it does not answer
                yield f"page at {page.url}", page.locator("body").aria_snapshot(timeout=3_000)
                yield f"received by {page.url}", "\n".join(frames)

    def close(self) -> None:
        for context in self._contexts:
            context.close()

    def _said(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def _asked(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss"):
            self.hosts.add(parts.hostname or "")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Add the pages of a failed test to its report."""
    report = yield
    window = getattr(item, "funcargs", {}).get("window")
    if call.when == "call" and report.failed and isinstance(window, Window):
        report.sections += window.sections()
    return report


@pytest.fixture
def window(browser: Browser) -> Iterator[Window]:
    """Windows of this test; at its end none may have an error or a request to another host."""
    made = Window(browser)
    yield made
    made.close()
    assert not made.errors, "\n".join(made.errors)
    assert made.hosts <= {"localhost", "127.0.0.1"}


Look = Callable[..., "Screen"]

#: Serves what a function makes for each session, in this process, and returns its URL.
Serve = Callable[[Callable[[], Any]], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[PageServer] = []

    def start(make: Callable[[], Any]) -> str:
        servers.append(PageServer(make))
        return f"http://localhost:{servers[-1].port}/page"

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def url(stage: Stage, serve: Serve) -> str:
    """URL of a dashboard for the jobs of the stage."""
    from jobkit.ui.app.dashboard import Dashboard

    return serve(lambda: Dashboard(stage.kit).__panel__())


def text_of(page: Page, selector: str) -> str:
    """Return the text that is on the screen now; "" if there is none."""
    found = page.locator(selector)
    return (found.first.inner_text() if found.count() else "").strip()


def wait_for(page: Page, expression: str) -> None:
    """Wait until an expression in a page is true. Playwright's own way polls with `eval`, which pages forbid."""
    from playwright.sync_api import Error

    def is_true() -> bool:
        try:
            return bool(page.evaluate(expression))
        except Error as error:
            if "context was destroyed" in str(error) or "navigation" in str(error):
                return False  # the page is being left
            raise

    wait_until(is_true, what=expression)


@pytest.fixture(autouse=True)
def _own_registry(no_tasks: None) -> None:
    """Separate registry: pages show only tasks of this test, not those that other tests have imported."""
