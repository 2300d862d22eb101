"""Ended jobs that wait for the archive, in parts; see `lua/lib/archive.lua`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from jobkit.features.moving.dump import Dump, dump_of, read_keys, with_facts
from jobkit.store import wire
from jobkit.store.namespace import StorePart, in_slices

#: Milliseconds until a namespace counts as one without an archive if no worker has one any more.
_OPEN_MS = 86_400_000

#: Jobs that are read together, and jobs that one call of a scan looks at.
_READ, _SCANNED = 20, 500


class ArchivePart(msgspec.Struct, frozen=True):
    """Jobs that are archived together, the same ones after each failure. `name`: "FIRST LAST", or "" if none waits.

    Attributes:
        entries: `(entry, job id)`, in the order in which the jobs have ended.
    """

    name: str
    entries: Sequence[tuple[str, str]]


class ArchiveState(msgspec.Struct, frozen=True):
    """The archive as its workers see it.

    Attributes:
        where: directory or URL without its password; "" if the namespace has no archive.
        problem: why it cannot be written, or "".
        waiting: number of ended jobs that it does not have yet.
    """

    where: str = ""
    problem: str = ""
    waiting: int = 0

    @property
    def sentence(self) -> str:
        """One sentence that says why jobs wait for long, or ""."""
        jobs = f"{self.waiting:,} ended job{'s wait' if self.waiting != 1 else ' waits'} for the archive"
        if self.problem:
            return f"{jobs} {self.where}: {self.problem}"
        return f"{jobs}, and no worker has JOBKIT_ARCHIVE" if self.waiting and not self.where else ""


class ArchiveStore(StorePart):
    """Verbs for the worker that writes the archive."""

    async def open(self, where: str, problem: str = "") -> None:
        """Let jobs that end from now on wait for the archive, and note why it cannot be written; repeat it at times."""
        await self._ns.many([("HSET", "archive", "where", where, "problem", problem), ("PEXPIRE", "archive", _OPEN_MS)])

    async def state(self) -> ArchiveState:
        fields, waiting = await self._ns.many([("HGETALL", "archive"), ("XLEN", "archive:waiting")])
        known = wire.texts(fields)
        return ArchiveState(known.get("where", ""), known.get("problem", ""), waiting)

    async def next_part(self, limit: int) -> ArchivePart:
        """Return the next jobs to archive."""
        name, entries = await self._ns.run("archive_next", [limit])
        return ArchivePart(wire.text(name), [(wire.text(entry), wire.text(fields[1])) for entry, fields in entries])

    async def read(self, part: ArchivePart, result_bytes: int) -> AsyncIterator[list[Dump]]:
        """Yield all data of the jobs of a part, without results that are larger. Damaged ones are left out."""
        for some in in_slices(part.entries, _READ):
            ids = [job_id for _, job_id in some]
            found = await read_keys(self._ns, ids, result_bytes)
            # Asked after the read: a job that was deleted meanwhile may be read in part.
            kept = await self._ns.fields(("_archive",), ids)
            aside = [entry for (entry, _), fields in zip(some, kept, strict=True) if _entry(fields) != entry]
            held = dict(zip(aside, await read_keys(self._ns, [f"!{e}" for e in aside], result_bytes), strict=True))
            dumps: list[Dump] = []
            for (entry, job_id), keys in zip(some, found, strict=True):
                dump = dump_of(self._ns, job_id, held.get(entry, keys))
                if dump is not None:
                    is_large = len(dump.result) > result_bytes
                    dumps.append(replace(dump, result=b"", left_out="result") if is_large else dump)
            yield await with_facts(self._ns, dumps)

    async def is_waiting(self, part: ArchivePart) -> bool:
        """Return True if the part is not archived yet. What was read before this question is then complete."""
        return wire.text(await self._ns.ask("GET", "archive:part")) == part.name

    async def done(self, part: ArchivePart) -> None:
        """The archive has a part: its jobs go when their time is over."""
        await self._ns.run("archive_done", [part.name])

    async def scan(self) -> None:
        """Let all ended jobs wait for the archive that it lacks: that ended without one."""
        cursor: Any = b"0"
        while True:
            cursor = await self._ns.run("archive_scan", [cursor, _SCANNED])
            if cursor == b"0":
                return


def _entry(fields: Sequence[Any] | None) -> str:
    return wire.text(fields[0]) if fields else ""
