"""Deliberate faults in copies of the scripts, in this process only: what a chaos run has to catch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from jobkit.store import scripts

_HUSH = """local function hush(rec, kind, data, set)
  redis.call('HSET', P .. 'job:' .. rec.id, unpack(set))
end

"""


@dataclass(frozen=True, slots=True)
class Fault:
    """What has to go wrong (`world.WEIGHTS`) for it to show, and (script, text to be replaced, its replacement)."""

    only: str
    changes: list[tuple[str, str, str]]


FAULTS: dict[str, Fault] = {
    # Whoever comes last has ended the job, whether it still holds it or not, and is not told that it does not.
    "no fence": Fault(
        "sleep",
        [
            ("finish", "rec.state == 'running' and rec.token == token", "rec.token"),
            ("renew", "lost[#lost + 1] = ARGV[i]\n", ""),
        ],
    ),
    # A worker that wakes up too late takes its job back from the one that runs it now.
    "no fence at renewal": Fault(
        "sleep",
        [
            ("renew", "rec[1] == ARGV[i + 1] and rec[2] == 'running'", "rec[2] == 'running'"),
            ("finish", "rec.token == token then", "true then"),
        ],
    ),
    # The job of a dead worker is forgotten.
    "no recovery": Fault("kill", [("*", "    ready(rec, rec.us)", "")]),
    # A transition that nobody is told of.
    "silent start": Fault(
        "cut",
        [
            ("*", "-- The indexes that pages", _HUSH + "-- The indexes that pages"),
            ("*", "emit(rec, 'started',", "hush(rec, 'started',"),
        ],
    ),
    # A repeated submit stores the job once more.
    "not idempotent": Fault("swallow", [("submit", "redis.call('EXISTS', key) == 1", "false")]),
    # Losses are not counted: a job that kills its workers does so for ever.
    "endless poison": Fault("cut", [("*", "rec.losses >= max_losses", "false")]),
    # An ended job's arguments stay for ever.
    "no ttl": Fault("cut", [("*", "redis.call('PEXPIRE', P .. 'args:' .. rec.id, ttl_ms)", "")]),
    # A result that is not kept.
    "no result": Fault("cut", [("finish", "if result ~= ''", "if false")]),
}


def apply(name: str) -> None:
    """Replace the scripts of this process.

    Raises:
        KeyError: no such fault. ValueError: the scripts have changed, and the fault with them.
    """
    for script, old, new in FAULTS[name].changes if name else ():
        changed = 0
        for known in scripts.NAMES if script == "*" else (script,):
            source = scripts.SOURCES[known].replace(old, new)
            if source != scripts.SOURCES[known]:
                changed += 1
                scripts.SOURCES[known] = source
                scripts.HASHES[known] = hashlib.sha1(source.encode()).hexdigest()
        if not changed:
            raise ValueError(f"the fault {name!r} does not find {old!r} in {script}")
