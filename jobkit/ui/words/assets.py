"""The browser's half of each component, as text: `common.js` and `icons.js` before its module, tokens before its sheet.

One file each on purpose: a notebook gets one self-contained module, and nothing is ever asked of another host. A page
of a server gets the same as files that the browser keeps, see `module`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jobkit.features import FEATURES

#: Modules that every component builds on.
_SHARED = ("common", "icons")

#: Modules that a component builds on, beside those, with their sheets.
_BEFORE = {
    "table": (
        *("search", "columns", "start", "bulk", "strip", "spark", "groups", "home", "table_empty", "sort"),
        *(feature.name for feature in FEATURES if feature.parts & {"menu", "rows"}),
    ),
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
        "load",
        *(feature.name for feature in FEATURES if "card_section" in feature.parts),
    ),
    "log_view": ("save_file", "log_line", "log_reader", "virtual_list"),
    "workers": ("feed_page", "load", *(feature.name for feature in FEATURES if "section" in feature.parts)),
    "form": ("fields", "drafts"),
}

for _feature in FEATURES:
    _BEFORE |= _feature.scripts

_UI = Path(__file__).parent.parent

#: Every script and sheet by its name: each is beside its component, and no two have one name.
_FILES = {
    path.name: path
    for place in (_UI, _UI.parent / "features")
    for path in place.rglob("*.*s")
    if path.suffix in (".js", ".css")
}

#: Path of the modules on a server.
MODULES = "jobkit-modules/"

#: Components that a dashboard shows at first, from top to bottom. They have one module, which can draw them early.
HOME = ("Nav", "Notice", "JobTable")

#: Modules of several components.
_TOGETHER = {"home": HOME}

#: Scripts and sheets of the components whose modules a server has, by the name of the class.
_published: dict[str, tuple[str, tuple[str, ...]]] = {}

_TOKEN = re.compile(r"--jk-([\w-]+):\s*([^;]+);")


@cache
def esm(name: str) -> str:
    """Return the ES module of component `name` ("card", "table", "form", "nav")."""
    return "\n".join(source(f"{part}.js") for part in (*_SHARED, *_BEFORE.get(name, ()), name))


@cache
def css(name: str) -> str:
    """Return the style sheet of component `name`, with the tokens of both themes; see `theme.py` for changing them."""
    sheets = [sheet for part in (*_BEFORE.get(name, ()), name) if (sheet := f"{part}.css") in _FILES]
    return _pack("\n".join([_themable(source("tokens.css")), *map(source, (*sheets, "touch.css", "forced.css"))]))


@cache
def tokens() -> tuple[dict[str, str], dict[str, str]]:
    """Return all tokens by name as they are in the light theme, and those that the dark theme changes."""
    light, dark = source("tokens.css").split("}")[:2]
    return dict(_TOKEN.findall(light)), dict(_TOKEN.findall(dark))


@cache
def packed(name: str) -> str:
    """Return a style sheet without comments and most spaces, for HTML that is kept in notebooks."""
    return _pack(source(name))


def _pack(sheet: str) -> str:
    """Return a style sheet without comments and most spaces, since notebooks keep it."""
    return re.sub(r";?\s*(})\s*|\s*([{\n])\s*|(?<=[:;]) ", r"\1\2", re.sub(r"/\*.*?\*/", "", sheet, flags=re.DOTALL))


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


# -- files of a server -------------------------------------------------------------------------------------------------


def publish(component: str, esm: str, sheets: Sequence[str]) -> None:
    """Let a server have a module of this component of jobkit."""
    _published[component] = esm, tuple(sheets)


def module_url(component: str) -> str:
    """Return the address of a component's module, below that of the server: `jobkit-modules/home-0123456789.js`.

    Raises:
        KeyError: no such component was published.
    """
    if component not in _published:
        raise KeyError(component)
    # A page with one of them and without a dashboard has not imported the others.
    ready = (name for name, together in _TOGETHER.items() if component in together and _published.keys() >= {*together})
    name = next(ready, component)
    return f"{MODULES}{name}-{module(name)[1]}.js"


@cache
def module(name: str) -> tuple[bytes, str]:
    """Return the text of a module and its hash. It exports each of its components, with their sheets, by name.

    Raises:
        KeyError: no such module.
    """
    shared = "".join(f"{source(f'{part}.js')}\n" for part in _SHARED)
    parts = []
    for component in _TOGETHER.get(name, (name,)):
        esm, sheets = _published[component]
        body, found = re.subn(r"(?m)^export default ", "return ", esm.removeprefix(shared))
        if found != 1:
            raise ValueError(f"the module of {component} must have one `export default`, not {found}")
        texts = ", ".join(map(json.dumps, sheets))
        parts.append(f"const {component} = styled([{texts}], (() => {{\n{body}\n}})());")
    text = f"{shared}{source('styled.js')}\n" + "\n".join(parts)
    exported = f"{{{', '.join(_TOGETHER.get(name, (name,)))}}}"
    if name in _TOGETHER:
        text += f"\n{source('early.js')}drawEarly({exported});"
    text += f"\nexport default {exported};\n"
    encoded = text.encode()
    return encoded, hashlib.sha256(encoded).hexdigest()[:10]
