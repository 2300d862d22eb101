"""An exception of jobkit as IPython shows it: the frames of a failed job, then the user's line that raised it.

Without `_render_traceback_` IPython shows the frames that raised it, which are jobkit's, and none of the job.
"""

from __future__ import annotations

import linecache
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_LIBRARY = os.path.dirname(linecache.__file__)

#: Folders with frames that are hidden.
_HIDDEN = tuple(
    folder + os.sep
    for folder in (
        os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        os.path.join(_LIBRARY, "asyncio"),
        os.path.join(_LIBRARY, "concurrent"),
    )
)

#: The type at the begin of a headline.
_TYPE = re.compile(r"^[\w.]+(?=: |$)")

_BOLD, _RED, _CYAN, _END = "\x1b[1m", "\x1b[31m", "\x1b[36m", "\x1b[0m"


def shown(error: BaseException, of_job: Sequence[str]) -> list[str]:
    """Return the lines of an exception that was raised in a cell, below those `of_job`, see `trace.lines_of`."""
    shell: Any = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    lines = [f"{_RED}{'-' * 75}{_END}"]
    if of_job:
        lines += [f"{_BOLD}In the job:{_END}", *_coloured(of_job), "", f"{_BOLD}Here:{_END}"]
    said = str(error).partition("\n\n")[0]
    lines += _coloured([*_own_lines(error, shell), f"{type(error).__name__}: {said}"])
    if str(getattr(shell, "colors", "nocolor")).lower() != "nocolor":
        return lines
    return [line.replace(_BOLD, "").replace(_RED, "").replace(_CYAN, "").replace(_END, "") for line in lines]


def _own_lines(error: BaseException, shell: Any) -> Iterator[str]:
    """Yield place and code of the user's frames, without those of jobkit, of its event loop and of IPython."""
    label = getattr(getattr(shell, "compile", None), "format_code_name", lambda filename: None)
    for at, line in traceback.walk_tb(error.__traceback__):
        filename, name = at.f_code.co_filename, at.f_code.co_name
        if filename.startswith(_HIDDEN) or f"{os.sep}IPython{os.sep}" in filename:
            continue
        cell = label(filename)
        place = f"{' '.join(cell)}, line {line}" if cell else f"{os.path.basename(filename)}:{line}"
        yield f"  {place}" if name == "<module>" else f"  {place} in {name}"
        yield f"      {linecache.getline(filename, line, at.f_globals).strip()}"


def _coloured(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if line.startswith("  ---> "):
            yield f"{_RED}{line}{_END}"
        elif line.startswith("  ") and not line.startswith("   "):
            yield f"{_CYAN}{line}{_END}"
        else:
            yield _TYPE.sub(rf"{_RED}\g<0>{_END}", line)
