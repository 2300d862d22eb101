"""Search grammar: parses `state:failed task:train age:<1h lr=0.003` to a `Query`. Pure; used by page, CLI and HTTP.

Words are combined by "and", comma-separated values by "or". `"..."` keeps spaces and commas; a quoted word, and a word
with an unknown field, is plain text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from msgspec.structs import replace

from jobkit.model import InvalidParams
from jobkit.model.format import seconds_in
from jobkit.store.query import ASKING, FILTERS, STATES, Query

#: Names for several states: the counters of the jobs page.
COUNTERS: Mapping[str, tuple[str, ...]] = {
    "waiting": ("queued", "scheduled"),
    "running": ("running",),
    "failed": ("failed",),
    "succeeded": ("succeeded",),
    "ended": ("succeeded", "failed", "cancelled"),
}

#: Field, example, meaning: shown as help of the search box.
HELP: tuple[tuple[str, str], ...] = (
    ("adam lr=0.003", "both texts, in arguments, message, result, error, tags, id"),
    ('"two words"', "exactly this text"),
    ("state:failed,running", "one of these; waiting and ended also work"),
    ("task:train*", "by name; * stands for any text"),
    ("queue:gpu  owner:ada  tag:nightly", "by queue, owner, tag"),
    ('batch:3f0c9a1be2d47755  batch:"first try"', "of a batch, by its id or name"),
    ("worker:gpu-1", "by the last worker, or its host"),
    ("error:KeyError", "by the type of the error, or timeout, memory, lost, …"),
    ("is:asking", "with a question that waits for an answer"),
    ("age:<1h  older:2d  age:1h..2h", "by the time since the submit: s, m, h, d, w, y"),
    ("took:>10s", "by how long the run took"),
    ("in:archive", "ended jobs in the archive, however old"),
)

#: Maximum length of a search text.
MAX_CHARS = 500

_WORD = re.compile(r'(?:"[^"]*(?:"|$)|[^\s"])+')


def parse(text: str, base: Query | None = None) -> Query:
    """Return the query of a search text, added to `base`.

    Raises:
        InvalidParams: a value is not valid for its field; the message names both and what is allowed.
    """
    if len(text) > MAX_CHARS:
        raise InvalidParams(f"a search text has at most {MAX_CHARS} characters, this one has {len(text)}", "search")
    found: dict[str, Any] = {}
    texts: list[str] = []
    for word in _WORD.findall(text):
        name, colon, value = word.partition(":")
        read = _FIELDS.get(name.lower()) if colon and value else None
        if read is None:
            texts.append(word.replace('"', ""))
            continue
        for key, part in read(name.lower(), value).items():
            earlier = found.get(key)
            found[key] = earlier + part if isinstance(part, tuple) and earlier else part
    if texts := [word for word in texts if word]:
        found["search"] = tuple(texts)
    return replace(base or Query(), **found)


def read_search(text: str, order: str = "", cursor: str = "", limit: int = 50) -> tuple[Query, str]:
    """Return the query of a search box and "", or an empty query and the sentence that says what is wrong."""
    try:
        return parse(text, Query(order=order, limit=limit, cursor=cursor)).checked(), ""
    except InvalidParams as error:
        return Query(limit=0), str(error)


def quoted(word: str) -> str:
    """Return a word of a command line as a word of a search text, with the quotes that the shell has removed."""
    if not re.search(r"\s", word) or '"' in word:
        return word
    name, colon, value = word.partition(":")
    return f'{name}:"{value}"' if colon and name.lower() in _FIELDS else f'"{word}"'


def _states(name: str, value: str) -> dict[str, Any]:
    states: list[str] = []
    for one in _split(value.lower()):
        if one not in COUNTERS and one not in STATES:
            raise InvalidParams(f"state must be one of {', '.join((*STATES, 'waiting', 'ended'))}, not {one!r}", name)
        states += COUNTERS.get(one, (one,))
    return {"states": tuple(dict.fromkeys(states))}


def _archive(name: str, value: str) -> dict[str, Any]:
    if value.lower() != "archive":
        raise InvalidParams(f"in must be archive, not {value!r}", name)
    return {"archived": True}


def _flag(name: str, value: str) -> dict[str, Any]:
    if value.lower() != ASKING:
        raise InvalidParams(f"{name} must be {ASKING}, not {value!r}", name)
    return {"flag": (ASKING,)}


def _span(least: str, most: str, usual: str, name: str, value: str) -> dict[str, Any]:
    """Return the bounds `least` and `most` of `<1h`, `>1h`, `1h..2h`; a plain duration has the sign `usual`."""
    first, dots, last = value.partition("..")
    if not dots:
        sign = value[0] if value[0] in "<>" else usual
        length = _seconds(name, value.lstrip("<>=") if value[0] in "<>" else value)
        return {most if sign == "<" else least: length}
    found = {key: _seconds(name, part) for key, part in ((least, first), (most, last)) if part}
    if len(found) == 2 and found[least] > found[most]:
        raise InvalidParams(f"{name} must name the smaller length first, not {value!r}", name)
    return found


def _seconds(name: str, text: str) -> float:
    found = seconds_in(text)
    if found is None:
        raise InvalidParams(f"{name} must be a length of time like 90s, 10m, 1h, 2d, 1w, 1y, not {text!r}", name)
    return found


def _split(value: str) -> Iterator[str]:
    """Yield the parts between commas, without quotes; a quoted comma belongs to its part."""
    for part in re.findall(r'(?:"[^"]*(?:"|$)|[^,"])+', value):
        if name := part.replace('"', ""):
            yield name


_FIELDS: Mapping[str, Callable[[str, str], dict[str, Any]]] = {
    "state": _states,
    "in": _archive,
    "is": _flag,
    **dict.fromkeys(FILTERS, lambda name, value: {name: tuple(_split(value))}),
    **dict.fromkeys(("older", "newer"), lambda name, value: {f"{name}_s": _seconds(name, value)}),
    "age": partial(_span, "older_s", "newer_s", "<"),
    "took": partial(_span, "took_min_s", "took_max_s", ">"),
}
