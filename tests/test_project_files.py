"""The files that GitHub, Read the Docs and others read: they have the right form, rights and names."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from tests.support import ROOT, environment
from tests.test_packaging import PYPROJECT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))

SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "custom.github-workflows-require-timeout": WORKFLOWS,
    "vendor.dependabot": [GITHUB / "dependabot.yml"],
    "vendor.github-issue-forms": [GITHUB / "ISSUE_TEMPLATE" / "bug.yml", GITHUB / "ISSUE_TEMPLATE" / "idea.yml"],
    "vendor.github-issue-config": [GITHUB / "ISSUE_TEMPLATE" / "config.yml"],
    "vendor.readthedocs": [ROOT / ".readthedocs.yaml"],
    "vendor.citation-file-format": [ROOT / "CITATION.cff"],
}

#: Other people's actions are pinned to a commit, with the version behind it for the reader and for Dependabot.
PINNED = re.compile(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_file_has_the_form_that_its_reader_wants(schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rfc3987_syntax", None)  # see `tests.support.NO_FORMAT_PARSER`
    cli = pytest.importorskip("check_jsonschema.cli")

    done = CliRunner().invoke(cli.main, ["--builtin-schema", schema, *map(str, SCHEMAS[schema])])

    assert done.exit_code == 0, done.output


def _workflow(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_few_rights_pinned_actions_and_no_secrets(path: Path) -> None:
    text, workflow = path.read_text(), _workflow(path)
    uses = [line.strip(" -") for line in text.splitlines() if "uses:" in line]

    assert workflow["permissions"] == {"contents": "read"}
    rights = [job["permissions"] for job in workflow["jobs"].values() if "permissions" in job]
    assert rights == ([{"id-token": "write"}] if path.stem == "release" else [])
    assert all(PINNED.fullmatch(line) for line in uses), uses
    assert "secrets." not in text
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")
    assert "${{" not in "".join(step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"])


def test_the_sessions_of_the_workflow_exist_and_cover_what_is_promised() -> None:
    matrix = _workflow(GITHUB / "workflows" / "tests.yml")["jobs"]["tests"]["strategy"]["matrix"]
    noxfile = (ROOT / "noxfile.py").read_text()
    run = {(os, name) for os, name in product(matrix["os"], matrix["session"])}
    run |= {(one["os"], one["session"]) for one in matrix["include"]}

    for version in re.findall(r"Python :: (3\.\d+)", str(PYPROJECT["project"]["classifiers"])):
        assert {("ubuntu-latest", f"tests-{version}"), ("macos-latest", f"tests-{version}")} <= run
        assert f'"{version}"' in noxfile
    assert ("ubuntu-latest", "lowest") in run
    assert all(re.search(rf"def {re.split('[-(]', name)[0]}\(", noxfile) for _, name in run)


def test_the_job_of_the_release_can_be_submitted(tmp_path: Path) -> None:
    steps = _workflow(GITHUB / "workflows" / "release.yml")["jobs"]["build"]["steps"]
    (command,) = [line for step in steps for line in step.get("run", "").splitlines() if "jobkit submit" in line]
    setting, _, *arguments = command.split()

    name, _, value = setting.partition("=")
    env = environment(JOBKIT_HOME=str(tmp_path), **{name: value})
    subprocess.run([sys.executable, "-m", "jobkit", *arguments], cwd=tmp_path, env=env, check=True, capture_output=True)


def test_every_system_of_the_tests_has_the_browser_that_they_need() -> None:
    """Under CI the tests of pages fail without one, and only some machines of GitHub have one on the PATH."""
    (job,) = [job for job in _workflow(GITHUB / "workflows" / "tests.yml")["jobs"].values() if "strategy" in job]

    assert any("playwright install --with-deps chromium" in step.get("run", "") for step in job["steps"])


def test_all_files_name_the_project_by_the_same_address() -> None:
    urls = PYPROJECT["project"]["urls"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())

    assert (citation["repository-code"], citation["url"]) == (urls["Source"], urls["Documentation"])
    assert urls["Source"] in (GITHUB / "ISSUE_TEMPLATE" / "config.yml").read_text()
    assert "badge" not in (ROOT / "README.md").read_text()
