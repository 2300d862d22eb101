"""The page for users of Symfony Messenger: its code runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobkit.client.kit import Kit
from tests.docs.reading import blocks
from tests.http.site import Site
from tests.support import ROOT, environment, wait_until
from tests.ui.conftest import Window
from tests.ui.conftest import browser as browser

PAGES = ("docs/from-messenger.md", "docs/ja/from-messenger.md")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of the page: two modules and the web page."""
    for text in blocks(PAGES[0], "python"):
        if name := re.match(r"# (\w+\.py)\n", text):
            (tmp_path / name[1]).write_text(text)
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "index.html").write_text(blocks(PAGES[0], "html")[0])
    return tmp_path


def test_the_first_step_prints_what_the_page_says(folder: Path) -> None:
    said = next(text for text in blocks(PAGES[0], "console") if "first.py" in text).splitlines()

    done = subprocess.run(
        [sys.executable, "first.py"],
        cwd=folder,
        env={**environment(), "JOBKIT_URL": "sync://"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert said == ["$ JOBKIT_URL=sync:// python first.py", done.stdout.strip()]


def test_the_translation_has_the_same_code() -> None:
    first, *others = ([blocks(page, language) for language in ("python", "html", "js", "toml")] for page in PAGES)

    assert all(other == first for other in others)
    assert len(first[1][0].splitlines()) <= 40


@pytest.fixture
def window(browser: Any) -> Iterator[Window]:
    made = Window(browser)
    yield made
    made.close()


@contextmanager
def ended(worker: subprocess.Popen[bytes]) -> Iterator[None]:
    """Terminate a process at the end of the block."""
    try:
        yield
    finally:
        worker.terminate()


@pytest.mark.browser
def test_a_report_that_the_page_orders_is_done_live_by_a_worker(
    folder: Path, kit: Kit, serve: Callable[..., Site], window: Window
) -> None:
    settings = kit.settings
    env = {
        **environment(),
        "JOBKIT_URL": settings.url,
        "JOBKIT_NAMESPACE": settings.namespace,
        "JOBKIT_SECRET": settings.secret,
        "PYTHONPATH": f"{folder}:{ROOT}",
    }
    with (
        subprocess.Popen([sys.executable, "-m", "jobkit", "worker", "-t", "reports"], env=env, cwd=folder) as worker,
        ended(worker),
    ):
        wait_until(lambda: "report" in kit.tasks(), what="the worker")
        page = window.open(f"{serve(web=str(folder / 'pages')).url}/examples/web/")
        page.fill("input", "soon")
        page.click("button")
        page.locator("#told", has_text="year must be a whole number, not 'soon'").wait_for()
        page.fill("input", "2025")
        page.click("button")
        row = page.locator("tr", has_text="report of 2025: 899,997")
        row.locator("text=✓").wait_for(timeout=60_000)

    assert [error for error in window.errors if "422" not in error] == []
