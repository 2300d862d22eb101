"""`python -m jobkit.run.process.zygote FD`: the process that forks a job's process, ready because all is imported.

Single-threaded, no event loop, runs no user code after its start. Messages each way on a `Link`, msgpack:

    worker to zygote   {"op": "fork", "key", "libraries": see `spawned`} + three descriptors
                       {"op": "ask" (to stop at a safe point), "term" or "kill", "key"}
    zygote to worker   once {"unsafe": why not to fork, or "", "installed": see `ZygoteLink.is_stale`, "jobkit": its
                       version}, {"failed": text} or {"refused": a library, "unsafe": why not to fork after its import};
                       {"started": key, "pid"};
                       {"exited": key, "code", "cpu_s", "peak_rss_bytes", "unsent": see `last_words`}

It is the subreaper of everything below it, and when the worker's end of the socket closes it kills all of that and
exits: no job outlives its worker.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import gc
import mmap
import os
import select
import signal
import socket
import sys
import time
import warnings
from dataclasses import dataclass, field
from typing import Any

import cloudpickle as _cloudpickle  # noqa: F401  # once, not in every child
import msgspec

from jobkit.run.inside import patches
from jobkit.run.inside.imports import installed_at
from jobkit.run.inside.tracebacks import keep_locals
from jobkit.run.process import child, last_words, spawned
from jobkit.run.process.ahead import import_ahead, silence, why_unsafe
from jobkit.run.process.spawned import preload
from jobkit.run.process.state import reseed_numpy
from jobkit.run.shortage import set_file_limit, shortage
from jobkit.system import memory, processes
from jobkit.system.death import Guard, adopt_orphans, end_with_parent
from jobkit.system.link import Link
from jobkit.system.own import FORK_IS_SAFE
from jobkit.system.threads import look_at_libraries, one_thread, set_for_forks

#: How often to look whether what was killed is gone, and how long at most.
_DYING_MS, _DYING_LIMIT_S = 2, 2.0
#: By this variable daemons that a job leaves behind are known.
_MARK = "JOBKIT_PROCESS"


@dataclass
class _Started:
    """A job's process, of one job or several; its pid is its process group."""

    key: int
    mark: str  # value of `_MARK` in the environment of all programs that it starts
    memory: mmap.mmap  # see `last_words`
    seen: set[tuple[int, int]] = field(default_factory=set)  # what came from it when it was asked to stop
    doomed: set[int] = field(default_factory=set)  # what was killed along with it

    @property
    def is_busy(self) -> bool:
        """Return whether it runs a job, or that has left something behind: those that wait have no descendants."""
        return bool(self.memory[last_words.BUSY])


def main(fd: int, modules: list[str], start: str, files: int, libraries: list[str]) -> int:
    """Serve until the worker's end closes; return the exit status.

    Args:
        files: the limit of open files, of the jobs too.
        libraries: what to import ahead, see `ahead`; only if it forks.

    With `start` "spawn" nothing of the user's is imported here: each process does it by itself after the fork. If even
    such forks break (macOS), it is another Python (see `spawned`).
    """
    end_with_parent(worker := os.getppid(), signal.SIGKILL)  # an import may hang, and does not look at the link
    set_file_limit(files)
    end = socket.socket(fileno=fd)
    end.set_inheritable(False)
    link, adopts = Link(end), adopt_orphans()
    # The worker decides about both; SIGTERM is blocked, not ignored, so that a child gets one that comes early.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    patches.install()
    # The stack at a signal such as SIGSEGV: on a job's log, and the worker takes it from there. A file
    # would be one more descriptor for the job's own code to stumble over.
    faulthandler.enable(file=2, all_threads=False)
    early, late = ([], modules) if start == "spawn" else (modules, [])
    with one_thread(), silence() if libraries else contextlib.nullcontext():  # the first zygote has printed it
        problem = preload(early)
    if problem:
        _send(link, {"failed": problem})
        return 2
    installed = installed_at()
    with one_thread():
        refused, why = import_ahead(libraries)
    if why:
        _send(link, {"refused": refused, "unsafe": why} if refused else {"failed": why})
        processes.kill(processes.descendants(os.getpid()))
        end.recv(1)  # until the worker has read it: then it closes its end
        os._exit(3)
    look_at_libraries()
    zygote = Zygote(link, late, adopts, forks=start != "spawn" or FORK_IS_SAFE)
    gc.collect()
    gc.freeze()
    gc.disable()
    end_with_parent(worker, 0)  # from here on there are processes of jobs to end
    _send(link, {"unsafe": why_unsafe(), "installed": installed, "jobkit": sys.modules["jobkit"].__version__})
    return zygote.serve()


class Zygote:
    def __init__(self, link: Link, late: list[str], adopts: bool, *, forks: bool) -> None:
        self._link, self._late, self._forks = link, late, forks
        self._jobs: dict[int, _Started] = {}  # by pid
        self._adopts, self._guard = adopts, Guard()
        self._dying: list[tuple[float, set[int], dict[str, Any]]] = []
        self._wake, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def serve(self) -> int:
        poll = select.poll()
        poll.register(self._link, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            for fd, _ in poll.poll(_DYING_MS if self._dying else None):
                if fd == self._wake:
                    os.read(self._wake, 4096)
                    self._reap()
                elif not self._receive():
                    self._end()
                    return 0
            self._announce()

    def _receive(self) -> bool:
        try:
            data, fds = self._link.receive(3)
        except OSError:
            return False
        if not data:
            return False
        message = _unpack(data)
        if message["op"] == "fork":
            self._start(message, fds)
        else:
            self._stop(message)
        return True

    def _start(self, message: dict[str, Any], fds: list[int]) -> None:
        key = message["key"]
        mark = f"{os.getpid()}.{key}"  # workers use the same keys, and without adoption see each other's orphans
        try:
            if len(fds) < 3:
                raise OSError(errno.EMFILE, "descriptors were lost on their way")
            self._guard.prepare()
            if self._forks:
                set_for_forks(message.get("threads") or 1)
                pid, shared = self._fork((_MARK, mark), fds)
            else:
                pid, shared = spawned.start(fds, self._late, message.get("libraries", ()), (_MARK, mark))
        except OSError as error:  # no memory, or too many processes
            _send(self._link, {"started": key, "pid": 0, "problem": shortage(error) or str(error)})
        else:
            self._jobs[pid] = _Started(key, mark, shared)
            self._guard.add(-pid, signal.SIGKILL)
            _send(self._link, {"started": key, "pid": pid})
        finally:
            for fd in fds:
                os.close(fd)

    def _fork(self, mark: tuple[str, str], fds: list[int]) -> tuple[int, mmap.mmap]:
        for stream in (sys.stdout, sys.stderr):  # or the child would print what is left in them a second time
            stream.flush()
        zygote = os.getpid()
        reseed_numpy()  # here, for its child: there each page that it touches would have to be copied
        shared = memory.shared(last_words.SHARED)
        with warnings.catch_warnings():
            # Python 3.12 warns of forking with threads. Those here are numpy's BLAS pool, which survives a fork.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            os.environ.update([mark])
            if self._late and (problem := preload(self._late)):
                os.write(fds[2], f"{problem}\n".encode("utf-8", "backslashreplace"))
                os._exit(1)
            child.main(zygote, (fds[0], fds[1], fds[2]), shared)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)  # the child does it, too: one of them comes first
        memory.keep_from_forks(shared)  # later children have no business with it
        return pid, shared

    def _stop(self, message: dict[str, Any]) -> None:
        for pid, job in self._jobs.items():
            if job.key == message["key"]:
                if message["op"] == "kill":
                    processes.send(-pid, signal.SIGSTOP)
                    job.doomed |= processes.kill([pid, *self._left_behind(job, pid)])
                    processes.send(-pid, signal.SIGKILL)
                elif message["op"] == "ask":
                    job.memory[last_words.ASKED] = 1
                else:
                    job.seen.update(filter(None, map(processes.identity, processes.descendants(pid))))
                    processes.send(-pid, signal.SIGTERM)
                return

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            job = self._jobs.pop(pid, None)
            if job is None:
                continue  # an orphan that we had inherited
            self._guard.remove(-pid)
            doomed = job.doomed
            if job.is_busy or job.seen:  # else it was alone when it said so, and it starts nothing any more
                survivors = [seen[0] for seen in job.seen if processes.identity(seen[0]) == seen]
                survivors += self._left_behind(job, pid)
                if survivors:
                    doomed |= processes.kill(survivors)
                processes.send(-pid, signal.SIGKILL)
            message = {
                "exited": job.key,
                "code": os.waitstatus_to_exitcode(status),
                "cpu_s": round(usage.ru_utime + usage.ru_stime, 6),
                "peak_rss_bytes": memory.peak_rss_bytes(usage),
                "unsent": last_words.taken(job.memory),
            }
            job.memory.close()
            self._dying.append((time.monotonic() + _DYING_LIMIT_S, doomed, message))

    def _announce(self) -> None:
        """Say of a job that it has exited, once all that came from it is gone as well."""
        waiting, self._dying = self._dying, []
        for deadline, doomed, message in waiting:
            if any(map(processes.identity, doomed)) and time.monotonic() < deadline:
                self._dying.append((deadline, doomed, message))
            else:
                _send(self._link, message)

    def _left_behind(self, job: _Started, group: int) -> list[int]:
        """Processes whose parent is gone, of this job's group or with its mark; while no other process has a job, all
        orphans are its own."""
        orphans = [pid for pid in processes.orphans() if pid not in self._jobs]
        if self._adopts and all(other is job or not other.is_busy for other in self._jobs.values()):
            return orphans
        return [pid for pid in orphans if processes.belongs_to(pid, group, f"{_MARK}={job.mark}".encode())]

    def _end(self) -> None:
        """Leave no process behind."""
        signal.set_wakeup_fd(-1)
        if not self._adopts:  # what comes from a job would not be found any more when its parent has ended
            processes.kill(each for pid, job in self._jobs.items() for each in (pid, *self._left_behind(job, pid)))
        deadline = time.monotonic() + _DYING_LIMIT_S
        with contextlib.suppress(ChildProcessError):  # none is left
            while time.monotonic() < deadline:
                for pid in self._jobs:
                    processes.send(-pid, signal.SIGKILL)
                for pid in processes.children(os.getpid()):
                    processes.kill([pid])
                while os.wait4(-1, os.WNOHANG)[0]:
                    pass
                time.sleep(0.002)


def _send(link: Link, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the worker is gone; the next receive sees it
        link.send(_pack(message))


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


if __name__ == "__main__":
    link_fd, arguments = int(sys.argv[1]), _unpack(bytes.fromhex(sys.argv[2]))
    sys.argv[1:] = []
    keep_locals(arguments["locals"])
    names = ("preload", "start", "files", "libraries")
    sys.exit(main(link_fd, *(arguments[name] for name in names)))
