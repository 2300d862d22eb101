"""Sessions of the dashboard: nothing of them is left when their windows are closed."""

from __future__ import annotations

import gc
import logging
import weakref
from typing import Any

import pytest

from jobkit.ui import PAGES, Dashboard
from tests.chaos.onlookers import Window
from tests.support import by_default, wait_until
from tests.ui.page_server import PageServer
from tests.ui.stage import Stage


@pytest.mark.parametrize("slugs", by_default([["jobs"], [page.slug for page in PAGES]]), ids=["one", "all"])
def test_nothing_is_kept_of_a_window_that_was_closed(stage: Stage, slugs: list[str]) -> None:
    """Each session of a server takes 0.6 MB, and a server runs for months."""
    logging.disable()  # what pytest keeps of a log refers to pages
    job_id = stage.submit()
    kept: weakref.WeakSet[Any] = weakref.WeakSet()

    def make() -> Dashboard:
        dashboard = Dashboard(stage.kit)
        kept.update([dashboard, dashboard.__panel__()])
        return dashboard

    server = PageServer(make, unused_session_lifetime_milliseconds=1_000)
    try:
        first = Window(f"http://127.0.0.1:{server.port}/page")
        wait_until(lambda: first.opened, what="the first session of the process, which Panel keeps")
        first.close()
        kept.clear()
        windows = [Window(f"http://127.0.0.1:{server.port}/page?page={slug}&job={job_id}") for slug in slugs]
        wait_until(lambda: all(window.opened for window in windows), what="the windows")
        assert kept

        for window in windows:
            window.close()

        wait_until(lambda: not _left(kept), what="the end of what the windows had")
    finally:
        server.close()
        logging.disable(logging.NOTSET)


def _left(kept: weakref.WeakSet[Any]) -> int:
    gc.collect()
    return len(kept)
