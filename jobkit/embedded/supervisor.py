"""Supervisor: the background process of a home that keeps its server and local workers alive, and stops them.

`python -m jobkit.embedded.supervisor --home H`, started by `launch`, is a daemon in its own session, so it outlives the
notebook that started it. If it dies, even by SIGKILL, the server flushes and exits and the workers are killed; the next
client starts a new one from the append-only file. No event loop; a second thread flushes that file.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from jobkit.embedded.children import Child, Keeper
from jobkit.embedded.demand import (
    Service,
    WorkerRequest,
    last_used_s,
    mark_used,
    read_requests,
    read_services,
    service_log,
)
from jobkit.embedded.home import Home, holding, lines_of, own_version, rotate, say
from jobkit.embedded.launch import open_jobs, other_clients
from jobkit.embedded.server import Server
from jobkit.model import JobkitError
from jobkit.store.binary import find_server

#: Exit status of a worker whose task modules cannot be imported.
BAD_TASKS = 2
#: `JOBKIT_TASKS` of a worker without modules. Not empty, so that it overrides a pyproject.toml.
_NO_TASKS = ","
_WORKER_COMMAND = [sys.executable, "-P", "-m", "jobkit", "worker", "--embedded"]
#: The supervisor gives up after so many failed starts of the server in a row.
_SERVER_TRIES = 5
_TICK_S, _IDLE_CHECK_S = 1.0, 5.0
#: Seconds between two flushes of the server's file: what a power cut may lose.
_FLUSH_S = 1.0
#: Seconds that gateway and dashboard may take to end.
_LAST_S = 5.0
_LOG_BYTES = 4_000_000


class _StopRequested(Exception):
    """A stop was requested while the server loads."""


class _HomeGone(Exception):
    """The home was deleted. There may be another one at its path, with its own supervisor."""


class Supervisor:
    """Supervises the server and workers of a home, whose lock must be held. Raises JobkitError without a server."""

    def __init__(self, home: Home, worker_command: Sequence[str]) -> None:
        self.home = home
        self.worker_command = worker_command
        self.workers = Keeper(stop_signals=(signal.SIGTERM, signal.SIGINT))
        self.served: dict[str, WorkerRequest] = {}
        self.services: dict[str, Service] = {}
        self.problems: dict[str, str] = {}
        self._server_failures = 0
        self._server_again_at = 0.0
        self._idle_checked = 0.0
        self._had_jobs = False
        self._identity = home.identity()
        self._status: dict[str, object] = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "version": own_version(),
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
            "environment": sys.prefix,
            "started": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        self._set_state("starting")
        self.server = Server(home, find_server())
        self._status["server"] = str(self.server.binary)

    def run(self) -> None:
        """Run until a stop is requested or the server is no longer needed."""
        threading.Thread(target=self._flush_for_ever, name="flush", daemon=True).start()
        with self.workers:
            try:
                self._start_server()
                while not self.workers.signals:
                    pause_s = self._tend()
                    if self._is_unneeded():
                        say("the server is idle; stopping it")
                        break
                    self.workers.wait(min(pause_s, _TICK_S))
            except _HomeGone:
                self._end_without_home()
                return
            except _StopRequested:
                pass
            except BaseException:
                self._end("failed")
                raise
            self._end("stopped")

    # -- the server ---------------------------------------------------------------------------------------------

    def _start_server(self) -> None:
        def check_stop() -> None:
            if self.workers.signals:
                raise _StopRequested

        self._set_state("loading")
        self.server.start(on_loading=check_stop)
        say(f"{self.server.binary} serves at {self.home.socket}")
        self._set_state("ready")

    def _flush_for_ever(self) -> None:
        """A thread, because a flush lasts for seconds if the disk is busy."""
        while True:
            time.sleep(_FLUSH_S)
            self.server.flush()

    def _tend_server(self) -> None:
        if self.server.is_running or time.monotonic() < self._server_again_at:
            return
        say("the server died; restarting it")
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

    # -- the workers --------------------------------------------------------------------------------------------

    def _tend(self) -> float:
        """Check everything once; return the seconds until the next check is due."""
        with suppress(OSError):  # a network file system that is away: the home was not deleted
            if self.home.identity() != self._identity:
                raise _HomeGone
        self._tend_server()
        for namespace, request in read_requests(self.home).items():
            old = self.served.get(namespace)
            if old is None or old.workers_need != request.workers_need:
                self.problems.pop(namespace, None)
                self._put_worker(request, request.tasks)
            self.served[namespace] = request
        self._tend_services()
        pause_s = self.workers.tend()
        for namespace in self.served:
            child = self.workers.children[f"worker-{namespace}"]
            if child.gave_up_with == BAD_TASKS and _tasks_of(child):
                self._go_without_tasks(namespace, child)
                pause_s = 0.0
        for log in self.home.logs.glob("*.log"):
            rotate(log, _LOG_BYTES)
        return pause_s

    def _tend_services(self) -> None:
        """Start and stop further processes as the files of the home say."""
        wanted = read_services(self.home)
        for name in self.services.keys() - wanted.keys():
            old = self.workers.children.pop(name)
            old.terminate()
            self.workers.retired.append(old)
        for name, service in wanted.items():
            if self.services.get(name) != service:
                argv = [sys.executable, "-P", "-m", service.module, "--home", str(self.home.path), *service.arguments]
                child = Child(
                    name=name,
                    argv=argv,
                    log=service_log(self.home, name),
                    env=self._environ(),
                    cwd=self.home.path,
                    death_signal=signal.SIGTERM,
                    say=say,
                )
                self.workers.replace(child, Child.terminate)
        self.services = wanted

    def _put_worker(self, request: WorkerRequest, tasks: Sequence[str]) -> None:
        """Start a worker beside the one with other modules, which exits when its jobs have ended."""
        self._set_state(None)
        name = f"worker-{request.namespace}"
        folders = [folder for folder in request.folders if os.path.isdir(folder)]
        environ = self._environ() | {
            **request.environ,
            "JOBKIT_URL": "local://",
            "JOBKIT_NAMESPACE": request.namespace,
            "JOBKIT_TASKS": ",".join(tasks) or _NO_TASKS,
            "PYTHONUNBUFFERED": "1",
        }
        if folders:
            environ["PYTHONPATH"] = os.pathsep.join([*filter(None, [environ.get("PYTHONPATH")]), *folders])
        worker = Child(
            name=name,
            argv=self.worker_command,
            log=self.home.logs / f"{name}.log",
            env=environ,
            cwd=Path(folders[0]) if folders else self.home.path,
            give_up=frozenset({BAD_TASKS}),
            say=say,
        )
        self.workers.replace(worker, Child.retire)

    def _go_without_tasks(self, namespace: str, failed: Child) -> None:
        """Start a worker without the modules of other environments, then without any modules.

        Modules that cannot be imported must not keep all other jobs from running. `doctor` shows the reason.
        """
        request = self.served[namespace]
        own = tuple(name for name in request.tasks if request.origins.get(name, sys.prefix) == sys.prefix)
        reason = (lines_of(failed.log) if failed.log else []) or [f"see {failed.log}"]
        self.problems[namespace] = f"task modules {', '.join(request.tasks)} cannot be imported: {reason[-1]}"
        say(self.problems[namespace])
        self._put_worker(request, own if own != request.tasks and _tasks_of(failed) != own else ())

    def _environ(self) -> dict[str, str]:
        """Return the environment of children: this home, and no other settings of this process's starter."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("JOBKIT_")}
        return {**inherited, "JOBKIT_HOME": str(self.home.path)}

    # -- the end ------------------------------------------------------------------------------------------------

    def _is_unneeded(self) -> bool:
        """True if no client was connected for `idle_stop` seconds and no job waits or runs."""
        now = time.monotonic()
        idle_stop = max((request.idle_stop for request in self.served.values()), default=600.0)
        if now - self._idle_checked < min(_IDLE_CHECK_S, idle_stop / 4):
            return False
        self._idle_checked = now
        if not self._seems_idle(idle_stop):
            return False
        # Clients that connect from now on see "stopping" and wait for the next supervisor; earlier ones are counted
        # here.
        self._set_state("stopping")
        if self._seems_idle(idle_stop):
            return True
        self._set_state("ready")
        return False

    def _seems_idle(self, idle_stop: float) -> bool:
        try:
            is_used = any(each.is_use for each in self.services.values()) or other_clients(self.home) > 0
            # Count jobs only if it matters, because that loads the store into this small process.
            counts_jobs = not is_used and (self._had_jobs or last_used_s(self.home) >= idle_stop)
            self._had_jobs = counts_jobs and any(open_jobs(self.home, self.served))
        except (OSError, JobkitError):
            is_used = True
        if is_used or self._had_jobs:
            mark_used(self.home)
        return last_used_s(self.home) >= idle_stop

    def _end(self, state: str) -> None:
        self._set_state("stopping")
        drain_s = max((request.drain for request in self.served.values()), default=30.0)
        # Workers of pools on other machines need the gateway until they have given their jobs back.
        children = self.workers.children
        last = {name: children.pop(name) for name, each in self.services.items() if each.is_use and name in children}
        self.workers.stop(drain_s + 5.0)
        self.workers.children, self.workers.retired = last, []
        self.workers.stop(_LAST_S)
        self.server.stop()
        self._set_state(state)
        say(state)

    def _end_without_home(self) -> None:
        """Stop all, and touch no file: those at the same paths belong to another home."""
        say(f"the home {self.home.path} was deleted; stopping")
        self.workers.stop(0.0)
        self.server.kill()

    def _set_state(self, state: str | None) -> None:
        """Write the status file; None keeps the state."""
        self._status |= {"problems": dict(self.problems)} | ({"state": state} if state else {})
        self.home.write_status(self._status)


def _tasks_of(worker: Child) -> tuple[str, ...]:
    return tuple(filter(None, (worker.env or {})["JOBKIT_TASKS"].split(",")))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program. Its starter waits until it holds the home's lock, and reads the rest in the status file."""
    parser = argparse.ArgumentParser(prog="jobkit.embedded.supervisor")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--worker-command", type=json.loads, default=_WORKER_COMMAND)
    options = parser.parse_args(argv)
    os.umask(0o077)
    home = Home.open(options.home)
    # Processes that check for a supervisor hold it for a moment, too.
    with holding(home.lock, patience_s=1.0) as is_mine:
        if not is_mine:
            return 0  # another one was faster
        home.status_file.unlink(missing_ok=True)  # that of the last supervisor
        if os.fork():  # daemonize: the started process exits, so that its starter need not reap its child
            os._exit(0)
        status = 0
        try:
            Supervisor(home, options.worker_command).run()
        except Exception as error:
            why = str(error)
            if not isinstance(error, JobkitError):
                why = f"the supervisor failed ({type(error).__name__}: {error}); see {home.supervisor_log}"
                say(traceback.format_exc())
            say(f"error: {why}")
            home.write_status(home.status() | {"state": "failed", "error": why})
            status = 1
        os._exit(status)  # with the lock: once it is free, no process of the home lives


if __name__ == "__main__":
    sys.exit(main())
