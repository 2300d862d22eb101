"""Lines of a log as pages get them: with the parts that have colours; and as HTML for saved cards."""

from __future__ import annotations

from html import escape
from typing import Any

from jobkit.model import LogLine, LogSlice
from jobkit.model.terminal import Part, parts_of

#: CSS of the flags of a style.
_LOOKS = {
    "b": "font-weight:700",
    "i": "font-style:italic",
    "u": "text-decoration:underline",
    "s": "text-decoration:line-through",
}


def shown_line(line: LogLine) -> dict[str, Any]:
    """Return a line for the browser: its JSON, with `parts` if it has colours (log_line.js)."""
    return {**line.to_json(), "parts": parts_of(line.styled)} if line.styled else line.to_json()


def shown_slice(found: LogSlice) -> dict[str, Any]:
    """Return lines of a log for the browser."""
    return {**found.to_json(), "lines": list(map(shown_line, found.lines))}


def line_html(line: LogLine, most: int) -> str:
    """Return the text of a line with its colours as HTML, at most `most` characters."""
    shown, room = [], most
    for part in parts_of(line.styled) if line.styled else [(line.text,)]:
        shown.append(_part_html(part, part[0][:room]))
        room -= len(part[0])
        if room < 0:
            return "".join(shown) + "…"
    return "".join(shown)


def _part_html(part: Part, text: str) -> str:
    if len(part) == 1:
        return escape(text)
    _, flags, color, background = part
    style = [_LOOKS[flag] for flag in flags.split()]
    style += [f"{name}:{value}" for name, value in (("color", color), ("background", background)) if value]
    return f'<span style="{";".join(style)}">{escape(text)}</span>'
