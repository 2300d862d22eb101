"""One attempt as the worker holds it: its claim, and its news on their way to the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from jobkit.model import LogLine
from jobkit.run.inside.artifacts import Body, Bounds
from jobkit.store.values import AttemptNews, Claimed, Kept
from jobkit.worker.job_files import JobFiles, note

#: Log lines that wait for one exchange with the store; what comes beyond is counted, not kept.
_MAX_WAITING_LINES = 2_000


@dataclass(slots=True, eq=False)
class RunningAttempt:
    """A claimed job. It is also the sink of its runner: news wait here until the next exchange with the store."""

    claimed: Claimed
    wake: Callable[[], None]
    job_files: JobFiles
    lend: Callable[[RunningAttempt], None]
    is_lost: bool = False
    """Its lease is gone: its outcome is dropped."""
    is_released: bool = False
    """The worker gives it back at its shutdown."""
    is_cancelled: bool = False
    """A user asked it to stop."""
    run: asyncio.Task[None] | None = None
    """Executes it."""
    typical_s: float | None = None
    """Usual duration of its task, in seconds."""
    awaited: Sequence[str] = ()
    """Jobs that it waits for, those of its newest wait first; its slot is lent meanwhile."""
    refusal: str = ""
    """Why its worker has ended it."""
    _numbers: tuple[float | None, float | None, str] | None = None
    _shown: tuple[float | None, float | None, str] = (None, None, "")
    _lines: list[LogLine] = field(default_factory=list)
    _dropped: int = 0
    _artifacts: list[tuple[str, str, Body]] = field(default_factory=list)
    _keeping: asyncio.Task[None] | None = None
    _kept: list[Kept] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)
    _stored_bytes: int = 0

    @property
    def job_id(self) -> str:
        return self.claimed.spec.id

    def progress(self, done: float | None, total: float | None, message: str) -> None:
        self._numbers = self._shown = done, total, message
        self.wake()

    def awaits(self, job_ids: Sequence[str]) -> None:
        self.awaited = job_ids
        done, total, message = self._shown
        self.progress(done, total, message)
        self.lend(self)

    def expect(self, typical_s: float) -> None:
        """Tell how long it will probably take."""
        self.typical_s = typical_s
        self.progress(None, None, "")

    def lines(self, lines: Sequence[LogLine]) -> None:
        room = _MAX_WAITING_LINES - len(self._lines)
        self._lines += lines[:room] if room > 0 else ()
        self._dropped += max(0, len(lines) - max(0, room))
        self.wake()

    def artifact(self, name: str, media: str, body: Body) -> None:
        self._artifacts.append((name, media, body))
        if self._keeping is None:
            self._keeping = asyncio.get_running_loop().create_task(self._keep_all())

    async def _keep_all(self) -> None:
        """One after the other, so that what is saved last under a name is what stays."""
        try:
            while self._artifacts:
                name, media, body = self._artifacts.pop(0)
                # The job has checked this itself; a job that does not tell the truth must not fill the store.
                if len(self._names | {name}) > Bounds().count:
                    kept, sentence = None, f"artifact {name[:200]!r} was not kept: too many of them"
                else:
                    kept, sentence = await self.job_files.keep(self.claimed, name, media, body, self._stored_bytes)
                if kept is None:
                    self.lines([note(sentence)])
                    continue
                self._names.add(name)
                self._stored_bytes += 0 if kept.folder else kept.info.size_bytes
                self._kept.append(kept)
                self.wake()
        finally:
            self._keeping = None

    async def settle(self) -> None:
        """Wait until what the job saved is ready for the store."""
        if self._keeping is not None:
            await asyncio.wait([self._keeping])

    @property
    def _awaited_text(self) -> str:
        """The jobs that it waits for: an id, or the first of several with the number of the others."""
        first, *others = self.awaited or [""]
        return f"{first} and {len(others)} more" if others else first

    def take_kept(self) -> list[Kept]:
        """Artifacts that have come since the last call."""
        kept, self._kept = self._kept, []
        return kept

    def take_news(self) -> AttemptNews | None:
        """Return the news since the last call, or None."""
        if self._numbers is None and not self._lines:
            return None
        lines = self._lines
        if self._dropped:
            note = f"… {self._dropped} lines left out: they came faster than they can be stored"
            lines = [*lines, LogLine(note, lines[-1].at_ms, source="jobkit")]
        done, total, message = self._numbers or (None, None, "")
        has_numbers = self._numbers is not None
        news = AttemptNews(
            self.job_id,
            self.claimed.token,
            has_numbers,
            done,
            total,
            message,
            lines,
            self.typical_s,
            self._awaited_text if has_numbers else "",
        )
        self._numbers, self._lines, self._dropped = None, [], 0
        return news
