"""Endings that a worker could not store while the server was away, on disk, with the last lines of their logs.

A worker that runs keeps its endings and stores them when the server is back. The files here are for one that has to end
or dies before that: the next worker of the same home stores what they hold, as far as its tokens still hold. That is
safe to do twice, and while the first one lives: a token ends its attempt once.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Iterator, Sequence

import msgspec
from msgspec.structs import replace

from jobkit.codec import RAW, Codec, Subject
from jobkit.files.storage import Directory
from jobkit.model import SignatureError
from jobkit.run.shortage import Threads
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore
from jobkit.store.values import DAMAGED, FENCED, AttemptNews, Ending, Kept

logger = logging.getLogger("jobkit.worker")

#: An ending that could not be stored within this time is of no use any more: no lease or grace lasts longer.
KEPT_S = 7 * 86_400.0


class Spool:
    """The endings of one worker, for one namespace of one server, sealed: they become outcomes. All methods but `keep`
    block."""

    def __init__(self, settings: Settings, codec: Codec, worker_id: str) -> None:
        self._codec, self._worker_id = codec, worker_id
        server = hashlib.sha256(f"{settings.url}\0{settings.namespace}".encode()).hexdigest()[:16]
        self._place = Directory(settings.home / "spool" / server)
        self.written: tuple[str, ...] = ()  #: what the file has, `id token` each
        self._is_silent = False
        self._thread = Threads(1, "spool")

    async def keep(self, endings: Sequence[Ending], news: Sequence[AttemptNews], kept: Sequence[Kept]) -> None:
        """Call `write` in a separate thread: those of the loop may all wait for a machine that is away."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self.write, endings, news, kept)

    def write(self, endings: Sequence[Ending], news: Sequence[AttemptNews] = (), kept: Sequence[Kept] = ()) -> None:
        """Keep these endings with their news and artifacts, and nothing else; for none, nothing."""
        tokens = tuple(f"{ending.job_id} {ending.token}" for ending in endings)
        if tokens == self.written:
            return
        try:
            if endings:
                body = msgspec.msgpack.encode(_with(endings, news, kept))
                self._place.write(self._worker_id, [self._codec.seal(RAW, body, self._subject(self._worker_id))])
                if not self.written:
                    logger.info("what ended meanwhile is kept in %s until Redis answers again", self._place.root)
            else:
                (self._place.root / self._worker_id).unlink(missing_ok=True)
            self.written, self._is_silent = tokens, False
        except OSError as error:
            if not self._is_silent:
                logger.warning("what ended while Redis is away is only in memory: %s cannot be written: %s",
                               self._place.root, error)  # fmt: skip
            self._is_silent = True

    def left(self) -> Iterator[tuple[str, list[Ending]]]:
        """Yield what other workers left: a name for `forget`, and endings. Remove unreadable files, with a warning."""
        with contextlib.suppress(OSError):
            for path in sorted(self._place.root.iterdir()):
                if path.name.startswith("."):  # being written, or left by a writer that died
                    if path.stat().st_mtime < time.time() - KEPT_S:
                        path.unlink(missing_ok=True)
                    continue
                if path.name == self._worker_id:
                    continue
                try:
                    _, body = self._codec.verify(path.read_bytes(), self._subject(path.name))
                    yield path.name, msgspec.msgpack.decode(body, type=list[Ending])
                except FileNotFoundError:  # another worker was faster
                    continue
                except (SignatureError, OSError, msgspec.MsgspecError) as error:
                    logger.warning("the file %s is not what a worker left behind; it is removed: %s", path, error)
                    self.forget(path.name)

    def forget(self, name: str) -> None:
        """It is stored."""
        with contextlib.suppress(OSError):
            (self._place.root / name).unlink(missing_ok=True)

    @staticmethod
    def _subject(name: str) -> Subject:
        return Subject("spool", name, "")


def _with(endings: Sequence[Ending], news: Sequence[AttemptNews], kept: Sequence[Kept]) -> list[Ending]:
    """Return endings with what is their attempts' of news and artifacts. After hours those of the others are many."""
    told: dict[tuple[str, str], tuple[list[AttemptNews], list[Kept]]]
    told = {(ended.job_id, ended.token): ([], []) for ended in endings}
    for item in news:
        if found := told.get((item.job_id, item.token)):
            found[0].append(item)
    for artifact in kept:
        if found := told.get((artifact.job_id, artifact.token)):
            found[1].append(artifact)
    every = (told[ended.job_id, ended.token] for ended in endings)
    return [replace(ended, news=n, kept=k) for ended, (n, k) in zip(endings, every, strict=True)]


#: Outcome of storing an ending, by the reply; with any other reply it is stored.
_OUTCOMES = {
    FENCED: "comes too late: another attempt holds the job now",
    DAMAGED: "cannot be stored, for the job's data are damaged: see `jobkit doctor`",
}


async def store_left(spool: Spool, store: RedisStore) -> None:
    """Store what earlier workers of this home left. Raises StoreUnavailable."""
    for name, endings in await asyncio.to_thread(list, spool.left()):
        news = [each for ended in endings for each in ended.news]
        kept = [each for ended in endings for each in ended.kept]
        answers, _, _ = await store.exchange(news, endings, None, kept)
        for ended, answer in zip(endings, answers, strict=True):
            how = _OUTCOMES.get(answer, "is stored")
            logger.info("job %s: that an earlier worker ended it (%s) %s", ended.job_id, ended.outcome, how)
        await asyncio.to_thread(spool.forget, name)
