"""Lines and progress of an attempt, collected and handed on in batches.

The same recorder serves a forked child (whose sink writes frames), jobs on the worker's loop or in a thread, and
`sync://`. It never blocks on its reader's reader: a flood is thinned here.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from typing import Any, Final, Protocol, TypeVar

from jobkit.files.log import mark_of
from jobkit.model import LogLine
from jobkit.model.plain import now_ms
from jobkit.model.terminal import clean
from jobkit.run.inside.answers import Answers, Reply
from jobkit.run.inside.lines import LineBuffer, Splitter, cut
from jobkit.run.inside.pictures import PICTURE, PictureBuffer
from jobkit.run.inside.shown_values import Body, Bounds

#: At most this often per second a job's progress leaves it.
PROGRESS_INTERVAL_S = 0.1
#: Lines are batched over this time, once more than a few have left at once.
BATCH_S = 0.05
_BATCH_MS = int(BATCH_S * 1000)
_BATCH_CHARS = 64_000
_PARTS = 1_000
#: Jobs that a task waits for, of which its worker hears, at most; those of the newest wait first.
AWAITED_MOST = 100


class Keep(Enum):
    """The default of arguments that keep their value when they are not given. None is a value: "not known"."""

    KEEP = "as it was"

    def __repr__(self) -> str:
        return "<as it was>"


KEEP: Final = Keep.KEEP


class Sink(Protocol):
    """Receiver of an attempt's news, in batches. Must not block an event loop that it is called from."""

    def progress(self, completed: float | None, total: float | None, message: str) -> None: ...

    def lines(self, lines: Sequence[LogLine]) -> None: ...

    def emit(self, kind: str, news: Any) -> None:
        """News of any other kind, see `jobkit.run.news`."""
        ...

    def sync(self, key: str, reply: Callable[[Reply], None]) -> bool:
        """Store what was said so far. `reply` is called in any thread with a `Reply` to this key when that is done, or
        takes too long. Return False if the caller need not or must not wait for it."""
        ...

    def request(self, feature: str, key: str, body: bytes, reply: Callable[[Reply], None]) -> None:
        """A request that a feature serves; `reply` is called in any thread with each reply to it."""
        ...

    def artifact(self, name: str, media: str, body: Body) -> None:
        """Something to keep. A worker's sink owns a file from now on, and removes it when it has its content."""
        ...


class NewsBuffer(Protocol):
    """News of one kind that wait for the next batch; `count`: of them."""

    count: int

    def take(self) -> Any:
        """Return those since the last call, in one; empty for none."""
        ...


B = TypeVar("B", bound=NewsBuffer)


class WholeLog(Protocol):
    """Receiver of every line, before floods are thinned: `LogFile`, `LoopLog`."""

    def add(self, lines: Iterable[str], mark: bytes = ..., /) -> None: ...

    def flush(self) -> None: ...


class Memory(Protocol):
    """Memory that outlives this process, for lines that have not been sent yet: `LastWords`."""

    @property
    def is_full(self) -> bool: ...

    def hold(self, lines: Sequence[LogLine], /) -> None: ...

    def release(self) -> None: ...


class Bar:
    """One progress bar of a job. A counting loop looks at `due` alone, which `Recorder.tick` raises: no clock in it.

    `passed`: steps of its loop that earlier attempts have done.
    """

    __slots__ = ("completed", "due", "message", "passed", "poke", "total")

    def __init__(self, message: str = "", total: float | None = None, poke: Callable[[], None] | None = None) -> None:
        self.message = message
        self.total = total
        self.completed: float = 0
        self.passed: float = 0
        self.due = False
        self.poke = poke  #: called on each tick, for bars that do not look at `due`


class Recorder:
    """Collects lines and progress of one attempt. Safe to use from several threads.

    Args:
        arm: called when there is something to flush later: sees to it that `tick` is called each `BATCH_S` until it
            returns False.
        burst: how many batches may leave at once in `BATCH_S` before lines wait for each other.
        memory: holds those that wait, for the case that their process dies.
        guard: entered around everything that must not be torn apart by a signal handler's exception.
        answers: replies to its requests.
    """

    def __init__(
        self,
        sink: Sink,
        arm: Callable[[], None],
        *,
        burst: int = 50,
        guard: Any = None,
        bounds: Bounds | None = None,
        log: WholeLog | None = None,
        memory: Memory | None = None,
        answers: Answers | None = None,
    ) -> None:
        self._sink = sink
        self._bounds = bounds or Bounds()
        self._kept: dict[str, int] = {}
        self._log = log
        self._memory = memory
        self.answers = answers or Answers()
        self._arm = arm
        self._is_armed = False
        self._burst = burst
        self._left = burst
        self._guard = guard or contextlib.nullcontext()
        self._lock = threading.RLock()
        self._splitters = {"stdout": Splitter(), "stderr": Splitter()}
        self._parts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        at_ms = now_ms()
        self._buffer = LineBuffer(at_ms)
        self._window = at_ms // _BATCH_MS
        self._bars: list[Bar] = []
        self._completed: object = None
        self._total: object = None
        self._said = ""  # the message of the last `report`
        self._bar_text = ""  # what the open bars add to it
        self._phase = ""  # what Python does before the job's own code goes on
        self._awaited: list[Sequence[str]] = []  # the jobs of each wait, in the order in which they began
        self._has_moved = False
        self._passed: tuple[float, float | None] | None = None  # what `go_on` was told, until a bar goes on from it
        self._sent: tuple[float | None, float | None, str] | None = None
        self._buffers: dict[str, NewsBuffer] = {}
        self._pictures = PictureBuffer(self._warn)
        self._sent_at = -math.inf  # when the last of progress, buffered news and pictures left
        self._syncs = 0
        self._is_synced = True  # nothing but progress was said since the last sync
        #: Set if only the job's own thread may call the sink (`sync://`): ticks only mark what is due.
        self.is_passive = False

    def write(self, source: str, text: str) -> None:
        """Text that was printed; `source` is "stdout" or "stderr"."""
        parts = self._parts[source]
        parts.append(text)
        # print() writes each argument, blank and newline on its own: only a newline is worth a lock and a clock.
        if "\n" not in text and len(parts) < _PARTS:
            self._arm_once()
            return
        at_ms = now_ms()
        with self._guard, self._lock:
            if lines := self._feed(source, at_ms):
                self._leave(lines, at_ms)

    def line(self, source: str, text: str, level: str = "", logger: str = "") -> None:
        """Whole lines that were logged or warned, kept together under one level."""
        at_ms = now_ms()
        with self._guard, self._lock:
            parts = text.splitlines() or [""]
            lines = [LogLine(cut(part), at_ms, source, level, logger) for part in parts]
            self._leave(self._add(parts, lines, mark_of(source, level, at_ms)), at_ms)

    def report(
        self, completed: float | Keep | None = KEEP, total: float | Keep | None = KEEP, message: str | Keep = KEEP
    ) -> None:
        """Set the job's progress. Values may be anything; what is not given stays as it was."""
        if completed is not KEEP:
            self._completed = completed
        if total is not KEEP:
            self._total = total
        if message is not KEEP:
            self._said = _text(message)
        self._phase, self._has_moved = "", True
        self._send_or_wait()

    def enter_phase(self, text: str) -> bool:
        """Show a few words before the message; "" ends that. Return False if another thread holds the recorder.

        Never waits for it: the caller may hold a lock of an import that the other thread needs.
        """
        with self._guard:
            if not self._lock.acquire(blocking=False):
                return False
            try:
                self._phase, self._has_moved = text, True
                self._send_or_wait()
            finally:
                self._lock.release()
        self._arm_once()
        return True

    def artifact(self, name: str, media: str, body: Body) -> None:
        """Raises InvalidParams if that is too much."""
        size = len(body) if isinstance(body, bytes) else body.stat().st_size
        with self._guard, self._lock:
            self._bounds.check(self._kept, name, size)
            self._sink.artifact(name, media, body)
            self._kept[name] = size
            self._is_synced = False

    def relay(self, name: str, media: str, body: Body) -> None:
        """Hand on an artifact without its bounds: a picture that another process of the job has drawn."""
        with self._guard, self._lock:
            self._sink.artifact(name, media, body)

    def sync(self) -> None:
        """Wait until the store has what was said so far, or until that takes too long: see `Sink`."""
        at_ms = now_ms()
        with self._guard, self._lock:
            self._flush(at_ms, at_ms)
            self._send()
            if self._is_synced:
                return
            self._is_synced = True
            self._syncs += 1
            key = f"\nsync {self._syncs}"  # no other request has such a key
            waits = self._sink.sync(key, self.answers.put)
        if waits:
            self.answers.wait(key)

    def emit(self, kind: str, news: Any = None) -> None:
        """Send news of a kind, see `jobkit.run.news`."""
        with self._guard, self._lock:
            self._sink.emit(kind, news)

    def go_on(self, completed: float | None, total: float | None) -> None:
        """The task goes on with what an earlier attempt has begun: so does its progress, and a bar over the rest."""
        with self._guard, self._lock:
            if completed is not None and not self._bars:
                self._passed = completed, total
                self.report(completed, total)

    @property
    def position(self) -> tuple[float | None, float | None]:
        """`completed` and `total` of the job's progress, None if not known."""
        self.moved()
        return tamed(self._completed, self._total, "")[:2]

    def buffer(self, kind: str, make: Callable[[Callable[[str], None]], B]) -> B:
        """Return what gathers news of a kind until the next batch; `make` gets a function that warns in the log."""
        found: Any = self._buffers.get(kind)
        if found is None:
            with self._guard, self._lock:
                found = self._buffers.get(kind) or self._buffers.setdefault(kind, make(self._warn))
        return found  # type: ignore[no-any-return]  # each kind has buffers of one class

    def buffered(self, *, is_full: bool) -> None:
        """Send what a buffer has soon, or now if it is full."""
        if is_full:
            self._send()
        elif self.is_passive:
            self._send_or_wait()
        elif not self._is_armed:
            self._arm_once()

    def show(self, name: str, obj: Any) -> None:
        """Draw a picture for the card, and send it soon, unless the next one of its name comes first.

        Never raises: the log says what cannot be shown.
        """
        if self._pictures.draw(name, obj, self._bounds.each_bytes):
            self._send_or_wait()

    def _warn(self, sentence: str) -> None:
        self.line("jobkit", sentence, "WARNING")

    def _send_or_wait(self) -> None:
        """Send progress, buffered news and pictures, or let a tick do it if the last ones have just left."""
        if time.monotonic() - self._sent_at >= PROGRESS_INTERVAL_S:
            self._send()
        else:
            self._arm_once()

    def _send(self) -> None:
        """Send progress, buffered news and pictures, if there is any."""
        with self._guard, self._lock:
            if not self._has_news:
                return
            self._sent_at = time.monotonic()
            for kind, buffer in self._buffers.items():
                if batch := buffer.take():
                    self._sink.emit(kind, batch)
                    self._is_synced = False
            for name, body in self._pictures.take().items():
                self._sink.artifact(name, PICTURE, body)
                self._is_synced = False
            if not self._has_moved:
                return
            self._has_moved = False
            news = tamed(
                self._completed, self._total, " · ".join(filter(None, (self._phase, self._bar_text, self._said)))
            )
            if news != self._sent:
                self._sent = news
                self._sink.progress(*news)

    @property
    def _has_news(self) -> bool:
        return bool(self._has_moved or self._pictures.waiting or any(each.count for each in self._buffers.values()))

    def request(self, feature: str, key: str, body: bytes) -> None:
        """Request something of a feature. The replies come to `answers`. What was said before is told first."""
        at_ms = now_ms()
        with self._guard, self._lock:
            self._flush(at_ms, at_ms)
            self._sink.request(feature, key, body, self.answers.put)

    @contextlib.contextmanager
    def waiting(self, job_ids: Sequence[str]) -> Iterator[None]:
        """Tell the worker that the task waits for other jobs, so that it can lend the slot."""
        with self._guard, self._lock:
            self._awaited.append(job_ids)
            self._tell_awaited()
        try:
            yield
        finally:
            with self._guard, self._lock:
                self._awaited.remove(job_ids)
                self._tell_awaited()

    def _tell_awaited(self) -> None:
        newest = itertools.chain.from_iterable(reversed(self._awaited))
        self._sink.emit("awaits", list(dict.fromkeys(itertools.islice(newest, AWAITED_MOST))))

    def open_bar(self, bar: Bar) -> None:
        """Start following a bar. The first open one is the job's progress, later ones add to its message.

        A first bar with a description starts a new phase of the job: the message of an earlier `report` is cleared.
        """
        self._phase = ""
        if not self._bars and bar.message:
            self._said = ""
        (completed, total), self._passed = self._passed or (0.0, None), None
        if bar.total is not None and total is not None:
            # The attempt has gone on from within a step of the loop that the bar counts now or later, or after it.
            passed = total - bar.total - bar.completed
            if 0 <= passed - completed <= 1:
                bar.passed = passed
        self._bars.append(bar)
        self.moved()
        self._arm_once()

    def moved(self) -> None:
        """A bar has new numbers."""
        with self._guard, self._lock:
            if not self._bars:
                return
            outer, *inner = self._bars
            self._completed, self._total = outer.passed + outer.completed, outer.total and outer.passed + outer.total
            parts = [_text(outer.message), *map(_inner, inner[:2])]
            self._bar_text = " · ".join(part for part in parts if part)
            self._has_moved = True
            self._send_or_wait()

    def close_bar(self, bar: Bar) -> None:
        with self._guard, self._lock:
            if bar in self._bars:
                self.moved()
                self._bars.remove(bar)
                self.moved()

    def tick(self) -> bool:
        """Flush what is due; False where nothing is left to wait for."""
        for bar in tuple(self._bars):
            bar.due = True
            if bar.poke is not None:
                bar.poke()
        if self.is_passive:
            self._is_armed = bool(self._bars)
            return self._is_armed
        self.moved()  # a bar may have counted since its loop last looked at `due`
        at_ms = now_ms()
        with self._guard, self._lock:
            self._flush(at_ms, at_ms)
            if time.monotonic() - self._sent_at >= PROGRESS_INTERVAL_S:
                self._send()
            self._is_armed = False  # first: who writes from now on arms anew, or is seen below
            self._is_armed = bool(
                self._bars
                or self._buffer
                or self._has_news
                or any(self._parts.values())
                or any(splitter.is_partial for splitter in self._splitters.values())
            )
            return self._is_armed

    def close(self) -> None:
        """Hand on all that is left: partial lines and the last progress."""
        with self._guard, self._lock:
            self._flush(None, now_ms())
            self._send()
            self._bars.clear()

    def _arm_once(self) -> None:
        if not self._is_armed:
            self._is_armed = True
            try:
                self._arm()
            except RuntimeError:  # no thread can be started now: what waits leaves with what comes next
                self._is_armed = False

    def _leave(self, new: Sequence[LogLine], at_ms: int) -> None:
        if self._memory is not None:
            self._memory.hold(new)
        window = at_ms // _BATCH_MS
        if window != self._window:
            self._window, self._left = window, self._burst
        if self._left > 0 or (not self._buffer.is_flooded and self._is_full()):
            self._left -= 1
            self._hand_on(at_ms)
        else:
            self._arm_once()

    def _is_full(self) -> bool:
        return self._buffer.size > _BATCH_CHARS or (self._memory is not None and self._memory.is_full)

    def _hand_on(self, at_ms: int) -> None:
        if self._log is not None:
            self._log.flush()
        if self._buffer:
            self._sink.lines(self._buffer.take(at_ms))
            self._is_synced = False
            if self._memory is not None:
                self._memory.release()

    def _feed(self, source: str, at_ms: int) -> Sequence[LogLine]:
        """Split what has been written; return the lines that are complete now."""
        parts = self._parts[source]
        count = len(parts)  # another thread may append meanwhile
        text = "".join(parts[:count])
        del parts[:count]
        return self._add_printed(source, self._splitters[source].feed(text, at_ms), at_ms)

    def _add_printed(self, source: str, texts: Sequence[str], at_ms: int) -> Sequence[LogLine]:
        return self._add(texts, [LogLine(text, at_ms, source) for text in texts], mark_of(source, at_ms=at_ms))

    def _add(self, texts: Sequence[str], lines: Sequence[LogLine], mark: bytes) -> Sequence[LogLine]:
        if texts and self._log is not None:
            self._log.add(texts, mark)
        for line in lines:
            self._buffer.add(line)
        return lines

    def _flush(self, due_ms: int | None, at_ms: int) -> None:
        for source, splitter in self._splitters.items():
            if self._parts[source]:
                self._feed(source, at_ms)
            if (line := splitter.flush(due_ms)) is not None:
                self._add_printed(source, [line], at_ms)
        self._hand_on(at_ms)


def tamed(completed: object, total: object, message: object) -> tuple[float | None, float | None, str]:
    """Numbers that a bar can show: `completed` in 0..total, `total` positive; None for what is not a finite number."""
    size = _finite(total)
    if size is not None and size <= 0:
        size = None
    value = _finite(completed)
    if value is not None:
        value = max(0, value if size is None else min(value, size))
    text = message if isinstance(message, str) else _text(message)
    return value, size, cut(clean(text.replace("\n", " ")), 500)


def _finite(value: Any) -> float | None:
    if type(value) is int:
        return value if abs(value) < 2**63 else None
    try:
        number = float(value)
    except Exception:  # None, text, an object of the user's whose __float__ raises
        return None
    return number if math.isfinite(number) else None


def _text(value: object) -> str:
    if value is None:
        return ""
    try:
        return str(value)
    except Exception:  # a message must not end a job
        return f"<{type(value).__name__}>"


def _inner(bar: Bar) -> str:
    completed, total, message = tamed(bar.completed, bar.total, bar.message)
    return f"{message} {completed:g}/{total:g}".strip() if total is not None and completed is not None else message
