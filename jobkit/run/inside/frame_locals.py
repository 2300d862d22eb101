"""The local variables of the frame that failed, as text, if asked for (`jobkit worker --locals`).

What looks like a secret is masked: by the name of the variable, key or field, and passwords in URLs. That is a
precaution, not a promise, and the reason why this is off by default.
"""

from __future__ import annotations

import re
import reprlib
from types import FrameType, FunctionType, ModuleType
from typing import Any

from jobkit.run.inside.lines import clean, cut
from jobkit.tasks.arguments import MASK
from jobkit.tasks.hints import is_secret_name

_NAMES, _CHARS = 40, 500

_FIELD = re.compile(
    r"""(?P<name>["']?\w*(?:secret|token|password|passwd|passphrase|api_?key|private_key|credential)\w*["']?\s*[=:]\s*)
        (?:b?'(?:[^'\\]|\\.)*'?|b?"(?:[^"\\]|\\.)*"?|[^\s,)}\]]+)""",
    re.IGNORECASE | re.VERBOSE,
)
_URL = re.compile(r"(?P<name>\w://[^\s:/@'\"]*:)[^\s'\"]*@")

_is_on = False


def keep(is_on: bool) -> None:
    """Keep local variables with errors from now on (or not), in this process and its forks."""
    global _is_on
    _is_on = is_on


def is_kept() -> bool:
    return _is_on


def locals_text(frame: FrameType) -> str:
    """A line for each variable, in the order in which they came into being. Never raises."""
    found = {name: value for name, value in frame.f_locals.items() if _is_telling(name, value)}
    shown_ones = list(found.items())[:_NAMES]
    lines = [f"  {name} = {MASK if is_secret_name(name) else shown(value)}" for name, value in shown_ones]
    if len(found) > _NAMES:
        lines.append(f"  … {len(found) - _NAMES} more …")
    return "\n".join(lines)


def shown(value: Any) -> str:
    """One line of any value, its secrets masked."""
    try:
        text = _short.repr(value)
    except Exception as error:  # a __repr__ of the user's
        return f"<{type(value).__name__}: its repr raised {type(error).__name__}>"
    text = " ".join(clean(text.replace("\n", " ").replace("\t", " ")).split())
    text = _URL.sub(rf"\g<name>{MASK}@", _FIELD.sub(rf"\g<name>{MASK}", text))
    return cut(text, _CHARS)


def _is_telling(name: str, value: Any) -> bool:
    return not name.startswith(("__", ".")) and not isinstance(value, (ModuleType, FunctionType, type))


class _Short(reprlib.Repr):
    """`repr` that never writes out what is large."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 3, 400, 400, 100

    def repr_bytes(self, value: bytes, level: int) -> str:
        return repr(value) if len(value) <= 100 else f"{value[:80]!r}… ({len(value):,} bytes)"

    repr_bytearray = repr_bytes


_short = _Short()
