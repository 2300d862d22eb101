"""The feature that `docs/features.md` builds works, with its own tests."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.docs.reading import Fence, fences
from tests.support import ROOT, environment

PAGE = ROOT / "docs" / "features.md"

#: A kit with workers in a separate home, under the name of the fixture of the suite.
CONFTEST = """
import jobkit, pytest

@pytest.fixture(scope="session")
def queued():
    with jobkit.connect("local://") as kit:
        yield kit
"""


def written(root: Path) -> list[str]:
    """Write the files of the page into a copy of the project; return their paths."""
    paths = []
    for fence in fences(PAGE):
        if match := re.match(r"(?:#|--) ([\w/]+\.(?:py|lua))\n", fence.text):
            path = root / match[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(fence.text.removeprefix(match[0]), "utf-8")
            paths.append(match[1])
        elif match := re.search(r"a line of (\S+), before (\w+)", fence.comment):
            add_line(root / match[1], fence, match[2])
    return paths


def add_line(path: Path, fence: Fence, before: str) -> None:
    """Add a line in front of the first one that begins with this word."""
    text, count = re.subn(rf'(?m)^( +"?{before}\b)', rf"{fence.text}\1", path.read_text("utf-8"), count=1)
    assert count == 1, f"no line of {path.name} begins with {before}"
    path.write_text(text, "utf-8")


def test_the_feature_of_the_page_does_what_the_page_promises(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "jobkit", tmp_path / "jobkit", ignore=shutil.ignore_patterns("__pycache__"))
    paths = written(tmp_path)
    tests = [path for path in paths if path.startswith("tests/")]
    (tmp_path / "conftest.py").write_text(CONFTEST, "utf-8")
    env = environment(JOBKIT_HOME=str(tmp_path / "home")) | {"PYTHONPATH": str(tmp_path)}

    def run(*command: str) -> str:
        whole = [sys.executable, "-P", "-m", *command]
        done = subprocess.run(whole, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    try:
        assert "2 passed" in run("pytest", "-q", "-p", "no:cacheprovider", *tests)
        assert "No deadlines." in run("jobkit", "deadlines")
    finally:
        run("jobkit", "down")
