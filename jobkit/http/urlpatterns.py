"""WHATWG's URL patterns, which Mercure's protocol 1.0 has: `:names`, `*`, groups `{...}`, expressions `(...)`, `? + *`.

After the URL Pattern Standard, in two steps: a text is taken apart into the parts of a URL, and each part becomes a
form of `automaton`. Tests hold it against Chromium's own `URLPattern`. Left out: user names, and ignoring case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from jobkit.http import automaton
from jobkit.http.automaton import Automaton, Form
from jobkit.http.expressions import BadExpression, expression
from jobkit.http.url_parts import PARTS, SPECIAL, ascii_only, parts_of, without_dots
from jobkit.http.url_tokens import BadPattern, taken_apart, tokens


@dataclass(frozen=True, slots=True)
class URLPattern:
    """One pattern; `parts` has the automaton of each part, None for anything."""

    parts: dict[str, Automaton | None] = field(default_factory=dict)

    def matches(self, url: str, base: str) -> bool:
        """Whether a URL, maybe relative, is of the pattern; a text that is no URL never is."""
        found = parts_of(url, base)
        if found is None:
            return False
        return all(form is None or form.matches(found[name]) for name, form in self.parts.items())

    @property
    def places(self) -> int:
        return sum(form.places for form in self.parts.values() if form is not None)


def compiled(pattern: str, base: str) -> URLPattern:
    """A pattern, maybe relative to a URL.

    Raises:
        BadPattern: it cannot be understood, or is too large.
    """
    try:
        return _compiled(pattern, base)
    except automaton.TooLarge as error:
        raise BadPattern(f"the URL pattern is too large: {error}") from None
    except BadExpression as error:
        raise BadPattern(str(error)) from None


def _compiled(pattern: str, base: str) -> URLPattern:
    given = taken_apart(pattern, base, _may_be_special)
    protocol = given.get("protocol")
    if protocol in SPECIAL and given.get("port") == SPECIAL[protocol]:
        given["port"] = ""
    made: dict[str, Automaton | None] = {}
    is_opaque = protocol is not None and not _may_be_special(protocol)
    for name in PARTS:
        text = given.get(name)
        is_any = text is None or text == "*"
        made[name] = None if is_any else Automaton(_form(name, text or "", is_opaque=is_opaque))
    return URLPattern(made)


def _may_be_special(protocol: str) -> bool:
    form = Automaton(_form("protocol", protocol))
    return any(form.matches(scheme) for scheme in SPECIAL)


def _form(name: str, pattern: str, *, is_opaque: bool = False) -> Form:
    """The form of one part. Where a path has parts, its `:names` end at a slash, and take the one before them along."""
    delimiter = {"hostname": ".", "pathname": "" if is_opaque else "/"}.get(name, "")
    prefix = delimiter if name == "pathname" else ""
    literal = {"protocol": _scheme, "hostname": str.lower, "pathname": ascii_only if is_opaque else _path}.get(
        name, ascii_only
    )
    return automaton.sequence(_groups(pattern, delimiter, prefix, literal))


def _scheme(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9+.-]*", text):
        raise BadPattern("the scheme of the URL pattern is none")
    return text.lower()


def _path(text: str) -> str:
    """A piece of a path as browsers write it."""
    if text.startswith("/"):
        return without_dots(ascii_only(text))
    return without_dots("/-" + ascii_only(text)).removeprefix("/-")


def _groups(pattern: str, delimiter: str, prefix: str, literal: Callable[[str], str]) -> Iterator[Form]:
    pieces = tokens(pattern, is_lenient=False)
    names: set[str] = set()
    i = 0
    waiting = ""

    def take(*kinds: str) -> str | None:
        nonlocal i
        if pieces[i].kind not in kinds:
            return None
        i += 1
        return pieces[i - 1].value

    def run() -> str:
        read = ""
        while (piece := take("char", "escaped")) is not None:
            read += piece
        return read

    def matcher() -> Form | None:
        """A name, an expression, both, or `*`, where one stands here."""
        name, source = take("name"), take("regexp")
        if name is not None:
            if name in names:
                raise BadPattern(f"the name {name!r} stands twice in the URL pattern")
            names.add(name)
        if source is not None:
            return expression(source)
        if name is not None:
            within = automaton.one_of((lambda c: c != delimiter) if delimiter else _is_any)
            return automaton.repeated(within, 1)
        return automaton.repeated(automaton.one_of(_is_any), 0) if take("*") is not None else None

    def grouped(before: str, found: Form | None, behind: str) -> Form:
        whole = [automaton.text(literal(before)), *filter(None, [found]), automaton.text(literal(behind))]
        form = automaton.sequence(whole)
        match take("modifier", "*"):
            case "?":
                return automaton.optional(form)
            case "+":
                return automaton.repeated(form, 1)
            case "*":
                return automaton.repeated(form, 0)
        return form

    while True:
        before = take("char")
        found = matcher()
        if found is not None:
            if before is not None and before != prefix:
                waiting, before = waiting + before, None
            yield automaton.text(literal(waiting))
            waiting = ""
            yield grouped(before or "", found, "")
        elif before is not None:
            waiting += before
        elif (escaped := take("escaped")) is not None:
            waiting += escaped
        else:
            yield automaton.text(literal(waiting))
            waiting = ""
            if take("end") is not None:
                return
            if take("open") is None:
                raise BadPattern(f"there is nothing for {pieces[i].value!r} to repeat or to end in the URL pattern")
            first, found, last = run(), matcher(), run()
            if take("close") is None:
                raise BadPattern("the braces of the URL pattern do not fit")
            yield grouped(first, found, last)


def _is_any(c: str) -> bool:
    return True
