"""The browser's half of each component, as text: `common.js` in front of its module, the tokens in front of its sheet.

One file each on purpose: a notebook gets one self-contained module, and nothing is ever asked of another host.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

#: Modules that a component builds on, beside `common.js`.
_BEFORE = {"card": ("preview",)}

_HERE = Path(__file__).parent


@cache
def esm(name: str) -> str:
    """The ES module of component `name` ("card", "table", "form", "nav")."""
    parts = ("common", *_BEFORE.get(name, ()), name)
    return "\n".join(_read(f"{part}.js") for part in parts)


@cache
def css(name: str) -> str:
    """The style sheet of component `name`, with the tokens of both themes."""
    return _read("tokens.css") + "\n" + _read(f"{name}.css")


@cache
def source(name: str) -> str:
    """A file of the browser's half as it is."""
    return _read(name)


def _read(name: str) -> str:
    return (_HERE / name).read_text("utf-8")
