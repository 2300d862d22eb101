"""Costs of an idle worker for the machine and the server."""

from __future__ import annotations

import threading
import time

import psutil

import jobkit
from benchmarks.place import SECRET, Place, jobkit_worker, running
from benchmarks.systems.jobkit_tasks import stamp
from benchmarks.table import Row, most


def measure(place: Place) -> list[Row]:
    place.flush()
    seconds = place.pick(30, 1)
    with running(jobkit_worker(10), place) as worker:
        with jobkit.connect(place.url, secret=SECRET) as kit:  # gone before anything is counted
            kit.submit(stamp).result(60)
        family = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
        time.sleep(place.pick(2, 0))
        before = sum(_cpu_s(process) for process in family)
        commands = _commands(place, seconds)
        share = (sum(_cpu_s(process) for process in family) - before) / seconds * 100
    return [
        most("idle worker with its zygote: CPU", [share], "%", 0.5),
        most("idle worker: commands to Redis", [commands / seconds], "per s", 2),
    ]


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _commands(place: Place, seconds: float) -> int:
    """Commands that clients sent meanwhile; those that a script calls are the script's own business."""
    count = 0
    with place.redis() as client, client.monitor() as monitor:
        timer = threading.Timer(seconds, place.redis().ping)  # a last command, so that the reader returns
        timer.start()
        end = time.monotonic() + seconds
        for command in monitor.listen():
            if time.monotonic() >= end:
                break
            count += command["client_type"] != "lua"
        timer.join()
    return count
