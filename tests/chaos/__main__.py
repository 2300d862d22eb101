"""One run from the command line; exit status 1 where a promise did not hold."""

from __future__ import annotations

import argparse
import secrets
import subprocess
import sys
import time

from tests.chaos.driver import Chaos
from tests.chaos.faults import FAULTS
from tests.chaos.world import WEIGHTS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long things break (60)")
    parser.add_argument("--seed", type=int, default=None, help="of everything that is chosen; printed")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--rate", type=float, default=6.0, help="submits a second (6)")
    parser.add_argument("--fault", choices=sorted(FAULTS), default="", help="a fault on purpose, to be caught")
    parser.add_argument("--only", choices=sorted(WEIGHTS), default="", help="the one thing that goes wrong")
    parser.add_argument("--older", default="", help="a revision, whose workers serve beside those of this version")
    parser.add_argument("--faults", action="store_true", help="show that every deliberate fault is found")
    given = parser.parse_args()
    if given.faults:
        return _every_fault()
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    print(f"chaos: seed {seed}, {given.seconds:g} s", flush=True)
    began = time.monotonic()
    chaos = Chaos(
        given.seconds,
        seed,
        workers=given.workers,
        rate=given.rate,
        fault=given.fault,
        only=given.only,
        older=given.older,
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
        print(f"seed {seed}; record and workers' words are in {chaos.folder}")
    print("every promise held" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


def _every_fault() -> int:
    """Each in a process of its own."""
    missed = 0
    for n, (name, fault) in enumerate(FAULTS.items()):
        for seed in (n, n + 100, n + 200):  # whether a fault shows depends on the machine, too
            options = ["--seconds", "20", "--seed", str(seed), "--fault", name, "--only", fault.only]
            run = subprocess.run(
                [sys.executable, "-m", "tests.chaos", *options], capture_output=True, text=True, check=False
            )
            found = next((line for line in run.stdout.splitlines() if line.startswith("PROBLEM")), "")
            if found:
                break
        missed += not found
        print(f"{name}: {found[8:200] or 'NOT FOUND'}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
