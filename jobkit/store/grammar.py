"""Search grammar: parses `state:failed task:train since:22:00 lr=0.003` to a `Query`. Pure; used by page, CLI and HTTP.

Words are combined by "and", comma-separated values by "or"; "-" in front of a field excludes. `"..."` keeps spaces and
commas; a quoted word is plain text.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import partial
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from jobkit.model import ENDS, InvalidParams
from jobkit.model.format import seconds_in
from jobkit.store.query import FILTERS, FLAGS, STATES, UNRETRIED_WORDS, Query

#: Names for several states: the counters of the jobs page.
COUNTERS: Mapping[str, tuple[str, ...]] = {
    "waiting": ("queued", "scheduled"),
    "running": ("running",),
    "failed": ("failed",),
    "succeeded": ("succeeded",),
    "ended": tuple(map(str, ENDS)),
}

#: Each field with an example of it and its meaning: the help of the search box, its completion, and sentences.
FIELDS: Mapping[str, tuple[str, str]] = {
    "state": ("state:failed,running", "one of these; waiting and ended stand for several"),
    "task": ("task:train*", "by the name of the task; * stands for any text"),
    "queue": ("queue:gpu", "by queue"),
    "owner": ("owner:ada,bob", "by the user who submitted it; several with commas"),
    "tag": ("tag:nightly", "by tag"),
    "worker": ("worker:gpu-1", "by the last worker, or its host"),
    "error": ("error:KeyError", "by the type of the error, or timeout, memory, lost, …"),
    "batch": ('batch:"first try"', "of a batch, by its name or id"),
    "is": ("is:unretried", f"{UNRETRIED_WORDS}; is:retried; is:asking: a question waits"),
    "since": ("since:22:00", "ended since (or started, submitted); also yesterday, monday, 2h"),
    "before": ("before:06:00", "the same, before a time; in your time zone"),
    "on": ("on:2026-11-26", "the same, on a day; today and yesterday need no field"),
    "age": ("age:<1h", "time since the submit: s, m, h, d, w, y; also 1h..2h"),
    "older": ("older:2d", "submitted longer ago"),
    "newer": ("newer:2h", "submitted not longer ago"),
    "took": ("took:>10s", "how long the last run took; ended jobs only"),
    "in": ("in:archive", "ended jobs in the archive, however old"),
}

#: Example and meaning: the help of the search box.
HELP: tuple[tuple[str, str], ...] = (
    ("adam lr=0.003", "both texts, in arguments, message, result, error, tags, id"),
    ('"two words"', "exactly this text"),
    *FIELDS.values(),
    ("-task:train", "all but these; so also state, queue, owner, tag, worker, error, batch"),
)

#: Maximum length of a search text.
MAX_CHARS = 500

WORD = re.compile(r'(?:"[^"]*(?:"|$)|[^\s"])+')

#: What looks like a field: `http://x`, `C:\\x` and `12:30` do not.
_FIELD = re.compile(r"(-?)([A-Za-z]{2,20}):(?!//)(.*)", re.DOTALL)


def parse(text: str, base: Query | None = None, zone: str | None = None) -> Query:
    """Return the query of a search text, added to `base`.

    Args:
        zone: IANA name of the time zone for times like 22:00; that of this process unless given.

    Raises:
        InvalidParams: a field or the zone is unknown, or a value is not valid for its field; the message names it and
            what is allowed.
    """
    if len(text) > MAX_CHARS:
        raise InvalidParams(f"a search text has at most {MAX_CHARS} characters, this one has {len(text)}", "search")
    now = datetime.now(_zone(zone))
    found: dict[str, Any] = {}
    texts: list[str] = []
    for word in WORD.findall(text):
        match = _FIELD.fullmatch(word)
        if word.lower() in DAYS:
            read, name, value = _READERS["on"], "on", word
        elif match is None:
            texts.append(word.replace('"', ""))
            continue
        else:
            name, value = match[2].lower(), match[3]
            read = _READERS.get(name) or _refuse(match[2], value)
            if not value.strip('",'):
                raise InvalidParams(f"{name} needs a value, like {FIELDS[name][0]}", name)
        given = read(name, value, now) if name in _POINTS else read(name, value)
        if match is not None and match[1]:
            given = _without(name, given)
        for key, part in given.items():
            found[key] = _both(key, found[key], part, now) if key in found else part
    _check_span(found, now)
    if left_out := found.pop("left_out", ()):
        found["states"] = tuple(state for state in found.get("states", STATES) if state not in left_out)
        if not found["states"]:
            raise InvalidParams("-state leaves no state in which a job could be", "state")
    if "flag" in found and "archived" in found:
        raise InvalidParams("is does not go with in:archive, which does not keep that", "is")
    if texts := [word for word in texts if word]:
        found["search"] = tuple(texts)
    return replace(base or Query(), **found)


def read_search(
    text: str, order: str = "", cursor: str = "", limit: int = 50, zone: str | None = None
) -> tuple[Query, str]:
    """Return the query of a search box and "", or an empty query and the sentence that says what is wrong."""
    try:
        return parse(text, Query(order=order, limit=limit, cursor=cursor), zone).checked(), ""
    except InvalidParams as error:
        return Query(limit=0), f"{str(error)[:1].upper()}{str(error)[1:]}"


def of_command_line(arguments: Sequence[str]) -> str:
    """Return the search text of a command line.

    One argument is the text itself, as on the page. Of several, each that has further fields, too; any other is one
    word, which gets back the quotes that the shell has removed.
    """
    return " ".join(arguments if len(arguments) == 1 else map(_quoted, arguments))


def _quoted(argument: str) -> str:
    if not re.search(r"\s", argument) or '"' in argument:
        return argument
    first, *others = (_FIELD.fullmatch(word) for word in argument.split())
    if any(match and match[2].lower() in FIELDS for match in others):
        return argument
    name, _, value = argument.partition(":")
    return f'{name}:"{value}"' if first and first[2].lower() in FIELDS else f'"{argument}"'


def _refuse(name: str, value: str) -> NoReturn:
    close = difflib.get_close_matches(name.lower(), FIELDS, n=1)
    hint = f"did you mean {close[0]}:{value}? " if close else ""
    raise InvalidParams(
        f'there is no field {name}; {hint}Fields are {", ".join(FIELDS)}; in quotes it is text: "{name}:{value}"', name
    )


def _zone(name: str | None) -> tzinfo | None:
    try:
        return UTC if name == "UTC" else ZoneInfo(name) if name else None
    except Exception:  # zoneinfo raises various exceptions for invalid names
        raise InvalidParams(f"tz must be the name of a time zone like Europe/Berlin, not {name!r}", "tz") from None


def _both(key: str, earlier: Any, part: Any, now: datetime) -> Any:
    """Return what two words of a field ask for together: any of their values, the narrower of two points in time."""
    if isinstance(part, tuple):
        return earlier + part
    if key in ("since", "before"):
        return (max if key == "since" else min)(earlier, part, key=lambda point: _absolute(point, now))
    return part


def _absolute(point: float, now: datetime) -> float:
    return now.timestamp() + point if point < 0 else point


def _check_span(found: Mapping[str, Any], now: datetime) -> None:
    """Raise InvalidParams if no job can be in the span of time, instead of an empty list."""
    since, before = (_absolute(found[key], now) if key in found else None for key in ("since", "before"))
    if since is not None and since > now.timestamp():
        raise InvalidParams("since must be a time that has passed: nothing has changed after it yet", "since")
    if since is not None and before is not None and before <= since:
        shown = [f"{datetime.fromtimestamp(point, now.tzinfo):%Y-%m-%d %H:%M}" for point in (since, before)]
        raise InvalidParams(f"before must be later than since: these ask for {shown[0]} to {shown[1]}", "before")


def _without(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the filters of a word with "-" in front."""
    if name == "state":
        return {"left_out": given["states"]}
    if name not in FILTERS:
        raise InvalidParams(f"-{name}: only {', '.join(('state', *_NAMED))} can be excluded with -", name)
    return {"excluded": tuple((name, value) for value in given[name])}


def _point(name: str, value: str, now: datetime) -> dict[str, Any]:
    found = point(value.replace('"', ""), now)
    if found is None:
        raise InvalidParams(f"{name} must be a time like {_ALLOWED}, not {value!r}", name)
    return {name: found}


def _day(name: str, value: str, now: datetime) -> dict[str, Any]:
    found = day(value.replace('"', ""), now)
    if found is None:
        raise InvalidParams(f"{name} must be a day: today, yesterday, monday or 2026-11-26, not {value!r}", name)
    return {"since": found[0], "before": found[1]}


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
    if value.lower() not in FLAGS:
        raise InvalidParams(f"{name} must be one of {', '.join(FLAGS)}, not {value!r}", name)
    return {"flag": (value.lower(),)}


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


# -- points in time ----------------------------------------------------------------------------------------------------

#: What a point in time may look like, for the sentence that refuses another one.
_ALLOWED = "22:00, today, yesterday, monday, 2026-11-26, 'yesterday 22:00' or 2h"

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_POINT = re.compile(r"(?P<day>[a-z]+?|\d{4}-\d\d-\d\d)?(?:[t ]*(?P<clock>\d?\d:\d\d|\d\d:\d\d:\d\d))?", re.ASCII)

#: The shortest length of time, so that "0s" is also a negative number.
_SHORTEST_S = 0.001


def point(text: str, now: datetime) -> float | None:
    """Return the point in time that a person writes, or None: `22:00`, `yesterday`, `2026-11-26`, `2h`.

    It is in seconds since the epoch, or, of a length of time like `2h`, the negative number of seconds before now, so
    that a live page can move it on. A time without a day is the last one that has passed.

    Args:
        now: in the zone of the person; without a zone, in that of this process.
    """
    text = text.strip().lower()
    if text and not text[-1].isdigit() and (length := seconds_in(text)) is not None:
        return -max(length, _SHORTEST_S)
    match = _POINT.fullmatch(text)
    if match is None or not text:
        return None
    try:
        clock = time.fromisoformat(match["clock"].rjust(5, "0")) if match["clock"] else time()
        day = _date(match["day"], now.date()) if match["day"] else now.date()
        if day is None:
            return None
        found = _timestamp(day, clock, now.tzinfo)
        is_ahead = not match["day"] and found > now.timestamp()
        return _timestamp(day - timedelta(days=1), clock, now.tzinfo) if is_ahead else found
    except (ValueError, OverflowError, OSError):  # 25:00, 2026-02-30, the year 1
        return None


def day(text: str, now: datetime) -> tuple[float, float] | None:
    """Return the begin and the end of a day: `today`, `monday`, `2026-11-26`; None for other texts."""
    try:
        found = _date(text.strip().lower(), now.date())
        if found is None:
            return None
        return _timestamp(found, time(), now.tzinfo), _timestamp(found + timedelta(days=1), time(), now.tzinfo)
    except (ValueError, OverflowError, OSError):
        return None


def _date(text: str, today: date) -> date | None:
    if text in ("today", "yesterday"):
        return today - timedelta(days=text == "yesterday")
    named = [n for n, name in enumerate(_WEEKDAYS) if text in (name, name[:3])]
    if named:
        return today - timedelta(days=(today.weekday() - named[0]) % 7)
    return date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII) else None


def _timestamp(day: date, clock: time, zone: tzinfo | None) -> float:
    return datetime.combine(day, clock, zone).timestamp()


# -- readers -----------------------------------------------------------------------------------------------------------

#: Fields with names as values.
_NAMED = tuple(name for name in FILTERS if name != "flag")

#: Words that are days without a field.
DAYS = ("today", "yesterday")

#: Fields whose value depends on the time of the search.
_POINTS: Mapping[str, Callable[[str, str, datetime], dict[str, Any]]] = {"since": _point, "before": _point, "on": _day}

_READERS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "state": _states,
    **dict.fromkeys(_NAMED, lambda name, value: {name: tuple(_split(value))}),
    "is": _flag,
    **_POINTS,
    "age": partial(_span, "older_s", "newer_s", "<"),
    **dict.fromkeys(("older", "newer"), lambda name, value: {f"{name}_s": _seconds(name, value)}),
    "took": partial(_span, "took_min_s", "took_max_s", ">"),
    "in": _archive,
}
