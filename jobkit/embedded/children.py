"""Child processes that are restarted when they die.

A `Keeper` of the supervisor keeps workers in the background, those of `jobkit up` and `jobkit worker -n` in the
foreground. No threads: the owner of a `Child` calls `tend()` at intervals.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from jobkit.embedded.home import append_private
from jobkit.system.death import Guard, end_with_parent
from jobkit.system.processes import send

#: Seconds after which a child counts as healthy: it is restarted at once when it dies.
WELL_AFTER_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 30.0
#: Longest time from a start to the next one after a death by a signal: mostly a job has killed its worker, and others
#: wait for the next one.
KILLED_PAUSE_S = 2.0

#: Windows lacks these signals. It runs no children, but the command line loads this module.
_SIGKILL, _SIGHUP = getattr(signal, "SIGKILL", signal.SIGTERM), getattr(signal, "SIGHUP", signal.SIGTERM)

#: What ends with this process on a system whose kernel does not see to it.
_guard = Guard()
_guarded: list[subprocess.Popen[bytes]] = []


def start(
    argv: Sequence[str],
    *,
    log: Path | None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    death_signal: int,
    keeps: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a child in a new session, so that Ctrl-C in the terminal does not reach it. Only for the main thread.

    It gets `death_signal` when this process (the kernel watches the thread) dies, even by SIGKILL. Its output is
    appended to `log`; None inherits this process's output. It inherits the descriptors `keeps`.
    """
    parent = os.getpid()
    _guard.prepare()

    def die_with_parent() -> None:
        _guard.enlist(death_signal)
        if not end_with_parent(parent, death_signal):
            os._exit(1)

    with contextlib.nullcontext() if log is None else append_private(log) as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            cwd=cwd,
            start_new_session=True,
            pass_fds=keeps,
            umask=0o077 if log is not None else -1,
            preexec_fn=die_with_parent,
        )
    _guard.add(process.pid, death_signal)
    _guarded.append(process)
    return process


def release_ended() -> None:
    """Send no signal to processes that have been reaped: others may get their ids."""
    for process in [process for process in _guarded if process.returncode is not None]:
        _guarded.remove(process)
        _guard.remove(process.pid)


@dataclass(slots=True)
class Child:
    """A process that should be running.

    Attributes:
        argv, env, cwd, log: see `start`.
        give_up: exit statuses after which it is not restarted.
        say: called with one line for each start and death.
    """

    name: str
    argv: Sequence[str]
    log: Path | None = None
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    death_signal: int = _SIGKILL
    give_up: frozenset[int] = frozenset()
    say: Callable[[str], None] = lambda line: None
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    gave_up_with: int | None = None
    is_asked: bool = False
    """It was asked to stop by `terminate`."""
    _started_at: float = field(default=0.0, repr=False)
    _start_again_at: float = field(default=0.0, repr=False)

    def tend(self) -> float:
        """Start the process if it should run and does not; return the seconds until the next call is due."""
        now = time.monotonic()
        if self.process is not None:
            status = self.process.poll()
            if status is None:
                return LONGEST_PAUSE_S
            self._died(status, now)
        if self.gave_up_with is not None:
            return LONGEST_PAUSE_S
        if now < self._start_again_at:
            return self._start_again_at - now
        try:
            self.process = start(self.argv, log=self.log, env=self.env, cwd=self.cwd, death_signal=self.death_signal)
        except OSError as error:
            self._pause(now)
            self.say(f"{self.name} could not be started ({error})")
            return self._start_again_at - now
        self._started_at = now
        self.say(f"{self.name} started (pid {self.process.pid})")
        return LONGEST_PAUSE_S

    def _died(self, status: int, now: float) -> None:
        self.process = None
        release_ended()
        if status in self.give_up:
            self.gave_up_with = status
            self.say(f"{self.name} ended with status {status} and is not restarted")
            return
        if now - self._started_at >= WELL_AFTER_S:
            self.failures = 0
            self._start_again_at = now
        elif status < 0:
            self._pause(self._started_at, KILLED_PAUSE_S)
        else:
            self._pause(now)
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        self.say(f"{self.name} ended ({how}); restarting in {max(0.0, self._start_again_at - now):.1f} s")

    def _pause(self, since: float, longest_s: float = LONGEST_PAUSE_S) -> None:
        self._start_again_at = since + min(longest_s, FIRST_PAUSE_S * 2 ** min(self.failures, 10))
        self.failures += 1

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def retire(self) -> None:
        """Ask a worker to take no new jobs and to exit when its running jobs have ended, however long they take."""
        if self.process is not None:
            self.process.send_signal(signal.SIGHUP)

    def terminate(self) -> None:
        """Send SIGTERM; do not call `tend` afterwards."""
        self.is_asked = True
        if self.process is not None:
            self.process.terminate()

    def kill(self) -> None:
        """Kill the process and its group with SIGKILL, and reap it."""
        if self.process is not None:
            send(-self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
            release_ended()


#: Seconds that a child may take to give its jobs back after the second request.
_AT_ONCE_S = 5.0

#: Longest time between two checks of a keeper's children, in seconds.
_TICK_S = 0.2


class Keeper:
    """Restarts children until a signal arrives or all of them have given up.

    A context manager: it handles the signals within its block. The first Ctrl-C (or another of `stop_signals`) stops
    the children gracefully, the second kills them.
    """

    def __init__(
        self,
        children: Iterable[Child] = (),
        stop_signals: Sequence[int] = (signal.SIGINT, signal.SIGTERM, _SIGHUP),
    ) -> None:
        self.children = {child.name: child for child in children}
        self.retired: list[Child] = []
        """Former children, which have been asked to stop and finish their jobs."""
        self.signals = 0
        """Number of signals that asked it to stop."""
        self._stop_signals = stop_signals
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Keeper:
        self._wakeup, self._wake_end = socket.socketpair()
        self._wakeup.setblocking(False)
        self._wake_end.setblocking(False)
        signal.set_wakeup_fd(self._wake_end.fileno(), warn_on_full_buffer=False)
        for number in {signal.SIGCHLD, signal.SIGHUP, *self._stop_signals}:
            is_stop = number in self._stop_signals
            if is_stop and number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # as `nohup` sets it
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        self._wakeup.close()
        self._wake_end.close()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number in self._stop_signals and (number != signal.SIGHUP or not self.signals):
            self.signals += 1  # a closed terminal may send two SIGHUPs

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or when a signal arrives: the end of a child is one."""
        select.select([self._wakeup], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            self._wakeup.recv(4096)
        release_ended()

    def tend(self) -> float:
        """Start children that should run and do not; return the seconds until the next call is due."""
        self.retired = [child for child in self.retired if child.is_running]
        return min((child.tend() for child in self.children.values()), default=LONGEST_PAUSE_S)

    def replace(self, child: Child, ask: Callable[[Child], None]) -> None:
        """Add a child. Another one of its name is asked to finish its jobs and end."""
        if (old := self.children.get(child.name)) is not None:
            ask(old)
            self.retired.append(old)
        self.children[child.name] = child

    def run(self, tick: Callable[[], None] = lambda: None) -> None:
        """Run until a signal arrives or every child has given up. Calls `tick` about five times a second."""
        while not self.signals:
            tick()
            pause_s = self.tend()
            if self.children and all(child.gave_up_with is not None for child in self.children.values()):
                return
            self.wait(min(pause_s, _TICK_S))

    def stop(self, within_s: float) -> None:
        """Stop all children: SIGTERM, then SIGTERM again after `within_s` seconds or another signal, then SIGKILL.

        After the second SIGTERM a worker gives its jobs back at once; with SIGKILL it would lose them. Those that were
        asked earlier have had the first one.
        """
        children = [*self.children.values(), *self.retired]
        for is_first, patience_s in ((True, within_s), (False, _AT_ONCE_S)):
            for child in children:
                if not (is_first and child.is_asked):
                    child.terminate()
            begin = time.monotonic()
            while any(child.is_running for child in children):
                waited = time.monotonic() - begin
                # Two signals in quick succession may be merged into one.
                if waited > patience_s or (is_first and self.signals > 1 and waited > 0.1):
                    break
                time.sleep(0.02)
        for child in children:
            child.kill()
