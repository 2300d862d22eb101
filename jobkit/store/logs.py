"""`LogRecords`: the lines of a job's log that the store keeps, its head and its tail."""

from __future__ import annotations

from itertools import chain, pairwise

from jobkit.model import LogSlice
from jobkit.store import wire
from jobkit.store.namespace import RedisNamespace

#: Entries that `log_end` reads.
_LOG_END = 64


class LogRecords(RedisNamespace):
    """Reads logs."""

    async def logs(self, job_id: str, *, after: int = 0, tail: int | None = None) -> LogSlice:
        """Return lines numbered above `after`; with `tail`, only the last so many."""
        (total, dropped, hidden), entries = await self.many(
            [("HMGET", f"job:{job_id}", "logn", "logdropped", "loghidden"), ("XRANGE", f"log:{job_id}", "-", "+")]
        )
        lines = [*chain(*self.all_readable(f"log:{job_id}", lambda _, entry: wire.lines(after, entry), entries))]
        gap = next((before.n for before, line in pairwise(lines) if line.n > before.n + 1), 0) if dropped else 0
        if tail is not None:
            lines = lines[-tail:] if tail > 0 else []
        return LogSlice(
            tuple(lines), wire.number(total), wire.number(dropped), gap_after=gap, hidden=wire.number(hidden)
        )

    async def log_end(self, job_id: str, after: int) -> LogSlice:
        """Return the newest lines numbered above `after`, of the last `_LOG_END` entries: less to read than `logs`."""
        (total, dropped, hidden, mark), entries = await self.many(
            [
                ("HMGET", f"job:{job_id}", "logn", "logdropped", "loghidden", "loghead"),
                ("XREVRANGE", f"log:{job_id}", "+", "-", "COUNT", _LOG_END),
            ]
        )
        key = f"log:{job_id}"
        found = list(self.all_readable(key, lambda _, entry: wire.lines(after, entry), entries))
        head = await self.ask("XRANGE", key, mark, mark) if dropped and mark else []
        heads = list(self.all_readable(key, lambda _, entry: wire.lines(0, entry), head))
        gap = heads[0][-1].n if heads and heads[0] else 0
        lines = tuple(chain(*reversed(found)))
        return LogSlice(lines, wire.number(total), wire.number(dropped), gap_after=gap, hidden=wire.number(hidden))
