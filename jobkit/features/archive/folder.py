"""The files of an archive: `namespace=NAME/PLACE/FIRST_LAST.parquet`.

`namespace=NAME/made`, `parts` and `files` have copies of what jobs have beside their records, see
`jobkit.features.moving.belongings`.

`PLACE` is the mark of the Redis that the jobs come from (`RedisStore.place`): a new or wiped server starts a new one.
FIRST and LAST are the first and the last entry of its outbox in the file, so the contents follow from the name.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Collection, Iterable
from itertools import accumulate, groupby

import msgspec

from jobkit.files.storage import Place

_NAME = re.compile(r"(\d{13,20})-(\d{1,20})_(\d{13,20})-(\d{1,20})\.parquet", re.ASCII)
_PLACE = re.compile(r"[0-9a-f]{16}")

#: So many neighbours of one size class become one file. The classes grow by this factor, from `_SMALL_BYTES` on.
MERGED = 16
_SMALL_BYTES = 64_000

#: Files from this size on are not merged with others.
WHOLE_BYTES = 32_000_000

#: Folders of the copies of a kind; the others have its name.
_COPIES = {"part": "parts", "file": "files"}

Entry = tuple[int, int]


class ArchiveFile(msgspec.Struct, frozen=True):
    """One file: its path in the archive, its size, and the entries of the waiting ones from `first` to `last`."""

    path: str
    size: int
    first: Entry
    last: Entry

    @property
    def place(self) -> str:
        return self.path.split("/")[1]

    @property
    def last_ms(self) -> int:
        """No job in the file has ended, or was submitted, after this time (ms since the epoch)."""
        return self.last[0]


def path_of(namespace: str, place: str, first: str, last: str) -> str:
    """Return the path of the file with these entries of the waiting ones."""
    return f"namespace={namespace}/{place}/{first}_{last}.parquet"


def copy_path(namespace: str, kind: str, name: str) -> str:
    """Return the path of the copy of a content, see `jobkit.features.moving.belongings`."""
    return f"namespace={namespace}/{_COPIES.get(kind, kind)}/{name}"


def files_of(storage: Place, namespace: str, place: str = "") -> list[ArchiveFile]:
    """Return the files of a namespace (of one server), in order; other files are ignored. Raises OSError."""
    root = f"namespace={namespace}"
    found = []
    for mark in [place] if place else sorted(filter(_PLACE.fullmatch, storage.sizes(root))):
        for name, size in storage.sizes(f"{root}/{mark}").items():
            if match := _NAME.fullmatch(name):
                a, b, c, d = map(int, match.groups())
                found.append(ArchiveFile(f"{root}/{mark}/{name}", size, (a, b), (c, d)))
    return sorted(found, key=lambda one: (one.place, one.first, *(-n for n in one.last)))


def covering(files: Iterable[ArchiveFile]) -> dict[ArchiveFile, list[ArchiveFile]]:
    """Return the files that no other one contains, each with those that it contains. `files` are in order."""
    found: dict[ArchiveFile, list[ArchiveFile]] = {}
    outer = None
    for file in files:
        if outer is not None and file.place == outer.place and file.last <= outer.last:
            found[outer].append(file)
        else:
            outer, found[file] = file, []
    return found


def to_merge(files: Iterable[ArchiveFile], apart: Collection[ArchiveFile] = ()) -> list[ArchiveFile]:
    """Return neighbours of one place that should become one file, or none.

    Args:
        files: in order, none contained in another. apart: files that stay, and separate their neighbours.
    """
    for _, group in groupby(files, key=lambda one: (one.place, _size_class(one.size), one in apart)):
        some = list(group)
        if len(some) >= MERGED and some[0].size < WHOLE_BYTES and some[0] not in apart:
            sums = list(accumulate(one.size for one in some[:MERGED]))
            return some[: max(2, bisect(sums, 2 * WHOLE_BYTES))]
    return []


def merged_path(files: list[ArchiveFile]) -> str:
    """Return the path of the file that replaces neighbours."""
    folder, _, name = files[0].path.rpartition("/")
    return f"{folder}/{name.partition('_')[0]}_{files[-1].path.rpartition('_')[2]}"


def _size_class(size: int) -> int:
    found = 0
    while size >= _SMALL_BYTES and found < 8:
        size, found = size // MERGED, found + 1
    return found
