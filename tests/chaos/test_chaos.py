"""A short run of chaos finds no problem; with a missing fence or a stale page, it does.

Longer: `make chaos SECONDS=600`. Every deliberate fault: `python -m tests.chaos --faults`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from random import Random

import pytest

from tests.chaos.cases import CASES
from tests.chaos.faults import FAULTS
from tests.chaos.outages import OUTAGES
from tests.chaos.plan import pairs, steps
from tests.chaos.soak import rises
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


#: Seconds and seed of the nightly runs. `.ci/run` has the first one.
_RUNS = [pytest.param(20, 1, id="20"), *(pytest.param(90, seed, id=f"seed-{seed}") for seed in range(1, 11))]


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("seconds", "seed"), _RUNS)
def test_every_promise_holds_while_processes_die_or_freeze_and_connections_break(seconds: int, seed: int) -> None:
    place = () if seed % 3 else ("--place", "home", "--rate", "3")  # which has two slots
    status, said = chaos("--seconds", str(seconds), "--seed", str(seed), *place)

    print(said)
    assert status == 0, said


@pytest.mark.nightly
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("place", "appendfsync"), [("team", "no"), ("team", "always"), ("home", "no")])
def test_every_promise_holds_when_redis_is_killed_while_its_disk_is_busy(place: str, appendfsync: str) -> None:
    """With `everysec`, which is no setting of jobkit's, Redis loses what it has accepted."""
    options = ("--place", place, "--appendfsync", appendfsync, "--rate", "6" if place == "team" else "3")
    status, said = chaos("--seconds", "30", "--seed", "1", "--only", "busy_disk", *options)

    print(said)
    assert status == 0, said


@pytest.mark.nightly
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_pool_that_grows_and_shrinks_loses_no_job_and_leaves_no_worker(seed: int) -> None:
    command = [sys.executable, "-m", "tests.chaos.pool", "--seconds", "40", "--seed", str(seed)]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)

    assert run.returncode == 0, run.stdout


@pytest.mark.nightly
@pytest.mark.timeout(400)
@pytest.mark.parametrize("case", CASES)
def test_a_promise_holds_against_what_endangers_it_most(case: str) -> None:
    status, said = chaos("--case", case, "--seconds", "20", "--seed", "1")

    print(said)
    assert status == 0, said


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("place", ["team", "home"])
def test_every_promise_holds_after_two_things_break_together(place: str) -> None:
    status, said = chaos("--pairs", "1", "--seconds", "120", "--place", place)

    print(said)
    assert status == 0, said


def test_a_seed_repeats_what_breaks_and_when() -> None:
    names = list(OUTAGES)

    def drawn(seed: int) -> list[object]:
        singles = [(step.at_s, step.name, step.rng.random()) for step in steps(seed, 90, names)]
        return [*singles, *((one.name, two.name, two.at_s, two.rng.random()) for one, two in pairs(seed, names))]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert len({frozenset((one.name, two.name)) for one, two in pairs(1, names)}) == len(names) * (len(names) - 1) / 2


def test_a_soak_fails_by_a_slope_and_not_by_one_value() -> None:
    noise = Random(1)
    level = [(5.0 * n, 100 + noise.uniform(-2, 2)) for n in range(360)]
    peak = [(at_s, value + 80 * (n == 350)) for n, (at_s, value) in enumerate(level)]
    leak = [(at_s, value + at_s / 100) for at_s, value in level]  # 18 MB in 30 minutes

    assert not rises("MB", level)
    assert not rises("MB", peak)
    assert rises("MB", leak)


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


def test_every_case_has_a_fault_that_shows_what_it_finds() -> None:
    assert {fault.case for fault in FAULTS.values()} - {""} == set(CASES)
