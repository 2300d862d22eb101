"""Import times, and the time until the first job runs: on a worker that starts, and on a home without a server."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jobkit
from benchmarks.place import SECRET, Place, jobkit_worker, running
from benchmarks.systems.jobkit_tasks import stamp
from benchmarks.table import Row, most, row

_CODES = {"nothing": "", "jobkit": "import jobkit", "arq, param": "import arq, param"}


def measure(place: Place) -> list[Row]:
    times: dict[str, list[float]] = {name: [] for name in _CODES}
    for round_ in range(place.pick(12, 2)):
        for name, code in _CODES.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, env=place.environment(), cwd=place.folder)
            if round_ > 0:  # the first one fills caches
                times[name].append((time.perf_counter() - began) * 1000)
    bare = min(times["nothing"])
    ours = [value - bare for value in times["jobkit"]]
    theirs = [value - bare for value in times["arq, param"]]
    limit = round(1.2 * sorted(theirs)[len(theirs) // 2])
    return [
        most("import jobkit (limit: 1.2 x arq, param)", ours, "ms", limit),
        row("import arq, param", "arq, param", theirs, "ms"),
        most("worker process to its first job", _first_jobs(place), "s", 0.4),
        most("first job of a fresh home: a new script to the job's start", _fresh_homes(place), "s", 1.0),
    ]


def _first_jobs(place: Place) -> list[float]:
    """Seconds from the start of a worker process to the start of a job that waited for it."""
    found = []
    for _ in range(place.pick(5, 1)):
        place.flush()
        with jobkit.connect(place.url, secret=SECRET) as kit:
            job = kit.submit(stamp)
            began = time.perf_counter()
            with running(jobkit_worker(2), place):
                found.append(job.result(60) - began)
    return found


#: A script of a user without a server: prints when its job started.
_SCRIPT = """
import jobkit, time

def started():
    return time.time()

print(jobkit.connect().submit(started).result(60))
"""


def _fresh_homes(place: Place) -> list[float]:
    """Seconds from the start of a script to the start of its job, with the server and workers that this starts."""
    found = []
    for _ in range(place.pick(5, 1)):
        home = Path(tempfile.mkdtemp(prefix="jkb-", dir="/tmp"))  # a socket's path has about 100 bytes
        environment = place.environment(JOBKIT_HOME=home)
        del environment["JOBKIT_URL"], environment["JOBKIT_SECRET"]
        script = home / "first.py"
        script.write_text(_SCRIPT)
        try:
            began = time.time()
            done = subprocess.run(
                [sys.executable, script], check=True, env=environment, cwd=home, stdout=subprocess.PIPE, text=True
            )
            found.append(float(done.stdout) - began)
        finally:
            down = [sys.executable, "-m", "jobkit", "down", "--now"]
            subprocess.run(down, check=True, env=environment, cwd=home, stdout=subprocess.DEVNULL)
            shutil.rmtree(home, ignore_errors=True)
    return found
