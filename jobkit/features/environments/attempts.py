"""The environment of an attempt, built before it begins if its call came with a list of packages."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec.structs import replace

from jobkit.codec import Codec, Subject
from jobkit.features.environments.build import Environments, notes_of
from jobkit.model import SignatureError
from jobkit.tasks.call import content_of, read_head
from jobkit.worker.attempt import Around, RunningAttempt
from jobkit.worker.job_files import note


class EnvironmentBuilder(Around):
    """Builds the environments of one worker's attempts."""

    name = "environments"

    def __init__(self, _settings: object, _worker: object, _store: object, codec: Codec) -> None:
        self._environments, self._codec = Environments(), codec

    async def begin(self, attempt: RunningAttempt) -> dict[str, Any]:
        """Give an attempt the environment for its list of packages, and its log what the user should know of that.

        Raises NotBuilt, SignatureError or OSError, see `Environments.ready`.
        """
        spec = attempt.claimed.spec
        if not spec.has_parts:
            return {}
        _, call = self._codec.verify(attempt.claimed.payload, Subject("args", spec.id, spec.task))
        head = replace(read_head(call), located=dict(attempt.located or {}))
        if head.packages is not None:
            if not self._codec.allow_pickle:
                raise SignatureError("it chooses packages, and those need a signing key (JOBKIT_SECRET)")
            content = await asyncio.to_thread(content_of, head, head.packages)
            ready = self._environments.ready(content, head.packages.name, attempt.tell)
            attempt.environment, attempt.folders = await attempt.stoppable(ready)
            attempt.lines([note(sentence) for sentence in notes_of(content)])
        return {}


around = EnvironmentBuilder
