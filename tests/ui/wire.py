"""The websockets of a browser's page, between the two: messages can be late, and the connection can be cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support import wait_until


class Wire:
    """The way from a page to its server. Make it before the page goes to its address.

    Args:
        page: of Playwright.
        is_late: whether the message that the document is ready comes late, as on a busy machine: with `release`.
    """

    def __init__(self, page: Any, *, is_late: bool = False) -> None:
        self._page, self._is_late = page, is_late
        self._held: list[Callable[[], None]] = []
        self._open: list[Any] = []
        self._is_cut = False
        page.route_web_socket("**/ws*", self._between)

    def release(self) -> None:
        """Deliver the message, and each later one at once."""
        self.wait_until(lambda: self._held, what="the browser's message")
        self._is_late = False
        for send in self._held:
            send()

    def cut(self) -> None:
        """Close the connection, and let nothing through until `restore`, neither websockets nor requests."""
        self._is_cut = True
        self._page.context.set_offline(True)
        for each in self._open:
            each.close()
        self._open.clear()

    def restore(self) -> None:
        self._is_cut = False
        self._page.context.set_offline(False)

    def wait_until(self, predicate: Callable[[], Any], what: str) -> None:
        """Wait while messages go through."""
        wait_until(lambda: self._page.wait_for_timeout(10) or predicate(), what=what, timeout_s=120)

    def _between(self, browser: Any) -> None:
        if self._is_cut:
            browser.close()
            return
        server, message = browser.connect_to_server(), list[str]()
        self._open += [browser, server]

        def take(fragment: str) -> None:
            message.append(fragment)
            if len(message) < 3:  # header, metadata, content
                return
            whole = list(message)
            message.clear()

            def send() -> None:
                for each in whole:
                    server.send(each)

            if self._is_late and '"document_ready"' in whole[-1]:
                self._held.append(send)
            else:
                send()

        browser.on_message(take)
        server.on_message(browser.send)
