"""Notebook files at the command line: `jobkit submit report.ipynb region=EU`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobkit.features.notebooks.notebook_task import Notebook
from jobkit.features.notebooks.parameters import SUFFIX
from jobkit.tasks.registry import registry


def call_of(name: str, pairs: Sequence[str]) -> tuple[Notebook, dict[str, Any]] | None:
    """Return the notebook of a file and its arguments from `["n=5"]`; None for other names."""
    if not name.endswith(SUFFIX):
        return None
    notebook = Notebook(name)
    notebook.check_names([pair.partition("=")[0] for pair in pairs])
    return notebook, registry.task_of(notebook).info().parse(pairs)


def names() -> dict[str, str]:
    """Return the notebooks of this folder."""
    return dict.fromkeys(map(str, sorted(Path().glob(f"*{SUFFIX}"))), "a notebook")
