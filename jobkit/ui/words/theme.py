"""`Theme`: the colours and fonts of a dashboard, changed by one dictionary.

`tokens.css` asks for each of its values under the name `--jk-theme-NAME` (`--jk-theme-dark-NAME` in the dark) before
it takes its own, and such a name reaches every component, since custom properties are inherited across shadow roots.
So a theme is no more than a few of them on the dashboard's outermost element.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bokeh.colors import RGB

from jobkit.ui.words import assets

#: A colour as CSS writes it, and a list of fonts; nothing that could end the declaration.
_COLOUR = re.compile(r"#[0-9a-fA-F]{3,8}|[a-zA-Z]{3,30}|(rgb|rgba|hsl|hsla|oklch|oklab|lch|lab)\([-\d.,%/ a-z]{3,60}\)")
_FONTS = re.compile(r"[\w\-., \"']{2,300}")
_IS_FONT = ("sans", "mono")

#: Values around jobkit's components, unless a theme changes them.
_OWN = {
    "light": {"bg": "#ffffff", "line": "#e2e8f0", "ghost": "#e9eef4"},
    "dark": {"bg": "#0f1216", "line": "#262e38", "ghost": "#1b212a"},
}

#: What the document itself is painted with, by the token that it is.
_GROUND = {"ground": "bg", "edge": "line", "ghost": "ghost"}


@dataclass(frozen=True, slots=True)
class Theme:
    """Values by the name of the token, without `--jk-`: `accent`, `bg`, `text`, `muted`, `failed`, ..., `sans`, `mono`.

    Attributes:
        light, dark: what is changed in each theme; fonts hold for both. Without an `on-accent` the text on a button is
            the black or white that can be read on the accent.
    """

    light: Mapping[str, str]
    dark: Mapping[str, str]

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Theme:
        """From `{"accent": "#0f766e", "dark": {"accent": "#5eead4"}}`: names of the light theme, and those of the dark.

        Raises:
            ValueError: a name that is no token, or a value that is neither a colour nor a font.
        """
        rest = dict(told)
        dark = rest.pop("dark", {})
        if not isinstance(dark, Mapping):
            raise ValueError(f"theme: dark must be a dictionary, not {dark!r}")
        return cls(_checked(rest, "light"), _checked(dark, "dark"))

    def variables(self, name: str) -> dict[str, str]:
        """Custom properties for the page's outermost element while it shows the theme `name`."""
        fonts = {token: value for token, value in self.light.items() if token in _IS_FONT}
        values = self.light if name == "light" else {**fonts, **self.dark}
        prefix = "--jk-theme-" if name == "light" else "--jk-theme-dark-"
        # Fonts stand in the first block of the tokens only, which holds for both themes.
        return {f"{'--jk-theme-' if token in _IS_FONT else prefix}{token}": value for token, value in values.items()}


def ground(theme: Theme, name: str = "") -> str:
    """Return the style of a page before its scripts run: a skeleton in the theme `name`, the system's if ""."""
    either = f"{_root(theme, 'light')} @media (prefers-color-scheme: dark) {{ {_root(theme, 'dark')} }}"
    return f"{_root(theme, name) if name else either}\n{assets.source('skeleton.css')}"


def page_style(theme: Theme) -> str:
    """Return the style of a dashboard's document, which shows the theme of its `data-theme`, else the system's."""
    chosen = (_root(theme, name, f"[data-theme={name}]", theme.variables(name)) for name in _OWN)
    return "\n".join((ground(theme), *chosen, assets.source("frame.css")))


def _root(theme: Theme, name: str, when: str = "", more: Mapping[str, str] | None = None) -> str:
    own = {**_OWN[name], **(theme.light if name == "light" else theme.dark)}
    values = {"color-scheme": name, **{f"--jk-{key}": own[token] for key, token in _GROUND.items()}, **(more or {})}
    return f":root{when} {{ {'; '.join(f'{key}: {value}' for key, value in values.items())} }}"


def _checked(values: Mapping[str, Any], name: str) -> dict[str, str]:
    known, _ = assets.tokens()
    kept: dict[str, str] = {}
    for token, value in values.items():
        if token not in known:
            raise ValueError(f"theme: {token!r} is none of {', '.join(sorted(known))}")
        pattern, what = (_FONTS, "a list of fonts") if token in _IS_FONT else (_COLOUR, "a colour")
        if not isinstance(value, str) or not pattern.fullmatch(value.strip()):
            raise ValueError(f"theme: {token} must be {what}, as CSS writes it, not {value!r}")
        kept[token] = value.strip()
    if "accent" in kept and "on-accent" not in kept:
        kept["on-accent"] = "#0b1220" if _is_bright(kept["accent"], name == "dark") else "#ffffff"
    return kept


def _is_bright(colour: str, otherwise: bool) -> bool:
    """Return whether black reads better on it than white; `otherwise` if it is not written as `#rrggbb`."""
    is_known = re.fullmatch(r"#[0-9a-fA-F]{6}", colour)
    return RGB.from_hex_string(colour).luminance > 0.179 if is_known else otherwise
