"""Real kernels, homes and browsers for notebooks."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobkit.embedded import shutdown
from jobkit.settings import Settings
from tests.support import ROOT, chromium

if TYPE_CHECKING:
    from playwright.sync_api import Page

#: Marks of tests with real kernels: zmq, Jupyter and the browser's driver leave sockets and processes to the garbage
#: collector.
KERNELS = [
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

#: Folder for screenshots, read before the session's fixtures remove the variables.
SHOTS = os.environ.get("JOBKIT_TEST_SHOTS", "")


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """New home, in which kernels of this process start an embedded server."""
    home = Path(tempfile.mkdtemp(prefix="jk-", dir="/tmp"))
    monkeypatch.setenv("JOBKIT_HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(home / "ipython"))
    yield home
    shutdown(Settings(home=home), now=True)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def page() -> Iterator[Page]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        page = browser.new_page(viewport={"width": 1200, "height": 1400})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def shot(page: Page, name: str) -> None:
    """Save a screenshot, if requested."""
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png")


def run(notebook: Any) -> Any:
    from nbclient import NotebookClient

    return NotebookClient(
        notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
    ).execute()


def notebook_of(cells: tuple[str, ...]) -> Any:
    """Return a notebook with these cells."""
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return notebook


def text_of(cell: Any) -> str:
    """Return the visible output of a cell in the saved notebook."""
    return "\n".join(
        output.get("text", "") or "\n".join(map(str, output.get("data", {}).values())) for output in cell.outputs
    )


def cell_with(notebook: Any, source: str) -> Any:
    return next(cell for cell in notebook.cells if cell.cell_type == "code" and source in cell.source)
