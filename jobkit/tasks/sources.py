"""Lines of code that travel with functions of a notebook, a script or the REPL, for tracebacks.

A pickle of code has no source. The process that submits names the file of such code by a hash of its lines and sends
these beside the call; the process that runs it gives them to `linecache`. The name does not depend on the process or
the number of the cell, so equal code has equal pickles.
"""

from __future__ import annotations

import ast
import hashlib
import linecache
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import CodeType

import msgspec

from jobkit.codec import DYNAMIC

#: Lines of code that are kept on each side of the failing one, and so of what travels.
SOURCE_AROUND = 2

#: Characters of a function's lines, and of all lines of a call, at most.
_EACH, _ALL = 40_000, 200_000

#: Sources of so many functions are kept in a process that runs many jobs.
_KNOWN_MOST = 500

#: Times that a source is parsed at most. More than once only because of a bug of Python, see `parsed`.
_TRIES = 5


class Source(msgspec.Struct, frozen=True, array_like=True):
    """Lines of one function with those around it.

    Attributes:
        label: "Cell In[25]", or the path of a script.
        first: number of the first line in its cell or file.
    """

    label: str
    first: int
    text: str


_known: dict[str, Source] = {}


def install(sources: Mapping[str, Source]) -> None:
    """Let tracebacks of this process show these lines. Sources by the file name of their code."""
    for name, source in sources.items():
        while len(_known) >= _KNOWN_MOST:
            oldest = next(iter(_known))
            del _known[oldest]
            linecache.cache.pop(oldest, None)
        _known[name] = source
        lines = [*["\n"] * (source.first - 1), *source.text.splitlines(keepends=True)]
        linecache.cache[name] = (len(source.text), None, lines, name)  # without a time: it is not looked for on disk


def is_dynamic(filename: str) -> bool:
    """Return True for the file name of code that was sent by value."""
    return filename.startswith(DYNAMIC[:-1])


def label_of(filename: str) -> str:
    """Return "Cell In[25]" or the path of a script for code that was sent by value; "" if it is not known."""
    source = _known.get(filename)
    return source.label if source is not None else ""


class Sources(dict[str, Source]):
    """Sources of code that is pickled, by the file name that it gets."""

    _names: dict[CodeType, str] | None = None

    def name_of(self, code: CodeType) -> str:
        """Return the file name for code, "" if its lines do not travel; see `pickled`."""
        names = self._names = self._names or {}
        if code not in names:
            source = _known.get(code.co_filename)
            name, source = (name_of(source), source) if source is not None else _named(code, code.co_filename)
            if source is not None and len(source.text) > _ALL - sum(len(each.text) for each in self.values()):
                name = ""
            if source is not None and name:
                self[name] = source
            names.update(dict.fromkeys(_all(code), name))
        return names[code]


def name_of(source: Source) -> str:
    """Return the file name for the code of these lines."""
    digest = hashlib.sha256(f"{source.first}\0{source.text}".encode("utf-8", "replace")).hexdigest()
    return f"{DYNAMIC[:-1]} {digest[:12]}>"


@lru_cache(maxsize=_KNOWN_MOST)
def _named(code: CodeType, _: str) -> tuple[str, Source | None]:
    """Return the lines of a function of this process with the name of their file; by its own file name, because equal
    code of two files is one key."""
    source = _source(code)
    return ("", None) if source is None else (name_of(source), source)


def _all(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of a function and of those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _all(constant)


def _source(code: CodeType) -> Source | None:
    """Return the lines of a function of this process, None if they are not known or too many."""
    # Since Python 3.13 the REPL keeps lines by their code, not by a file name.
    lines = getattr(linecache, "_getlines_from_code", lambda _: [])(code) or linecache.getlines(code.co_filename)
    numbers = [line for each in _all(code) for _, _, line in each.co_lines() if line]
    first = max(1, code.co_firstlineno - SOURCE_AROUND)
    text = "".join(lines[first - 1 : max(numbers, default=0) + SOURCE_AROUND])
    return Source(_label(code.co_filename), first, text) if text and len(text) <= _EACH else None


def _label(filename: str) -> str:
    """Return what IPython calls a cell in its own tracebacks, the file name for other code."""
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell is not None else None
    named = getattr(getattr(running, "compile", None), "format_code_name", lambda _: None)(filename)
    return " ".join(named) if named else filename


def parsed(source: str | bytes, filename: str = "<unknown>") -> ast.Module:
    """Return the syntax tree of Python code.

    Python before 3.12.1 counts the depth of all threads in one number (its issue 106905), so `ast.parse` may fail when
    another thread parses. It is tried again then.

    Raises:
        SyntaxError: the source is not Python.
        ValueError: it has null bytes.
    """
    for _ in range(_TRIES - 1):
        try:
            return ast.parse(source, filename)
        except SystemError:
            continue
    return ast.parse(source, filename)
