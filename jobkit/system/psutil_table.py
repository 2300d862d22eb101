"""Processes by psutil, on a system without Linux's `/proc`. See `processes`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import psutil

_POSITIVE = (1 << 63) - 1


def parents() -> Mapping[int, int] | None:
    """Return the parent of each process. Takes some ms."""
    found = {}
    for process in psutil.process_iter():
        try:
            found[process.pid] = process.ppid()
        except psutil.Error:  # it has ended
            continue
    return found


def children(pid: int) -> list[int]:
    """Return the direct children of a process."""
    return [child for child, parent in (parents() or {}).items() if parent == pid]


def descendants(pid: int, table: Mapping[int, int] | None = None) -> list[int]:
    """Return all that came from a process and is still connected to it, without itself.

    Args:
        table: see `parents`; a new one unless given.
    """
    below: dict[int, list[int]] = {}
    for child, parent in ((parents() or {}) if table is None else table).items():
        below.setdefault(parent, []).append(child)
    found: list[int] = []
    waiting = [pid]
    while waiting:
        new = [child for child in below.pop(waiting.pop(), ()) if child != pid]
        found += new
        waiting += new
    return found


def orphans() -> list[int]:
    """Return the processes whose parent has ended and that may have come from this one: init has adopted them."""
    own, found = psutil.Process(), []
    for pid in children(1):
        try:
            process = psutil.Process(pid)
            if process.uids().effective == os.geteuid() and process.create_time() >= own.create_time():
                found.append(pid)
        except psutil.Error:
            continue
    return found


def start(pid: int) -> int | None:
    """Return a number that no later process of this id has; None if it has ended."""
    try:
        process = psutil.Process(pid)
        # Of id and start time, as psutil compares processes: `create_time` moves with the clock.
        return None if process.status() == psutil.STATUS_ZOMBIE else hash(process) & _POSITIVE
    except psutil.Error:
        return None


def place() -> str:
    """Return two words in place of boot and namespace: start times since the epoch tell boots apart."""
    return "- 0"


def rss_bytes(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process; 0 if it has ended."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def data_bytes(pid: int) -> int:
    """Return 0: no limit of a size that this system reports is kept by it."""
    return 0


def pss_bytes(pid: int) -> int:
    """Return 0: not known."""
    return 0


def environ(pid: int) -> list[bytes]:
    """Return the environment that a process was started with, as NAME=value; [] if the system does not show it."""
    try:
        return [os.fsencode(f"{name}={value}") for name, value in psutil.Process(pid).environ().items()]
    except (psutil.Error, OSError):
        return []


def mine() -> Iterator[tuple[int, list[bytes]]]:
    """Yield the other processes of this user, with their environments as far as the system shows them."""
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.uids().effective != os.geteuid():
                continue
        except psutil.Error:
            continue
        yield process.pid, environ(process.pid)
