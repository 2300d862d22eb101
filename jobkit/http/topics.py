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
from typing import Any

from jobkit.http import automaton
from jobkit.http.automaton import MAX_PLACES, Automaton
from jobkit.http.url_tokens import BadPattern
from jobkit.http.urlpatterns import URLPattern, compiled

EXACT, TEMPLATE, PATTERN, ALL = "exact", "template", "urlpattern", "*"

MAX_LENGTH = 4096

#: Places (characters, so to say) that all templates and patterns of one who asks may have together.
MAX_PLACES_OF_ALL = 4 * MAX_PLACES

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
