"""Code that runs on machines of a Dask or Ray cluster: it keeps the process of one worker.

It is sent to the cluster as it is, whose Python may lack jobkit: it must import nothing but the standard library at
module level. See `sent`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

#: Program that runs its arguments 2, ... and ends (SIGTERM) with the process whose id is argument 1, on Linux.
_WITH_PARENT = """
import ctypes, os, sys
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl is not None:
    prctl(1, 15, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("its parent has ended")
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]}: {error.strerror}")
"""

#: Seconds from the request to end at once until the process is killed.
_KILL_AFTER_S = 5.0
#: Seconds between two signals, which the kernel would merge otherwise.
_APART_S = 0.2
#: Seconds for which an ended actor of Ray can be asked why.
_LINGER_S = 60.0
#: Characters of the last output that explain an end.
_TAIL = 2000


def command(setup: str, python: str, arguments: list[str]) -> list[str]:
    """Return the command of a worker: setup's shell lines first, if any; one that fails ends it."""
    argv = [python, *arguments]
    return ["/bin/sh", "-ec", f'{setup}\nexec "$0" "$@"', *argv] if setup else argv


class UnitProcess:
    """The process of one worker: SIGTERM lets it finish its jobs, a second one release them."""

    def __init__(self, setup: str, python: str, arguments: list[str], environment: dict[str, str]) -> None:
        self._argv = command(setup, python or sys.executable, arguments)
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._signals = 0
        self._ended: dict[str, Any] | None = None
        self._tail = ""

    def run(self) -> dict[str, Any]:
        """Run the process until it ends; return its facts. Blocks. It ends with this process (the calling thread)."""
        with self._lock:
            if not self._signals:
                self._process = self._started()
        if self._process is not None:
            reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
            reader.start()
            self._process.wait()
            reader.join(1.0)  # until what it has left behind has closed its output
            self._kill_group(self._process.pid)
        self._ended = {**self.facts(), "status": self._process.returncode if self._process is not None else 0}
        return self._ended

    def facts(self) -> dict[str, Any]:
        """Return its host, process id and last output, and its exit status if it has ended."""
        pid = self._process.pid if self._process is not None else 0
        return self._ended or {
            "host": os.uname().nodename,
            "pid": pid,
            "tail": self._tail,
            "status": None,
            "asked": self._signals > 0,
        }

    def stop(self, now: bool) -> None:
        """Let it finish its jobs, or (`now`) release them; then it is killed. Repeated calls change nothing."""
        with self._lock:
            sent, self._signals = self._signals, max(self._signals, 2 if now else 1)
            process = self._process
        if process is None:
            return
        for _ in range(sent, self._signals):
            process.send_signal(signal.SIGTERM)
            time.sleep(_APART_S if now else 0)
        if now and sent < 2:
            killer = threading.Timer(_KILL_AFTER_S, self._kill, (process,))
            killer.daemon = True
            killer.start()

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _WITH_PARENT, str(os.getpid()), *self._argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **self._environment},
            start_new_session=True,
        )

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._tail = (self._tail + line)[-_TAIL:]
                sys.stderr.write(line)  # the log of the machine's engine

    def _kill(self, process: subprocess.Popen[str]) -> None:
        if process.poll() is None:
            self._kill_group(process.pid)

    def _kill_group(self, group: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


def dask_task(key: str, started: tuple[Any, ...]) -> Callable[[], dict[str, Any]]:
    """Return the task of a unit. Its name and arguments, which Dask shows and logs, have no secrets."""

    def worker_of_jobkit() -> dict[str, Any]:
        from distributed import Event, get_client, get_worker

        dask_worker = get_worker()
        began = Event(f"{key} began", client=get_client())
        if began.is_set():  # Dask repeats tasks whose worker or result is lost
            return {"status": None, "host": "", "tail": "its Dask worker has ended", "asked": False}
        began.set()
        setup, python, arguments, environment = started
        process = UnitProcess(setup, python, arguments, {**environment, "JOBKIT_ENGINE": f"dask {dask_worker.address}"})
        kept = dask_worker.__dict__.setdefault("jobkit_units", {})
        kept[key] = process
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(1.0):
                state = getattr(dask_worker.state.tasks.get(key), "state", "")
                if state not in ("executing", "long-running"):  # it was cancelled
                    process.stop(False)

        threading.Thread(target=watch, daemon=True).start()
        try:
            return process.run()
        finally:
            ended.set()
            del kept[key]

    return worker_of_jobkit


def dask_facts(dask_worker: Any) -> dict[str, dict[str, Any]]:
    """Return the facts of the units that a Dask worker runs."""
    return {key: process.facts() for key, process in list(getattr(dask_worker, "jobkit_units", {}).items())}


def dask_stop(keys: list[str], now: bool, dask_worker: Any) -> None:
    """End units of a Dask worker."""
    kept = dict(getattr(dask_worker, "jobkit_units", {}))
    for key in set(keys) & kept.keys():
        threading.Thread(target=kept[key].stop, args=(now,), daemon=True).start()


def dask_places(keys: list[str], dask_scheduler: Any) -> dict[str, tuple[str, str]]:
    """Return the states of tasks that Dask still has, and the address of the Dask worker that has each."""
    found = {}
    for key in keys:
        task = dask_scheduler.tasks.get(key)
        if task is not None and task.run_spec is not None:
            found[key] = (task.state, task.processing_on.address if task.processing_on is not None else "")
    return found


class RayUnit:
    """Actor of a unit. It stays for a while after the process has ended, so that the reason can be read."""

    def __init__(self, started: tuple[Any, ...]) -> None:
        self._process = UnitProcess(*started)
        threading.Thread(target=self._run, daemon=True).start()

    def facts(self) -> dict[str, Any]:
        """Return the facts of the process."""
        return self._process.facts()

    def stop(self, now: bool) -> None:
        """End the process."""
        threading.Thread(target=self._process.stop, args=(now,), daemon=True).start()

    def _run(self) -> None:
        self._process.run()
        time.sleep(_LINGER_S)
        os._exit(0)


def sent() -> dict[str, Any]:
    """Return the names of this file such that cloudpickle sends their code, instead of a reference to jobkit."""
    names: dict[str, Any] = {"__name__": "jobkit_unit_process"}
    with open(__file__, encoding="utf-8") as source:
        exec(compile(source.read(), __file__, "exec"), names)
    return names
