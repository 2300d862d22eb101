"""`python -m benchmarks [--quick] [--only NAME]... [--no-peers]`: prints a table and writes `benchmarks/results.md`."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from benchmarks import peers, table
from benchmarks.place import Place, private_redis

NAMES = (
    "latency",
    "throughput",
    "prepare",
    "submit",
    "made_by",
    "executors",
    "closure",
    "process",
    "imports",
    "folds",
    "progress",
    "checkpoints",
    "metrics",
    "memory",
    "idle",
    "schedules",
    "order",
    "dom",
    "weight",
    "archive",
    "gateway",
    "scaling",
)
RESULTS = Path(__file__).parent / "results.md"

_CAVEATS = """\
Read ratios, not absolute times: all systems ran in the same minutes on the same machine, in turns, and the table shows
the median of the rounds with their range. "met" and "missed" are verdicts on this run.

* jobkit runs as it ships: live status (record, stream, publish) for every job, signed payloads, log at its own level,
  `asyncio`'s own loop. Peers run with hiredis, uvloop if they support it (all but huey) and their log at level
  WARNING. "jobkit" submits from blocking code, "jobkit aio" from coroutines. arq runs as it ships (`poll_delay` 0.5)
  and polling every 10 ms (0.01); huey with `notify_result`, one thread for latency and ten for throughput.
* Throughput is taken inside the worker, between the first tenth and the last job; the ending of the last few is not in
  it. CPU is that of all processes of the worker. No client watches the jobs, except in "jobkit, watched", whose submitter
  holds a live handle to each.
* "event to changed DOM" begins when the event reaches a subscriber of Redis beside the dashboard, "report to changed
  DOM" in the job itself, which includes the window in which progress is gathered.
"""


def run(names: list[str], *, is_quick: bool, has_peers: bool) -> tuple[list[table.Row], str]:
    """The rows of some benchmarks, and the sentence that names machine and versions."""
    found: list[table.Row] = []
    pythons = peers.install() if has_peers else {}
    with private_redis() as (url, folder):
        place = Place(url, folder, is_quick, pythons)
        with place.redis() as client:
            where = table.machine(client.info("server")["redis_version"])
        for name in names:
            began = time.monotonic()
            found += importlib.import_module(f"benchmarks.{name}").measure(place)
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return found, where + (f"; {peers.versions(pythons)}" if pythons else "")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds: shows that all works; figures mean little")
    parser.add_argument("--only", action="append", choices=NAMES, metavar="NAME", help=f"one of {', '.join(NAMES)}")
    parser.add_argument("--no-peers", action="store_true", help="jobkit alone")
    asked = parser.parse_args()
    rows, where = run(asked.only or list(NAMES), is_quick=asked.quick, has_peers=not asked.no_peers)
    print(table.as_text(rows))
    print(f"\n{where}")
    if not asked.quick and not asked.only:
        text = f"# Benchmarks\n\n{where}.\n\n{table.as_markdown(rows)}\n\n{_CAVEATS}"
        RESULTS.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
