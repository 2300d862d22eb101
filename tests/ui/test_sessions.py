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

#: Windows of each page. A single window may leave something: the first busy session of a process starts Panel's own
#: clean-up, which keeps the session's context.
_WINDOWS = 4


@pytest.mark.parametrize("slugs", by_default([["jobs"], [page.slug for page in PAGES]]), ids=["one", "all"])
def test_nothing_is_kept_of_windows_that_were_closed(stage: Stage, slugs: list[str]) -> None:
    """Each session of a server takes 0.6 MB, and a server runs for months."""
    logging.disable()  # what pytest keeps of a log refers to pages
    job_id = stage.submit()
    kept: weakref.WeakSet[Any] = weakref.WeakSet()
    frames: weakref.WeakSet[Any] = weakref.WeakSet()

    def make() -> Dashboard:
        dashboard = Dashboard(stage.kit)
        kept.add(dashboard)
        frames.add(dashboard.__panel__())
        return dashboard

    server = PageServer(make, unused_session_lifetime_milliseconds=1_000)
    try:
        urls = [f"http://127.0.0.1:{server.port}/page?page={slug}&job={job_id}" for slug in slugs * _WINDOWS]
        windows = [Window(url) for url in urls]
        wait_until(lambda: all(window.opened for window in windows), what="the windows")
        assert min(len(kept), len(frames)) >= len(windows)

        for window in windows:
            window.close()

        wait_until(lambda: max(_left(kept), _left(frames)) <= 1, what="the end of what the windows had")
    finally:
        server.close()
        logging.disable(logging.NOTSET)


def _left(kept: weakref.WeakSet[Any]) -> int:
    gc.collect()
    return len(kept)
