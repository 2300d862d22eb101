"""The search box: `state:failed task:train text` to a `Query` and back. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from jobkit.model import JobState
from jobkit.store.base import Query

#: The four counters of the jobs page and the states that each stands for.
COUNTERS: Mapping[str, tuple[str, ...]] = {
    "waiting": ("queued", "scheduled"),
    "running": ("running",),
    "failed": ("failed",),
    "succeeded": ("succeeded",),
}

_STATES = frozenset(str(state) for state in JobState)


def parse_search(text: str, limit: int = 50, cursor: str = "") -> Query:
    """The query that a search text asks for.

    `state:` takes a state or a counter's name, several with commas; `task:` and `queue:` a name. The other words, and
    fields that are not known, are searched as text. An unknown state finds nothing rather than everything.
    """
    states: list[str] = []
    task = queue = None
    words: list[str] = []
    for word in _words(text):
        field, colon, value = word.partition(":")
        if colon and value and field == "state":
            for name in value.lower().split(","):
                states += COUNTERS.get(name, (name if name in _STATES else "none",))
        elif colon and value and field == "task":
            task = value
        elif colon and value and field == "queue":
            queue = value
        else:
            words.append(word)
    return Query(
        states=tuple(dict.fromkeys(states)),
        task=task,
        queue=queue,
        search=" ".join(words) or None,
        limit=limit,
        cursor=cursor,
    )


def counter_of(text: str) -> str:
    """Which of the counters a search text has chosen, or ""."""
    chosen = [word.partition(":")[2] for word in _words(text) if word.startswith("state:")]
    return chosen[0] if len(chosen) == 1 and chosen[0] in COUNTERS else ""


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # a quote that is still being typed
        return text.split()
