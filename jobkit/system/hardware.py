"""The processor and the GPUs of this machine, as far as the system tells.

The use of GPUs is read by NVIDIA's library, if the package `nvidia-ml-py` is installed (extra `gpu` of panel-jobkit).
"""

from __future__ import annotations

import glob
import importlib
import logging
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

logger = logging.getLogger("jobkit.worker")

_MIB = 1024 * 1024


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


class GpuReading(NamedTuple):
    """State of one GPU, the device of this number: memory in MiB, load in % (0 if its driver does not say)."""

    device: int
    name: str
    total: int = 0
    used: int = 0
    load: int = 0


class GpuReader:
    """Reads the GPUs that this process may use. Calls of the driver may block: not for a thread that must not.

    Args:
        count: it uses the first so many, if `CUDA_VISIBLE_DEVICES` does not name others; 0 for all.
    """

    def __init__(self, count: int = 0, environ: Mapping[str, str] = os.environ) -> None:
        named = environ.get("CUDA_VISIBLE_DEVICES")
        self._named = None if named is None else [part.strip() for part in named.split(",") if part.strip()]
        self._count = count
        self._library: Any = None
        self._handles: list[tuple[int, str, Any]] | None = None

    def read(self) -> list[GpuReading]:
        """Return the state of each GPU; only their names without the library; [] if there is none."""
        if self._handles is None:
            self._handles = self._open()
        if self._library is None:
            names = gpus()
            return [GpuReading(i, name) for i, name in enumerate(names) if self._is_ours(i, "")]
        return [self._state(index, name, handle) for index, name, handle in self._handles]

    def _open(self) -> list[tuple[int, str, Any]]:
        """Load the library and find the devices."""
        try:
            library = importlib.import_module("pynvml")
        except ImportError:
            return []
        try:
            library.nvmlInit()
            found = []
            for index in range(library.nvmlDeviceGetCount()):
                handle = library.nvmlDeviceGetHandleByIndex(index)
                if self._is_ours(index, _text(library.nvmlDeviceGetUUID(handle))):
                    found.append((index, _text(library.nvmlDeviceGetName(handle)), handle))
        except Exception as error:  # no driver, or one that this version of the library does not know
            logger.debug("GPUs are not shown: %s", error)
            return []
        self._library = library
        return found

    def _is_ours(self, index: int, uuid: str) -> bool:
        if self._named is not None:
            return str(index) in self._named or any(name and uuid.startswith(name) for name in self._named)
        return not self._count or index < self._count

    def _state(self, index: int, name: str, handle: Any) -> GpuReading:
        used = total = load = 0
        try:
            memory = self._library.nvmlDeviceGetMemoryInfo(handle)
            used, total = memory.used // _MIB, memory.total // _MIB
            load = int(self._library.nvmlDeviceGetUtilizationRates(handle).gpu)
        except self._library.NVMLError as error:  # a part of a GPU (MIG) has no load, a lost one nothing
            logger.debug("GPU %d cannot be read: %s", index, error)
        return GpuReading(index, name, total, used, load)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
