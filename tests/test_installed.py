"""jobkit as it is installed: built, without this checkout, and on a worker without what only the dashboard needs."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import venv
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from tests.store.server import Server
from tests.support import ROOT, environment
from tests.test_packaging import declared

WORKER = ROOT / "docs" / "team" / "worker.txt"

#: What only pages, widgets, HTTP and tables need. The server runs elsewhere.
NOT_OF_A_WORKER = {
    *("panel", "bokeh", "tornado", "pandas", "numpy", "anywidget", "ipywidgets", "traitlets"),
    *("urlpattern", "pyjwt", "cryptography"),
}

TASKS = """
import jobkit

@jobkit.task
def twice(n: int = 1) -> int:
    for step in jobkit.progress(range(3)):
        print("step", step)
    return 2 * n

@jobkit.task
async def thrice(n: int = 1) -> int:
    return 3 * n
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("built")
    _build(ROOT, folder, "sdist")
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # as an argument it came with Python 3.11.4
        archive.extractall(folder / "unpacked")
    _build(next((folder / "unpacked").iterdir()), folder, "wheel")
    return folder


def _build(root: Path, folder: Path, target: str) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _closure(names: set[str]) -> Iterator[str]:
    """Yield distributions with all that they need here."""
    seen: set[str] = set()
    while names - seen:
        seen.add(name := min(names - seen))
        try:
            needed = map(Requirement, requires(name) or ())
        except PackageNotFoundError:
            continue  # for another Python or system
        names |= {one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": "hiredis"})}
        yield name


class Installed:
    """An environment with the wheel and the packages of this environment, or those of `names` alone."""

    def __init__(self, folder: Path, built: Path, names: set[str] | None = None) -> None:
        venv.create(folder)
        self.python = folder / "bin" / "python"
        self.folder = folder
        (site,) = folder.glob("lib/python*/site-packages")
        with ZipFile(next(built.glob("*.whl"))) as wheel:
            wheel.extractall(site)
        if names is None:
            (site / "others.pth").write_text("\n".join({path for path in sys.path if "site-packages" in path}))
            return
        for name in _closure(names):
            found = distribution(name)
            for top in {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}:
                (site / top).symlink_to(Path(str(found.locate_file(top))))

    def run(self, *command: str, **more: str) -> str:
        env = {**environment(JOBKIT_HOME=str(self.folder / "home"), **more), "PYTHONPATH": str(self.folder)}
        done = subprocess.run(
            [str(self.python), *command], cwd=self.folder, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def test_the_sdist_makes_the_wheel_with_all_files_of_the_package(built: Path) -> None:
    with ZipFile(next(built.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if name.startswith("jobkit/")}
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "jobkit"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert names == set(tracked.stdout.split())


def test_the_wheel_runs_without_the_checkout(built: Path, tmp_path: Path) -> None:
    installed = Installed(tmp_path, built)
    (tmp_path / "ours.py").write_text(TASKS)

    code = (
        "import jobkit, importlib.metadata as m, ours;"
        "import jobkit.ui.panel_server, jobkit.http.routes;"
        "print(jobkit.__file__); print(m.version('panel-jobkit') == jobkit.__version__);"
        "print(ours.twice.submit(n=4).result())"
    )
    where, is_equal, *_, result = installed.run("-c", code, JOBKIT_URL="sync://").splitlines()

    assert Path(where).is_relative_to(tmp_path)
    assert (is_equal, result) == ("True", "8")


def test_pytest_finds_the_fixtures_by_itself_and_other_runs_load_nothing(built: Path, tmp_path: Path) -> None:
    installed = Installed(tmp_path, built)
    (tmp_path / "ours.py").write_text(TASKS)
    (tmp_path / "test_ours.py").write_text(
        "import ours\n\ndef test_it(jobkit_kit):\n"
        "    ours.twice.submit(n=4)\n    jobkit_kit.assert_submitted('twice', n=4)\n"
    )
    (tmp_path / "test_other.py").write_text(
        "import sys\n\ndef test_it():\n    loaded = {name for name in sys.modules if name.startswith('jobkit')}\n"
        "    assert loaded == {'jobkit', 'jobkit.pytest_plugin'}\n"
    )

    run = (
        "-m",
        "pytest",
        "-q",
        "-W",
        "error::pytest.PytestAssertRewriteWarning",
        "-p",
        "no:valkey",
        "-p",
        "no:schemathesis",
    )

    assert "1 passed" in installed.run(*run, "test_ours.py")
    assert "1 passed" in installed.run(*run, "test_other.py")


def test_the_list_for_a_worker_is_that_of_the_package_without_the_rest() -> None:
    lines = [line for line in WORKER.read_text().splitlines() if not line.startswith("#")]

    wanted = {name: bounds for name, bounds in declared().items() if name not in NOT_OF_A_WORKER}
    assert {match[1]: match[2] for match in (re.fullmatch(r"([\w-]+)(.*)", line) for line in lines) if match} == wanted


@pytest.mark.parametrize("by_pip", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_a_worker_runs_jobs_without_the_packages_of_the_dashboard(
    by_pip: bool, built: Path, server: Server, tmp_path: Path
) -> None:
    wheel = str(next(built.glob("*.whl")))
    if by_pip:
        venv.create(tmp_path, with_pip=True)
        installed = Installed(tmp_path, built, set())
        installed.run("-m", "pip", "install", "-q", "-r", str(WORKER))
        installed.run("-m", "pip", "install", "-q", "--no-deps", "--force-reinstall", wheel)
    else:
        installed = Installed(tmp_path, built, declared().keys() - NOT_OF_A_WORKER)
    (tmp_path / "ours.py").write_text(TASKS)
    settings = {"JOBKIT_URL": server.url, "JOBKIT_SECRET": "x" * 40, "JOBKIT_TASKS": "ours"}
    settings["JOBKIT_NAMESPACE"] = "pip" if by_pip else "default"

    ids = [installed.run("-m", "jobkit", "submit", name, "n=4", **settings).strip() for name in ("twice", "thrice")]
    installed.run("-m", "jobkit", "worker", "--burst", **settings)
    listed = installed.run("-m", "jobkit", "jobs", **settings)

    assert listed.count("succeeded") == 2
    assert installed.run("-m", "jobkit", "logs", ids[0], **settings).split("\n")[0].endswith("step 0")
    assert "2 succeeded" in installed.run("-m", "jobkit", "stats", **settings)
    with pytest.raises(AssertionError, match=r"^jobkit: this needs the package tornado, .*`pip install panel-jobkit`"):
        installed.run("-m", "jobkit", "dashboard", **settings)
