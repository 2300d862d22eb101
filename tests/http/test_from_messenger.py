"""The page for users of Symfony Messenger: its code runs as it stands there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Terminal, open_terminal
from tests.docs.reading import blocks
from tests.support import ROOT, environment, free_port
from tests.ui.conftest import Window
from tests.ui.conftest import browser as browser

fresh = pytest.fixture(open_terminal, name="fresh")

PAGES = ("docs/from-messenger.md", "docs/ja/from-messenger.md")

#: Subscribe to a topic of the hub, and return once the stream is open.
LISTEN = """(topic) => new Promise((opened) => {
  window.told = [];
  const hub = new EventSource(`/.well-known/mercure?${new URLSearchParams({topic})}`);
  Object.assign(hub, {onopen: opened, onmessage: ({data}) => told.push(data)});
}).then(() => {})"""


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


@pytest.mark.browser
def test_a_reader_who_runs_only_the_commands_of_the_page_orders_a_report(
    fresh: Terminal, folder: Path, window: Window
) -> None:
    fresh.environ, fresh.cwd = {"JOBKIT_TASKS": ""}, folder
    port = free_port()
    section = (ROOT / PAGES[0]).read_text("utf-8").partition("## The request")[2].partition("## Mercure")[0]
    (address,) = set(re.findall(r"<(http://localhost:5006/\w+/)>", section))
    commands = [shlex.split(line) for line in re.findall(r"(?m)^\$ (.+)$", section)]
    with ExitStack() as stack:
        for program, *arguments in commands:
            if program == "jobkit":
                serving = fresh.start(*arguments, *(["--port", str(port)] if arguments[0] == "dashboard" else []))
                stack.enter_context(serving)
                stack.callback(serving.kill)
                assert serving.stderr is not None
                next(line for line in serving.stderr if re.search(r"serves default|^http://", line))
            else:
                line = [program, *(each.replace("5006", str(port)) for each in arguments)]
                done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
                assert '"message"' not in done.stdout
        page = window.open(address.replace("5006", str(port)))
        page.locator("tr", has_text="report of 2026: 899,997").locator("text=✓").wait_for(timeout=60_000)
        page.fill("input", "soon")
        page.click("button")
        page.locator("#told", has_text="year must be a whole number, not 'soon'").wait_for()
        page.fill("input", "2025")
        page.click("button")
        page.locator("tr", has_text="report of 2025: 899,997").locator("text=✓").wait_for(timeout=60_000)

        (published,) = (text for text in blocks(PAGES[0], "python") if "jobkit.publish(" in text)
        (topic,) = re.findall(r'"(https://\S+)"', published)
        page.evaluate(LISTEN, topic)
        program = [sys.executable, "-c", f"import jobkit\n{published}"]
        subprocess.run(program, cwd=folder, env=fresh.env(), timeout=60, check=True)
        page.wait_for_function("told.length > 0")
        assert page.evaluate("told") == ['{"state":"paid"}']

    assert [error for error in window.errors if "422" not in error] == []
