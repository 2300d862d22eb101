"""Features are deleted with their folder and their lines: everything else works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from jobkit.features import FEATURES
from tests.support import ROOT

#: Uses each face once, and what the kernel does with a job that fails.
PROGRAM = textwrap.dedent("""
    import sys
    import click.testing
    import jobkit
    from jobkit.cli import COMMANDS, main
    from jobkit.http.api.openapi import describe
    from jobkit.http.routes import ROUTES
    from jobkit.ui.app.dashboard import Dashboard
    from jobkit.ui.app.pages import PAGES
    from jobkit.ui.words import assets

    name = sys.argv[1]
    with jobkit.connect("sync://") as kit:
        job = kit.submit(int, "x")
        job.wait()
        again = job.retry()
        again.wait()
        assert [job.state, again.state] == ["failed", "failed"]
        late = kit.options(delay=60).submit(int, "1")
        assert kit.expected_starts([late.snapshot]).keys() <= {late.id}
        assert kit.delete(job.id) and kit.submit(int, "1").result() == 1
        for word in (name, name.removesuffix("s")):  # its noun, and its verb
            assert not hasattr(kit, word) and word not in dir(kit)
        Dashboard(kit).__panel__()
    assert describe(ROUTES)["paths"] and name not in [page.slug for page in PAGES]
    assert not [path for path in assets._FILES.values() if f"/{name}/" in str(path)]
    for command in COMMANDS:
        done = click.testing.CliRunner().invoke(main, [command, "--help"])
        assert done.exit_code == 0, (command, done.output, done.exception)
""")


def delete(features: Path, name: str) -> None:
    """Delete a feature's folder and its lines, and those of the features that come after it by their declaration."""
    for later in FEATURES:
        if name in later.after:
            delete(features, later.name)
    shutil.rmtree(features / name)
    for path in features.glob("*.py"):
        text = re.sub(rf"(import .*?)(, )?\b{name}\b", r"\1", path.read_text("utf-8")).replace("import ,", "import")
        kept = [line for line in text.splitlines() if not re.search(rf"\b{name}\b| import *$", line)]
        if kept[-1].endswith(('"""', ":")):  # its class, or the last block of its class, is empty now
            kept += ["    pass" if kept[-1].endswith('"""') else "        pass", ""]
        path.write_text("\n".join(kept), "utf-8")


def test_a_feature_comes_after_those_that_it_imports_from() -> None:
    names = [feature.name for feature in FEATURES]

    assert all(names.index(one) < names.index(each.name) for each in FEATURES for one in each.after)


@pytest.mark.parametrize("name", [feature.name for feature in FEATURES])
def test_all_else_works_without_a_feature(name: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "jobkit", tmp_path / "jobkit", ignore=shutil.ignore_patterns("__pycache__"))
    delete(tmp_path / "jobkit" / "features", name)

    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-P", "-c", PROGRAM, name]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
