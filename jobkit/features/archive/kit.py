"""`kit.archive`: all jobs that have ended as a DataFrame, and jobs that come back.

These verbs read files, so they block. Nothing here unpickles.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from jobkit.client import checks
from jobkit.client.connection import Connection
from jobkit.client.forms import Noun, in_thread
from jobkit.client.outputs import column_of
from jobkit.features.archive.search import ArchiveReader
from jobkit.features.moving.belongings import ContentGone, belongings_of
from jobkit.features.moving.dump import Dump, restore
from jobkit.model import InvalidParams, JobkitError, LogLine
from jobkit.model.plain import now_ms
from jobkit.store.grammar import parse
from jobkit.store.query import Query
from jobkit.tasks.params import checked

if TYPE_CHECKING:
    import pandas as pd

#: Seconds that a job from the archive is kept at least.
OPENED_S = 86_400.0

#: More rows than any machine has memory for.
_ALL = 10**9


class ArchiveVerbs:
    """Service of the verbs of `Archive`."""

    def __init__(self, kit: Any) -> None:
        self._connection: Connection = kit.connection

    def _reader(self) -> ArchiveReader:
        return self._connection.verbs.older.reader  # type: ignore[no-any-return]

    def list(self, where: str = "", *, order: str = "", limit: int | None = None) -> pd.DataFrame:
        """All jobs that have ended, from the archive (`JOBKIT_ARCHIVE`), also those that Redis has long forgotten.

        One row a job, newest first, with the job's id as index. Columns: its arguments, as far as they can be shown,
        the newest values of its metrics, then `task`, `state`, `result` (one line), `error`, `duration_s`,
        `submitted_at`, `started_at`, `finished_at`, `queue`, `owner`, `tags`, `worker`, `attempt` and `left_out` (what
        was not copied into the archive, because it was too large). An argument that is called like one of these or like
        a metric has "(argument)" behind its name, a metric "(metric)". A file that cannot be read is left out, with a
        warning.

        Args:
            where: what the dashboard's search box takes: `"task:train age:<1y lr=0.003"`.
            order: as for `jobs`. limit: at most so many; None for all.

        Raises:
            InvalidParams: a value is refused; there is no archive; or pyarrow is not installed.
        """
        checked("where", where, "str")
        limit = checked("limit", limit, "int", min=1, nullable=True)
        query = parse(where, Query(limit=limit or _ALL, order=checked("order", order, "str"))).checked()
        table, problems = self._reader().rows(query, now_ms())
        for problem in problems:
            warnings.warn(problem, stacklevel=2)
        return _frame(table)

    def reopen(self, job_ids: Sequence[str], *, owner: str | None = None) -> dict[str, str]:
        """Bring jobs back from the archive, at least for a day, with the jobs whose results they need.

        They are unchanged, so every verb of ended jobs applies, unless it needs something that the archive left out.

        Args:
            owner: only jobs of this owner.

        Returns:
            for each job that is kept now, by its id: what the archive lacks of the job, in words, or "".
        """
        archive = self._reader()
        ids = list(dict.fromkeys(checks.job_ids(job_ids)))
        dumps = [dump for dump in archive.lookup(ids) if owner in (None, dump.snapshot.spec.owner)]
        reopened = {dump.id: dump.left_out for dump in dumps}
        seen = {*ids}
        while dumps:
            restored = [self._put_back(dump) for dump in dumps]
            self._connection.call(restore, self._connection.store, restored, OPENED_S)
            self._connection.call(belongings_of(self._connection.verbs).restored, restored)
            results = {each for dump in dumps for each in (*dump.snapshot.spec.needs, dump.snapshot.cached_from)}
            needed = results - {*seen, ""}
            seen |= needed
            dumps = archive.lookup(sorted(needed)) if needed else []
        return reopened

    def _put_back(self, dump: Dump) -> Dump:
        """Store what a job had beside its record; return its dump as it may be restored here."""
        archive, belongings = self._reader(), belongings_of(self._connection.verbs)
        dump, has_files = self._connection.call(belongings.adopted, archive.whole(dump))
        for one in archive.contents(dump):
            if one.kind != "file" or has_files:
                try:
                    self._connection.call(belongings.put, one.kind, one.name, one.chunks())
                except OSError as error:
                    why = error.strerror or error
                    raise JobkitError(f"the archive {archive.storage.shown} cannot be read: {why}") from None
                except (ContentGone, InvalidParams):  # who needs it hears that it is not kept
                    continue
        if dump.left_out:
            said = f"this job is from the archive, which was not given its {dump.left_out}"
            dump = dump.noted(LogLine(said, now_ms(), source="jobkit", level="WARNING"))
        return replace(dump, record={**dump.record, "_archive": "0-0"})  # the archive has it


class Archive(Noun):
    """`kit.archive`: every job that has ended, in files that outlive the server (`JOBKIT_ARCHIVE`).

    Called, it returns a DataFrame with a row for each.

    Example:
        >>> kit.archive("task:train age:<1y")[["lr", "loss"]]  # doctest: +SKIP
    """

    _SERVICE = ArchiveVerbs

    __call__ = in_thread("verbs", ArchiveVerbs.list)
    reopen = in_thread("verbs", ArchiveVerbs.reopen)


def _frame(table: Any) -> pd.DataFrame:
    import pandas as pd

    own = {
        "task": table["task"],
        "state": table["state"],
        "result": table["summary"],
        "error": table["error"],
        "duration_s": table["took_ms"],
        "submitted_at": table["submitted"],
        "started_at": table["started"],
        "finished_at": table["finished"],
        **{name: table[name] for name in ("queue", "owner", "tags", "worker", "attempt", "left_out")},
    }
    frame = pd.DataFrame({name: column.to_pandas() for name, column in own.items()})
    frame["duration_s"] /= 1000
    for name in ("error", "left_out"):
        frame[name] = frame[name].fillna("")
    arguments, metrics = _parts(table["params"]), _parts(table["metrics"])
    taken = {*own, *metrics.columns}
    arguments.columns = [column_of(name, taken, "argument") for name in arguments.columns]
    metrics.columns = [column_of(name, own, "metric") for name in metrics.columns]
    frame = pd.concat([arguments, metrics, frame], axis=1)
    frame.index = pd.Index(table["id"].to_pylist(), name="id")
    return frame


def _parts(column: Any) -> pd.DataFrame:
    """Return a column of JSON objects as a table."""
    import pandas as pd

    read = msgspec.json.Decoder(dict[str, Any]).decode
    return pd.DataFrame([read(text or "{}") for text in column.to_pylist()], index=range(len(column)))
