"""Completion of a search text at its caret: which fields, and which values of a field, can come next. Pure.

The values that jobs have are counted by the caller, among the jobs that match the rest of the text.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from jobkit.model import ENDS
from jobkit.model.format import number
from jobkit.store.grammar import DAYS, FIELDS, WORD
from jobkit.store.query import (
    ASKING,
    FILTERS,
    RETRIED,
    STATES,
    UNRETRIED,
    UNRETRIED_WORDS,
    Query,
    fits,
    is_pattern,
    names,
    patterns,
)

#: Suggestions at a time.
MOST = 8

#: Values that are the same everywhere, with what they mean; those of lengths and times are examples.
_FIXED: Mapping[str, Mapping[str, str]] = {
    "state": {**dict.fromkeys(STATES, ""), "waiting": "queued or scheduled", "ended": ", ".join(ENDS)},
    "is": {
        UNRETRIED: UNRETRIED_WORDS,
        RETRIED: "runs again as another job",
        ASKING: "a question waits for an answer",
    },
    "since": {"2h": "", "today": "", "yesterday": "", "monday": "", "22:00": "the last one", "2026-11-26": "a day"},
    "before": {"2h": "", "today": "", "yesterday": "", "monday": "", "06:00": "the last one", "2026-11-26": "a day"},
    "on": {"today": "", "yesterday": "", "monday": "", "2026-11-26": "a day"},
    "age": {"<1h": "at most", ">1d": "at least", "1h..2h": "between"},
    "older": {"1h": "", "1d": "", "1w": ""},
    "newer": {"1h": "", "1d": "", "1w": ""},
    "took": {">10s": "at least", "<1m": "at most", "10s..1m": "between"},
    "in": {"archive": "ended jobs, however old"},
}

#: Fields whose values are those of jobs.
COUNTED = ("state", *(name for name in FILTERS if name != "flag"))

#: Fields of which `unknown` knows all values.
HINTED = ("task", "queue", "owner", "tag", "error")


class Caret(NamedTuple):
    """The part of a text at its caret.

    Attributes:
        start, end: the part of the text that a suggestion replaces. typed: what of it is before the caret.
        field: the field whose value it is; "" for the begin of a word.
        known: other values of this word. rest: the text without the word.
    """

    start: int
    end: int
    typed: str
    field: str
    known: tuple[str, ...]
    rest: str


class Suggestion(msgspec.Struct, frozen=True):
    """A text that replaces the part at the caret, and what it means. `is_done`: the word is complete with it."""

    text: str
    note: str = ""
    is_done: bool = True


def caret_in(text: str, at: int) -> Caret | None:
    """Return what is typed at the place `at` of a text; None inside of quotes, or if it looks like no field."""
    start, end = next(((m.start(), m.end()) for m in WORD.finditer(text) if m.start() < at <= m.end()), (at, at))
    word, before = text[start:end], text[start:at]
    rest = f"{text[:start]} {text[end:]}"
    start += before.startswith("-")
    name, colon, value = before.removeprefix("-").partition(":")
    if not colon:
        return None if '"' in word or ":" in word else Caret(start, end, name, "", (), rest)
    if name.lower() not in FIELDS:
        return None
    *known, typed = _parts(value)
    stop = next((at + n for n, letter in enumerate(text[at:end]) if letter == ","), end)
    return Caret(at - len(typed), stop, typed.replace('"', ""), name.lower(), tuple(known), rest)


def suggestions(caret: Caret, counts: Mapping[tuple[str, ...], int] | None = None) -> list[Suggestion]:
    """Return what can stand at a caret, the best first.

    Args:
        counts: how many jobs have each value of the field, as of `Verbs.tally`; None if that is not known.
    """
    if not caret.field:
        words = {**{f"{name}:": meaning for name, (_, meaning) in FIELDS.items()}, **dict.fromkeys(DAYS, "on this day")}
        fitting = [name for name in words if name.startswith(caret.typed.lower())]
        return [Suggestion(name, words[name], not name.endswith(":")) for name in fitting]
    notes = dict(_FIXED.get(caret.field, {}))
    numbers = _numbers(caret.field, counts or {})
    typed = caret.typed.lower()
    found = [value for value in {**numbers, **notes} if typed in value.lower() and value not in caret.known]
    found.sort(
        key=lambda value: (not value.lower().startswith(typed), -numbers[value], value if numbers[value] else "")
    )
    if caret.field in ("state", *FILTERS):
        notes = {value: notes.get(value) or (number(numbers[value]) if numbers[value] else "") for value in found}
    return [Suggestion(_quoted(value), notes[value]) for value in found[:MOST]]


def unknown(query: Query, field: str, counts: Mapping[tuple[str, ...], int]) -> str:
    """Return the sentence that no job has a value which the query asks for, and which are close; "" if one has it."""
    asked, known = names(getattr(query, field)), _numbers(field, counts)
    values = [value for (each,) in counts for value in each.split("\t")]
    wrong = next(
        (value for value in asked if value and not fits(values, patterns(replace(query, **{field: value}), field))), ""
    )
    if not wrong or is_pattern(wrong) or len(asked) > 1:
        return ""
    close = difflib.get_close_matches(wrong, known, n=1)
    some = ", ".join(value for value, _ in known.most_common(4)) + (", …" if len(known) > 4 else "")
    there = f"; there {'is' if len(known) == 1 else 'are'} {some}" if some else ""
    return f"No job has the {field} {wrong}" + (f"; did you mean {close[0]}?" if close else there)


def _numbers(field: str, counts: Mapping[tuple[str, ...], int]) -> Counter[str]:
    found: Counter[str] = Counter()
    for (value,), n in counts.items():
        for part in _alternatives(field, value):
            found[part] += n
    return found


def _alternatives(field: str, value: str) -> Iterable[str]:
    parts = [part for part in value.split("\t") if part]
    if field == "batch":
        return parts[-1:]  # its name, if it has one
    return [value.rsplit(".", 2)[0]] if field == "worker" and value else parts


def _parts(value: str) -> list[str]:
    """Return the parts between commas, with their quotes; the last one may be empty."""
    parts, is_open = [""], False
    for letter in value:
        is_open ^= letter == '"'
        if letter == "," and not is_open:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _quoted(value: str) -> str:
    value = value.replace('"', "")
    return f'"{value}"' if not value or any(letter.isspace() or letter == "," for letter in value) else value
