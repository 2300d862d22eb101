"""The files of `docs/how-to/panel-apps.md`, each alone in an empty folder and served as the page says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docs.reading import fences
from tests.support import ROOT, free_port
from tests.ui.conftest import Window, browser, window

from .test_panel_apps import PATIENCE_MS, home, running

__all__ = ["browser", "home", "window"]

pytestmark = [pytest.mark.browser, pytest.mark.nightly, pytest.mark.timeout(600)]

PAGE = ROOT / "docs" / "how-to" / "panel-apps.md"

DONE = ".jk-card .chip:has-text('Succeeded')"

#: File, and selectors of what it shows after a click.
FILES = {
    "app": [DONE],
    "figure": [DONE, "img"],
    "bound": [DONE],
    "mine": [".jk-table .row[data-face=succeeded]"],
    "server": [DONE],
}


#: Those of `users.json`, one for each window.
USERS = {"ada": "a long password", "bob": "another password"}


def files() -> dict[str, str]:
    """Return the files of the page by name."""
    blocks = [fence.text for fence in fences(PAGE) if fence.language == "python"]
    named = [(re.match(r"# (\w+)\.py\n", block), block) for block in blocks]
    return {found[1]: block for found, block in named if found}


@contextmanager
def served(name: str, home: Path, folder: Path) -> Iterator[str]:
    """Serve one file of the page; the value is its address."""
    place, port = folder / "empty", free_port()
    place.mkdir()
    (place / f"{name}.py").write_text(files()[name], "utf-8")
    variables = {"JOBKIT_HOME": str(home)}
    argv, path = ["-m", "panel", "serve", f"{name}.py", "--port", str(port)], name
    if name == "server":
        argv, path = ["-m", "uvicorn", "server:app", "--port", str(port)], "app"
    if name == "mine":
        users = place / "users.json"
        users.write_text(json.dumps(USERS))
        users.chmod(0o600)
        variables["JOBKIT_ROLES"] = "*=own"
        argv += ["--basic-auth", "users.json", "--cookie-secret", "0123456789abcdef" * 4]
    address = f"http://localhost:{port}/{path}"
    first = f"http://localhost:{port}/login" if name == "mine" else address
    with running(argv, place, folder / "log", first, **variables):
        yield address


def test_the_page_has_these_files() -> None:
    assert files().keys() == FILES.keys()


@pytest.mark.parametrize("name", FILES)
def test_each_file_of_the_page_works_alone(name: str, home: Path, window: Window, tmp_path: Path) -> None:
    if name == "server":
        pytest.importorskip("bokeh_fastapi")
    with served(name, home, tmp_path) as address:
        pages = [window.open(address), window.open(address)]
        for page, (user, password) in zip(pages, USERS.items(), strict=True):
            if name == "mine":
                page.fill("input[name=username]", user)
                page.fill("input[type=password]", password)
                page.click("[type=submit]")
            page.click("button:has-text('Run')", timeout=PATIENCE_MS)
            for selector in FILES[name]:
                page.wait_for_selector(selector, timeout=PATIENCE_MS)
        if name == "mine":
            assert [page.locator(".jk-table .row[data-face]").count() for page in pages] == [1, 1]
        written = (tmp_path / "log").read_text()
        assert "Traceback" not in written, written
        window.close()
    if name == "mine":  # Panel's login page shows its logo from there
        window.hosts.discard("cdn.holoviz.org")
        window.errors[:] = [error for error in window.errors if "cdn.holoviz.org" not in error]
