"""A URL pattern taken apart: into its tokens, and by them into the patterns of a URL's parts."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from jobkit.http.url_parts import PARTS, parts_of


class BadPattern(ValueError):
    """A URL pattern that cannot be understood; the message says why."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a pattern; kinds are "char", "escaped", "name", "regexp", "open", "close", "*", "modifier", "end"."""

    kind: str
    value: str
    at: int


_NAME = re.compile(r"[^\W\d][\w$\u200c\u200d]*|\$[\w$]*")


def tokens(pattern: str, *, is_lenient: bool) -> list[Token]:
    """The pattern in pieces, with an "end". Lenient: what has no meaning is a character.

    Raises:
        BadPattern: parentheses that do not fit, an escape or a name without anything behind it.
    """
    made: list[Token] = []
    at = 0
    while at < len(pattern):
        c = pattern[at]
        kind, value, size = "char", c, 1
        if c == "*":
            kind = "*"
        elif c in "+?":
            kind = "modifier"
        elif c == "{":
            kind = "open"
        elif c == "}":
            kind = "close"
        elif c == "\\":
            if at + 1 < len(pattern):
                kind, value, size = "escaped", pattern[at + 1], 2
            elif not is_lenient:
                raise BadPattern("the URL pattern ends in a backslash")
        elif c == ":":
            match = _NAME.match(pattern, at + 1)
            if match is not None:
                kind, value, size = "name", match[0], 1 + len(match[0])
            elif not is_lenient:
                raise BadPattern("a : in a URL pattern begins a name; write \\: for the character")
        elif c == "(":
            inside = _inside(pattern, at)
            if inside is not None:
                kind, value, size = "regexp", inside, len(inside) + 2
            elif not is_lenient:
                raise BadPattern("the parentheses of the URL pattern do not fit, or hold what an expression may not")
        made.append(Token(kind, value, at))
        at += size
    made.append(Token("end", "", at))
    return made


def _inside(pattern: str, at: int) -> str | None:
    """What stands in the parentheses that begin at a place; None where that is no expression."""
    depth, i = 1, at + 1
    while i < len(pattern):
        c = pattern[i]
        if not c.isascii() or (i == at + 1 and c == "?"):
            return None
        if c == "\\":
            i += 2
            continue
        if c == "(":
            depth += 1
            if not pattern.startswith("?", i + 1):
                return None
        elif c == ")":
            depth -= 1
            if depth == 0:
                return pattern[at + 1 : i] or None
        i += 1
    return None


def taken_apart(pattern: str, base: str, may_be_special: Callable[[str], bool]) -> dict[str, str]:
    """The pattern of each part that is given, or comes from the base.

    Args:
        pattern: a whole one.
        base: URL that it may be relative to.
        may_be_special: whether the pattern of a scheme may mean one whose URLs have a host.

    Raises:
        BadPattern: it cannot be taken apart.
    """
    given = _Splitter(pattern, may_be_special).split()
    if "protocol" not in given and not base:
        raise BadPattern("a URL pattern without a base needs a scheme")
    if "protocol" in given:  # the standard takes a path without a slash from the base all the same: no URN would match
        return given
    own = parts_of(base, "") or dict.fromkeys(PARTS, "")
    made = {"protocol": _escaped(own["protocol"])}
    if "hostname" in given:
        return {**made, **given}
    made |= {"hostname": _escaped(own["hostname"]), "port": _escaped(own["port"])}
    if "pathname" in given:
        path = given["pathname"]
        if path and not path.startswith(("/", "\\/", "{/")):
            path = _escaped(own["pathname"].rpartition("/")[0] + "/") + path
        return {**made, **given, "pathname": path}
    made["pathname"] = _escaped(own["pathname"])
    if "search" in given:
        return {**made, **given}
    return {**made, "search": _escaped(own["search"]), **given}


def _escaped(text: str) -> str:
    return re.sub(r"([+*?:{}()\\])", r"\\\1", text)


class _Splitter:
    """The standard's "constructor string parser": where in a pattern the parts of a URL begin."""

    def __init__(self, pattern: str, may_be_special: Callable[[str], bool]) -> None:
        self.pattern, self.may_be_special = pattern, may_be_special
        self.tokens = tokens(pattern, is_lenient=True)
        self.i = self.begin = 0
        self.state = "init"
        self.found: dict[str, str] = {}
        self.is_special = False

    def split(self) -> dict[str, str]:
        depth = in_brackets = 0
        while self.i < len(self.tokens):
            token = self.tokens[self.i]
            if token.kind == "end":
                if self.state == "init":
                    self._restart()
                    continue
                if self.state == "authority":
                    self._go("hostname", at=self.begin)
                    continue
                self._take_part()
                break
            if token.kind == "open":
                depth += 1
                self.i += 1
                continue
            if depth > 0:
                depth -= token.kind == "close"
                self.i += 1
                continue
            match self.state:
                case "init":
                    if self._is(":"):
                        self.i, self.state = self.begin, "protocol"
                        continue
                case "protocol":
                    if self._is(":"):
                        self._end_protocol()
                        continue
                case "authority":
                    if self._is("@"):
                        raise BadPattern("URL patterns here have no user names")
                    if self._is("/") or self._is_search() or self._is("#"):
                        self._go("hostname", at=self.begin)
                        continue
                case "hostname":
                    in_brackets += self._is("[") - self._is("]")
                    if self._is(":") and not in_brackets:
                        self._change("port", skip=1)
                        continue
            if self.state in ("hostname", "port") and self._is("/"):
                self._change("pathname", skip=0)
            elif self.state in ("hostname", "port", "pathname") and self._is_search():
                self._change("search", skip=1)
            elif self.state in ("hostname", "port", "pathname", "search") and self._is("#"):
                self._change("hash", skip=1)
            else:
                self.i += 1
        if "hostname" in self.found:
            self.found.setdefault("port", "")
        return self.found

    def _restart(self) -> None:
        """It has no scheme: it is relative."""
        self.i = self.begin
        if self._is("#"):
            self._change("hash", skip=1)
        elif self._is_search():
            self._change("search", skip=1)
        else:
            self._go("pathname", at=self.begin)

    def _end_protocol(self) -> None:
        text = self._text()
        self.is_special = self.may_be_special(text)
        self.found["protocol"] = text
        if [token.value for token in self.tokens[self.i + 1 : self.i + 3]] == ["/", "/"]:
            self._go("authority", at=self.i + 3)
        elif self.is_special:
            self._go("authority", at=self.i + 1)
        else:
            self.found["hostname"] = ""
            self._go("pathname", at=self.i + 1)

    def _go(self, state: str, *, at: int) -> None:
        self.state, self.begin, self.i = state, at, at

    def _change(self, state: str, *, skip: int) -> None:
        self._take_part()
        if self.state in ("hostname", "port") and state in ("search", "hash"):
            self.found.setdefault("pathname", "/" if self.is_special else "")
        if self.state in ("hostname", "port", "pathname") and state == "hash":
            self.found.setdefault("search", "")
        self._go(state, at=self.i + skip)

    def _take_part(self) -> None:
        if self.state in PARTS:
            self.found[self.state] = self._text()

    def _text(self) -> str:
        return self.pattern[self.tokens[self.begin].at : self.tokens[self.i].at]

    def _is(self, c: str) -> bool:
        token = self.tokens[self.i]
        return token.value == c and token.kind in ("char", "escaped")

    def _is_search(self) -> bool:
        if self._is("?"):
            return True
        if self.tokens[self.i].value != "?" or self.tokens[self.i].kind != "modifier":
            return False
        return self.i == 0 or self.tokens[self.i - 1].kind not in ("name", "regexp", "close", "*")
