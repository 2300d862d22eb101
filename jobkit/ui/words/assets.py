"""The browser's half of each component, as text: `common.js` in front of its module, the tokens in front of its sheet.

One file each on purpose: a notebook gets one self-contained module, and nothing is ever asked of another host.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

#: Modules that a component builds on, beside `common.js`, with their sheets.
_BEFORE = {
    "batch": ("csv", "save_file", "live_card", "chart", "parallel", "importance"),
    "table": ("search", "start", "bulk", "strip", "spark", "batch_rows", "home", "table_empty"),
    "card": (
        "start",
        "save_file",
        "preview",
        "pictures",
        "error",
        "log_line",
        "log_pane",
        "live_card",
        "chart",
        "curves",
        "fields",
        "question",
        "load",
    ),
    "log_view": ("save_file", "log_line", "log_reader", "virtual_list"),
    "failures": ("error", "feed_page"),
    "workers": ("feed_page", "load", "pools"),
    "form": ("fields", "drafts"),
    "schedules": ("feed_page", "fields"),
    "audit": ("feed_page",),
    "pair": ("feed_page", "csv", "chart"),
    "timeline": ("search", "timeline_lanes", "timeline_legend", "timeline_charts", "timeline_pointer"),
}

#: Every script and sheet by its name: each feature keeps its own beside its component, and no two have one name.
_FILES = {path.name: path for path in Path(__file__).parent.parent.rglob("*.*s") if path.suffix in (".js", ".css")}

_TOKEN = re.compile(r"--jk-([\w-]+):\s*([^;]+);")


@cache
def esm(name: str) -> str:
    """Return the ES module of component `name` ("card", "table", "form", "nav")."""
    return "\n".join(source(f"{part}.js") for part in ("common", *_BEFORE.get(name, ()), name))


@cache
def css(name: str) -> str:
    """Return the style sheet of component `name`, with the tokens of both themes; see `theme.py` for changing them."""
    sheets = [sheet for part in (*_BEFORE.get(name, ()), name) if (sheet := f"{part}.css") in _FILES]
    return "\n".join([_themable(source("tokens.css")), *map(source, sheets)])


@cache
def tokens() -> tuple[dict[str, str], dict[str, str]]:
    """Return all tokens by name as they are in the light theme, and those that the dark theme changes."""
    light, dark = source("tokens.css").split("}")[:2]
    return dict(_TOKEN.findall(light)), dict(_TOKEN.findall(dark))


@cache
def packed(name: str) -> str:
    """Return a style sheet without comments and most spaces, for HTML that is kept in notebooks."""
    text = re.sub(r"/\*.*?\*/", "", source(name), flags=re.DOTALL)
    return re.sub(r";?\s*([{}\n;])\s*|(?<=:) ", r"\1", text)


@cache
def source(name: str) -> str:
    """Return a file of the browser's half as it is."""
    return _FILES[name].read_text("utf-8")


def _themable(tokens: str) -> str:
    """Let the surrounding page set each token; those of the dark theme have separate names."""
    light, mark, rest = tokens.partition('.jk[data-theme="dark"]')
    dark, end, after = rest.partition("}")
    return (
        _TOKEN.sub(r"--jk-\1: var(--jk-theme-\1, \2);", light)
        + mark
        + _TOKEN.sub(r"--jk-\1: var(--jk-theme-dark-\1, \2);", dark)
        + end
        + after
    )
