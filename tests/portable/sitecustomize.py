"""A Linux without what macOS lacks, for processes that have this folder in their PYTHONPATH (see `make portable`).

Python imports it at its start. It removes functions, hides `/proc` from jobkit (psutil and tests may read it), and lets
jobkit take forks for unsafe. What the kernel itself does differently on macOS it cannot show.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import errno
import io
import mmap
import os
import resource
import select
import signal
import sys
from typing import Any

del select.epoll  # before `selectors` looks for it
import socket  # noqa: E402

#: For `tests.support`.
IS_PORTABLE = True

_MISSING: dict[Any, str] = {
    os: "pipe2 waitid waitid_result pidfd_open eventfd eventfd_read eventfd_write memfd_create posix_fallocate "
    "posix_fadvise copy_file_range splice sched_getaffinity sched_setaffinity sched_setscheduler getrandom "
    "setresuid setresgid getresuid getresgid getxattr setxattr listxattr removexattr unshare setns fdatasync "
    "O_TMPFILE O_PATH O_NOATIME O_DIRECT P_ALL P_PID P_PIDFD P_PGID WNOWAIT WEXITED",
    socket: "SOCK_CLOEXEC SOCK_NONBLOCK MSG_NOSIGNAL MSG_CMSG_CLOEXEC SO_PEERCRED SO_DOMAIN SO_PROTOCOL "
    "TCP_KEEPIDLE TCP_USER_TIMEOUT",
    signal: "sigtimedwait sigwaitinfo pidfd_send_signal SIGRTMIN SIGRTMAX SIGPWR SIGSTKFLT SIGPOLL",
    select: "epoll EPOLLIN EPOLLOUT EPOLL_CLOEXEC POLLRDHUP",
    resource: "prlimit RUSAGE_THREAD RLIMIT_SIGPENDING RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_OFILE",
    mmap: "MADV_DONTFORK MADV_DOFORK MADV_REMOVE MADV_MERGEABLE MAP_POPULATE",
}
for _module, _names in _MISSING.items():
    for _name in _names.split():
        with contextlib.suppress(AttributeError):
            delattr(_module, _name)
if sys.version_info >= (3, 13):
    os.process_cpu_count = os.cpu_count  # Linux's asks `sched_getaffinity`


class _CDLL(ctypes.CDLL):
    def __getattr__(self, name: str) -> Any:
        if name in ("prctl", "eventfd", "signalfd", "memfd_create", "pidfd_open"):
            raise AttributeError(name)
        return super().__getattr__(name)


ctypes.CDLL = _CDLL  # type: ignore[misc]

_socketpair, _setrlimit = socket.socketpair, resource.setrlimit


def _stream_pair(family: int | None = None, type: int = socket.SOCK_STREAM, proto: int = 0) -> Any:
    if type == socket.SOCK_SEQPACKET:
        raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))
    return _socketpair(socket.AF_UNIX if family is None else family, type, proto)


def _no_limit_of_memory(which: int, limits: tuple[int, int]) -> None:
    if which not in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        _setrlimit(which, limits)


socket.socketpair = _stream_pair  # type: ignore[assignment]
resource.setrlimit = _no_limit_of_memory  # type: ignore[assignment]

#: Modules whose calls are made on behalf of their caller.
_BETWEEN = {__name__, "pathlib", "pathlib._local", "io", "os", "posixpath", "genericpath", "contextlib", "functools"}


def _is_for_jobkit() -> bool:
    frame = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__") in _BETWEEN:
        frame = frame.f_back  # type: ignore[assignment]  # None at the end
    name = "" if frame is None else frame.f_globals.get("__name__", "")
    if frame is not None and name == "__main__" and getattr(frame.f_globals.get("__spec__"), "name", None):
        name = frame.f_globals["__spec__"].name
    return bool(name.partition(".")[0] == "jobkit")


def _hidden(function: Any) -> Any:
    def call(path: Any = ".", *args: Any, **options: Any) -> Any:
        if not isinstance(path, int) and str(path).startswith(("/proc", "/sys/fs/cgroup")) and _is_for_jobkit():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return function(path, *args, **options)

    return call


for _name in ("open", "listdir", "scandir", "readlink", "stat", "lstat"):
    setattr(os, _name, _hidden(getattr(os, _name)))
builtins.open = io.open = _hidden(io.open)

with contextlib.suppress(ImportError):
    from jobkit.system import own

    own.FORK_IS_SAFE = False
