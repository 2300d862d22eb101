"""Which topics a selector means: Mercure's exact strings, URI Templates, URL patterns, and "*".

Every matcher here takes time in proportion to topic times selector, whatever is asked: see `automaton`.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any
from urllib.parse import unquote, urlsplit

from jobkit.http import automaton
from jobkit.http.automaton import MAX_PLACES, Automaton
from jobkit.http.url_tokens import BadPattern
from jobkit.http.urlpatterns import URLPattern, compiled
from jobkit.own_machine import LOOPBACK_NAMES, host_name, is_host_among, is_loopback

EXACT, TEMPLATE, PATTERN, ALL = "exact", "template", "urlpattern", "*"

MAX_LENGTH = 4096

#: Places (characters, so to say) that all templates and patterns of one who asks may have together.
MAX_PLACES_OF_ALL = 4 * MAX_PLACES

#: Whose topics a publisher must not use.
JOBS, HUB = "jobs", "hub"

#: Segments of a path that follow each other in topics of jobs, and in addresses of the hub.
_RESERVED = {("api", "jobs"): JOBS, (".well-known", "mercure"): HUB}

#: Times that a topic may be percent-encoded over.
_MOST_DECODINGS = 10

_UNRESERVED = frozenset(string.ascii_letters + string.digits + "-._~%")


class BadSelector(ValueError):
    """A selector that cannot be understood; the message says why."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Some topics.

    Attributes:
        kind: "exact", "template", "urlpattern" or "*".
        value: as it was written.
        base: URL that relative patterns are relative to.
    """

    kind: str
    value: str
    base: str = ""
    form: Automaton | URLPattern | None = field(default=None, compare=False, repr=False)

    def matches(self, topic: str) -> bool:
        if self.kind == ALL:
            return True
        if self.value == topic and self.kind != PATTERN:
            return True
        if isinstance(self.form, URLPattern):
            return self.form.matches(topic, self.base)
        return self.form is not None and self.form.matches(topic)


def old(value: Any) -> Selector:
    """A selector of protocol 0.x: "*", a URI Template, or an exact text.

    Raises:
        BadSelector: too long, not text, or too many parts.
    """
    text = checked(value)
    if text == "*":
        return Selector(ALL, text)
    if "{" in text:
        return Selector(TEMPLATE, text, form=_template(text))
    return Selector(EXACT, text)


def new(kind: str, value: Any, base: str) -> Selector:
    """A matcher of protocol 1.0: `kind` is "exact" or "urlpattern".

    Raises:
        BadSelector: it cannot be understood.
    """
    text = checked(value)
    if kind not in (EXACT, PATTERN):
        raise BadSelector("the kind of a matcher is exact or urlpattern")
    if text == "*":
        return Selector(ALL, text)
    return Selector(kind, text, base, _pattern(text, base) if kind == PATTERN else None)


def together(selectors: Iterable[Selector]) -> tuple[Selector, ...]:
    """The selectors of one who asks, made one after the other.

    Raises:
        BadSelector: one of them is refused, or they would be too much work for each update.
    """
    made: list[Selector] = []
    places = 0
    for selector in selectors:
        made.append(selector)
        places += selector.form.places if selector.form is not None else 0
        if places > MAX_PLACES_OF_ALL:
            raise BadSelector("these templates and patterns are too large together: ask for fewer, or shorter ones")
    return tuple(made)


def checked(value: Any) -> str:
    """A selector's or topic's text.

    Raises:
        BadSelector: not text, empty, longer than 4096 bytes, or with control or format characters.
    """
    if not isinstance(value, str) or not value:
        raise BadSelector("a topic is text and not empty")
    if len(value.encode("utf-8", "surrogatepass")) > MAX_LENGTH:
        raise BadSelector(f"a topic has at most {MAX_LENGTH} bytes")
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in value):
        raise BadSelector("a topic has no control characters")
    return value


def reserved_for(topic: str, hub_url: str, names: Iterable[str] = ()) -> str:
    """`JOBS` or `HUB` if a reader could take a topic for one of a job, or of the hub itself; else "".

    The path decides, below whatever prefix. It is read as the most lenient reader would: percent-encodings decoded as
    often as there are any, backslashes as slashes, dots resolved and not, relative to the hub or not, in any case and
    width of letters. So a topic may be published to only if it is nothing of the kind in any reading. The one exception
    are jobs of another server: a plain `https://host/...` whose host is no loopback name and none of `names`.

    Args:
        names: under which this server is reached, with or without port.
    """
    text = re.split("[?#]", topic, maxsplit=1)[0]
    for _ in range(_MOST_DECODINGS):
        before, text = text, unquote(unicodedata.normalize("NFKC", text)).casefold()
        if text == before:
            break
    else:
        return HUB  # nobody writes a topic like this in good faith
    whole, text = text, re.sub(r"^\s*[a-z][a-z0-9+.-]*:", "", text).replace("\\", "/")
    parts = [part.strip() for part in text.split("/")]
    readings = [[part for part in parts if part not in ("", ".", "..")], _without_dots(parts)]
    if not text.startswith("/"):
        readings.append(_without_dots([*urlsplit(hub_url).path.split("/")[:-1], *parts]))
    for reading in readings:
        for pair in pairwise(reading):
            if pair in _RESERVED:
                return "" if _RESERVED[pair] == JOBS and _is_elsewhere(whole, names) else _RESERVED[pair]
    return ""


def _is_elsewhere(url: str, names: Iterable[str]) -> bool:
    """Whether a URL is beyond doubt of another server."""
    match = re.match(r"https?://([^/\\?#\s]+)/", url)
    host = host_name(match[1].rpartition("@")[2]).rstrip(".") if match else ""
    if not host or is_loopback(host) or host.endswith(".localhost") or is_host_among(host, LOOPBACK_NAMES):
        return False
    if host.rpartition(".")[2].isdigit() and host.count(".") != 3:  # 127.1
        return False
    return not is_host_among(host, [host_name(name) or name for name in names])


def _without_dots(parts: Iterable[str]) -> list[str]:
    kept: list[str] = []
    for part in parts:
        if part == "..":
            del kept[-1:]
        elif part not in ("", "."):
            kept.append(part)
    return kept


@lru_cache(maxsize=500)
def _template(text: str) -> Automaton:
    try:
        return Automaton(automaton.sequence(_parts(text)))
    except automaton.TooLarge as error:
        raise BadSelector(f"the URI Template is too large: {error}") from None


def _parts(template: str) -> Iterator[automaton.Form]:
    for part in re.split(r"(\{[^{}]*\})", template):
        if not part.startswith("{"):
            if "{" in part or "}" in part:
                raise BadSelector("the braces of a URI Template do not fit")
            yield automaton.text(part)
            continue
        match = re.fullmatch(
            r"\{([+#./;?&]?)[A-Za-z0-9_.%]+(?::\d{1,4}|\*)?(?:,[A-Za-z0-9_.%]+(?::\d{1,4}|\*)?)*\}", part
        )
        if match is None:
            raise BadSelector("a URI Template has expressions like {id} or {+path}")
        kind = _is_any if match[1] in ("+", "#") else _KINDS[match[1]]
        yield automaton.repeated(automaton.one_of(kind), 0)


@lru_cache(maxsize=500)
def _pattern(text: str, base: str) -> URLPattern:
    try:
        return compiled(text, base)
    except BadPattern as error:
        raise BadSelector(str(error)) from None


def _is_any(c: str) -> bool:
    return True


def _of(extra: str) -> Callable[[str], bool]:
    allowed = _UNRESERVED | set(extra)
    return lambda c: c in allowed or ord(c) > 127


_KINDS = {"": _of(","), ".": _of(".,"), "/": _of("/,"), ";": _of(";=,"), "?": _of("?=&,"), "&": _of("&=,")}
