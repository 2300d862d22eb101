"""A traceback's text as frames: whose code, which line, what was raised first.

Pure. It reads what `traceback.format_exception` writes and never imports or opens anything; text that it does not
understand simply yields no frames, and the pages then show the text itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_FRAME = re.compile(r'^\s*File "(?P<file>.+?)", line (?P<line>\d+)(?:, in (?P<name>.+))?$')
_CHAIN = re.compile(
    r"^(The above exception was the direct cause of the following exception:"
    r"|During handling of the above exception, another exception occurred:)$"
)
_LIBRARY = re.compile(r"(site-packages|dist-packages|[/\\]lib[/\\]python\d|[/\\]jobkit[/\\]run[/\\]|<frozen )")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `code` is its source line, where the traceback had it; `is_library`: not the user's own code."""

    file: str
    line: int
    name: str
    code: str = ""
    is_library: bool = False

    @property
    def place(self) -> str:
        """`train.py:28 in evaluate`."""
        base = self.file.replace("\\", "/").rpartition("/")[2]
        return f"{base}:{self.line} in {self.name}" if self.name else f"{base}:{self.line}"


@dataclass(frozen=True, slots=True)
class Raised:
    """One exception of a chain: `headline` is its last line (`KeyError: 'f1'`), frames outermost first."""

    headline: str
    frames: tuple[Frame, ...] = field(default=())


def chain_of(text: str, limit: int = 60) -> list[Raised]:
    """The exceptions in a traceback's text, root cause first, each with its frames (the last `limit` of them)."""
    chain: list[Raised] = []
    frames: list[Frame] = []
    headline = ""
    in_frame = False
    for line in text.splitlines():
        match = _FRAME.match(line)
        if match:
            file = match["file"]
            frames.append(Frame(file, int(match["line"]), match["name"] or "", "", bool(_LIBRARY.search(file))))
            in_frame = True
        elif _CHAIN.match(line.strip()):
            chain.append(Raised(headline, tuple(frames[-limit:])))
            frames, headline, in_frame = [], "", False
        elif line.startswith("    ") and in_frame and frames:
            if not frames[-1].code and not set(line.strip()) <= set("^~ "):
                last = frames[-1]
                frames[-1] = Frame(last.file, last.line, last.name, line.strip(), last.is_library)
        elif line.strip() and not line[:1].isspace() and not line.startswith("Traceback ("):
            headline = headline if headline and frames and not in_frame else line.strip()
            in_frame = False
    if headline or frames:
        chain.append(Raised(headline, tuple(frames[-limit:])))
    return chain
