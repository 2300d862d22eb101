"""`ArchiveReader`: finds the jobs in an archive. Every method blocks, and reads files only."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from jobkit.codec import digest
from jobkit.features import modules
from jobkit.features.archive.filters import after_cursor, columns_of, in_order, matching, order_column
from jobkit.features.archive.folder import ArchiveFile, copy_path, covering, files_of
from jobkit.features.archive.table import COLUMNS, arrow, schema
from jobkit.features.moving.belongings import Content, ContentGone, is_name
from jobkit.features.moving.dump import Dump
from jobkit.files.places import place_of
from jobkit.files.storage import Directory, Place
from jobkit.model import InvalidParams, JobkitError
from jobkit.settings import Settings
from jobkit.store.query import Query, QueryPage, submit_bounds, write_cursor

logger = logging.getLogger("jobkit.archive")

T = TypeVar("T")

#: Columns for people.
SHOWN = tuple(name for name in COLUMNS if name not in ("us", "text"))

#: Times that the files are listed again if one is compacted away meanwhile.
_LISTED_MOST = 5

#: Groups of rows that are read at a time.
_GROUPS = 10

#: Seconds until a file that could not be read is tried again.
_BROKEN_S = 60.0


class FileGone(Exception):
    """A file is gone since it was listed: the worker has merged it with others."""


class FileBroken(Exception):
    """A file is damaged, or was not written to its end."""


class FoundJobs(msgspec.Struct):
    """The jobs that a query finds, in its order.

    Attributes:
        hits: table of pyarrow: number of the file, row, `us` and sort value of each after the query's cursor, up to its
            limit. has_more: there are more.
        total: how many match. problems: a sentence for each file that was left out.
    """

    hits: Any
    files: list[ArchiveFile]
    total: int
    problems: list[str]
    has_more: bool = False


class ArchiveReader:
    """The archived jobs of one namespace.

    Attributes:
        storage: where the files are.
        broken: a sentence for each file that cannot be read; after a minute they are tried again.
    """

    def __init__(self, storage: Place, namespace: str) -> None:
        self.storage, self.namespace = storage, namespace
        self.broken: dict[ArchiveFile, str] = {}
        self._forgiven_at = time.monotonic()

    def find(self, query: Query, now_ms: int) -> FoundJobs:
        """Return the jobs that match at that time, up to the query's limit.

        Raises:
            JobkitError: the archive cannot be read.
        """
        return self._retried(lambda: self._find(query, now_ms))

    def rows(self, query: Query, now_ms: int) -> tuple[Any, list[str]]:
        """Return the jobs that match as a table of pyarrow with the columns `SHOWN`; and the problems."""

        def read() -> tuple[Any, list[str]]:
            found = self._find(query, now_ms)
            return self._read(found, SHOWN), found.problems

        return self._retried(read)

    def dumps(self, query: Query, now_ms: int) -> tuple[list[Dump], FoundJobs]:
        """Return all data of the jobs that match, decoded and validated; nothing is unsealed."""

        def read() -> tuple[list[Dump], FoundJobs]:
            found = self._find(query, now_ms)
            return list(self._decoded(self._read(found, ["line"])["line"].to_pylist())), found

        return self._retried(read)

    def page(self, query: Query, now_ms: int) -> tuple[QueryPage, FoundJobs]:
        """Return a page of the jobs that match, as the store does. Raises JobkitError: the archive cannot be read."""
        dumps, found = self.dumps(query, now_ms)
        cursor = ""
        if found.has_more:
            last = found.hits.slice(len(found.hits) - 1).to_pylist()[0]
            cursor = write_cursor(query, last["value"], last["us"])
        return QueryPage(tuple(dump.snapshot for dump in dumps), cursor, problems=tuple(found.problems)), found

    def lookup(self, job_ids: Sequence[str]) -> list[Dump]:
        """Return all data of the jobs with these ids; of several with one id, the newest."""
        pa = arrow()

        def read() -> list[Dump]:
            ids = pa.array(job_ids, pa.string())
            hits, files = self._hits(["us", "id"], lambda table: pa.compute.is_in(table["id"], value_set=ids))
            found = FoundJobs(self._in_order(hits, Query(), files), files, len(hits), [])
            dumps = self._decoded(self._read(found, ["line"])["line"].to_pylist())
            newest = {dump.id: dump for dump in reversed(list(dumps))}
            return [newest[job_id] for job_id in job_ids if job_id in newest]

        return self._retried(read)

    def _find(self, query: Query, now_ms: int) -> FoundJobs:
        oldest_us, _ = submit_bounds(query, now_ms)
        hits, files = self._hits(
            columns_of(query), lambda table: matching(table, query, now_ms), oldest_us // 1000, order_column(query)
        )
        hits = self._in_order(hits, query, files)
        rest = after_cursor(hits, query)
        return FoundJobs(rest.slice(0, query.limit), files, len(hits), [*self.broken.values()], len(rest) > query.limit)

    def _hits(
        self,
        columns: Sequence[str],
        match: Callable[[Any], Any],
        oldest_ms: int = 0,
        value: str = "us",
    ) -> tuple[Any, list[ArchiveFile]]:
        """Return `file`, `row`, `us` and `value` of the rows of all files that match, and the files."""
        tables = [_no_hits(value)]
        files = [file for file in self.files() if file.last_ms >= oldest_ms]
        for n, file in enumerate(files):
            tables += self.opened(file, partial(_matched, n=n, columns=columns, match=match, value=value))
        return arrow().concat_tables(tables), files

    def _in_order(self, hits: Any, query: Query, files: list[ArchiveFile]) -> Any:
        return in_order(hits, query, lambda some: self._read(FoundJobs(some, files, 0, []), ["id"])["id"])

    def contents(self, dump: Dump) -> list[Content]:
        """Return the copies of what a job has beside its record. Raises JobkitError: the archive cannot be read."""

        def copied(kind: str, name: str) -> Content:
            return Content(kind, name, 0, place=self.storage, path=copy_path(self.namespace, kind, name))

        def read() -> list[Content]:
            found = list[Content]()
            for module in modules("contents"):
                names, seen = module.names(dump), set[str]()
                while names := {name for name in names - seen if is_name(module.KIND, name)}:
                    seen |= names
                    some, names = [copied(module.KIND, name) for name in names], set()
                    for one in some:
                        with contextlib.suppress(ContentGone):
                            names |= {*module.named_in(b"".join(one.chunks()))}
                            found.append(one)
            found += [copied("part", name) for name in dump.parts if is_name("part", name)]
            if dump.folder:
                folder = dump.folder.removeprefix("=")
                in_folder = self.storage.sizes(copy_path(self.namespace, "file", folder))
                paths = [f"{folder}/{name}" for name in in_folder]
                found += [copied("file", path) for path in paths if is_name("file", path)]
            return found

        return self._retried(read)

    def whole(self, dump: Dump) -> Dump:
        """Return a dump with its large result, if that can be read."""
        if not dump.result_in:
            return dump
        try:
            body = self.storage.read(copy_path(self.namespace, "part", dump.result_in))
        except OSError:
            body = b""
        return replace(dump, result=body if digest(body) == dump.result_in else b"")

    def files(self, place: str = "") -> list[ArchiveFile]:
        """Return the readable files (of one server) that no other one contains, in order. Raises OSError."""
        if isinstance(self.storage, Directory) and self.storage.root.exists():
            os.listdir(self.storage.root)  # raises if it is no directory
        return [*covering(file for file in files_of(self.storage, self.namespace, place) if file not in self.broken)]

    def _read(self, found: FoundJobs, columns: Sequence[str]) -> Any:
        """Return columns of the hits, in their order. Reads only the groups of rows that have some."""
        pa = arrow()
        pc = pa.compute
        tables, places = [], []
        for n in pc.unique(found.hits["file"]).to_pylist():
            numbers = pc.indices_nonzero(pc.equal(found.hits["file"], n))
            wanted = found.hits["row"].take(numbers).to_numpy()
            tables.append(self.opened(found.files[n], partial(_some, rows=wanted, columns=columns)))
            places.append(numbers)
        if not tables:
            return schema().empty_table().select(columns)
        order = pc.sort_indices(pa.chunked_array(places))
        return pa.concat_tables(tables).take(order)

    def opened(self, file: ArchiveFile, read: Callable[[Any], T]) -> T:
        """Return what `read` returns for a file.

        Raises:
            FileGone: it was merged with others. FileBroken: it cannot be read; it is in `broken` from now on.
        """
        pa = arrow()
        try:
            with self.storage.open(file.path) as source:
                parquet = pa.parquet.ParquetFile(source)
                if parquet.schema_arrow.names != schema().names:
                    raise pa.ArrowInvalid("another version of jobkit, with other columns, has written it")
                return read(parquet)
        except FileNotFoundError:
            raise FileGone from None
        except Exception as error:  # drivers of fsspec have their own
            if isinstance(self.storage, Directory) and not isinstance(error, (OSError, pa.ArrowException)):
                raise
            why = f"{file.path} in the archive {self.storage.shown} cannot be read and is left out: {error}"
            self.broken[file] = why
            logger.warning("%s", why)
            raise FileBroken from None

    def _decoded(self, lines: Iterable[bytes]) -> Iterator[Dump]:
        for line in lines:
            try:
                yield Dump.from_line(line)
            except InvalidParams as error:
                logger.warning("a job in the archive %s cannot be read: %s", self.storage.shown, error)

    def _retried(self, read: Callable[[], T]) -> T:
        if time.monotonic() - self._forgiven_at > _BROKEN_S:
            self.broken, self._forgiven_at = {}, time.monotonic()
        gone = 0
        while gone < _LISTED_MOST:
            try:
                return read()
            except FileGone:
                gone += 1
            except FileBroken:  # what it contains may be in other files
                continue
            except OSError as error:
                why = error.strerror or error
                raise JobkitError(f"the archive {self.storage.shown} cannot be read: {why}") from None
        raise JobkitError(f"the archive {self.storage.shown} changes faster than it can be read: try again")


def _no_hits(value: str) -> Any:
    pa = arrow()
    kinds = {"file": pa.int32(), "row": pa.int64(), "us": pa.int64(), "value": schema().field(value).type}
    return pa.schema(list(kinds.items())).empty_table()


def _matched(parquet: Any, n: int, columns: Sequence[str], match: Callable[[Any], Any], value: str) -> list[Any]:
    """Return the rows of file `n` that match. Reads a few groups of rows at a time."""
    pa = arrow()
    pc = pa.compute
    found, begin = [], 0
    for first in range(0, parquet.num_row_groups, _GROUPS):
        groups = range(first, min(first + _GROUPS, parquet.num_row_groups))
        table = parquet.read_row_groups(groups, columns=[*columns])
        rows = pc.indices_nonzero(match(table))
        taken = table.select([*dict.fromkeys(["us", value])]).take(rows)
        place = {"file": pa.repeat(pa.scalar(n, pa.int32()), len(rows)), "row": pc.add(rows.cast(pa.int64()), begin)}
        found.append(pa.table({**place, "us": taken["us"], "value": taken[value]}))
        begin += len(table)
    return found


def _some(parquet: Any, rows: Any, columns: Sequence[str]) -> Any:
    """Return columns of these rows of a file."""
    import numpy

    pa = arrow()
    begins = numpy.cumsum([0, *(parquet.metadata.row_group(n).num_rows for n in range(parquet.num_row_groups))])
    group_of = numpy.searchsorted(begins, rows, side="right") - 1
    tables, places = [], []
    for n in numpy.unique(group_of).tolist():  # one at a time: `line` may be large
        (found,) = numpy.nonzero(group_of == n)
        tables.append(parquet.read_row_group(n, columns=[*columns]).take(pa.array(rows[found] - begins[n])))
        places.append(found)
    table = pa.concat_tables(tables).take(pa.array(numpy.argsort(numpy.concatenate(places))))
    return table.select([*columns])


def reader_of(settings: Settings) -> ArchiveReader:
    """Return the archive of these settings.

    Raises:
        InvalidParams: there is none; it cannot be used; or pyarrow is missing.
    """
    if not settings.archive:
        hint = "set JOBKIT_ARCHIVE to a directory or URL, here and for the workers"
        if (member := settings.membership) is not None:
            hint = f"read it on {member.machine}, which shares this place, or {hint}"
        raise InvalidParams(f"there is no archive: {hint}", "archive")
    arrow()
    return ArchiveReader(place_of(settings.archive, "archive"), settings.namespace)
