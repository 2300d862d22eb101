"""Regular expressions as far as they have no memory, as forms of `automaton`: what stands in a group of a URL pattern.

Characters, `.`, classes, `\\d \\w \\s` and their opposites, `|`, `(?:...)`, `* + ? {2,5}`, lazy or not: where all of a
text has to match, that is no difference. Captures, anchors, assertions, references back and flags are refused.
"""

from __future__ import annotations

import re
import string

from jobkit.http import automaton
from jobkit.http.automaton import MAX_DEPTH, MAX_PLACES, Form, Kind

_DIGITS = frozenset(string.digits)
_WORD = frozenset(string.ascii_letters + string.digits + "_")
_SPACE = frozenset(" \t\n\r\f\v\u00a0\ufeff\u2028\u2029")
_SETS = {"d": _DIGITS, "w": _WORD, "s": _SPACE}
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_TIMES = re.compile(r"\{(\d{1,4})(,(\d{1,4})?)?\}")
_HEX = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})")


class BadExpression(ValueError):
    """An expression that cannot be understood, or is more than this engine has; the message says why."""


def expression(source: str) -> Form:
    """The form of a regular expression that all of a text has to match.

    Raises:
        BadExpression: see the class.
    """
    reader = _Reader(source)
    try:
        form = reader.alternatives(0)
    except automaton.TooLarge as error:
        raise BadExpression(f"the expression is too large: {error}") from None
    if reader.at < len(source):
        raise BadExpression("the expression's parentheses do not fit")
    return form


class _Reader:
    def __init__(self, source: str) -> None:
        self.source, self.at = source, 0

    @property
    def next(self) -> str:
        return self.source[self.at : self.at + 1]

    def take(self) -> str:
        self.at += 1
        return self.source[self.at - 1]

    def alternatives(self, depth: int) -> Form:
        if depth > MAX_DEPTH:
            raise BadExpression("the expression is nested too deep")
        ways = [self.run(depth)]
        while self.next == "|":
            self.take()
            ways.append(self.run(depth))
        return automaton.either(ways) if len(ways) > 1 else ways[0]

    def run(self, depth: int) -> Form:
        parts: list[Form] = []
        while self.next and self.next not in "|)":
            parts.append(self.times(self.atom(depth)))
        return automaton.sequence(parts)

    def times(self, form: Form) -> Form:
        c = self.next
        if c == "{":
            match = _TIMES.match(self.source, self.at)
            if match is None:
                raise BadExpression("a { in an expression begins a number of times, like {2,5}")
            self.at = match.end()
            least = int(match[1])
            most = least if match[2] is None else int(match[3]) if match[3] else None
            if (most is not None and most < least) or max(least, most or 0) > MAX_PLACES:
                raise BadExpression("the numbers of times are too large, or out of order")
        elif c and c in "*+?":
            self.take()
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[c]
        else:
            return form
        if self.next == "?":
            self.take()
        if self.next and self.next in "*+?{":
            raise BadExpression("there is nothing to repeat")
        return automaton.repeated(form, least, most)

    def atom(self, depth: int) -> Form:
        c = self.take()
        if c == "(":
            if not self.source.startswith("?:", self.at):
                raise BadExpression("groups of an expression are written (?:...), and there are no assertions")
            self.at += 2
            form = self.alternatives(depth + 1)
            if self.next != ")":
                raise BadExpression("the expression's parentheses do not fit")
            self.take()
            return form
        if c == "[":
            return automaton.one_of(self.klass())
        if c == ".":
            return automaton.one_of(lambda one: one not in "\n\r\u2028\u2029")
        if c == "\\":
            found = self.escape()
            return automaton.one_of(found.__eq__ if isinstance(found, str) else found)
        if c in "^$":
            raise BadExpression("an expression always means the whole: there are no ^ and $")
        if c in "*+?{}]":
            raise BadExpression(f"a {c} in an expression is written \\{c}")
        return automaton.one_of(c.__eq__)

    def escape(self) -> str | Kind:
        if not self.next:
            raise BadExpression("the expression ends in a backslash")
        if match := _HEX.match(self.source, self.at):
            self.at = match.end()
            return chr(int(match[1] or match[2], 16))
        c = self.take()
        if c in _SETS:
            return _SETS[c].__contains__
        if c.lower() in _SETS:
            kept = _SETS[c.lower()]
            return lambda one: one not in kept
        if c in _CONTROLS:
            return _CONTROLS[c]
        if c.isalnum():
            raise BadExpression(f"\\{c} is not known here")
        return c

    def klass(self) -> Kind:
        is_not = self.next == "^"
        self.at += is_not
        single: set[str] = set()
        kinds: list[Kind] = []
        while self.next != "]":
            low = self.member()
            if self.next == "-" and self.source[self.at + 1 : self.at + 2] not in ("]", ""):
                self.take()
                high = self.member()
                if not isinstance(low, str) or not isinstance(high, str) or low > high:
                    raise BadExpression("a range of characters is out of order")
                kinds.append(lambda one, low=low, high=high: low <= one <= high)  # type: ignore[misc]
            elif isinstance(low, str):
                single.add(low)
            else:
                kinds.append(low)
        self.take()
        if is_not:
            return lambda one: one not in single and not any(kind(one) for kind in kinds)
        return lambda one: one in single or any(kind(one) for kind in kinds)

    def member(self) -> str | Kind:
        if not self.next:
            raise BadExpression("the expression's brackets do not fit")
        c = self.take()
        if (c in "[&|~" and self.next == c) or c == "[":
            raise BadExpression("sets of characters have no sets in them")
        return self.escape() if c == "\\" else c
