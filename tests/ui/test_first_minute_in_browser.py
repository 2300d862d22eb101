"""The first minute: two commands in a new environment, without a server program on PATH, in an empty home."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import ROOT, processes_of, wait_until
from tests.ui.conftest import Window

pytestmark = [pytest.mark.browser, pytest.mark.nightly, pytest.mark.timeout(1200)]


def pythons() -> list[str]:
    """Return one interpreter of each supported version: this one, those on PATH, and those of pyenv."""
    installed = sorted(Path.home().glob(".pyenv/versions/*/bin/python"))
    on_path = [shutil.which(f"python3.{minor}") for minor in range(11, 15)]
    found: dict[str, str] = {}
    for path in [sys.executable, *filter(None, on_path), *map(str, installed)]:
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        version = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False).stdout.strip()
        if version in ("3.11", "3.12", "3.13", "3.14"):
            found.setdefault(version, path)
    return list(found.values())


class Machine:
    """A copy of this tree and an empty home in `folder`; PATH has nothing but the new environment."""

    def __init__(self, folder: Path, python: str) -> None:
        self.tree, self.home, self.shown = folder / "tree", folder / "home", folder / "shown"
        self.home.mkdir()
        for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
            if (ROOT / name).is_file():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.tree / name)
        subprocess.run([python, "-m", "venv", folder / "venv"], check=True)
        browser = folder / "browser"
        browser.write_text(f'#!/bin/sh\necho "$1" > {self.shown}\n')
        browser.chmod(0o755)
        registry = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_"))}
        proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        binaries = folder / "venv" / "bin"
        self.environment = {"PATH": str(binaries), "HOME": str(self.home), "BROWSER": f"{browser} %s"}
        self.environment |= registry | proxies
        self._binaries = binaries

    def run(self, command: str) -> str:
        name, *rest = command.split()
        argv = [str(self._binaries / name), *rest]
        done = subprocess.run(argv, cwd=self.tree, env=self.environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def running(self, command: str, log: Path) -> Iterator[None]:
        name, *rest = command.split()
        with log.open("wb") as output:
            argv = [str(self._binaries / name), *rest]
            process = subprocess.Popen(argv, cwd=self.tree, env=self.environment, stdout=output, stderr=output)
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)


@pytest.mark.parametrize("python", pythons())
def test_two_commands_are_the_whole_set_up(python: str, window: Window) -> None:
    folder = Path(tempfile.mkdtemp(prefix="jk-", dir="/tmp"))
    log = folder / "log"
    try:
        machine = Machine(folder, python)
        machine.run("pip install -q -e .")
        with machine.running("panel serve dashboard.py --show --port 0", log):
            address = wait_until(lambda: machine.shown.exists() and machine.shown.read_text().strip(), what=str(log))
            page = window.open(address)
            page.wait_for_selector("text=No jobs yet")
            machine.run("jobkit submit estimate_pi points=2000000 --wait")
            page.wait_for_selector(".jk-table .row[data-face=succeeded]")
            window.close()
        machine.run("jobkit down --now")
        said = log.read_text()
        assert "started a server and workers on this machine: valkey" in said
        assert "`jobkit down` stops them now" in said
        assert "Traceback" not in said
        wait_until(lambda: not processes_of(folder), what="all processes to end")
    finally:
        for process in processes_of(folder):
            process.kill()
        shutil.rmtree(folder)
