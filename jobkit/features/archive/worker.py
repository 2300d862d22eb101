"""The archiver of a worker, by the settings."""

from __future__ import annotations

from importlib.util import find_spec

from jobkit.features.archive.search import ArchiveReader
from jobkit.features.archive.table import arrow
from jobkit.features.archive.writer import Archiver
from jobkit.files.places import place_of
from jobkit.files.storage import Directory
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore


def service_of(settings: Settings, store: RedisStore) -> Archiver:
    """Return what writes the archive of these settings.

    Raises:
        InvalidParams: pyarrow is missing, or the setting can certainly not be used.
    """
    if find_spec("pyarrow") is None:
        arrow()  # raises; loaded later, by the one worker that writes
    archive = ArchiveReader(place_of(settings.archive, "archive"), settings.namespace)
    if isinstance(archive.storage, Directory) and archive.storage.root.exists():
        archive.storage.check()
    return Archiver(store, archive)
