"""An exception as a `JobError`: what happened, where in the user's own code, with our frames left out. Never raises.

If asked for (`jobkit worker --locals`), with the local variables of the frame that failed. What looks like a secret is
masked there: by the name of the variable, key or field, and passwords in URLs. That is a precaution, not a promise, and
the reason why it is off by default.
"""

from __future__ import annotations

import linecache
import os
import re
import reprlib
import signal
import sysconfig
import textwrap
import traceback
from types import FrameType, FunctionType, ModuleType, TracebackType
from typing import Any

from jobkit.codec import DYNAMIC, decode, pickled
from jobkit.model import ErrorKind
from jobkit.model.snapshot import JobError
from jobkit.model.terminal import clean
from jobkit.run.inside.lines import cut
from jobkit.tasks.masking import MASK, is_secret, masked
from jobkit.tasks.sources import SOURCE_AROUND, is_dynamic, label_of

_NAMES, _CHARS = 40, 500

_is_on = False


def keep_locals(is_on: bool) -> None:
    """Keep local variables with errors from now on (or not), in this process and its forks."""
    global _is_on
    _is_on = is_on


def keeps_locals() -> bool:
    return _is_on


def locals_text(frame: FrameType) -> str:
    """A line for each variable, in the order in which they came into being. Never raises."""
    found = {
        name: value
        for name, value in frame.f_locals.items()
        if not name.startswith(("__", ".")) and not isinstance(value, (ModuleType, FunctionType, type))
    }
    shown_ones = list(found.items())[:_NAMES]
    lines = [f"  {name} = {MASK if is_secret(name, value) else shown(value)}" for name, value in shown_ones]
    if len(found) > _NAMES:
        lines.append(f"  … {len(found) - _NAMES} more …")
    return "\n".join(lines)


def shown(value: Any) -> str:
    """One line of any value, its secrets masked."""
    try:
        text = _short.repr(value)
    except BaseException as error:  # a __repr__ of the user's
        return f"<{class_name(value)}: its repr raised {class_name(error)}>"
    text = " ".join(clean(text.replace("\n", " ").replace("\t", " ")).split())
    return cut(masked(text), _CHARS)


class _Short(reprlib.Repr):
    """`repr` that never writes out what is large."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 3, 400, 400, 100

    def repr_bytes(self, value: bytes, level: int) -> str:
        return repr(value) if len(value) <= 100 else f"{value[:80]!r}… ({len(value):,} bytes)"

    repr_bytearray = repr_bytes


_short = _Short()


MESSAGE_LIMIT, TRACEBACK_LINES, TRACEBACK_LIMIT = 1_000, 200, 64_000
ERROR_BODY_LIMIT = 1_000_000

#: How IPython calls the file of a cell.
_CELL = "Cell In["

_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep
#: The demo's tasks are what a user would write.
_DEMO = os.path.join(_PACKAGE, "demo")
_LIBRARIES = tuple(
    {os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


def describe(error: BaseException, kind: ErrorKind = ErrorKind.EXCEPTION) -> JobError:
    """The error as text, its traceback from the user's own frames on."""
    try:
        _trim(error)
        where, source, variables = "", "", ""
        users = [at for at in traceback.walk_tb(error.__traceback__) if _is_users(at[0].f_code.co_filename)]
        if users:
            frame, line = users[-1]
            where, source = _place(frame.f_code.co_filename, line, frame.f_code.co_name), _source(frame, line)
            if keeps_locals():
                variables = f"\n\nLocal variables in {where}:\n{locals_text(frame)}"
        if issubclass(type(error), SyntaxError) and (found := _of_syntax(error)):  # type: ignore[arg-type]  # it is one
            where, source = found
        text = _format(error) + variables
    except BaseException:  # exceptions of the user's may raise anything from any attribute
        where, text, source = "", "", ""
    return JobError(
        kind=kind, type=class_name(error), message=_message(error), traceback=text, where=where, source=source
    )


#: Read as Python itself does: a metaclass may have anything under these names.
_name, _qualname, _module, _mro = (
    type.__dict__[f"__{name}__"].__get__ for name in ("name", "qualname", "module", "mro")
)


def class_name(value: object) -> str:
    """Return the name of a value's class, calling none of its code."""
    return clean(_name(type(value)))


def error_types(error: BaseException) -> tuple[str, ...]:
    """Qualified names of the exception's class and its bases, for `retry_on`; builtins by their plain name."""
    found = []
    for cls in _mro(type(error))[:-1]:  # without `object`
        name, module = clean(_qualname(cls)), _module(cls)
        found.append(name if module == "builtins" else f"{clean(module) if type(module) is str else '?'}.{name}")
    return tuple(found)


def error_body(error: BaseException) -> bytes:
    """Return the exception as a pickle, empty if it cannot be pickled and rebuilt."""
    try:
        form, body = pickled(error)
        if len(body) <= ERROR_BODY_LIMIT and class_name(decode(form, body)) == class_name(error):
            return body
    except Exception:  # many exceptions cannot be built again from their args
        pass
    return b""


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:
        return "<its message raised an error itself>"
    text = "\n".join(clean(line) for line in text[: 4 * MESSAGE_LIMIT].split("\n")).strip()
    return cut(text, MESSAGE_LIMIT) or class_name(error)


def _is_ours(filename: str) -> bool:
    return filename.startswith(_PACKAGE) and not filename.startswith(_DEMO)


def _is_users(filename: str) -> bool:
    path = _path(filename)
    return not (
        _is_ours(path)
        or filename.startswith("<frozen ")
        or path.startswith(_LIBRARIES)
        or "site-packages" in path
        or "dist-packages" in path
        # compiled by Cython: relative to where its library was built
        or (filename.endswith((".pyx", ".pxi")) and not os.path.exists(filename))
    )


def _path(filename: str) -> str:
    """Return the absolute path of a file; of code that was sent by value, that at its submitter."""
    return os.path.abspath((is_dynamic(filename) and label_of(filename)) or filename)


def _trim(error: BaseException) -> None:
    """Remove our frames from an exception and its causes, and the frames before the user's first one."""
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = _trimmed(one.__traceback__)
        left += [one.__cause__, one.__context__, *(one.exceptions if isinstance(one, BaseExceptionGroup) else ())]


def _trimmed(trace: TracebackType | None) -> TracebackType | None:
    frames = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    files = [trace.tb_frame.f_code.co_filename for trace in frames]
    first = next((i for i, file in enumerate(files) if _is_users(file)), 0)
    result: TracebackType | None = None
    for frame, file in reversed(list(zip(frames[first:], files[first:], strict=True))):
        if not _is_ours(_path(file)):
            result = TracebackType(result, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return result


def _source(frame: FrameType, at: int) -> str:
    """The lines around the failing one, without the indentation that all of them have."""
    return _lines(frame.f_code.co_filename, at, frame.f_globals)


def _lines(filename: str, at: int, names: dict[str, Any] | None = None) -> str:
    """Return the lines around line `at`, each `number, tab, text`, without empty ones at the ends; "" if unknown."""
    numbers = range(max(1, at - SOURCE_AROUND), at + SOURCE_AROUND + 1)
    lines = {n: linecache.getline(filename, n, names) for n in numbers}
    if not lines.get(at):
        return ""
    said = [n for n in numbers if n == at or lines[n].strip()]
    found = range(said[0], said[-1] + 1)
    text = textwrap.dedent("\n".join(lines[n].rstrip().expandtabs(4) for n in found))
    return "\n".join(f"{n}\t{clean(cut(line, 200))}" for n, line in zip(found, text.split("\n"), strict=True))


def _of_syntax(error: SyntaxError) -> tuple[str, str] | None:
    """Return place and lines of a syntax error in a file of the user's, which has no frame."""
    filename, line = error.filename or "", error.lineno or 0
    source = _lines(filename, line) if _is_users(filename) else ""
    return (place_of(filename, line), source) if source else None


def _place(filename: str, line: int, name: str) -> str:
    """ "file.py:28 in evaluate", "Cell In[25], line 3 in evaluate"; "line 3 in evaluate" if the file is not known."""
    return f"{place_of(filename, line)} in {name}"


def labelled(text: str) -> str:
    """Return a text with the cell or script of code that was sent by value wherever a traceback names its file."""
    if DYNAMIC[:-1] not in text:
        return text
    return re.sub(rf'File "({DYNAMIC[:-1]}[^">]*>)"', lambda found: clean(_shown(found[1])), text)


def _shown(filename: str) -> str:
    label = (is_dynamic(filename) and label_of(filename)) or filename
    return label if label.startswith(_CELL) else f'File "{label}"'


def place_of(filename: str, line: int) -> str:
    if is_dynamic(filename):
        filename = label_of(filename)
    if not filename or "ipykernel_" in filename or filename.startswith("<ipython-input"):
        return f"line {line}"
    if filename.startswith(_CELL):
        return f"{filename}, line {line}"
    return f"{clean(os.path.basename(filename)) or filename}:{line}"


class _Stack(traceback.StackSummary):
    """Frames as text: those of sent code by their cell or script, the user's last one with the lines around it."""

    failing: traceback.FrameSummary | None = None

    def format_frame_summary(self, frame_summary: traceback.FrameSummary, **options: Any) -> str:
        first, rest = super().format_frame_summary(frame_summary, **options).split("\n", 1)
        filename, line = frame_summary.filename, frame_summary.lineno or 0
        if is_dynamic(filename):
            first = first.replace(f'File "{filename}"', clean(_shown(filename)))
        if frame_summary is self.failing and (source := _lines(filename, line)):
            rest = _numbered(source, line)
        return f"{first}\n{rest}"


def _numbered(source: str, at: int) -> str:
    lines = [line.partition("\t") for line in source.split("\n")]
    width = max(4, *(len(number) for number, _, _ in lines))
    return "".join(
        f"{'-' * (width + 1 - len(number)) + '> ' if int(number) == at else ' ' * (width + 3 - len(number))}"
        f"{number} {text}".rstrip()
        + "\n"
        for number, _, text in lines
    )


def _format(error: BaseException) -> str:
    found = traceback.TracebackException.from_exception(error, compact=True)
    left: list[traceback.TracebackException | None] = [found]
    while left:
        if (one := left.pop()) is not None:
            one.stack = stack = _Stack(one.stack)
            stack.failing = next((frame for frame in reversed(stack) if _is_users(frame.filename)), None)
            left += [one.__cause__, one.__context__, *(one.exceptions or ())]
    lines = "".join(found.format()).rstrip().split("\n")
    if len(lines) > TRACEBACK_LINES:  # a deep recursion through several functions is not folded by Python
        head, tail = TRACEBACK_LINES // 3, TRACEBACK_LINES - TRACEBACK_LINES // 3
        lines = [*lines[:head], f"  … {len(lines) - head - tail:,} lines left out …", *lines[-tail:]]
    lines = [clean(cut(line, 2_000)) for line in lines]
    return cut("\n".join(lines), TRACEBACK_LIMIT)


def crash_text(code: int) -> tuple[str, str]:
    """`(type, sentence)` for a process that died by itself: `code` as of `os.waitstatus_to_exitcode`."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return name, f"the job's process died: signal {-code} ({name})"
    return f"exit status {code}", f"the job's process ended with exit status {code} before its result was there"


_FAULT_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<name>.*)')


def fault_text(text: str) -> tuple[str, str]:
    """`(traceback, where)` from what `faulthandler` wrote: the user's own frames, oldest first."""
    frames = [match for match in map(_FAULT_FRAME.match, text.split("\n")) if match]
    frames = [f for f in reversed(frames) if not _is_ours(f["file"])]
    first = next((i for i, f in enumerate(frames) if _is_users(f["file"])), len(frames))
    frames = frames[first:]
    users = [f for f in frames if _is_users(f["file"])]
    if not users:
        return "", ""
    deepest, lines = users[-1], [text.split("\n", 1)[0]]
    for frame in frames[-TRACEBACK_LINES:]:
        lines.append(clean(f"  {_shown(frame['file'])}, line {frame['line']} in {frame['name']}"))
        if frame is deepest and (source := _lines(frame["file"], int(frame["line"]))):
            lines += _numbered(source, int(frame["line"])).rstrip().split("\n")
    return "\n".join(lines), _place(deepest["file"], int(deepest["line"]), deepest["name"])
