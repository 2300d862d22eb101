"""`Notebook`: a notebook file as a function, to submit, schedule and sweep like any other."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Collection, Coroutine, Iterator
from inspect import Signature
from os import PathLike
from pathlib import Path
from typing import Any

from jobkit.features.notebooks.parameters import SUFFIX, TAG, signature_in
from jobkit.model import InvalidParams
from jobkit.tasks.sources import parsed


class Notebook:
    """A notebook as a function of its parameters, which are the assignments of its cell with the tag `parameters`.

    The file is read now: what runs later, on whichever machine, is this content. `kit.notebook` submits one; with
    `kit.schedule(Notebook("report.ipynb"), {"region": "EU"}, cron=...)`, `kit.sweep(Notebook(...), region=[...])` and
    `@task` it is used like a function.

    Args:
        path: of the .ipynb file, relative to the working directory.

    Raises:
        InvalidParams: the file cannot be read, or is no notebook.

    Example:
        >>> orders = jobkit.Notebook("report.ipynb")
        >>> kit.schedule(orders, {"region": "EU"}, cron="0 6 * * MON").remove()
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        file = Path(path).expanduser()
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise InvalidParams(f"the notebook {str(path)!r} cannot be read in {Path.cwd()}: {why}", "path") from None
        self._set(_without_outputs(text, file.name), file.stem, str(file.absolute().parent))

    def _set(self, content: str, name: str, folder: str, imports: tuple[str, ...] | None = None) -> None:
        self.content, self.name, self.folder = content, name, folder
        self.__jobkit_source__ = content
        cells = json.loads(content)["cells"]
        # Names of modules in the pickle of a call are what decides which modules of the user travel with it.
        self.imports = tuple(sorted(set(_imports(cells)))) if imports is None else imports
        self.__name__ = self.__qualname__ = re.sub(r"[^\w.:-]", "_", name)[:200] or "notebook"
        self.__doc__ = _title(cells)
        tagged = next((_source(cell) for cell in cells if TAG in cell.get("metadata", {}).get("tags", ())), None)
        self.has_parameters = tagged is not None
        self.__signature__ = signature_in(tagged, f"{name}{SUFFIX}") if tagged is not None else Signature()

    def __reduce__(self) -> tuple[Any, ...]:
        return _sent, (self.content, self.name, self.folder, self.imports)

    def __call__(self, /, **parameters: Any) -> Coroutine[Any, Any, Any]:
        """Execute it in a separate kernel; the coroutine returns what its last cell shows."""
        from jobkit.features.notebooks.execution import execute

        return execute(self.name, self.content, self.folder, parameters)

    def check_names(self, names: Collection[str]) -> None:
        """Raise InvalidParams if there are names and it has no cell of parameters."""
        if names and not self.has_parameters:
            raise InvalidParams(
                f"{self.name}{SUFFIX} takes no parameters, because none of its cells has the tag {TAG!r}: add it in "
                "JupyterLab to the cell of the defaults (Property Inspector, Cell Tags)",
                next(iter(names)),
            )

    def __repr__(self) -> str:
        return f"Notebook({self.name + SUFFIX!r})"


def _sent(content: str, name: str, folder: str, imports: tuple[str, ...]) -> Notebook:
    """Return the notebook of a pickle."""
    made = object.__new__(Notebook)
    made._set(content, name, folder, imports)
    return made


def _without_outputs(text: str, name: str) -> str:
    """Return the JSON of a notebook without what it shows. Raises InvalidParams for other files."""
    try:
        found = json.loads(text)
        version, cells = found["nbformat"], found["cells"] if found["nbformat"] >= 4 else []
        for cell in cells:
            if cell["cell_type"] == "code":
                cell["outputs"], cell["execution_count"] = [], None
            _source(cell)
    except (ValueError, KeyError, TypeError):
        raise InvalidParams(f"{name} is not a notebook (a file of Jupyter's format)", "path") from None
    if version < 4:
        raise InvalidParams(f"{name} is of version {version} of the format: open it in JupyterLab and save it", "path")
    return json.dumps(found, ensure_ascii=False)


def _source(cell: dict[str, Any]) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def _title(cells: list[dict[str, Any]]) -> str:
    """Return the first heading, "" if there is none."""
    texts = (_source(cell) for cell in cells if cell["cell_type"] == "markdown")
    headings = (line.lstrip("#").strip() for text in texts for line in text.splitlines() if re.match(r"#{1,6}\s", line))
    return next(headings, "")[:200]


def _imports(cells: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the modules that the cells import, as far as they are Python."""
    for cell in cells:
        try:
            tree = parsed(_source(cell)) if cell["cell_type"] == "code" else ast.Module([], [])
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module
