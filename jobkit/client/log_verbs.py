"""`LogVerbs`: the verbs that read a job's log: in the store, or in a file if this machine has it."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from jobkit.client import checks
from jobkit.files import FileStore
from jobkit.files.log import LogPieces
from jobkit.files.log_reader import find_in_log, read_log
from jobkit.model import LOG_LEVELS, LogFilter, LogHits, LogLine, LogSlice
from jobkit.store.redis import RedisStore
from jobkit.tasks.params import checked, one_of

T = TypeVar("T")


class LogVerbs:
    """See the module's docstring.

    Args:
        file_store: returns the place of large results, None if this machine has none.
    """

    def __init__(self, store: RedisStore, file_store: Callable[[], FileStore | None]) -> None:
        self._store, self._file_store = store, file_store

    async def log_slice(
        self,
        job_id: str,
        *,
        after: int = 0,
        before: int | None = None,
        tail: int | None = None,
        search: str = "",
        level: str = "",
        limit: int | None = None,
    ) -> LogSlice:
        """Lines of a job's log with the number of all, of those that match and of those that were dropped.

        With `after` and `tail` alone: what the store keeps, which is head and tail of a long log. With any other
        argument: the whole log, if this machine has its file.

        Args:
            after, before: only lines numbered above, below.
            tail: only the last so many.
            search: only lines that contain this text, whatever the case.
            level: only lines at least that grave: "info", "warning", "error".
            limit: at most so many, from 1 to 5000; the last of them with `before` or `tail`, else the first.

        Raises:
            InvalidParams: a value is not allowed.
        """
        job_id = checks.job_id(job_id)
        after = checked("after", after, "int")
        before = checked("before", before, "int", nullable=True)
        tail = checked("tail", tail, "int", nullable=True)
        limit = checked("limit", limit, "int", min=1, max=5000, nullable=True)
        wanted = _wanted(search, level)
        if wanted.is_empty and before is None and limit is None:
            return await self._store.logs(job_id, after=after, tail=tail)
        newest = before is not None or tail is not None
        most = min(5000 if tail is None else tail, limit or 500 if tail is None else limit or 5000)
        read = partial(read_log, wanted=wanted, after=after, before=before, limit=most, newest=newest)
        if (found := await self._in_file(job_id, read)) is not None:
            return found
        is_end = after and tail is not None and wanted.is_empty and before is None
        kept = await (self._store.log_end(job_id, after) if is_end else self._store.logs(job_id))
        lines = [line for line in kept.lines if after < line.n < (before or math.inf) and wanted.takes(line)]
        page = lines[max(0, len(lines) - most) :] if newest else lines[:most]
        return replace(kept, lines=tuple(page), matched=len(lines))

    async def log_hits(self, job_id: str, *, search: str = "", level: str = "", after: int = 0, most: int) -> LogHits:
        """Numbers of the first `most` lines of a job's whole log that match, and how many there are; see `log_slice`.

        Raises:
            InvalidParams: a value is not allowed.
        """
        job_id = checks.job_id(job_id)
        after = checked("after", after, "int")
        wanted = _wanted(search, level)
        read = partial(find_in_log, wanted=wanted, after=after, most=most)
        if (found := await self._in_file(job_id, read)) is not None:
            return found
        kept = await self._store.logs(job_id)
        numbers = [line.n for line in kept.lines if line.n > after and wanted.takes(line)]
        return LogHits(tuple(numbers[:most]), len(numbers), kept.total)

    async def _in_file(self, job_id: str, read: Callable[[LogPieces], T]) -> T | None:
        """Return what `read` finds in the file of the whole log; None if this machine cannot read it."""
        folder = await self._store.folder(job_id)
        if not folder or (file_store := self._file_store()) is None:
            return None
        [job] = await self._store.snapshots([job_id])
        find = partial(file_store.log, folder, has_ended=job is not None and job.is_terminal)
        with contextlib.suppress(OSError):  # it went with its job, or cannot be read by this user
            if (found := await asyncio.to_thread(find)) is not None:
                return await asyncio.to_thread(read, found)
        return None

    def log_path(self, folder: str) -> Path | None:
        """The text of a job's whole log, copied to this machine; None if it cannot be had here. Blocking."""
        with contextlib.suppress(OSError):
            if (file_store := self._file_store()) is not None and (pieces := file_store.log(folder)) is not None:
                return pieces("")
        return None


def _wanted(search: str, level: str) -> LogFilter:
    """Return the filter of checked values."""
    level = one_of("level", level, filter(None, LOG_LEVELS)) if level else ""
    return LogFilter(checked("search", search, "str", max=200), level)


def log_lines(found: LogSlice) -> tuple[LogLine, ...]:
    """A slice's lines, with a note where the middle was dropped."""
    if not found.dropped:
        return found.lines
    lines = list(found.lines)
    for i in range(1, len(lines)):
        if lines[i].n != lines[i - 1].n + 1:
            count = lines[i].n - lines[i - 1].n - 1 + found.hidden
            lines.insert(i, LogLine.left_out(count, lines[i].at_ms))
            break
    return tuple(lines)
