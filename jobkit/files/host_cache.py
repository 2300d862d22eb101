"""`HostCache`: contents of files from other machines, kept on this one by their SHA-256, shared by its processes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from jobkit.files.storage import make_folders
from jobkit.settings import Settings

#: At most so many bytes are kept, and no more than half of what the disk has free.
CACHE_BYTES = 4_000_000_000

#: A content that was used within these seconds stays: a job may be about to open it.
_IN_USE_S = 600.0

#: Of a download that was cut, the begin is kept for so many seconds.
_BEGUN_S = 24 * 3600.0

#: Seconds between two looks at the lock of another process.
_AGAIN_S = 0.1

#: The sentence for a content that is not what was announced.
CHANGED = "its content was changed on the way: its SHA-256 is another one"

_PART = ".part"

#: Bytes that this process may add to a cache before it looks at its files again.
_room: dict[Path, int] = {}


class HostCache:
    """Keeps contents in files that are named after their SHA-256. Contents that were used longest ago go first.

    Several processes may use one cache: each content is fetched by one of them while the others wait. If that
    process is killed, the next one continues.
    """

    def __init__(self, root: Path, most_bytes: int = CACHE_BYTES) -> None:
        self.root, self._most_bytes = root, most_bytes

    def get(
        self,
        digest: str,
        size: int,
        fetch: Callable[[int], Iterator[bytes]],
        *,
        is_digest: bool = True,
        wait: Callable[[bool], None] = lambda is_going_on: time.sleep(_AGAIN_S),
    ) -> Path:
        """Return the file with a content. It stays for ten minutes at least; an opened file stays readable.

        Args:
            digest: its SHA-256, 64 hexadecimal digits. size: in bytes.
            fetch: yields the content from an offset on.
            is_digest: False if `digest` is another name, which no other content has.
            wait: called again and again while another process fetches it, with whether that goes on; may raise.

        Raises:
            OSError: it cannot be fetched or written, or what was fetched has another SHA-256.
        """
        target = self.root / digest[:2] / digest
        if _use(target, size):
            return target
        make_folders(target.parent)
        part = target.with_name(target.name + _PART)
        with _locked(part, wait) as file:
            if _use(target, size):  # another process has fetched it
                part.unlink(missing_ok=True)
                return target
            self._make_room(size)
            found = _fill(file, size, fetch)
            if found != digest if is_digest else file.tell() != size:
                part.unlink()
                raise OSError(errno.EIO, CHANGED)
            os.replace(part, target)
        return target

    def _make_room(self, more: int) -> None:
        """Delete what was used longest ago, so that `more` bytes fit in. Looks at the files now and then only."""
        _room[self.root] = _room.get(self.root, 0) - more
        if _room[self.root] >= 0:
            return
        now, found = time.time(), []
        for path in self.root.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                facts = path.stat()
                found.append((facts.st_mtime, facts.st_size, path))
        total = sum(size for _, size, _ in found)
        most = min(self._most_bytes, (total + shutil.disk_usage(self.root).free) // 2)
        for used_at, size, path in sorted(found):
            if total + more <= most:
                break
            if now - used_at >= (_BEGUN_S if path.suffix == _PART else _IN_USE_S):
                with contextlib.suppress(OSError):
                    path.unlink()
                    total -= size
        _room[self.root] = min(most - total - more, most // 50)  # other processes add to it, too


def _use(path: Path, size: int) -> bool:
    """Return whether the whole content is there, and note that it is used."""
    try:
        os.utime(path)
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _locked(part: Path, wait: Callable[[bool], None]) -> Iterator[IO[bytes]]:
    """Yield the file of a download, which no other process writes meanwhile."""
    while True:
        with open(part, "a+b", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            size = os.fstat(file.fileno()).st_size
            while not _lock(file):
                before, size = size, os.fstat(file.fileno()).st_size
                wait(size != before)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(part)):
                    yield file
                    return


def _lock(file: IO[bytes]) -> bool:
    """Return False if another process has the lock."""
    try:
        import fcntl
    except ImportError:  # Windows: two processes may fetch the same, and the later one replaces the file
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


def _fill(file: IO[bytes], size: int, fetch: Callable[[int], Iterator[bytes]]) -> str:
    """Write what is missing, and return the SHA-256 of the whole."""
    running = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(1 << 20):
        running.update(chunk)
    if file.tell() > size:  # of a process without a lock
        file.truncate(0)
        file.seek(0)
        running = hashlib.sha256()
    for chunk in fetch(file.tell()):
        running.update(chunk)
        file.write(chunk)
    file.flush()
    return running.hexdigest()


def cache_of(home: Path | None) -> HostCache:
    """Return the cache of this machine. `home`: of its settings, by default."""
    return HostCache((home or Settings.load().home.expanduser()) / "cache" / platform.node())
