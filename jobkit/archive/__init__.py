"""History for years: every ended job of a namespace in Parquet files, independent of Redis.

Workers with `JOBKIT_ARCHIVE` append (`writer`), everybody reads (`reader`). `folder` names the files so that a job is
in the archive once: a file's name is the range of the outbox that it holds (`jobkit.store.outbox`), so a file that is
written twice replaces itself, and a compacted file hides those whose ranges it contains. `table` has the columns.
"""

from jobkit.archive.reader import Archive, archive_of

__all__ = ["Archive", "archive_of"]
