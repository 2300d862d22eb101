"""A failed job's exception as IPython shows it: the frames of the job, then the user's line that wanted its result.

Without `_render_traceback_` IPython shows the frames that raised it, which are jobkit's, and none of the job.
"""

from __future__ import annotations

import linecache
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from jobkit.model.snapshot import JobError
from jobkit.model.trace import Frame, frame_lines, lines_of

if TYPE_CHECKING:
    from jobkit.model.errors import JobFailed

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

#: The type at the begin of a headline.
_TYPE = re.compile(r"^[\w.]+(?=: |$)")

_BOLD, _RED, _CYAN, _END = "\x1b[1m", "\x1b[31m", "\x1b[36m", "\x1b[0m"


def shown(error: JobFailed) -> list[str]:
    """Return the lines of an exception that was raised in a cell."""
    shell: Any = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    lines = [f"{_RED}{'-' * 75}{_END}"]
    if isinstance(error.error, JobError):
        lines += [f"{_BOLD}In the job:{_END}", *_coloured(lines_of(error.error)), "", f"{_BOLD}Here:{_END}"]
    here = (line for frame in _own_frames(error, shell) for line in frame_lines(frame))
    said = str(error).partition("\n\n")[0]
    lines += _coloured([*here, f"{type(error).__name__}: {said}"])
    if str(getattr(shell, "colors", "nocolor")).lower() != "nocolor":
        return lines
    return [line.replace(_BOLD, "").replace(_RED, "").replace(_CYAN, "").replace(_END, "") for line in lines]


def _own_frames(error: BaseException, shell: Any) -> Iterator[Frame]:
    """Yield the frames that wanted the result, without jobkit's and those of IPython, which run the cell."""
    label = getattr(getattr(shell, "compile", None), "format_code_name", lambda filename: None)
    for at, line in traceback.walk_tb(error.__traceback__):
        filename, name = at.f_code.co_filename, at.f_code.co_name
        if filename.startswith(_PACKAGE) or f"{os.sep}IPython{os.sep}" in filename:
            continue
        cell = label(filename)
        place = f"{' '.join(cell)}, line {line}" if cell else f"{os.path.basename(filename)}:{line}"
        code = linecache.getline(filename, line, at.f_globals).strip()
        yield Frame(filename, place if name == "<module>" else f"{place} in {name}", code)


def _coloured(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if line.startswith("  ---> "):
            yield f"{_RED}{line}{_END}"
        elif line.startswith("  ") and not line.startswith("   "):
            yield f"{_CYAN}{line}{_END}"
        else:
            yield _TYPE.sub(rf"{_RED}\g<0>{_END}", line)
