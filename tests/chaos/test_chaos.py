"""A short run of chaos finds no problem; with a missing fence or a stale page, it does.

Longer: `make chaos SECONDS=600`. Every deliberate fault: `python -m tests.chaos --faults`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.chaos.faults import FAULTS
from tests.support import ROOT


def chaos(*options: str) -> tuple[int, str]:
    """Return exit status and output of a run in a separate process, which confines threads, kits and faults."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return run.returncode, "\n".join(line for line in run.stdout.splitlines() if not line.endswith("coming back"))


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seconds", [20, 120])
def test_every_promise_holds_while_processes_die_or_freeze_and_connections_break(seconds: int) -> None:
    status, said = chaos("--seconds", str(seconds), "--seed", os.environ.get("CHAOS_SEED", "1"))

    print(said)
    assert status == 0, said


@pytest.mark.nightly
@pytest.mark.timeout(400)
@pytest.mark.parametrize("fault", ["no fence", "stale table"])
def test_a_deliberate_fault_is_found(fault: str) -> None:
    for seed in (1, 2, 3):  # the outcome of a seed depends on the machine, too
        options = ("--seconds", "10", "--rate", "12", "--seed", str(seed), "--fault", fault)
        _, said = chaos(*options, "--only", FAULTS[fault].only)
        if found := re.search(f"PROBLEM .*({FAULTS[fault].shows})", said):
            break

    assert found, said


def test_every_fault_in_a_class_still_fits_its_class() -> None:
    """Faults in the library are applied by the tests of the state machine."""
    code = "from tests.chaos import faults\nfor fault in faults.FAULTS.values(): fault.patch and fault.patch()"

    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
