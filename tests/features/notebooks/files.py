"""Notebook files of the tests."""

from __future__ import annotations

import json
from pathlib import Path


def write_notebook(path: Path, *cells: str, parameters: str = "", title: str = "", language: str = "python") -> Path:
    """Write a notebook: a heading, a cell of parameters (each if given), then code cells."""
    found = [{"cell_type": "markdown", "id": "title", "metadata": {}, "source": f"# {title}"}] if title else []
    code = [(parameters, {"tags": ["parameters"]})] if parameters else []
    for n, (source, metadata) in enumerate([*code, *((cell, {}) for cell in cells)]):
        cell = {"cell_type": "code", "id": f"cell-{n}", "metadata": metadata, "source": source.splitlines(True)}
        found.append(cell | {"outputs": [], "execution_count": None})
    spec = {"name": "python3", "display_name": "Python 3", "language": language}
    content = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": spec}, "cells": found}
    path.write_text(json.dumps(content))
    return path
