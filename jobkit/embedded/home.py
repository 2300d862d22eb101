"""The home directory of an embedded server: its files, their permissions and locks.

All files are accessible to their owner only, under any umask. A home that other users can write to is rejected: they
could put a payload into the owner's worker.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from jobkit.access.own_machine import write_private
from jobkit.codec import RETIRED
from jobkit.model import JobkitError
from jobkit.model.format import local_time

with suppress(ModuleNotFoundError):  # Windows has no locks by the kernel, and no home; the command line loads this
    import fcntl

#: Maximum length of a socket path that all platforms support (macOS has room for 103 bytes).
MAX_SOCKET_BYTES = 100

#: So many former keys of a namespace are kept.
_RETIRED_MOST = 100


class Home:
    """The files of one home. `Home.open` creates and checks the directory; `Home(path)` only knows the paths."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "redis.conf"
        self.data = path / "data"  # the server's append-only file
        self.logs = path / "logs"
        self.supervisor_log = self.logs / "supervisor.log"
        self.spool = path / "spool"  # outcomes that workers could not store while the server was not reachable
        self.results = path / "results"  # large results, artifacts and whole logs; see `jobkit.files`
        self.namespaces = path / "namespaces"  # one file per namespace that local workers serve; see `demand`
        self.services = path / "services"  # one file per further process of the supervisor; see `demand`
        self.lock = path / "lock"  # locked by the supervisor while it lives
        self.data_lock = path / "data.lock"  # locked by the server while it lives
        self.launch_lock = path / "launch.lock"  # locked while a process starts a supervisor
        self.up_lock = path / "up.lock"  # locked by `jobkit up`
        self.status_file = path / "supervisor.json"

    @classmethod
    def at(cls, path: Path) -> Home:
        """Return the home at `path`, which need not exist."""
        return cls(path.expanduser().absolute())

    @classmethod
    def open(cls, path: Path) -> Home:
        """Return the home at `path`; creates missing directories. Raises JobkitError if others may write to it, or it
        cannot be used."""
        home = cls.at(path)
        try:
            str(home.path).encode()
        except UnicodeEncodeError:
            raise JobkitError(f"JOBKIT_HOME {str(home.path)!a} is not text: set it to another directory") from None
        make_private(home.path, "JOBKIT_HOME")
        for folder in (home.data, home.logs, home.spool, home.namespaces):
            make_private(folder, "the jobkit home's directory")
        return home

    @property
    def socket(self) -> Path:
        """Socket of the server. A home whose path is long, or not printable text, has its socket in `/tmp/jobkit-UID/`.

        The path depends only on the home's path and the user, not on TMPDIR or XDG_RUNTIME_DIR, which differ between a
        login, a cron job and a notebook of the same user.
        """
        path = self.path / "redis.sock"
        if len(os.fsencode(path)) <= MAX_SOCKET_BYTES and str(path).isprintable():
            return path
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        return Path("/tmp") / f"jobkit-{os.geteuid()}" / f"{digest}.sock"

    def check_socket_directory(self) -> None:
        """Create the directory in `/tmp` if the socket is there. Raises JobkitError if it is not ours alone."""
        if self.socket.parent != self.path:
            make_private(self.socket.parent, "the socket directory", may_be_link=False)

    def secret(self, namespace: str) -> str:
        """Return the keys of payloads of a namespace, as in `JOBKIT_SECRET`: 64 hex digits each, the first one signs.

        One is created by the first call. Raises JobkitError if the file is damaged, or other users can read it.
        """
        path = self.secret_file(namespace)
        if namespace != "default" and not path.exists():
            first = _derived(self._master(), f"payloads\0{namespace}")
            try:
                write_private(path, first, replaces=False)
            except OSError:  # the disk is full: the next call writes the same
                return first
        return self._random_text(path.name, "the signing key", "remove it, and with it the jobs that wait")

    def secret_file(self, namespace: str) -> Path:
        """Return the file of `secret`, which has mode 0600."""
        return self.path / ("secret" if namespace == "default" else f"secret.{namespace}")

    def replace_secret(self, namespace: str) -> None:
        """Sign payloads of a namespace with a new key from now on. Those before are retired, see `Codec`.

        Raises JobkitError as `secret` does. Callers hold a lock.
        """
        retired = [f"{RETIRED}{key.removeprefix(RETIRED)}" for key in self.secret(namespace).split(",")]
        text = ",".join((secrets.token_hex(32), *retired[:_RETIRED_MOST]))
        write_private(self.secret_file(namespace), text)

    def token_secret(self) -> str:
        """Return the key of tokens and logins, which no other machine gets. Raises JobkitError as `secret` does."""
        return _derived(self._master(), "tokens")

    def _master(self) -> str:
        """Return the key from which others are derived. Raises JobkitError as `secret` does."""
        return self._random_text("master-key", "the master key", "remove it, and with it all tokens")

    def login_command(self) -> str:
        """Return the name of the server's command AUTH, which only the gateway of `jobkit share` may know.

        Raises JobkitError as `secret` does.
        """
        return f"login-{self._random_text('login-command', 'the name of the login command', 'remove it')}"

    def _random_text(self, name: str, what: str, fix: str) -> str:
        path = self.path / name
        if not path.exists():
            write_private(path, secrets.token_hex(32), replaces=False)  # the first of two processes wins
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise JobkitError(f"{what} {path} can be read by others (mode {mode:04o}): run `chmod 600 {path}`")
        text = path.read_text("ascii", "replace").strip()
        if len(text) < 32:
            raise JobkitError(f"{what} {path} is damaged: {fix}")
        return text

    def status(self) -> dict[str, Any]:
        """Return the supervisor's last status; {} if there is none."""
        try:
            return dict(json.loads(self.status_file.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return {}

    def write_status(self, status: dict[str, Any]) -> None:
        """Write the status, if that is possible; on a full disk over the last status, which takes no more space."""
        text = json.dumps(status, indent=1)
        try:
            write_private(self.status_file, text)
        except OSError:
            with suppress(OSError), self.status_file.open("r+") as file:
                file.write(text)
                file.truncate()

    def identity(self) -> tuple[int, int] | None:
        """Return what a later home at this path does not have: device and inode of the lock; None if it is gone.

        Raises OSError if the file system does not say.
        """
        try:
            found = self.lock.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_dev, found.st_ino

    def is_supervised(self) -> bool:
        """Return True if a supervisor lives: it holds the lock, which the kernel releases when it dies."""
        try:
            with self.lock.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                fcntl.flock(file, fcntl.LOCK_UN)
        except BlockingIOError:
            return True
        except (FileNotFoundError, NotADirectoryError):
            pass
        return False


def _derived(key: str, use: str) -> str:
    return hmac.new(key.encode(), use.encode(), "sha256").hexdigest()


def own_version() -> str:
    """Return the version of this jobkit."""
    return str(getattr(sys.modules.get("jobkit"), "__version__", "0"))


def signal_to(status: Mapping[str, object], number: int) -> bool:
    """Send a signal to the writer of the status (0: none); return True if it lives.

    A new supervisor may not have written its own status yet.
    """
    pid = status.get("pid")
    if not isinstance(pid, int) or pid <= 1:
        return False
    try:
        os.kill(pid, number)
    except OSError:
        return False
    return True


@contextmanager
def holding(path: Path, *, patience_s: float = 0.0) -> Iterator[bool]:
    """Hold the lock file at `path` for the block; yields False if it is not free within `patience_s`.

    It is released by name: a process that another thread forked meanwhile has the file open for as long as it lives.
    """
    with append_private(path) as file:
        is_mine = acquire(file, patience_s)
        try:
            yield is_mine
        finally:
            if is_mine:
                fcntl.flock(file, fcntl.LOCK_UN)


def acquire(file: BinaryIO, patience_s: float) -> bool:
    """Lock a file for all who have it open; return False if it is not free within `patience_s`."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)


def make_private(path: Path, what: str, *, may_be_link: bool = True) -> None:
    """Create the directory `path` and its parents (mode 0700) if missing, and check who may write to it.

    Raises JobkitError, see `Home.open`; `what` is the directory's name in the message.
    """
    try:
        for folder in reversed([folder for folder in (path, *path.parents) if not folder.exists()]):
            with suppress(FileExistsError):
                folder.mkdir(0o700)
                folder.chmod(0o700)  # the umask may have removed bits
        found = path.stat() if may_be_link else path.lstat()
    except OSError as error:
        raise JobkitError(
            f"{what} {path} cannot be used ({error.strerror}): set JOBKIT_HOME to a directory of yours"
        ) from None
    mode, me, other = stat.S_IMODE(found.st_mode), os.geteuid(), "set JOBKIT_HOME to a directory of yours"
    for is_wrong, why in (
        (not stat.S_ISDIR(found.st_mode), f"is not a directory: {other}"),
        (found.st_uid != me, f"belongs to another user (uid {found.st_uid}, you are {me}): {other}"),
        (mode & 0o022, f"can be written to by others (mode {mode:04o}): run `chmod 700 {path}`"),
        (not os.access(path, os.R_OK | os.W_OK | os.X_OK), "is not writable: set JOBKIT_HOME to a directory that is"),
    ):
        if is_wrong:
            raise JobkitError(f"{what} {path} {why}")


# -- log files ---------------------------------------------------------------------------------------------------------


def say(line: str) -> None:
    """Write one line to the log of this process, unless the disk is full."""
    with suppress(OSError):
        print(f"{local_time(datetime.now(UTC), seconds=True)} {line}", file=sys.stderr, flush=True)


def lines_of(log: Path, after: int = 0) -> list[str]:
    """Return the last lines of a log that are not empty, of those after byte `after`; none if it cannot be read."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(after, log.stat().st_size - 8192))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [line.strip() for line in lines if line.strip()]


def append_private(path: Path) -> BinaryIO:
    """Open a file to append to, a new one of mode 0600."""
    return open(path, "a+b", opener=partial(os.open, mode=0o600))


def rotate(log: Path, limit_bytes: int) -> None:
    """Copy a log to `NAME.1` and truncate it if it is larger than the limit.

    The writers are other processes that keep their descriptors open. Lines written during the copy are lost.
    """
    try:
        if log.stat().st_size > limit_bytes:
            shutil.copy(log, f"{log}.1")  # with its mode
            os.truncate(log, 0)
    except OSError as error:
        say(f"{log} could not be rotated ({error})")
