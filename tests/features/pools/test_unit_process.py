"""The process of a unit on a machine of a cluster: its end, its last output, and what is sent to the cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from jobkit.features.pools.launchers import unit_process
from jobkit.features.pools.launchers.support import why_ended
from jobkit.features.pools.launchers.unit_process import UnitProcess
from tests.support import ROOT, living_with, wait_until


class Running:
    """A unit whose process runs `setup`, in a thread as on a cluster."""

    def __init__(self, setup: str, folder: Path, python: str = sys.executable) -> None:
        self.mark = str(folder)
        self.unit = UnitProcess(setup, python, ["-c", "print('a worker')"], {"TESTS_UNIT": self.mark})
        self.ended: dict[str, Any] = {}
        self.thread = threading.Thread(target=lambda: self.ended.update(self.unit.run()))
        self.thread.start()

    def wait(self) -> str:
        """Return why it has ended."""
        self.thread.join(30)
        return why_ended(self.ended)


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[Any]:
    started: list[Running] = []

    def start(setup: str, **more: str) -> Running:
        started.append(Running(setup, tmp_path, **more))
        return started[-1]

    yield start
    for running in started:
        running.unit.stop(True)
        running.thread.join(30)


def test_setup_runs_first_in_the_environment_of_the_unit(unit: Any) -> None:
    running = unit("echo setup of $TESTS_UNIT")

    assert running.wait() == ""
    assert running.ended["tail"] == f"setup of {running.mark}\na worker\n"


def test_a_failing_line_of_setup_ends_the_unit_with_what_it_said(unit: Any) -> None:
    assert unit("echo no such module >&2; false\necho not this").wait() == "worker ended with status 1: no such module"


def test_a_python_that_is_missing_is_named(unit: Any) -> None:
    running = unit("", python="/nowhere/python")

    assert running.wait() == "worker ended with status 1: /nowhere/python: No such file or directory"


def test_a_unit_that_was_asked_to_end_has_no_error(unit: Any) -> None:
    running = unit("exec sleep 600")
    wait_until(lambda: living_with("TESTS_UNIT", running.mark))

    running.unit.stop(False)

    assert running.wait() == ""
    assert running.ended["asked"]


def test_asking_gently_again_sends_no_second_signal_and_at_once_sends_one(unit: Any) -> None:
    running = unit("trap 'echo asked' TERM; trap - EXIT; n=0; echo ready; while :; do sleep 0.02; done")
    wait_until(lambda: "ready" in running.unit.facts()["tail"])

    running.unit.stop(False)
    wait_until(lambda: running.unit.facts()["tail"].count("asked") == 1)
    running.unit.stop(False)
    running.unit.stop(True)

    wait_until(lambda: running.unit.facts()["tail"].count("asked") == 2)


def test_what_ignores_signals_is_killed_with_its_children(unit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_process, "_KILL_AFTER_S", 0.1)
    running = unit("trap '' TERM; sleep 600 & echo ready; wait")
    wait_until(lambda: "ready" in running.unit.facts()["tail"])

    running.unit.stop(True)

    running.wait()
    wait_until(lambda: not living_with("TESTS_UNIT", running.mark))


def test_a_unit_that_is_asked_to_end_before_it_starts_does_not_start() -> None:
    unit = UnitProcess("", "/nowhere/python", [], {})
    unit.stop(False)

    assert why_ended(unit.run()) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not end processes with their parent")
def test_it_ends_with_the_process_that_keeps_it(tmp_path: Path) -> None:
    code = (
        "import sys; from jobkit.features.pools.launchers.unit_process import UnitProcess;"
        "UnitProcess('exec sleep 600', sys.executable, [], {'TESTS_UNIT': sys.argv[1]}).run()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT) as keeper:
        wait_until(lambda: ["sleep", "600"] in [each.cmdline() for each in living_with("TESTS_UNIT", str(tmp_path))])

        keeper.kill()

    wait_until(lambda: not living_with("TESTS_UNIT", str(tmp_path)))


def test_its_code_runs_where_jobkit_is_not_installed(tmp_path: Path) -> None:
    """The pickle has the code, and names no module of jobkit."""
    sent = cloudpickle.dumps(unit_process.sent()["UnitProcess"])
    (tmp_path / "code").write_bytes(sent)
    code = (
        "import pickle, sys; unit = pickle.load(open('code', 'rb'))('', sys.executable, ['-c', 'print(1)'], {});"
        "assert unit.run()['tail'] == '1\\n'; assert not [name for name in sys.modules if name.startswith('jobkit')]"
    )

    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env={"PATH": os.environ["PATH"]})

    assert b"jobkit.features" not in sent
