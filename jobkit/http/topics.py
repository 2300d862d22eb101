"""Which topics a selector means: Mercure's exact strings, URI Templates, URL patterns, and "*".

Every matcher here takes time in proportion to topic times selector, whatever is asked: it follows all ways at once and
never goes back, so no pattern can hold up the server.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urljoin, urlsplit

EXACT, TEMPLATE, PATTERN, ALL = "exact", "template", "urlpattern", "*"

MAX_LENGTH = 4096

#: Pieces that a selector may have.
MAX_PIECES = 200

#: A literal text, or "so many (at least) characters of a kind".
Piece = str | tuple[Callable[[str], bool], int]

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

    def matches(self, topic: str) -> bool:
        if self.kind == ALL:
            return True
        if self.value == topic and self.kind != PATTERN:
            return True
        if self.kind == TEMPLATE:
            return follows(_template(self.value), topic)
        return self.kind == PATTERN and _url_matches(_pattern(self.value, self.base), topic, self.base)


def old(value: Any) -> Selector:
    """A selector of protocol 0.x: "*", a URI Template, or an exact text.

    Raises:
        BadSelector: too long, not text, or too many parts.
    """
    text = checked(value)
    if text == "*":
        return Selector(ALL, text)
    if "{" in text:
        _template(text)
        return Selector(TEMPLATE, text)
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
    if kind == PATTERN:
        _pattern(text, base)
    return Selector(kind, text, base)


def checked(value: Any) -> str:
    """A selector's or topic's text.

    Raises:
        BadSelector: not text, empty, longer than 4096 bytes, or with control or format characters.
    """
    import unicodedata

    if not isinstance(value, str) or not value:
        raise BadSelector("a topic is text and not empty")
    if len(value.encode("utf-8", "surrogatepass")) > MAX_LENGTH:
        raise BadSelector(f"a topic has at most {MAX_LENGTH} bytes")
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in value):
        raise BadSelector("a topic has no control characters")
    return value


def follows(pieces: tuple[Piece, ...], text: str) -> bool:
    """Whether a text is made of these pieces, one after the other."""
    places = {0}
    for piece in pieces:
        if isinstance(piece, str):
            places = {at + len(piece) for at in places if text.startswith(piece, at)}
        else:
            is_of_kind, least = piece
            reached: set[int] = set()
            run_from: int | None = None  # the first place from which all characters up to here are of the kind
            for at in range(len(text) + 1):
                if at in places and run_from is None:
                    run_from = at
                if run_from is not None and at - run_from >= least:
                    reached.add(at)
                if at < len(text) and not is_of_kind(text[at]):
                    run_from = None
            places = reached
        if not places:
            return False
    return len(text) in places


@cache
def _cached_template(text: str) -> tuple[Piece, ...]:
    pieces: list[Piece] = []
    for part in re.split(r"(\{[^{}]*\})", text):
        if not part:
            continue
        if not part.startswith("{"):
            if "{" in part or "}" in part:
                raise BadSelector("the braces of a URI Template do not fit")
            pieces.append(part)
            continue
        match = re.fullmatch(
            r"\{([+#./;?&]?)[A-Za-z0-9_.%]+(?::\d{1,4}|\*)?(?:,[A-Za-z0-9_.%]+(?::\d{1,4}|\*)?)*\}", part
        )
        if match is None:
            raise BadSelector("a URI Template has expressions like {id} or {+path}")
        pieces.append((_ANY if match[1] in ("+", "#") else _KINDS[match[1]], 0))
    if len(pieces) > MAX_PIECES:
        raise BadSelector("the URI Template has too many parts")
    return tuple(pieces)


def _template(text: str) -> tuple[Piece, ...]:
    if _cached_template.cache_info().currsize > 10_000:
        _cached_template.cache_clear()
    return _cached_template(text)


def _is_any(c: str) -> bool:
    return True


_ANY = _is_any


def _of(extra: str) -> Callable[[str], bool]:
    allowed = _UNRESERVED | set(extra)
    return lambda c: c in allowed or ord(c) > 127


_KINDS = {"": _of(","), ".": _of(".,"), "/": _of("/,"), ";": _of(";=,"), "?": _of("?=&,"), "&": _of("&=,")}


# -- URL patterns -------------------------------------------------------------------------------------------------

_PARTS = re.compile(
    r"^(?:([a-z][a-z0-9+.*-]*):)?(?://([^/?#]*))?([^?#]*)(?:\\?\?([^#]*))?(?:#(.*))?$", re.IGNORECASE | re.DOTALL
)


@cache
def _cached_pattern(text: str, base: str) -> tuple[tuple[Piece, ...] | None, ...]:
    """Pieces of scheme, host with port, path, query and fragment; None for anything."""
    if any(c in text for c in "(){}\\") or re.search(r":\w+[?*+]", text):
        raise BadSelector("URL patterns here have :names and *, without groups, expressions and modifiers")
    match = _PARTS.fullmatch(text)
    if match is None:
        raise BadSelector("this is not a URL pattern")
    scheme, host, path, query, fragment = match.groups()
    if query is None and fragment is not None:
        query = ""  # what stands before something that is given is empty, what stands behind it anything
    own = urlsplit(base)
    if host is None:
        if scheme is not None and not path.startswith("/"):
            return (_pieces(scheme, ""), None, _pieces(path, ""), _or_any(query), _or_any(fragment))
        scheme, host = own.scheme, own.netloc
        if path and not path.startswith("/"):
            path = own.path.rpartition("/")[0] + "/" + path
        elif not path:
            path = own.path
    return (
        _pieces(scheme if scheme is not None else own.scheme, ""),
        _pieces(host.lower(), "."),
        _pieces(path or "/", "/") if path or query is not None or fragment is not None else None,
        _or_any(query),
        _or_any(fragment),
    )


def _pattern(text: str, base: str) -> tuple[tuple[Piece, ...] | None, ...]:
    if _cached_pattern.cache_info().currsize > 10_000:
        _cached_pattern.cache_clear()
    return _cached_pattern(text, base)


def _or_any(part: str | None) -> tuple[Piece, ...] | None:
    return None if part is None else _pieces(part, "")


def _pieces(part: str, stop: str) -> tuple[Piece, ...]:
    made: list[Piece] = []
    for piece in re.split(r"(:[A-Za-z_$][\w$]*|\*+)", part):
        if piece.startswith("*"):
            made.append((_ANY, 0))
        elif re.fullmatch(r":[A-Za-z_$][\w$]*", piece):
            made.append(((lambda c: c != stop) if stop else _ANY, 1))
        elif piece:
            made.append(piece)
    if len(made) > MAX_PIECES:
        raise BadSelector("the URL pattern has too many parts")
    return tuple(made)


def _url_matches(pattern: tuple[tuple[Piece, ...] | None, ...], topic: str, base: str) -> bool:
    try:
        parts = urlsplit(urljoin(base, topic))
    except ValueError:
        return False
    if not parts.scheme:
        return False
    texts = (parts.scheme, parts.netloc.lower(), parts.path or "/" * bool(parts.netloc), parts.query, parts.fragment)
    return all(wanted is None or follows(wanted, text) for wanted, text in zip(pattern, texts, strict=True))
