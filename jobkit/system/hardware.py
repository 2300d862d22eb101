"""The processor and the GPUs of this machine, as far as the system tells."""

from __future__ import annotations

import glob
import os
import platform
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import cache


@cache
def processor() -> str:
    """Return the name of the processor."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith(("model name", "Model", "cpu model")):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        return _said("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Return the number of processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


@cache
def gpus() -> tuple[str, ...]:
    """Return the names of the GPUs; those of NVIDIA, and of AMD if their driver tells."""
    found = []
    for path in sorted(glob.glob("/proc/driver/nvidia/gpus/*/information")):
        found += [line.partition(":")[2].strip() for line in _lines(path) if line.startswith("Model:")]
    if not found and shutil.which("nvidia-smi"):
        found = _said("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()
    for path in sorted(glob.glob("/sys/class/drm/card*/device/product_name")):
        found += [line.strip() for line in _lines(path)]
    return tuple(filter(None, found))


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(10_000).splitlines()
    except OSError:
        return []


def _said(*command: str) -> str:
    """Return what a program prints, "" if it fails or takes longer than 3 s."""
    try:
        ended = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=3, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return ended.stdout.decode("utf-8", "replace").strip()
