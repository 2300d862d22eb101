"""Names that macOS's Python lacks: jobkit uses them in `system/` alone. `make portable` runs the tests without them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.syntax import tree_of
from tests.test_layers import MODULES, PACKAGE

#: Names of Linux's modules that macOS's do not have in some Python from 3.11 on: from "Availability" in Python's
#: documentation and from typeshed.
MISSING = {
    "os": "pipe2 waitid waitid_result P_PIDFD pidfd_open PIDFD_* eventfd eventfd_* EFD_* memfd_create MFD_* "
    "timerfd_* TFD_* posix_fallocate posix_fadvise POSIX_FADV_* copy_file_range splice SPLICE_* "
    "sched_get* sched_set* sched_rr_* SCHED_BATCH SCHED_IDLE fdatasync getrandom GRND_* getxattr setxattr "
    "listxattr removexattr XATTR_* getres?id setres?id setns unshare CLONE_* RWF_* O_DIRECT O_LARGEFILE "
    "O_NOATIME O_PATH O_RSYNC O_TMPFILE RTLD_DEEPBIND ST_NO* ST_APPEND POSIX_SPAWN_CLOSEFROM",
    "socket": "SOCK_SEQPACKET SOCK_CLOEXEC SOCK_NONBLOCK MSG_NOSIGNAL MSG_CMSG_CLOEXEC MSG_MORE MSG_ERRQUEUE "
    "MSG_CONFIRM MSG_FASTOPEN AF_NETLINK AF_PACKET AF_VSOCK AF_CAN AF_ALG SO_PEERCRED SO_PASSCRED "
    "SCM_CREDENTIALS SO_DOMAIN SO_PROTOCOL SO_PRIORITY SO_MARK SO_BINDTODEVICE IP_TRANSPARENT IP_FREEBIND "
    "TCP_KEEPIDLE TCP_USER_TIMEOUT TCP_CORK TCP_QUICKACK TCP_INFO TCP_SYNCNT TCP_DEFER_ACCEPT",
    "signal": "sigtimedwait sigwaitinfo pidfd_send_signal SIGCLD SIGPOLL SIGPWR SIGRTM?? SIGSTKFLT",
    "select": "epoll EPOLL* POLLRDHUP",
    "resource": "prlimit RUSAGE_THREAD RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_OFILE RLIMIT_RTPRIO RLIMIT_RTTIME "
    "RLIMIT_SIGPENDING",
    "mmap": "MADV_DONTFORK MADV_DOFORK MADV_DONTDUMP MADV_HUGEPAGE MADV_REMOVE MADV_MERGEABLE MAP_POPULATE MAP_STACK",
    "time": "CLOCK_BOOTTIME CLOCK_TAI pthread_getcpuclockid",
    "fcntl": "F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_NOTIFY F_SETSIG FICLONE* DN_*",
}
#: Paths, and functions of the C library.
_STRINGS = re.compile(r"/proc(/.*)?|/sys/.*|/dev/shm.*|prctl|memfd_create|inotify_.*|signalfd")

#: Uses outside of `jobkit/system` that ask first whether it is there.
ASK_FIRST = {("access/own_machine.py", "socket.SO_PEERCRED"), ("access/own_machine.py", "/proc/net/tcp")} | {
    ("access/own_machine.py", name) for name in ("/proc/net/tcp6", "/proc/net/route", "/proc/self/uid_map")
}


def linux_only(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and name of each use of what macOS lacks."""
    tree = tree_of(source)
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name: alias.name for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if _is_missing(module := modules.get(node.value.id, ""), node.attr):
                yield node.lineno, f"{module}.{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if _is_missing(node.module or "", alias.name):
                    yield node.lineno, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _STRINGS.fullmatch(node.value):
            yield node.lineno, node.value
        if isinstance(node, ast.Attribute) and node.attr == "prctl":
            yield node.lineno, node.attr


def _is_missing(module: str, name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in MISSING.get(module, "").split())


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import os\nos.pipe2(0)", "os.pipe2"),
        ("import os as system\nsystem.memfd_create('x')", "os.memfd_create"),
        ("from signal import sigtimedwait", "signal.sigtimedwait"),
        ("import socket\nsocket.socket(type=socket.SOCK_CLOEXEC)", "socket.SOCK_CLOEXEC"),
        ("open(f'/proc/{1}/stat')", "/proc/"),
        ("libc.prctl(1)", "prctl"),
        ("import os\nos.pipe(), os.fork(), os.wait4(-1, 0)", ""),
    ],
)
def test_a_use_of_what_macos_lacks_is_found(source: str, name: str) -> None:
    assert [found for _, found in linux_only(source)] == [name] * bool(name)


def test_what_macos_lacks_is_used_in_one_room_alone() -> None:
    found = {
        (path.relative_to(PACKAGE).as_posix(), line, name)
        for path in MODULES
        if path.parent.name != "system"
        for line, name in linux_only(path.read_text("utf-8"))
    }

    assert not [each for each in sorted(found) if (each[0], each[2]) not in ASK_FIRST]
    assert {(path, name) for path, _, name in found} >= ASK_FIRST, "these are no exceptions any more"


def test_paths_of_sockets_leave_room_for_what_macos_allows() -> None:
    """104 bytes with the zero at the end."""
    from jobkit.embedded.home import MAX_SOCKET_BYTES, Home

    folder = Path(
        "/var/folders/zz/zyxvpxvq6csfxvn_n0000000000000/T/pytest-of-somebody/pytest-0/a_long_name_of_a_test0/home"
    )

    assert MAX_SOCKET_BYTES < 104
    assert len(str(Home(folder).socket)) <= MAX_SOCKET_BYTES
