"""Packs of files that travel with calls: a list of paths and contents, whose SHA-256 is part of the sealed call."""

from __future__ import annotations

import glob
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from jobkit.model import InvalidParams, SignatureError
from jobkit.model.format import size

#: A pack is at most so large, and has at most so many files.
MAX_BYTES, MAX_FILES = 20_000_000, 2_000

#: File of patterns, one a line, for what does not travel; in the folder that travels.
IGNORE_FILE = ".jobkitignore"

#: A path in a pack: names between slashes, none of which begins with a dot.
_PATH = re.compile(r"(?:[\w+-][\w. +-]*/){0,20}[\w+-][\w. +-]*")

#: An unpacked pack that was not used for so many seconds is deleted by the next process that unpacks one.
_KEPT_S = 7 * 86_400.0


def packed(files: dict[str, Path], task: str) -> bytes:
    """Return a pack of files, b"" for no files; the same contents give the same bytes.

    Raises:
        InvalidParams: too many or too large, or a name that cannot be unpacked everywhere.
    """
    if not files:
        return b""
    for where in files:
        if not _PATH.fullmatch(where):
            raise InvalidParams(
                f"a file with the name {where!r} cannot travel with {task}: rename it, or ignore it", "ship"
            )
    try:
        sizes = {where: path.stat().st_size for where, path in files.items()}
        if len(files) <= MAX_FILES and sum(sizes.values()) <= MAX_BYTES:
            contents = {where: _read(path) for where, path in files.items()}
            sizes = {where: len(content) for where, content in contents.items()}  # some may have grown
    except OSError as error:
        raise InvalidParams(
            f"the code that travels with {task} cannot be read: {error.filename}: {error.strerror or error}", "ship"
        ) from None
    total = sum(sizes.values())
    if len(files) > MAX_FILES or total > MAX_BYTES:
        largest = max(sizes, key=lambda where: sizes[where])
        count = f"{len(files):,} files" if len(files) <= MAX_FILES else f"more than {MAX_FILES:,} files"
        raise InvalidParams(
            f"the code that would travel with {task} has {count} and {size(total)}, and may have {MAX_FILES:,} files "
            f"and {size(MAX_BYTES)}; the largest is {largest} ({size(sizes[largest])}): name what is not needed in "
            f"{IGNORE_FILE}, or what is needed with ship=[...]",
            "ship",
        )
    return pack_of(contents)


def _read(path: Path) -> bytes:
    """Return the content of a file, little more than what may travel."""
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def pack_of(contents: Mapping[str, bytes]) -> bytes:
    """Return the pack of these contents by path."""
    return msgspec.msgpack.encode(sorted(contents.items()))


_read_pack = msgspec.msgpack.Decoder(list[tuple[str, bytes]]).decode


def is_here(content: bytes, roots: Sequence[str]) -> bool:
    """Return True if the files of a pack are below these folders, unchanged, so that they can be imported from there.

    There they have their data files beside them. Raises SignatureError: it is no pack.
    """
    for where, body in files_of(content).items():
        found = next((path for root in roots if (path := Path(root, where)).is_file()), None)
        if found is None or found.read_bytes() != body:
            return False
    return True


def files_of(content: bytes) -> dict[str, bytes]:
    """Return the files of a pack by path. Raises SignatureError: a path leads out of the folder, or it is no pack."""
    try:
        files = _read_pack(content)
    except msgspec.MsgspecError as error:
        raise SignatureError(f"the code that came with it cannot be read: {error}") from None
    if len(files) > MAX_FILES or not all(_PATH.fullmatch(where) for where, _ in files):
        raise SignatureError("the code that came with it has a path that leads out of its folder")
    return dict(files)


def unpacked(content: bytes, name: str, below: Path) -> Path:
    """Return the folder with the files of a pack, unpacked unless it is there.

    Args:
        name: SHA-256 of the content, which was checked. below: folder of this user alone for all packs.

    Raises:
        SignatureError: a path leads out of the folder, or it is no pack. OSError: the disk.
    """
    try:
        private(below)
    except PermissionError:
        below = _private_beside(below)
    target = below / name[:32]
    with suppress(FileNotFoundError):
        os.utime(target)
        return target
    files = files_of(content)
    _sweep(below)
    aside = below / f".{secrets.token_hex(8)}"
    try:
        for where, body in files.items():
            path = aside / where
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_bytes(body)
        aside.mkdir(exist_ok=True, mode=0o700)
        os.rename(aside, target)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        if not target.is_dir():  # else another process was faster
            raise
    return target


def private(folder: Path) -> None:
    """Create a folder of this user alone. Raises OSError if another user owns it, or may write to it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022 or folder.is_symlink():
        raise PermissionError(f"{folder} is not a folder of this user alone: delete it")


def _private_beside(taken: Path) -> Path:
    """Return a folder of this user alone if another user made the usual one first."""
    for each in sorted(taken.parent.glob(f"{glob.escape(taken.name)}-*")):
        with suppress(OSError):
            private(each)
            return each
    return Path(tempfile.mkdtemp(prefix=f"{taken.name}-", dir=taken.parent))


def _sweep(folder: Path) -> None:
    before = time.time() - _KEPT_S
    for each in folder.iterdir():
        with suppress(OSError):
            if each.stat().st_mtime < before:
                shutil.rmtree(each, ignore_errors=True)
