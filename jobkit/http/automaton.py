"""Whether a text is of a form, in time in proportion to the text times the form: no backtracking, whatever is asked.

Mercure's selectors come from outside, so a matcher that can be made to work for hours (as `re` can) would hold up the
server. A form is put together from `one_of`, `text`, `sequence`, `either` and `repeated`; `Automaton` follows all its
ways at once, with its places as bits of a number. What it has found out it remembers, within bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

#: Places of one form.
MAX_PLACES = 500

#: Nesting of one form.
MAX_DEPTH = 100

#: Steps and characters that one automaton remembers.
_MEMORY = 500

Kind = Callable[[str], bool]


class TooLarge(ValueError):
    """A form with more places than are allowed."""


@dataclass(frozen=True, slots=True)
class Form:
    """Part of a form. `kinds` are its places; the rest says which come first, last, and after which, as bits."""

    kinds: tuple[Kind, ...]
    first: int
    last: int
    follow: tuple[int, ...]
    is_optional: bool


NOTHING = Form((), 0, 0, (), True)


def one_of(kind: Kind) -> Form:
    """One character of a kind."""
    return Form((kind,), 1, 1, (0,), False)


def text(literal: str) -> Form:
    """Exactly this text."""
    n = len(literal)
    if n == 0:
        return NOTHING
    _require(n)
    kinds = tuple(c.__eq__ for c in literal)
    return Form(kinds, 1, 1 << (n - 1), tuple(1 << i + 1 if i + 1 < n else 0 for i in range(n)), False)


def sequence(parts: Iterable[Form]) -> Form:
    """One after the other."""
    kinds: list[Kind] = []
    follow: list[int] = []
    first, last, is_optional = 0, 0, True
    for part in parts:
        n = len(kinds)
        _require(n + len(part.kinds))
        begin = part.first << n
        for i in _bits(last):
            follow[i] |= begin
        first = first | begin if is_optional else first
        last = part.last << n | (last if part.is_optional else 0)
        kinds += part.kinds
        follow += [each << n for each in part.follow]
        is_optional = is_optional and part.is_optional
    return Form(tuple(kinds), first, last, tuple(follow), is_optional)


def either(ways: Iterable[Form]) -> Form:
    """One of them."""
    kinds: tuple[Kind, ...] = ()
    follow: tuple[int, ...] = ()
    first = last = 0
    is_optional = False
    for way in ways:
        n = len(kinds)
        _require(n + len(way.kinds))
        first, last = first | way.first << n, last | way.last << n
        kinds, follow = kinds + way.kinds, (*follow, *(each << n for each in way.follow))
        is_optional |= way.is_optional
    return Form(kinds, first, last, follow, is_optional)


def optional(form: Form) -> Form:
    return Form(form.kinds, form.first, form.last, form.follow, True)


def repeated(form: Form, least: int, most: int | None = None) -> Form:
    """At least `least` and at most `most` times, one after the other; without end where `most` is None."""
    _require(len(form.kinds) * max(least, most or 1, 1))
    if most is not None:
        return sequence([*[form] * least, *[optional(form)] * (most - least)])
    again = list(form.follow)
    for i in _bits(form.last):
        again[i] |= form.first
    loop = Form(form.kinds, form.first, form.last, tuple(again), form.is_optional or least == 0)
    return sequence([*[form] * (least - 1), loop])


def _require(places: int) -> None:
    if places > MAX_PLACES:
        raise TooLarge(f"it has more than {MAX_PLACES} places")


class Automaton:
    """Says whether texts are of a form.

    Attributes:
        steps: how often something had to be found out for one place, since it was made: the work.
    """

    def __init__(self, form: Form) -> None:
        self._form = form
        self._accepting: dict[str, int] = {}
        self._following: dict[int, int] = {}
        self.steps = 0

    @property
    def places(self) -> int:
        return len(self._form.kinds)

    def matches(self, whole: str) -> bool:
        """Whether all of a text is of the form."""
        if not whole:
            return self._form.is_optional
        accepting, following = self._accepting, self._following
        can_come, here = self._form.first, 0
        for c in whole:
            accepted = accepting.get(c)
            here = can_come & (self._accept(c) if accepted is None else accepted)
            if not here:
                return False
            followed = following.get(here)
            can_come = self._follow(here) if followed is None else followed
        return bool(here & self._form.last)

    def _accept(self, c: str) -> int:
        if len(self._accepting) >= _MEMORY:
            self._accepting.clear()
        self.steps += self.places
        found = self._accepting[c] = sum(1 << i for i, kind in enumerate(self._form.kinds) if kind(c))
        return found

    def _follow(self, here: int) -> int:
        if len(self._following) >= _MEMORY:
            self._following.clear()
        found = 0
        for i in _bits(here):
            self.steps += 1
            found |= self._form.follow[i]
        self._following[here] = found
        return found


def _bits(number: int) -> Iterator[int]:
    while number:
        low = number & -number
        yield low.bit_length() - 1
        number ^= low
