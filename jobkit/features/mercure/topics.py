"""Selectors of topics, of subscribers and tokens: exact strings, URI Templates, URL patterns, and "*".

No selector may hold up the server. URL patterns are matched by `urlpattern`, whose regular expressions run in linear
time; `_size_of` bounds what one of them costs. URI Templates are matched here, all ways at once.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from urlpattern import URLPattern

from jobkit.access.own_machine import LOOPBACK_NAMES, host_name, is_host_among, is_loopback
from jobkit.features.mercure.update import JOBS, reservation, topic_problem

#: Kinds of selectors, as 1.0 spells them; `TEMPLATE` is of 0.x alone.
EXACT, PATTERN, TEMPLATE, ALL = "exact", "urlpattern", "uritemplate", "*"
MATCH_TYPES = (EXACT, PATTERN, TEMPLATE)

#: Size of one template or pattern; see `_size_of`. Measured: at worst, one of this size takes 25 ms to compile, and
#: 25 ms to match with a topic of `MAX_TOPIC_BYTES`.
MAX_SIZE = 500

#: Size of all templates and patterns of one subscription or token together.
MAX_TOTAL_SIZE = 4 * MAX_SIZE


class BadSelector(ValueError):
    """A selector that is not understood, or too large; the message says why."""


@dataclass(frozen=True, slots=True)
class Selector:
    """A set of topics."""

    kind: str  #: "exact", "urlpattern", "uritemplate" or "*"
    value: str  #: as it was written
    size: int = 0  #: cost of matching, see `_size_of`; 0 for "exact" and "*"
    test: Callable[[str], bool] | None = field(default=None, compare=False, repr=False)  #: of a template or pattern

    def matches(self, topic: str) -> bool:
        if self.kind == ALL or (self.value == topic and self.kind != PATTERN):
            return True
        return self.test is not None and self.test(topic)


def old(value: Any) -> Selector:
    """Make a selector of protocol 0.x: "*", a URI Template, or an exact text. Raises BadSelector."""
    text = checked(value)
    if text == "*":
        return Selector(ALL, text)
    if "{" in text:
        template = _template(text)
        return Selector(TEMPLATE, text, template.size, template.matches)
    return Selector(EXACT, text)


def new(kind: str, value: Any, base: str) -> Selector:
    """Make a matcher of protocol 1.0: `kind` is "exact" or "urlpattern". Raises BadSelector."""
    text = checked(value)
    if kind not in (EXACT, PATTERN):
        raise BadSelector("the kind of a matcher is exact or urlpattern")
    if text == "*":
        return Selector(ALL, text)
    if kind == EXACT:
        return Selector(EXACT, text)
    pattern = _pattern(text, base)
    return Selector(PATTERN, text, _size_of(text), lambda topic: pattern.test(topic, base))


def together(selectors: Iterable[Selector]) -> tuple[Selector, ...]:
    """Make the selectors of one subscription or token. Raises BadSelector: one is refused, or all are too large."""
    made: list[Selector] = []
    size = 0
    for selector in selectors:
        made.append(selector)
        size += selector.size
        if size > MAX_TOTAL_SIZE:
            raise BadSelector("these templates and patterns are too large together: use fewer, or shorter ones")
    return tuple(made)


def checked(value: Any) -> str:
    """Return the text of a selector or topic. Raises BadSelector."""
    if problem := topic_problem(value):
        raise BadSelector(problem)
    return str(value)


def reserved_for(topic: str, hub_url: str, names: Iterable[str] = ()) -> str:
    """Return `JOBS` or `HUB` if a topic is reserved, see `reservation`; else "".

    The one exception are jobs of another server: a plain `https://host/...` whose host is neither a loopback name nor
    one of `names` of this server.
    """
    owner, whole = reservation(topic, urlsplit(hub_url).path)
    return "" if owner == JOBS and _is_elsewhere(whole, names) else owner


def _is_elsewhere(url: str, names: Iterable[str]) -> bool:
    """Return whether a URL is certainly of another server."""
    match = re.match(r"https?://([^/\\?#\s]+)/", url)
    host = host_name(match[1].rpartition("@")[2]).rstrip(".") if match else ""
    if not host or is_loopback(host) or host.endswith(".localhost") or is_host_among(host, LOOPBACK_NAMES):
        return False
    if host.rpartition(".")[2].isdigit() and host.count(".") != 3:  # 127.1
        return False
    return not is_host_among(host, [host_name(name) or name for name in names])


#: Characters that an expression of a URI Template stands for, by its operator, beside letters, digits, `-._~%` and
#: characters that are not ASCII; None for all characters.
_ALLOWED = {"": ",", "+": None, "#": None, ".": ".,", "/": "/,", ";": ";=,", "?": "?=&,", "&": "&=,"}
_UNRESERVED = string.ascii_letters + string.digits + "-._~%"

_VARIABLE = r"[A-Za-z0-9_.%]+(?::\d{1,4}|\*)?"
_EXPRESSION = re.compile(rf"\{{([+#./;?&]?){_VARIABLE}(?:,{_VARIABLE})*\}}")


class Template:
    """A URI Template to match against: each expression stands for any number of the characters that it allows.

    Takes time in proportion to template times topic. Position i of a topic is reached by a set of ways through the
    items (characters and expressions), kept as the bits of one number.
    """

    def __init__(self, text: str) -> None:
        self._characters: dict[str, int] = {}
        self._expressions: dict[str, int] = {}
        self._repeated = 0
        bit = 1
        for part in re.split(r"(\{[^{}]*\})", text):
            items: Iterable[str] = part
            kinds = self._characters
            if part.startswith("{"):
                if (match := _EXPRESSION.fullmatch(part)) is None:
                    raise BadSelector("a URI Template has expressions like {id} or {+path}")
                items, kinds = [match[1]], self._expressions
                self._repeated |= bit
            elif "{" in part or "}" in part:
                raise BadSelector("the braces of the URI Template are not balanced")
            for item in items:
                kinds[item] = kinds.get(item, 0) | bit
                bit <<= 1
        self._end = bit
        self.size = bit.bit_length() - 1

    def matches(self, topic: str) -> bool:
        ways = self._with_skipped(1)
        for c in topic:
            stays = 0
            for operator, bits in self._expressions.items():
                extra = _ALLOWED[operator]
                if extra is None or c in _UNRESERVED or c in extra or not c.isascii():
                    stays |= bits
            ways = self._with_skipped((ways & self._characters.get(c, 0)) << 1 | ways & stays)
            if not ways:
                return False
        return bool(ways & self._end)

    def _with_skipped(self, ways: int) -> int:
        """Return `ways` and those past empty expressions: the carry of the sum runs through a row of them."""
        return ways | (self._repeated + (ways & self._repeated)) ^ self._repeated


@lru_cache(maxsize=100)
def _template(text: str) -> Template:
    template = Template(text)
    if template.size > MAX_SIZE:
        raise BadSelector(f"the URI Template is too large: it has more than {MAX_SIZE} characters and expressions")
    return template


@lru_cache(maxsize=100)
def _pattern(text: str, base: str) -> URLPattern:
    """Return the pattern: as it is if it has a scheme, else relative to the hub's URL, as in the standard."""
    if _size_of(text) > MAX_SIZE:
        raise BadSelector(
            f"the URL pattern is too large: at most {MAX_SIZE}, where a character counts 1, a name or * 5, a class "
            "like \\w 10, and {n,m} multiplies what it repeats"
        )
    try:
        return URLPattern(text)
    except ValueError:
        pass
    try:
        return URLPattern(text, base)
    except ValueError as error:
        raise BadSelector(f"the URL pattern is not understood: {error}") from None


_PIECE = re.compile(r"\(\?:|\\[pP]\{[^}]*\}|\\.|\[(?:\\.|[^\]\\])*\]|\{(\d+)(?:,(\d*))?\}|.", re.DOTALL)


def _size_of(pattern: str) -> int:
    """Estimate the cost of a URL pattern: its states and captures, with repetitions `{n,m}` written out."""
    sizes, last = [0], 0
    for piece in _PIECE.finditer(pattern):
        text = piece[0]
        if text.startswith("("):
            sizes.append(1)
            continue
        if text == ")" and len(sizes) > 1:
            last = sizes.pop()
            sizes[-1] += last
        elif piece[1]:
            times = max(int(piece[1]), int(piece[2] or 1), 1)
            sizes[-1] += last * (times - 1)
            last *= times
        else:
            has_class = re.search(r"\\[A-Za-z]", text)
            last = 10 if has_class else 5 if text in "*:" else 1
            sizes[-1] += last
    return sum(sizes)
