"""Text as programs write it for terminals: control characters are removed, colours are kept as data.

The colours of a line are its SGR sequences ("\\x1b[31m"). They are the only sequences that a log keeps. Readers get the
text without them, and `parts_of` for displays that show colours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

# CSI, OSC/DCS/SOS/PM/APC strings (up to BEL or ST, or the end), other escapes; then single control characters, bidi
# overrides and isolates, zero-width and line separators that could forge a second line or reverse a name.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]?|\x9b[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
_CONTROLS = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
)

#: A sequence that changes colour or weight; the group has its numbers.
_SGR = re.compile(r"\x1b\[([0-9;:]{0,60})m")


def clean(text: str) -> str:
    """One line of `text` as it may be shown anywhere.

    Removes ANSI and OSC sequences, control characters (tabs become spaces), bidi overrides and invisible separators;
    lone surrogates become `\\udcxx` text. Printable text comes back as the same object.
    """
    if text.isprintable():
        return text
    if "\x1b" in text or any(c in text for c in "\x9b\x9d\x90\x98\x9e\x9f"):
        text = _ESCAPES.sub("", text)
    text = _CONTROLS.sub("", text.expandtabs(8) if "\t" in text else text)
    return text if text.isprintable() else text.encode("utf-8", "backslashreplace").decode()


def clean_styled(text: str) -> str:
    """Return `text` as `clean` does, but with its SGR sequences."""
    if "\x1b[" not in text:
        return clean(text)
    shown = _SGR.split(text)  # text, numbers, text, numbers, ..., text
    shown[::2] = map(clean, shown[::2])
    return "".join(f"\x1b[{part}m" if i % 2 else part for i, part in enumerate(shown))


def without_styles(text: str) -> str:
    """Return a text of `clean_styled` without its SGR sequences."""
    return _SGR.sub("", text)


def open_style(text: str) -> str:
    """Return an SGR sequence for the style that is in force at the end of `text`, "" for none."""
    if text.startswith(("\x1b[0m", "\x1b[m"), text.rfind("\x1b")):  # as most lines end
        return ""
    style = _PLAIN
    for numbers in _SGR.findall(text):
        style = _moved(style, numbers)
    flags, color, background = style
    codes = [str(number) for number, flag in _SETS.items() if flag in flags and number != 21]
    for number, value in ((38, color), (48, background)):
        if isinstance(value, int):
            codes.append(f"{number};5;{value}")
        elif value is not None:
            codes.append(f"{number};2;{';'.join(map(str, value))}")
    return f"\x1b[{';'.join(codes)}m" if codes else ""


#: Parts of a line with carriage returns that are drawn, and characters of each: a line may have 50 MB.
_DRAWN, _DRAWN_CHARS = 1_000, 100_000


def drawn(text: str) -> str:
    """Return what a terminal shows of a line with carriage returns: each part is drawn over the one before.

    A part with colours, or that erases the line, replaces all that was there.
    """
    parts, shown = text.rsplit("\r", _DRAWN), ""
    if len(parts) > _DRAWN:
        parts = parts[1:]
    if len(text) > _DRAWN_CHARS:
        parts = [part[:_DRAWN_CHARS] for part in parts]
    if "\x1b" not in text and len(parts[-1]) == max(map(len, parts)):  # most are as long as the one before
        return parts[-1]
    for part in parts:
        if "\x1b" in part or ("\x1b" in shown and part):
            shown = part.rpartition("\x1b[2K")[2]
        else:
            shown = part + shown[len(part) :]
    return shown


# -- colours -----------------------------------------------------------------------------------------------------------

_RGB = tuple[int, int, int]

#: A style: its flags, its colours of text and background. A colour is None, a number of the palette, or an RGB triple.
_Style = tuple[frozenset[str], "_RGB | int | None", "_RGB | int | None"]

_PLAIN: _Style = (frozenset(), None, None)

#: Flags by the SGR numbers that set and unset them: bold, faint, italic, underlined, reversed, struck.
_SETS = {1: "b", 2: "f", 3: "i", 4: "u", 7: "r", 9: "s", 21: "u"}
_UNSETS = {22: "bf", 23: "i", 24: "u", 27: "r", 29: "s"}

#: The sixteen colours.
_PALETTE: tuple[_RGB, ...] = (
    (0, 0, 0), (205, 49, 49), (13, 150, 96), (178, 140, 0), (36, 114, 200), (188, 63, 188), (17, 150, 180),
    (200, 205, 212), (102, 112, 128), (241, 76, 76), (35, 209, 139), (245, 245, 67), (59, 142, 234), (214, 112, 214),
    (41, 184, 219), (255, 255, 255),
)  # fmt: skip

#: Text and backgrounds of the light and of the dark theme: of lines, warnings, errors, and the marked line.
_THEMES: tuple[tuple[_RGB, tuple[_RGB, ...]], ...] = (
    ((15, 23, 42), ((255, 255, 255), (254, 243, 199), (254, 226, 226), (219, 234, 254))),
    ((230, 234, 240), ((15, 18, 22), (69, 26, 3), (69, 10, 10), (23, 37, 84))),
)

#: Least contrast of a colour to its background.
CONTRAST = 4.5

#: A part of a line: its text, and unless it is plain the flags of its style, its colour and its background as CSS.
Part = Sequence[str]


def parts_of(text: str) -> list[Part]:
    """Return the parts of a text of `clean_styled`, each with its style; empty ones are left out."""
    style = _PLAIN
    parts: list[Part] = []
    for i, piece in enumerate(_SGR.split(text)):
        if i % 2:
            style = _moved(style, piece)
        elif piece:
            parts.append((piece,) if style == _PLAIN else (piece, *_css(style)))
    return parts


def _moved(style: _Style, text: str) -> _Style:
    """Return the style after the numbers of one SGR sequence; unknown ones change nothing."""
    flags, color, background = style
    numbers = [[int(n) if n else 0 for n in field.split(":")] for field in text.split(";")]
    while numbers:
        number, *rest = numbers.pop(0)
        if number == 0:
            flags, color, background = _PLAIN
        elif number in (38, 48):
            found = _color(rest, numbers)
            color, background = (found, background) if number == 38 else (color, found)
        elif number == 4 and rest == [0]:
            flags -= {"u"}
        elif number in _SETS:
            flags |= {_SETS[number]}
        elif number in _UNSETS:
            flags -= set(_UNSETS[number])
        elif number in (39, 49):
            color, background = (None, background) if number == 39 else (color, None)
        elif 30 <= number <= 37 or 90 <= number <= 97:
            color = number - 30 if number < 90 else number - 82
        elif 40 <= number <= 47 or 100 <= number <= 107:
            background = number - 40 if number < 100 else number - 92
    return flags, color, background


def _color(rest: list[int], numbers: list[list[int]]) -> _RGB | int | None:
    """Return the colour behind 38 or 48: in the same field (`38:5:9`, `38:2::1:2:3`) or in the next ones."""
    if not rest:
        wanted = {5: 1, 2: 3}.get(numbers[0][0], 0) if numbers else 0
        kind = numbers.pop(0)[0] if numbers else 0
        values = [numbers.pop(0)[0] for _ in range(min(wanted, len(numbers)))]
    else:
        kind, *values = rest
        values = values[-3:] if kind == 2 else values
    if kind == 5 and len(values) == 1 and values[0] < 256:
        return values[0]
    if kind == 2 and len(values) == 3 and max(values) < 256:
        return (values[0], values[1], values[2])
    return None


def _rgb(color: _RGB | int) -> _RGB:
    if not isinstance(color, int):
        return color
    if color < 16:
        return _PALETTE[color]
    if color >= 232:
        return (8 + 10 * (color - 232),) * 3
    red, green, blue = ((color - 16) // size % 6 for size in (36, 6, 1))
    return tuple(55 + 40 * level if level else 0 for level in (red, green, blue))  # type: ignore[return-value]  # three


@lru_cache(maxsize=1000)
def _css(style: _Style) -> tuple[str, str, str]:
    """Return a style's flags, and its colour and background as CSS, with enough contrast in both themes."""
    flags, color, background = style
    colors, backgrounds = [], []
    for text, below in _THEMES:
        front = text if color is None else _rgb(color)
        back = below[0] if background is None else _rgb(background)
        if "r" in flags:
            front, back = back, front
        is_own = background is not None or "r" in flags
        if "f" in flags:
            front = _mixed(front, back, 0.4)
        colors.append(_readable(front, (back,) if is_own else below))
        backgrounds.append(back if is_own else None)
    has_color = color is not None or backgrounds[0] is not None or "f" in flags
    classes = " ".join(sorted(flags - {"r", "f"}))
    return classes, _light_dark(colors) if has_color else "", _light_dark(backgrounds)


def _light_dark(colors: Sequence[_RGB | None]) -> str:
    light, dark = ("" if color is None else "#{:02x}{:02x}{:02x}".format(*color) for color in colors)
    return light if light == dark else f"light-dark({light},{dark})"


def _readable(color: _RGB, backgrounds: Sequence[_RGB]) -> _RGB:
    """Return the colour, as much darker or lighter as its contrast needs."""
    below = [_luminance(background) for background in backgrounds]
    end = (255, 255, 255) if sum(below) / len(below) < 0.18 else (0, 0, 0)
    for step in range(21):
        found = _mixed(color, end, step / 20) if step else color
        own = _luminance(found)
        if all(_ratio(own, each) >= CONTRAST for each in below):
            return found
    return found


def _mixed(color: _RGB, other: _RGB, part: float) -> _RGB:
    (a, b, c), (x, y, z) = color, other
    return round(a + (x - a) * part), round(b + (y - b) * part), round(c + (z - c) * part)


def contrast(one: _RGB, other: _RGB) -> float:
    """Return the contrast of two colours as WCAG defines it, from 1 to 21."""
    return _ratio(_luminance(one), _luminance(other))


def _ratio(one: float, other: float) -> float:
    return (one + 0.05) / (other + 0.05) if one > other else (other + 0.05) / (one + 0.05)


#: Linear light of each value of a channel. A log of a megabyte may have 50,000 colours.
_LIGHT = tuple(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (n / 255 for n in range(256)))


def _luminance(color: _RGB) -> float:
    red, green, blue = color
    return 0.2126 * _LIGHT[red] + 0.7152 * _LIGHT[green] + 0.0722 * _LIGHT[blue]
