"""One run from the command line; exit status 1 if a promise is broken."""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.chaos import faults
from tests.chaos.cases import CASES, Case
from tests.chaos.driver import Chaos
from tests.chaos.faults import FAULTS
from tests.chaos.outages import OUTAGES
from tests.chaos.world import MAY_MOUNT, SITE
from tests.store.machine import difference
from tests.store.server import Server
from tests.support import ROOT


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long things break (60)")
    parser.add_argument("--seed", type=int, default=None, help="of everything that is chosen; printed")
    parser.add_argument("--place", choices=("team", "home"), default="team", help="Redis with workers, or a home")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--rate", type=float, default=6.0, help="submits a second (6)")
    parser.add_argument("--fault", choices=sorted(FAULTS), default="", help="a fault on purpose, to be caught")
    parser.add_argument("--case", choices=sorted(CASES), default="", help="a named case, see `cases`")
    parser.add_argument("--only", choices=sorted(OUTAGES), default="", help="the one thing that goes wrong")
    parser.add_argument("--appendfsync", choices=("always", "everysec", "no"), default="no", help="of the team's Redis")
    parser.add_argument("--pairs", type=int, metavar="SEED", default=None, help="break two things at a time")
    parser.add_argument("--machine", action="store_true", help="ask the state machine instead of breaking things")
    parser.add_argument("--faults", nargs="*", metavar="FAULT", help="show that all, or these, are found")
    given = parser.parse_args()
    if given.faults is not None:
        return _show_faults(given.faults)
    if given.machine:
        return _ask_machine(given.fault)
    _run_with_disk()
    seed = given.pairs if given.pairs is not None else given.seed
    seed = secrets.randbelow(10**6) if seed is None else seed
    print(f"chaos: seed {seed}, {given.seconds:g} s", flush=True)
    began = time.monotonic()
    case = CASES[given.case] if given.case else Case((given.only,) if given.only else None, (), given.place, given.rate)
    chaos = Chaos(
        given.seconds,
        seed,
        case,
        fault=given.fault,
        workers=given.workers,
        appendfsync=given.appendfsync,
        pairs=given.pairs is not None,
    )
    problems = chaos.run()
    took = time.monotonic() - began
    print(
        f"{len(chaos.sent)} submissions, {len(chaos.watches)} live handles, {len(chaos.events)} events in {took:.0f} s"
    )
    print(f"the table was compared {chaos.looks} times; the stream of events has told {chaos.told}")
    print("broken: " + ", ".join(f"{name} {count}" for name, count in sorted(chaos.world.counts.items())))
    for problem in problems:
        print("PROBLEM", problem)
    if problems:
        print(f"seed {seed}; record, what broke when, and workers' words are in {chaos.folder}")
    print("every promise held" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


def _run_with_disk() -> None:
    """Run this command again with the right to mount a disk, which can then be full, if the system allows that."""
    if MAY_MOUNT in os.environ or shutil.which("unshare") is None:
        return
    for unshare in (["unshare", "-m"], ["unshare", "-Urm"]):
        trial = subprocess.run([*unshare, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False)
        if trial.returncode == 0:
            os.environ[MAY_MOUNT] = "1"
            os.execvp(unshare[0], [*unshare, sys.executable, "-m", "tests.chaos", *sys.argv[1:]])


def _ask_machine(fault: str) -> int:
    faults.apply(fault)
    with Server() as server:
        found = difference(FAULTS[fault].machine if fault else "lives", server.url)
    print("PROBLEM " + found if found else "both stores behave alike")
    return 1 if found else 0


def _show_faults(names: Sequence[str]) -> int:
    """Run each fault in a separate process: its finder must find it. Without a fault nothing must be found."""
    missed = 0
    if not names:
        missed += _report("no fault", "the state machine", _first_problem("--machine"), is_wanted=False)
    for n, (name, fault) in enumerate((name, FAULTS[name]) for name in names or FAULTS):
        if fault.machine:
            missed += _report(name, "the state machine", _first_problem("--machine", "--fault", name))
        if breaks := ("--only", fault.only) if fault.only else ("--case", fault.case) if fault.shows else ():
            for seed in (n, n + 100, n + 200):  # the outcome of a seed depends on the machine, too
                options = ("--seconds", "15", "--rate", "12", "--seed", str(seed), "--fault", name, *breaks)
                if (found := _first_problem(*options, pattern=fault.shows))[0]:
                    break
            missed += _report(name, f"chaos ({breaks[1]})", found)
        if fault.test:
            missed += _report(name, fault.test, _first_failure(name, fault.test))
    return 1 if missed else 0


def _first_failure(name: str, test: str) -> tuple[str, float]:
    """Return the first failure of a test with a fault, or "", and the seconds that it took."""
    began = time.monotonic()
    path = os.pathsep.join([str(SITE), str(ROOT)])
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "--timeout", "60", test],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "CHAOS_FAULT": name, "PYTHONPATH": path},
    )
    failed = re.findall(r"^(?:FAILED|ERROR) (.*)", run.stdout, re.MULTILINE)
    return next(iter(failed), ""), time.monotonic() - began


def _first_problem(*options: str, pattern: str = "") -> tuple[str, float]:
    """Return the first matching problem of a run, or "", and the seconds that it took."""
    began = time.monotonic()
    run = subprocess.run([sys.executable, "-m", "tests.chaos", *options], capture_output=True, text=True, check=False)
    problems = [line[8:] for line in run.stdout.splitlines() if line.startswith("PROBLEM") and re.search(pattern, line)]
    if run.returncode and "PROBLEM" not in run.stdout:
        raise RuntimeError(run.stderr[-3000:])
    return next(iter(problems), ""), time.monotonic() - began


def _report(name: str, by: str, found: tuple[str, float], is_wanted: bool = True) -> bool:
    """Print a line; return True if a problem was found unexpectedly, or was not found."""
    what, took = found
    said = f"found by {by}" if what else f"nothing found by {by}"
    is_wrong = bool(what) is not is_wanted
    print(f"{'WRONG ' * is_wrong}{name}: {said} in {took:.0f} s{': ' * bool(what)}{what[:200]}", flush=True)
    return is_wrong


if __name__ == "__main__":
    sys.exit(main())
