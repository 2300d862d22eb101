"""A traceback's text as frames: code, line, and root cause.

Pure. It reads what `traceback.format_exception` writes and never imports or opens anything; text that it does not
understand simply yields no frames, and the pages then show the text itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_FRAME = re.compile(r'^\s*(?:File "(?P<file>.+?)"|(?P<cell>Cell In\[\d+\])), line (?P<line>\d+)(?:, in (?P<name>.+))?$')
#: A line of those around a failing one, which are numbered; its own has an arrow.
_NUMBERED = re.compile(r"^(?P<arrow>-+>)?\s*\d+(?: (?P<code>.*))?$")
_CHAIN = re.compile(
    r"^(The above exception was the direct cause of the following exception:"
    r"|During handling of the above exception, another exception occurred:)$"
)
_REPEATED = re.compile(r"^\s*\[Previous line repeated (?P<count>\d{1,9}) more times?\]$")
_LIBRARY = re.compile(r"(site-packages|dist-packages|[/\\]lib[/\\]python\d|[/\\]jobkit[/\\]run[/\\]|<frozen )")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, or several equal ones in a row.

    Attributes:
        place: `train.py:28 in evaluate`.
        code: its source line, where the traceback had it.
        is_library: not the user's own code.
        count: how many there are of it.
    """

    file: str
    place: str
    code: str = ""
    is_library: bool = False
    count: int = 1


@dataclass(frozen=True, slots=True)
class Raised:
    """One exception of a chain: `headline` is its last line (`KeyError: 'f1'`), frames outermost first."""

    headline: str
    frames: tuple[Frame, ...] = ()


def chain_of(text: str, limit: int = 60) -> list[Raised]:
    """Return the exceptions in a traceback's text, root cause first, each with its last `limit` frames."""
    chain: list[Raised] = []
    frames: list[Frame] = []
    headline = ""
    in_frame = False
    for line in text.splitlines():
        match = _FRAME.match(line)
        if match:
            file, name = match["file"] or match["cell"], match["name"]
            base = file.replace("\\", "/").rpartition("/")[2]
            place = f"{file}, line {match['line']}" if match["cell"] else f"{base}:{match['line']}"
            place += f" in {name}" if name else ""
            _fold(frames)
            frames.append(Frame(file, place, is_library=bool(_LIBRARY.search(file))))
            in_frame = True
        elif repeated := _REPEATED.match(line):
            _fold(frames)
            if frames:
                frames[-1] = replace(frames[-1], count=frames[-1].count + int(repeated["count"]))
        elif _CHAIN.match(line.strip()):
            _fold(frames)
            chain.append(Raised(headline, tuple(frames[-limit:])))
            frames, headline, in_frame = [], "", False
        elif in_frame and frames and (numbered := _NUMBERED.match(line)):
            if numbered["arrow"]:
                frames[-1] = replace(frames[-1], code=(numbered["code"] or "").strip())
        elif line.startswith("    ") and in_frame and frames:
            if not frames[-1].code and not set(line.strip()) <= set("^~ "):
                frames[-1] = replace(frames[-1], code=line.strip())
        elif line.strip() and not line[:1].isspace() and not line.startswith("Traceback ("):
            headline = headline if headline and frames and not in_frame else line.strip()
            in_frame = False
    if headline or frames:
        _fold(frames)
        chain.append(Raised(headline, tuple(frames[-limit:])))
    return chain


def _fold(frames: list[Frame]) -> None:
    """Join the last two frames if they are equal: a recursion repeats the same frame many times."""
    if len(frames) > 1 and replace(frames[-2], count=1) == frames[-1]:
        frames[-2:] = [replace(frames[-2], count=frames[-2].count + 1)]
