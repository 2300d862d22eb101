"""The jobs in the archive, for searches of all jobs and for people who look for one that the store has forgotten."""

from __future__ import annotations

from functools import cached_property

from jobkit.features.archive.search import ArchiveReader, reader_of
from jobkit.settings import Settings
from jobkit.store.query import Query, QueryPage


class ArchivedJobs:
    """See `jobkit.feature`. Its methods block.

    Attributes:
        is_there: the settings name an archive.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.is_there = bool(settings.archive)

    @cached_property
    def reader(self) -> ArchiveReader:
        """The archive. Raises InvalidParams: there is none, or it cannot be used here."""
        return reader_of(self._settings)

    def page(self, query: Query, now_ms: int) -> QueryPage:
        """Return a page of the jobs that match. Raises JobkitError: the archive cannot be read."""
        return self.reader.page(query, now_ms)[0]

    def total(self, query: Query, now_ms: int) -> int:
        """Return how many match. Raises JobkitError: the archive cannot be read."""
        return self.reader.find(query, now_ms).total

    def cure(self, job_id: str) -> str:
        """Return how a job that may be in the archive comes back."""
        return f"kit.archive.reopen([{job_id!r}]) brings it back if it is in the archive"


def place_of(settings: Settings) -> ArchivedJobs:
    return ArchivedJobs(settings)
