"""Deliberate faults that the tests have to find, in this process only: in copies of the library, or in classes.

Each names its finder: the state machine that compares both stores (`tests.store.machine`) if a few verbs in some order
are enough, or a run of chaos if it needs processes, cut connections, pages and streams.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import signal
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobkit.model import ErrorKind
from jobkit.store import library

_HUSH = """function Records.hush(rec, kind, data, set)
  call('HSET', P .. 'job:' .. rec.id, unpack(set))
end

"""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        changes: (file of the library or "*", text to be replaced, its replacement).
        patch: alternatively a function that changes classes of this process.
        machine: the verbs with which the state machine finds it; "" if it cannot.
        only: the outage, or case: the case, with which a run of chaos finds it; "" if no run should.
        shows: pattern of the problem that counts as found; "" if the test finds what its case cannot.
        test: id of a test that fails with it; "" if none is named.
    """

    changes: tuple[tuple[str, str, str], ...] = ()
    patch: Callable[[], None] | None = None
    machine: str = ""
    only: str = ""
    case: str = ""
    shows: str = ""
    test: str = ""


def _every(n: int, module: str, owner: str, method: str, instead: Callable[..., Any]) -> Callable[[], None]:
    """Return a patch that replaces every `n`th call of a method by `instead(original, self, ...)`."""

    def patch() -> None:
        kind = getattr(importlib.import_module(module), owner)
        original, count = getattr(kind, method), itertools.count(1)

        def faulty(*args: Any, **options: Any) -> Any:
            return original(*args, **options) if next(count) % n else instead(original, *args, **options)

        setattr(kind, method, faulty)

    return patch


def _not_at_all(*_: Any) -> None:
    """Lose the call."""


def _jump(_: Any, live: Any, job: Any, fresh: Any) -> None:
    """Replace `LiveJobs._catch_up`: skip the changes in between."""
    if fresh.seq > job.snapshot.seq:
        live._advance(job, fresh)


def _deaf_and_jumping() -> None:
    _every(3, "jobkit.client.live", "LiveJobs", "take", _not_at_all)()
    _every(1, "jobkit.client.live", "LiveJobs", "_catch_up", _jump)()


async def _but_the_first(original: Any, *args: Any, **options: Any) -> Any:
    found = await original(*args, **options)
    return found[1:] if len(found) > 1 else found


async def _no_count(*_: Any) -> None:
    """Replace `BoardFeed.count`: read nothing."""


def _first_counters() -> None:
    first: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def load(original: Any, board: Any, page: Any, counts: Any, total: Any = None) -> None:
        original(board, page, first.setdefault(board, dict(counts)), total)

    _every(1, "jobkit.ui.jobs.board", "BoardFeed", "count", _no_count)()
    _every(1, "jobkit.ui.jobs.board", "Board", "load", load)()  # after a cut the whole page is read


def _on_message(inbox: Any, message: bytes) -> None:
    inbox.obey(message)


def _die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _write_or_fail(_: Any, home: Any, status: dict[str, Any]) -> None:
    home.status_file.write_text(json.dumps(status))


async def _never(*_: Any) -> bool:
    return False


def _fail(why: str) -> Any:
    """Replace `unstarted`."""
    return importlib.import_module("jobkit.run.attempt").failed(ErrorKind.REJECTED, "rejected", why)


def _only_exceptions(error: BaseException, **options: Any) -> Any:
    """Replace `raised`."""
    if not isinstance(error, Exception):
        raise error
    return importlib.import_module("jobkit.run.ended").raised(error, **options)


FAULTS: dict[str, Fault] = {
    # A worker ends a job whose lease it has lost, and does not learn of the loss.
    "no fence": Fault(
        (
            ("verbs/finish", "rec.state == 'running' and rec.token == token", "rec.token"),
            ("verbs/renew", "lost[#lost + 1] = args[i]\n", ""),
        ),
        machine="lives",
        only="sleep",
        shows="ran at the same time|succeeded with|showed|had .* attempts|with [2-9] terminal events",
    ),
    # A worker that wakes up too late takes its job back from the current worker.
    "no fence at renewal": Fault(
        (
            ("verbs/renew", "rec[1] == args[i + 1] and rec[2] == 'running'", "rec[2] == 'running'"),
            ("verbs/finish", "rec.token == token) then", "true) then"),
        ),
        machine="lives",
    ),
    # The job of a dead worker is lost.
    "no recovery": Fault((("*", "  Queue.line_up(rec, due, since_us)\n", ""),), machine="lives"),
    # A transition without an event.
    "silent start": Fault(
        (
            ("*", "-- The indexes that pages", _HUSH + "-- The indexes that pages"),
            ("*", "Records.emit(rec, 'started',", "Records.hush(rec, 'started',"),
        ),
        machine="lives",
    ),
    # A repeated submit stores the job twice.
    "not idempotent": Fault(
        (("lib/lifecycle", "    if has_record(id) then return false end\n", ""),),
        machine="lives",
        only="swallow",
        shows="ran .* times in|ran as|gaps|showed|had .* attempts|with [2-9] terminal events",
    ),
    # Losses are not counted: a job that kills its workers does so forever.
    "endless poison": Fault(
        (("*", "rec.alone >= max_losses or since >= LOST_MOST * max_losses", "false"),), machine="deaths"
    ),
    # A job that moves on between its losses ends by them nevertheless.
    "losses for ever": Fault((("*", "if step and step ~= last_step then", "if false then"),), machine="deaths"),
    # An answer does not wake the job that waits for it without a slot.
    "unheard answer": Fault(
        (("lib/questions", "rec.state == 'scheduled' and call('HDEL', rec.key, 'for_answer') == 1", "false"),),
        case="people",
        shows="came to its end",
    ),
    # The arguments of an ended job are never deleted.
    "no ttl": Fault((("*", "call('PEXPIRE', P .. 'args:' .. rec.id, ttl_ms)", ""),), machine="lives"),
    # A result is not kept.
    "no result": Fault((("verbs/finish", "if result ~= ''", "if false"),), machine="lives"),
    # A live handle that has missed events skips to the current state.
    "jumping handle": Fault(patch=_deaf_and_jumping, only="kill", shows="the handle of .* showed"),
    # The reader of all events loses the first of several events of one read.
    "skipping reader": Fault(
        patch=_every(1, "jobkit.store.redis", "RedisStore", "events", _but_the_first),
        only="swallow",
        shows="kit.events",
    ),
    # A stream of events to a browser does the same.
    "skipping stream": Fault(
        patch=_every(1, "jobkit.http.core.tail", "Tail", "after", _but_the_first),
        only="swallow",
        shows="the stream gave",
    ),
    # The table of the dashboard sometimes misses an event.
    "stale table": Fault(
        patch=_every(5, "jobkit.ui.jobs.board", "BoardFeed", "take", _not_at_all),
        only="kill",
        shows="the table shows",
    ),
    # Its counters never change.
    "stale counters": Fault(patch=_first_counters, only="kill", shows="the counters"),
    # A job's card gets no updates.
    "stale card": Fault(
        patch=_every(1, "jobkit.ui.card.job_feed", "JobFeed", "take", _not_at_all), only="kill", shows="the card"
    ),
    # Losses count against a job whatever died with it.
    "guilty neighbours": Fault(
        (
            (
                "lib/lifecycle",
                "rec.alone >= max_losses or since >= LOST_MOST * max_losses",
                "rec.losses >= 1",
            ),
        ),
        case="innocents beside pills",
        shows="(light|plain) .* failed as lost",
    ),
    # A large result is not written, without a word.
    "lost results": Fault(
        patch=_every(1, "jobkit.files.storage", "Directory", "adopt", _not_at_all),
        case="no temporary folder",
        shows="large .* succeeded with",
    ),
    # A supervisor does not see that its home was deleted.
    "no look at the home": Fault(
        patch=_every(1, "jobkit.embedded.home", "Home", "identity", _not_at_all),
        case="a deleted home",
        test="tests/embedded/test_supervisor.py::"
        "test_a_supervisor_whose_home_is_deleted_ends_with_its_processes_and_leaves_a_new_home_alone",
    ),
    # A supervisor dies of a status that it cannot write.
    "brittle status": Fault(
        patch=_every(1, "jobkit.embedded.home", "Home", "write_status", _write_or_fail),
        case="a full disk",
        test="tests/embedded/test_full_disk.py",
    ),
    # Lines that a crashed process had not sent are lost.
    "no last words": Fault(
        patch=_every(1, "jobkit.run.process.last_words", "LastWords", "hold", _not_at_all),
        case="last words",
        shows="the log of",
    ),
    # A preview is made before its value is handed over.
    "preview first": Fault(
        patch=_every(1, "jobkit.run.ended", "Ended", "last", lambda original, ended, *_: original(ended)),
        case="previews that harm",
        shows="harmful .* failed",
    ),
    # A strange message ends a worker's inbox.
    "brittle inbox": Fault(
        patch=_every(1, "jobkit.worker.inbox", "WorkerInbox", "take", lambda _, *args: _on_message(*args)),
        case="strange bytes",
        shows="a worker said",
    ),
    # A key of another type is met again and again.
    "no quarantine": Fault(
        (("lib/damage", "is_mended = Damage.put_aside(key)", ""),),
        case="keys of another type",
        shows="came to its end|a worker said|is damaged",
    ),
    # A submit without a reply counts as refused.
    "unanswered is refused": Fault(
        patch=_every(1, "jobkit.client.sent", "Sent", "__exit__", _not_at_all),
        case="submits without a reply",
        shows="was refused",
    ),
    # The followers of a job are settled up to a limit, and the others never.
    "no second step": Fault(
        (
            ("lib/leftover", "  local has_done = false\n", "  do return end\n  local has_done = false\n"),
            ("lib/followers", "NOW - LOOK_EVERY_MS, 'LIMIT'", "0, 'LIMIT'"),
        ),
        case="many followers",
        shows="came to its end|terminal events",
    ),
    # A job for which there are no descriptors fails.
    "no shortage": Fault(
        patch=lambda: setattr(importlib.import_module("jobkit.run.process.runner"), "unstarted", _fail),
        case="no descriptors",
        shows="failed as rejected",
    ),
    # A closed terminal kills the worker.
    "no hang-up": Fault(
        patch=_every(1, "jobkit.worker.worker", "JobWorker", "hang_up", _die),
        case="a terminal that closes",
        shows="losses, and nothing",
    ),
    # Programs of dead workers are not looked for.
    "no sweep": Fault(
        patch=lambda: setattr(importlib.import_module("jobkit.run.process.leftovers"), "_end", _not_at_all),
        case="programs that outlive",
        shows="run beside|lives on",
    ),
    # An exception of a coroutine that is no `Exception` is lost.
    "only exceptions": Fault(
        patch=lambda: setattr(importlib.import_module("jobkit.run.shared"), "raised", _only_exceptions),
        case="strange ends of coroutines",
        shows="strange_end .* (failed|queued|running)",
    ),
    # Waiting processes leave a dead embedded server to the next command.
    "no revival": Fault(
        patch=_every(1, "jobkit.store.hub", "EventHub", "_has_revived", _never),
        case="no supervisor",
        test="tests/embedded/test_waiting.py",
    ),
    # An attempt begins at the start, whatever the one before has stored.
    "no resume at home": Fault(
        patch=_every(1, "jobkit.features.checkpoints.attempt_state", "Checkpoints", "_newest", _not_at_all),
        case="checkpoints at home",
        shows="began at step",
    ),
    "no resume": Fault(
        patch=_every(1, "jobkit.features.checkpoints.attempt_state", "Checkpoints", "_newest", _not_at_all),
        case="checkpoints",
        shows="began at step",
    ),
    # A later attempt of a study does not look for the trials of the one before.
    "no open trials": Fault(
        patch=_every(1, "jobkit.features.studies.controller", "Controller", "_resumed", lambda *_: ()),
        case="studies",
        shows="search",
    ),
    # After an outage a worker waits as long as before.
    "slow return": Fault(
        patch=_every(1, "jobkit.worker.about", "RetryPause", "end", _not_at_all), test="tests/worker/test_outage.py"
    ),
}


_applied: set[str] = set()


def apply(name: str) -> None:
    """Apply a fault to the library and classes of this process.

    Raises:
        KeyError: unknown fault. ValueError: the fault no longer fits the library.
    """
    if not name or name in _applied:
        return
    _applied.add(name)
    fault = FAULTS[name]
    if fault.patch is not None:
        fault.patch()
    sources = dict(library.current.sources)
    for file, old, new in fault.changes:
        changed = [path for path in sources if file in ("*", path) and old in sources[path]]
        if not changed:
            raise ValueError(f"the fault {name!r} does not find {old!r} in {file}")
        for path in changed:
            sources[path] = sources[path].replace(old, new)
    library.current = library.Library(sources)
