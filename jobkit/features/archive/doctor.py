"""Lines of `jobkit doctor` about the archive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.util import find_spec

from jobkit.cli.findings import Finding, ok, warn
from jobkit.features.archive.store import ArchiveState, ArchiveStore
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore


async def findings(store: RedisStore) -> Iterable[Finding]:
    return _findings(store.settings, await store.part(ArchiveStore).state())


def _findings(settings: Settings, state: ArchiveState) -> Iterator[Finding]:
    if state.sentence:
        fix = "free space or repair it; jobs wait up to 30 days longer than their own time"
        yield warn("archive", state.sentence, fix if state.problem else "start a worker with JOBKIT_ARCHIVE")
    elif state.where:
        yield ok("archive", f"{state.where}, {state.waiting:,} ended jobs wait for it")
    elif settings.archive:
        yield warn("archive", "JOBKIT_ARCHIVE is set here, and no worker has it", "set it for the workers, too")
    if settings.archive and find_spec("pyarrow") is None:
        yield warn(
            "archive", "pyarrow is missing here, so its jobs cannot be read", "pip install 'panel-jobkit[archive]'"
        )
