"""Shared code of the programs of all systems. Standard library only."""

from __future__ import annotations

import glob
import json
import os
import random
import socket
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

URL = os.environ.get("BENCH_URL", "")
POLL_S = float(os.environ.get("BENCH_POLL", "0.5"))

#: The clock of every measurement: on Linux the same in all processes.
now = time.perf_counter


def pause_s() -> float:
    """Between two jobs of a latency measurement: long enough for the worker to be idle, and never in step with it."""
    return random.uniform(0.005, 0.02)


class Meter:
    """Counts jobs in a worker; writes a report when the last one of `BENCH_COUNT` runs.

    Rate and cost are taken between the first tenth and the last job, so that neither start-up nor warm-up counts.
    """

    def __init__(self) -> None:
        self._total = int(os.environ.get("BENCH_COUNT", "0"))
        self._first = self._total // 10
        self._n = 0
        self._begin: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def tick(self) -> None:
        self._n += 1
        if self._n == self._first:
            self._begin = _mark()
        elif self._n == self._total:
            wall, cpu, server = (b - a for a, b in zip(self._begin, _mark(), strict=True))
            jobs = self._total - self._first
            report = {"per_s": jobs / wall, "worker_us": cpu / jobs * 1e6, "redis_us": server / jobs * 1e6}
            path = os.environ["BENCH_REPORT"]
            with open(path + ".part", "w") as file:
                json.dump(report, file)
            os.rename(path + ".part", path)


def _mark() -> tuple[float, float, float]:
    return now(), _family_cpu_s(), _server_cpu_s()


def _family_cpu_s() -> float:
    """CPU seconds so far of all processes of this worker: those that inherited `BENCH_REPORT`."""
    ours = b"BENCH_REPORT=" + os.environ["BENCH_REPORT"].encode()
    ticks = 0
    for folder in glob.glob("/proc/[0-9]*"):
        try:
            with open(folder + "/environ", "rb") as file:
                if ours not in file.read().split(b"\0"):
                    continue
            with open(folder + "/stat") as file:
                ticks += sum(map(int, file.read().rpartition(")")[2].split()[11:13]))
        except OSError:  # it ended, or belongs to another user
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def _server_cpu_s() -> float:
    """CPU seconds of the Redis server so far."""
    where = urlsplit(URL)
    with socket.create_connection((where.hostname or "", where.port or 0)) as connection:
        connection.sendall(b"INFO cpu\r\n")
        found = b""
        while b"used_cpu_user_children" not in found:
            found += connection.recv(4096)
    fields = dict(line.split(":", 1) for line in found.decode().splitlines() if ":" in line)
    return float(fields["used_cpu_sys"]) + float(fields["used_cpu_user"])


def serve(answer: Callable[[dict[str, Any]], Any]) -> None:
    """Answer each line of standard input with one on standard output, until it ends."""
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


def latencies(submit: Callable[[], Any], result: Callable[[Any], float], n: int) -> dict[str, list[float]]:
    """Milliseconds from before the submit to its return, to the start of the job and to its result here, `n` times.

    `result` waits for a job and gives the time of its start.
    """
    found: dict[str, list[float]] = {"submit": [], "start": [], "result": []}
    for i in range(n + 5):
        time.sleep(pause_s())
        began = now()
        job = submit()
        submitted = now()
        started = result(job)
        ended = now()
        if i >= 5:
            found["submit"].append((submitted - began) * 1000)
            found["start"].append((started - began) * 1000)
            found["result"].append((ended - began) * 1000)
    return found


def rate(submit: Callable[[], Any], n: int) -> float:
    """Submits per second, one at a time."""
    for _ in range(20):
        submit()
    began = now()
    for _ in range(n):
        submit()
    return n / (now() - began)
