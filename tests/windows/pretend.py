"""Lets jobkit's code in this process see what it would see on Windows. Other code sees the real system.

`import tests.windows.pretend` before the first import of jobkit, or `pytest -p tests.windows.pretend`. Modules and
names that only POSIX has are hidden from modules of jobkit alone: the standard library and other packages need them
here. `sys.platform` is "win32"; `os.name`, paths and the event loop stay.
"""

from __future__ import annotations

import asyncio
import builtins
import importlib
import sys
from types import ModuleType
from typing import Any

#: Modules of the standard library that Windows lacks.
MODULES = "_posixshmem _posixsubprocess crypt fcntl grp nis posix pty pwd readline resource spwd syslog termios tty"

#: Names that Windows lacks in modules that it has. `fchmod` is there from Python 3.13 on.
NAMES = {
    "os": """
        O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK WNOHANG chown confstr fchdir fchmod fchown fork forkpty getegid
        geteuid getgid getgroups getloadavg getpgid getpgrp getpriority getresuid getsid getuid initgroups killpg lchown
        memfd_create mkfifo nice openpty pidfd_open pipe2 posix_spawn pread pwrite register_at_fork sched_getaffinity
        sched_yield sendfile setpgid setsid setuid statvfs sync sysconf ttyname uname wait3 wait4 waitid""",
    "signal": """
        SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGURG SIGUSR1 SIGUSR2 SIGWINCH alarm
        pause pthread_kill pthread_sigmask setitimer sigpending sigwait""",
    "socket": "AF_UNIX SCM_RIGHTS SOCK_CLOEXEC SOCK_SEQPACKET SO_PEERCRED SO_REUSEPORT recv_fds send_fds",
    "select": "epoll kqueue poll",
    "time": "clock_gettime pthread_getcpuclockid tzset",
    "asyncio": "open_unix_connection start_unix_server",
}

#: Methods of an event loop that Windows' own (`ProactorEventLoop`) lacks.
LOOP = ("add_signal_handler", "add_reader", "add_writer", "create_unix_connection", "create_unix_server")


def _is_jobkit() -> bool:
    """Return whether the caller of the caller is a module of jobkit."""
    return str(sys._getframe(2).f_globals.get("__name__", "")).partition(".")[0] == "jobkit"


def _seen(module: ModuleType, hidden: frozenset[str], changed: dict[str, Any]) -> ModuleType:
    """Return what stands for a module: without its hidden names, and with the changed ones, if jobkit asks."""

    class Seen(ModuleType):
        def __getattribute__(self, name: str) -> Any:
            if name == "__reduce_ex__":  # for a function that refers to it
                return lambda _: (importlib.import_module, (module.__name__,))
            if name in hidden and _is_jobkit():
                raise AttributeError(f"module {module.__name__!r} on Windows has no attribute {name!r}")
            return changed[name] if name in changed and _is_jobkit() else getattr(module, name)

        def __setattr__(self, name: str, value: Any) -> None:
            setattr(module, name, value)

        def __delattr__(self, name: str) -> None:
            delattr(module, name)

    return Seen(module.__name__)


def _hide() -> None:
    modules = frozenset(MODULES.split())
    real_import = builtins.__import__

    def imported(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] in modules and _is_jobkit():
            raise ModuleNotFoundError(f"No module named {name!r} on Windows", name=name)
        return real_import(name, *args, **kwargs)

    builtins.__import__ = imported
    for name, hidden in NAMES.items():
        sys.modules[name] = _seen(__import__(name), frozenset(hidden.split()), {})
    sys.modules["sys"] = _seen(sys, frozenset({"abiflags"}), {"platform": "win32"})
    for name in LOOP:
        _refuse(name)


def _refuse(name: str) -> None:
    old = getattr(asyncio.SelectorEventLoop, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_jobkit():
            raise NotImplementedError(name)
        return old(self, *args, **kwargs)

    setattr(asyncio.SelectorEventLoop, name, method)


_hide()
