"""The one background process of a home: keeps its server and its local workers alive, and ends them.

`python -m jobkit.embedded.supervisor --home H`, started by `launch`; a daemon in a session of its own, so that it
outlives the notebook that started it. Everything here dies with it, also by SIGKILL: the server flushes and ends, the
workers are killed, and the next one who connects starts anew from the append-only file. One thread, no event loop.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from jobkit.embedded import idle, wishes
from jobkit.embedded.binary import find_server
from jobkit.embedded.children import Child, stop_all
from jobkit.embedded.home import Home, own_version
from jobkit.embedded.logs import last_line, rotate, say
from jobkit.embedded.server import Server, data_flavour
from jobkit.model import JobkitError

#: Exit status of a worker whose task modules do not import.
BAD_TASKS = 2
#: `JOBKIT_TASKS` of a worker without modules. Not empty: it means none, whatever a pyproject.toml says.
_NO_TASKS = ","
#: A server that fails to start this often in a row is given up.
_SERVER_TRIES = 5
_TICK_S, _IDLE_CHECK_S = 1.0, 5.0
_LOG_BYTES = 4_000_000


class _Stop(Exception):
    """Somebody asked for the end while we were waiting for something else."""


class Supervisor:
    """See the module's docstring.

    Args:
        home: the home; its lock must be held.
        worker_command: a worker's command line.
        report: told "loading" while the server reads its data, and "ready" once.
    """

    def __init__(self, home: Home, worker_command: Sequence[str], report: Callable[[str], None]) -> None:
        self.home = home
        self.worker_command = worker_command
        self.report = report
        self.server = Server(home, find_server(data_flavour(home.data)))
        self.workers: dict[str, Child] = {}
        self.retiring: list[Child] = []
        self.served: dict[str, wishes.Wish] = {}
        self.problems: dict[str, str] = {}
        self.stops = 0
        self._server_failures = 0
        self._server_again_at = 0.0
        self._last_used = time.monotonic()
        self._idle_checked = 0.0
        self._had_jobs = False
        self._status: dict[str, object] = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "version": own_version(),
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
            "environment": sys.prefix,
            "started": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "server": str(self.server.binary),
        }

    def run(self) -> int:
        """Runs until somebody asks for the end or nobody needs us any more; the exit status."""
        wakeup, wake_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else _pipe()
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        for number in (signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, lambda *_: None)  # only to wake the loop
        try:
            self._set_state("starting")
            self._start_server()
            self._set_state("ready")
            self.report("ready")
            while not self.stops:
                pause_s = self._tend()
                if self._is_unneeded():
                    say("nobody needs the server any more; it stops")
                    break
                select.select([wakeup], [], [], min(pause_s, _TICK_S))
                _drain(wakeup)
        except _Stop:
            pass
        finally:
            self._end()
        return 0

    def _on_stop(self, *_: object) -> None:
        self.stops += 1

    # -- the server ---------------------------------------------------------------------------------------------

    def _start_server(self) -> None:
        said_at = 0.0

        def loading() -> None:
            nonlocal said_at
            if self.stops:
                raise _Stop
            if time.monotonic() - said_at > 1.0:  # who waits may be slow to read, and a pipe is small
                said_at = time.monotonic()
                self.report("loading")

        self._set_state("loading")
        self.server.start(loading)
        say(f"{self.server.binary} serves at {self.home.socket}")

    def _tend_server(self) -> None:
        if self.server.is_running or time.monotonic() < self._server_again_at:
            return
        say("the server died; it is started again")
        try:
            self._start_server()
        except JobkitError as error:
            self._server_failures += 1
            say(str(error))
            if self._server_failures >= _SERVER_TRIES:
                raise
            self._server_again_at = time.monotonic() + 0.5 * 2**self._server_failures
        else:
            self._server_failures = 0
            self._set_state("ready")

    # -- the workers --------------------------------------------------------------------------------------------

    def _tend(self) -> float:
        """Looks at everything once; seconds until something wants to be looked at again."""
        self._tend_server()
        for namespace, wish in wishes.wishes(self.home).items():
            old = self.served.get(namespace)
            if old is None or old.workers_need != wish.workers_need:
                self._replace_worker(namespace, wish)
            self.served[namespace] = wish
        pause_s = _TICK_S
        for namespace, child in self.workers.items():
            pause_s = min(pause_s, child.tend())
            if child.gave_up_with == BAD_TASKS and _tasks_of(child):
                self._go_without_tasks(namespace, child)
                pause_s = 0.0
        self.retiring = [child for child in self.retiring if child.is_running]
        for log in self.home.logs.glob("*.log"):
            rotate(log, _LOG_BYTES)
        return pause_s

    def _replace_worker(self, namespace: str, wish: wishes.Wish) -> None:
        """Start a worker for `wish` beside the one with other modules, which ends when its jobs have."""
        old = self.workers.get(namespace)
        if old is not None:
            old.retire()
            self.retiring.append(old)
        self.problems.pop(namespace, None)
        self._set_state(None)
        self.workers[namespace] = self._worker(wish, wish.tasks)

    def _worker(self, wish: wishes.Wish, tasks: Sequence[str]) -> Child:
        name = f"worker-{wish.namespace}"
        folders = [folder for folder in wish.folders if os.path.isdir(folder)]
        environ = {key: value for key, value in os.environ.items() if not key.startswith("JOBKIT_")}
        environ |= wish.environ or {}
        environ |= {
            "JOBKIT_URL": "local://",
            "JOBKIT_HOME": str(self.home.path),
            "JOBKIT_NAMESPACE": wish.namespace,
            "JOBKIT_TASKS": ",".join(tasks) or _NO_TASKS,
            "PYTHONUNBUFFERED": "1",
        }
        if folders:
            environ["PYTHONPATH"] = os.pathsep.join([*filter(None, [environ.get("PYTHONPATH")]), *folders])
        return Child(
            name=name,
            argv=self.worker_command,
            log=self.home.logs / f"{name}.log",
            env=environ,
            cwd=Path(folders[0]) if folders else self.home.path,
            give_up=frozenset({BAD_TASKS}),
            say=say,
        )

    def _go_without_tasks(self, namespace: str, failed: Child) -> None:
        """Start a worker without the modules that other environments asked for, then without any: modules that do not
        import must not keep all other jobs from running. The reason is kept for `doctor`."""
        wish = self.served[namespace]
        own = wish.tasks_of(sys.prefix)
        reason = (last_line(failed.log) if failed.log else "") or f"see {failed.log}"
        self.problems[namespace] = f"task modules {', '.join(wish.tasks)} cannot be imported: {reason}"
        say(self.problems[namespace])
        self._set_state(None)
        self.workers[namespace] = self._worker(wish, own if own != wish.tasks and _tasks_of(failed) != own else ())

    # -- the end ------------------------------------------------------------------------------------------------

    def _is_unneeded(self) -> bool:
        """True when nobody has been here for `idle_stop` seconds and no job waits or runs."""
        now = time.monotonic()
        idle_stop = max((wish.idle_stop for wish in self.served.values()), default=600.0)
        if now - self._idle_checked < min(_IDLE_CHECK_S, idle_stop / 4):
            return False
        self._idle_checked = now
        if wishes.last_asked_s(self.home) < idle_stop or not self._seems_idle(idle_stop):
            return False
        # Who connects from now on sees "stopping" and waits for the next supervisor; who came before is seen here.
        self._set_state("stopping")
        if wishes.last_asked_s(self.home) >= idle_stop and self._seems_idle(idle_stop):
            return True
        self._set_state("ready")
        return False

    def _seems_idle(self, idle_stop: float) -> bool:
        now = time.monotonic()
        try:
            if idle.other_clients(self.home):
                self._last_used = now
                self._had_jobs = False
            # Jobs are counted only when it matters: it loads the store into this small process.
            elif self._had_jobs or now - self._last_used >= idle_stop:
                self._had_jobs = not idle.activity(self.home, self.served).is_idle
                if self._had_jobs:
                    self._last_used = now
        except (OSError, JobkitError):
            self._last_used = now
        return now - self._last_used >= idle_stop

    def _end(self) -> None:
        self._set_state("stopping")
        drain_s = max((wish.drain for wish in self.served.values()), default=30.0)
        everyone = [*self.workers.values(), *self.retiring]
        stop_all(everyone, drain_s + 5.0, is_urgent=lambda: self.stops > 1)
        self.server.stop()
        self._set_state("stopped")
        say("stopped")

    def _set_state(self, state: str | None) -> None:
        """Writes the status file; None: the state stays as it is."""
        self._status |= {"problems": dict(self.problems)} | ({"state": state} if state else {})
        self.home.write_status(self._status)


def _tasks_of(worker: Child) -> tuple[str, ...]:
    return tuple(filter(None, (worker.env or {})["JOBKIT_TASKS"].split(",")))


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    for fd in ends:
        os.set_blocking(fd, False)
    return ends


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 512):
            pass
    except BlockingIOError:
        pass


def _lock(path: Path) -> int | None:
    """The lock's descriptor, held until this process ends; None where another supervisor has it.

    Those who only look whether a supervisor lives hold it for a moment too, hence the patience.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + 1.0
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline:
                os.close(fd)
                return None
            time.sleep(0.005)
        else:
            return fd


def worker_command(python: str) -> list[str]:
    """How a local worker is started."""
    return [python, "-P", "-m", "jobkit", "worker", "--embedded"]


def main(argv: Sequence[str] | None = None) -> int:
    """The program; tells who started it over `--report-fd`, one JSON object a line."""
    parser = argparse.ArgumentParser(prog="jobkit.embedded.supervisor")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--report-fd", type=int, default=-1)
    parser.add_argument("--worker-command", type=json.loads, default=worker_command(sys.executable))
    options = parser.parse_args(argv)
    if options.report_fd >= 0:
        # A daemon: the process that was started ends here, so that nobody has to reap the one that goes on.
        if os.fork():
            os._exit(0)
        os.set_inheritable(options.report_fd, False)
    channel = [options.report_fd]

    def report(state: str, **more: str) -> None:
        if channel[0] < 0:
            return
        with contextlib.suppress(BrokenPipeError):  # who asked has gone; the server runs for the next one
            os.write(channel[0], json.dumps({"state": state, **more}).encode() + b"\n")
        if state != "loading":
            os.close(channel[0])
            channel[0] = -1

    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.umask(0o077)
    try:
        home = Home.open(options.home)
        if _lock(home.lock) is None:
            report("busy")
            return 0
        return Supervisor(home, options.worker_command, report).run()
    except JobkitError as error:
        say(f"error: {error}")
        report("failed", error=str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
