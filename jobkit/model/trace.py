"""A traceback's text as frames: code, line, and root cause; and these as text for terminals and notebooks.

Pure. It reads what `run/inside/tracebacks.py` and `traceback.format_exception` write and never imports or opens
anything; text that it does not understand simply yields no frames, and readers then show the text itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from jobkit.model.format import shortened
from jobkit.model.snapshot import JobError

_FRAME = re.compile(
    r'^\s*(?:File "(?P<file>.+?)"|(?P<cell>Cell In\[\d+\])), line (?P<line>\d+)(?:,? in (?P<name>.+))?$'
)
#: A line of those around a failing one, which are numbered; its own has an arrow.
_NUMBERED = re.compile(r"^(?P<arrow>-+>)?\s*(?P<number>\d+)(?: (?P<code>.*))?$")
_CHAIN = re.compile(
    r"^(The above exception was the direct cause of the following exception:"
    r"|During handling of the above exception, another exception occurred:)$"
)
_REPEATED = re.compile(r"^\s*\[Previous line repeated (?P<count>\d{1,9}) more times?\]$")
_LIBRARY = re.compile(
    r"site-packages|dist-packages|[/\\]lib[/\\]python\d|[/\\]jobkit[/\\]run[/\\]|<frozen |\.p[yx][xi]$"
)

#: The margin of a group's lines, and the line before each of its exceptions.
_GROUP, _MARGIN = (
    "  + Exception Group Traceback (most recent call last):",
    re.compile(r"^(?P<indent> +)\| ?(?P<text>.*)$"),
)
_MEMBER = re.compile(r"^ +\+(?:-\+)?-+ (?P<number>\d+|\.\.\.) -+$")

#: Lines below a headline (of its message, notes and variables), and characters of each line of code.
_NOTES, _CHARS = 60, 200


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, or several equal ones in a row.

    Attributes:
        place: `train.py:28 in evaluate`.
        code: its source line, where the traceback had it; of a syntax error with a line that points into it.
        is_library: not the user's own code.
        count: how many there are of it.
        source: the lines around, each `number, tab, text`; "" if unknown.
    """

    file: str
    place: str
    code: str = ""
    is_library: bool = False
    count: int = 1
    source: str = ""


@dataclass(frozen=True, slots=True)
class Raised:
    """One exception of a chain or group.

    Attributes:
        headline: its last line (`KeyError: 'f1'`). notes: the lines below it.
        frames: outermost first.
        lead: "Root cause", "1 of 2" or "Then" if there are several, else "".
    """

    headline: str
    frames: tuple[Frame, ...] = ()
    notes: str = ""
    lead: str = ""


def picture_of(error: JobError | None) -> list[Raised]:
    """Return the exceptions of an error, root cause first; what its message says already is no note."""
    if error is None:
        return []
    chain = chain_of(error.traceback) or [Raised(str(error))]
    last = chain[-1]
    said, notes = error.message.split("\n")[1:], last.notes.split("\n")
    while said and notes and said[0].rstrip() == notes[0].rstrip():
        del said[0], notes[0]
    frames = list(last.frames) or [Frame("", error.where)] * bool(error.where)
    failing = next((i for i, frame in reversed([*enumerate(frames)]) if frame.place == error.where), None)
    if failing is not None and not frames[failing].source:
        frames[failing] = replace(frames[failing], source=error.source)
    return [*chain[:-1], replace(last, notes="\n".join(notes), frames=tuple(frames))]


def chain_of(text: str, limit: int = 60) -> list[Raised]:
    """Return the exceptions in a traceback's text, root cause first, each with its last `limit` frames."""
    found: list[tuple[int, str, Raised]] = []
    for depth, number, lines in _parts(text):
        raised = _raised(lines, limit)
        if raised.headline or raised.frames:
            found.append((depth, number, raised))
    chain = [(number, raised) for _, number, raised in _inner_first(found)]
    if len(chain) < 2:
        return [raised for _, raised in chain]
    last = max((int(number) for number, _ in chain if number.isdecimal()), default=0)
    leads = [
        f"{number} of {last}" if number else "Root cause" if i == 0 else "Then" for i, (number, _) in enumerate(chain)
    ]
    return [replace(raised, lead=lead) for (_, raised), lead in zip(chain, leads, strict=True)]


def _parts(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """Yield `(depth in groups, number in its group, lines)` of each exception, as they come in the text."""
    depth, number, lines, is_group = 0, "", list[str](), False
    for line in text.splitlines():
        is_group = is_group or line == _GROUP
        inner, at = line, 0
        if is_group and (margin := _MARGIN.match(line)):
            inner, at = margin["text"], len(margin["indent"]) // 2 - 1
        elif is_group and line.startswith("  ") and line.lstrip().startswith("+"):
            member = _MEMBER.match(line)
            if member or set(line.strip()) <= set("+-"):  # the first line of the next one, or the end of a group
                yield depth, number, lines
                depth, number, lines = depth, member["number"] if member else "", []
            continue
        elif is_group and line.strip():
            is_group = False
        if _CHAIN.match(inner.strip()):
            yield depth, number, lines
            number, lines = "", []
        elif inner.strip():
            depth = at
            lines.append(inner)
        elif lines:
            lines.append("")
    yield depth, number, lines


def _inner_first(found: Sequence[tuple[int, str, Raised]]) -> Iterator[tuple[int, str, Raised]]:
    """Yield the exceptions of each group before the group."""
    i = 0
    while i < len(found):
        j = i + 1
        while j < len(found) and found[j][0] > found[i][0]:
            j += 1
        yield from _inner_first(found[i + 1 : j])
        yield found[i]
        i = j


def _raised(lines: Sequence[str], limit: int) -> Raised:
    """Return one exception: its frames, then its headline, then its notes."""
    frames: list[Frame] = []
    headline, notes, is_over = "", list[str](), False
    for i, line in enumerate(lines):
        if is_over:
            notes.append(line)
        elif match := _FRAME.match(line):
            file, name = match["file"] or match["cell"], match["name"]
            base = file.replace("\\", "/").rpartition("/")[2]
            place = f"{file}, line {match['line']}" if match["cell"] else f"{base}:{match['line']}"
            place += f" in {name}" if name else ""
            _fold(frames)
            frames.append(Frame(file, place, is_library=bool(_LIBRARY.search(file))))
        elif repeated := _REPEATED.match(line):
            _fold(frames)
            if frames:
                frames[-1] = replace(frames[-1], count=frames[-1].count + int(repeated["count"]))
        elif frames and (numbered := _NUMBERED.match(line)) and (frames[-1].source or _has_arrow(lines[i : i + 3])):
            code = shortened(numbered["code"] or "", _CHARS)
            source = f"{frames[-1].source}\n{numbered['number']}\t{code}".lstrip("\n")
            frames[-1] = replace(frames[-1], source=source, code=code.strip() if numbered["arrow"] else frames[-1].code)
        elif frames and line.startswith("    "):
            frames[-1] = _with_code(frames[-1], line)
        elif line.strip() and not line[:1].isspace() and not line.endswith("Traceback (most recent call last):"):
            is_crash = not headline and bool(_FRAME.match("".join(lines[i + 1 : i + 2])))  # it begins with its headline
            if headline:
                notes.append(line)
            headline, is_over = headline or line.strip(), not is_crash
    _fold(frames)
    return Raised(headline, tuple(frames[-limit:]), "\n".join(notes[:_NOTES]).rstrip())


def _has_arrow(lines: Sequence[str]) -> bool:
    """Return True if the first of these lines has its number: code may begin with one, too."""
    return any(line.startswith("-") for line in lines)


def _with_code(frame: Frame, line: str) -> Frame:
    """Return the frame with a line of its code, or of the marks below it, which are kept for a syntax error."""
    if not set(line.strip()) <= set("^~ "):
        return frame if frame.code else replace(frame, code=shortened(line.strip(), _CHARS))
    is_syntax = " in " not in frame.place
    return replace(frame, code=f"{frame.code}\n{line[4:].rstrip()}") if is_syntax and frame.code else frame


def _fold(frames: list[Frame]) -> None:
    """Join the last two frames if they are equal: a recursion repeats the same frame many times."""
    if len(frames) > 1 and replace(frames[-2], count=1) == frames[-1]:
        frames[-2:] = [replace(frames[-2], count=frames[-2].count + 1)]


# -- as text -----------------------------------------------------------------------------------------------------------


def lines_of(error: JobError) -> list[str]:
    """Return an error for people who read text: own frames with their code, those of libraries counted.

    Without frames it is the traceback's text, or the error's message.
    """
    chain = picture_of(error)
    if not any(raised.frames for raised in chain):
        return (error.traceback or str(error)).splitlines()
    lines: list[str] = []
    for raised in chain:
        if raised.lead:
            lines += [*[""] * bool(lines), f"{raised.lead}:"]
        for frame in rows_of(raised.frames):
            lines += frame_lines(frame) if isinstance(frame, Frame) else [f"  {frame_count(frame)}"]
        lines += [raised.headline, *raised.notes.splitlines()]
    return lines


def rows_of(frames: Sequence[Frame]) -> Iterator[Frame | list[Frame]]:
    """Yield own frames, and each row of library frames as a list."""
    row: list[Frame] = []
    for frame in frames:
        if frame.is_library:
            row.append(frame)
            continue
        if row:
            yield row
            row = []
        yield frame
    if row:
        yield row


def frame_count(frames: Sequence[Frame]) -> str:
    """Return `3 library frames`."""
    count = sum(frame.count for frame in frames)
    return f"{count:,} library frame{'s' if count != 1 else ''}"


def frame_lines(frame: Frame) -> list[str]:
    """Return the place of a frame, and its line or those around it, the failing one with an arrow."""
    times = f" · {frame.count:,} times" if frame.count > 1 else ""
    head = f"  {frame.place}{times}"
    if not frame.source:
        return [head, *(f"      {line}" for line in frame.code.splitlines())]
    at = line_of(frame.place)
    rows = [line.partition("\t") for line in frame.source.split("\n")]
    width = max(len(number) for number, _, _ in rows)
    return [head, *(f"  {'--->' if n == at else '    '} {n:>{width}}  {code}".rstrip() for n, _, code in rows)]


def line_of(place: str) -> str:
    """Return the line in "train.py:28 in evaluate", "" if there is none."""
    found = re.search(r"\d+(?= in |$)", place)
    return found[0] if found else ""
