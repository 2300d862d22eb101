"""Reader of the facts that say what made jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from jobkit.codec import Codec
from jobkit.features.provenance.contents import MadeStore
from jobkit.features.provenance.facts import opened
from jobkit.features.provenance.made_by import MadeBy, Origin, ProcessFacts
from jobkit.model import JobSnapshot, SignatureError
from jobkit.store.redis import RedisStore

#: A reader remembers contents of so many bytes: jobs have most of them in common.
_KNOWN_BYTES = 8_000_000


class MadeReader:
    """Reads what made jobs. Its methods are for one event loop."""

    def __init__(self, store: RedisStore, codec: Codec) -> None:
        self._store, self._codec = store, codec
        self._made = store.part(MadeStore)
        self._known: dict[str, bytes] = {}

    async def of(self, snapshots: Sequence[JobSnapshot]) -> list[MadeBy]:
        """Return what made each of these jobs; of a job with a cached result, what made that."""
        origins = await self._computed(snapshots)
        workers = list(dict.fromkeys(job.worker for job in origins if job.worker))
        of_workers = dict(zip(workers, await self._made.of_workers(workers), strict=True))
        # Of the environment that was built for it, else of its worker.
        ran = {job.id: str(job.usage.get("made") or of_workers.get(job.worker, "")) for job in origins}
        names = {job.spec.made for job in origins} | set(ran.values())
        facts = {name: self._facts(content) for name, content in (await self._contents(names)).items()}
        more = await self._contents({each for one in facts.values() for each in _named(one)})
        submitted = [
            _origin(facts.get(origin.spec.made), more, is_others=origin.spec.owner != job.spec.owner)
            for origin, job in zip(origins, snapshots, strict=True)
        ]
        ran_on = [_origin(facts.get(ran[job.id]), more) for job in origins]
        return [MadeBy(job.spec.seed, *both) for job, *both in zip(origins, submitted, ran_on, strict=True)]

    async def _computed(self, snapshots: Sequence[JobSnapshot]) -> list[JobSnapshot]:
        ids = [job.cached_from for job in snapshots if job.cached_from]
        found = dict(zip(ids, await self._store.snapshots(ids), strict=True)) if ids else {}
        return [found.get(job.cached_from) or job for job in snapshots]

    async def _contents(self, names: set[str]) -> dict[str, bytes]:
        """Return contents by name, without those that are not kept or were not sealed with one of our keys."""
        found = {name: self._known[name] for name in names if name in self._known}
        lacking = [name for name in names if name and name not in found]
        for name, envelope in zip(lacking, await self._made.read(lacking), strict=True):
            try:
                content = opened(envelope, name, self._codec) if envelope else None
            except SignatureError:
                continue
            if content is not None:
                found[name] = self._known[name] = content
        while sum(map(len, self._known.values())) > _KNOWN_BYTES:
            del self._known[next(iter(self._known))]
        return found

    @staticmethod
    def _facts(content: bytes) -> ProcessFacts | None:
        try:
            return msgspec.json.decode(content, type=ProcessFacts)
        except msgspec.MsgspecError:  # damaged
            return None


def _origin(facts: ProcessFacts | None, contents: Mapping[str, bytes], *, is_others: bool = False) -> Origin | None:
    """Return facts with what they name.

    is_others: of a cached result of another owner. Diff and variables are left out, since who may see this job may
    not see that one.
    """
    if facts is None:
        return None
    if is_others:
        git = facts.git and replace(facts.git, diff="", changed=(), more=0, note="changes are another owner's")
        facts = replace(facts, env={}, program="", git=git)
    texts = [contents.get(name, b"").decode("utf-8", "replace") for name in _named(facts)]
    pairs = (line.partition("==") for line in texts[0].splitlines())
    return Origin(facts, {name: version for name, _, version in pairs}, texts[1])


def _named(facts: ProcessFacts | None) -> tuple[str, ...]:
    """Return the names of the list of packages and of the diff."""
    return () if facts is None else (facts.packages, facts.git.diff if facts.git is not None else "")


reader = MadeReader
