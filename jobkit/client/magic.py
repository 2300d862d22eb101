"""`%%job`: a whole notebook cell as a job. `%load_ext jobkit` makes it known.

    %%job [NAME] [option=value ...]
    table = clean(data)          # variables of the notebook are sent along
    table.describe()             # the last expression is the job's result

NAME is a variable that gets the job; the job is also the cell's own value (`_`). Options are those of
`task.options(...)`: queue=gpu timeout=60 retries=2 tags=a,b; also spelled --queue gpu. `kit=name` submits with that
kit.
"""

from __future__ import annotations

import ast
import shlex
from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from jobkit.client.job import Job
from jobkit.model import InvalidParams, JobkitError
from jobkit.tasks.cell import Cell, read_cell, title_of

if TYPE_CHECKING:
    from jobkit.client.kit import Kit


def register(shell: Any, default_kit: Callable[[], Kit]) -> None:
    """Make `%%job` known to an IPython shell."""
    from IPython.core.error import UsageError

    def job(line: str, cell: str) -> Job:
        try:
            return submit_cell(shell, line, cell, default_kit)
        except JobkitError as error:
            raise UsageError(str(error)) from None

    job.__doc__ = __doc__
    shell.register_magic_function(job, magic_kind="cell", magic_name="job")


def submit_cell(shell: Any, line: str, cell: str, default_kit: Callable[[], Kit]) -> Job:
    """Submit what stands behind `%%job` (`line`) and below it, with the shell's variables."""
    name, options = read_line(line)
    kit = default_kit()
    if (named := options.pop("kit", None)) is not None:
        kit = shell.user_ns.get(named)
        if not hasattr(kit, "submit"):
            raise InvalidParams(f"kit={named} must be a variable that holds a kit", "kit")
    empty = takewhile(str.isspace, cell.splitlines(keepends=True))  # first lines, which IPython drops
    source = "".join(empty) + shell.transform_cell(cell)
    names = read_cell(source, shell.user_ns)
    variables = {each: shell.user_ns[each] for each in names}
    options.setdefault("title", title_of(source))
    number = _cell_number(shell)
    task = Cell(source, names, name or "cell", f"Cell In[{number}]" if number else "", f"%%job {line}".rstrip())
    try:
        job: Job = kit.options(**options).submit(task, **variables)
    except InvalidParams as error:
        raise _explained(error, variables) from None
    if name:
        shell.user_ns[name] = job
    return job


def _cell_number(shell: Any) -> int | None:
    """Return the number of the running cell, None if the shell has no numbers.

    The history has the running cell as its last entry. `execution_count` is that number before IPython 9.18, and the
    next one since then.
    """
    inputs = getattr(getattr(shell, "history_manager", None), "input_hist_parsed", ())
    number: int | None = len(inputs) - 1 if len(inputs) > 1 else getattr(shell, "execution_count", None)
    return number


def read_line(line: str) -> tuple[str, dict[str, Any]]:
    """Return `(NAME or "", options)`."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise InvalidParams(f"%%job {line}: {error}", "line") from None
    name, options = "", {}
    while words:
        word = words.pop(0)
        key, equals, value = word.lstrip("-").partition("=")
        key = key.replace("-", "_")
        if word.startswith("-") and not equals:
            if not words:
                raise InvalidParams(f"%%job: {word} needs a value, like {word} gpu", key)
            value = words.pop(0)
        elif not equals:
            if name or not word.isidentifier():
                raise InvalidParams(f"%%job takes one variable name and options like queue=gpu, not {word!r}", "line")
            name = word
            continue
        options[key] = _value(key, value)
    return name, options


def _value(key: str, text: str) -> Any:
    if key == "tags":
        return [tag.strip() for tag in text.split(",") if tag.strip()]
    if key in ("queue", "key", "id", "title", "kit", "isolation", "memory_limit", "at"):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _explained(error: InvalidParams, variables: Mapping[str, Any]) -> InvalidParams:
    """Return the error with the name of the variable that cannot be sent."""
    name = error.field or ""
    if name not in variables or "cannot be sent" not in str(error):
        return error
    kind = type(variables[name]).__name__
    return InvalidParams(
        f"the cell uses {name}, a {kind} of the notebook, which cannot be sent to a job: make it inside the cell "
        f"({str(error).partition(': ')[2]})",
        name,
    )
