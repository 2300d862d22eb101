"""`notebook`: the verb of a kit, and of its `options(...)`, that submits a notebook file."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

from jobkit.features.notebooks.notebook_task import Notebook

if TYPE_CHECKING:
    from jobkit.client.job import Job


def notebook(submits: Any, path: str | PathLike[str], /, **parameters: Any) -> Job[Any]:
    """Submit a notebook file; returns a live `Job`: `kit.notebook("report.ipynb", region="EU")`.

    It is executed in a separate kernel. Its artifacts are the executed notebook and an HTML page of it, its
    result is what the last cell shows.

    Args:
        path: of the .ipynb file, relative to the working directory. The file is read now.
        parameters: values for the variables of its cell with the tag `parameters`.

    Raises:
        InvalidParams: the file is no notebook, or a parameter is unknown or refused; nothing was stored.
    """
    return submits.submitter.submit_one(_checked(path, parameters), (), parameters)  # type: ignore[no-any-return]


async def notebook_async(submits: Any, path: str | PathLike[str], /, **parameters: Any) -> Job[Any]:
    """Submit a notebook file; returns a live `Job`. See `Kit.notebook`."""
    return await submits.submitter.submit_async(_checked(path, parameters), (), parameters)  # type: ignore[no-any-return]


def _checked(path: str | PathLike[str], parameters: dict[str, Any]) -> Notebook:
    made = Notebook(path)
    made.check_names(parameters)
    return made
