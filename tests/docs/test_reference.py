"""Every public name has an example in its docstring, or on a page of the reference, and each example runs."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastapi
import panel
import pytest
import tornado
from sybil.document import Document
from sybil.parsers.myst import CodeBlockParser
from sybil.parsers.rest import DocTestParser

import jobkit
from jobkit.connecting import default_kit
from jobkit.model.person import Role
from jobkit.testing import MemoryKit
from tests.docs.reading import granted, run, shown, write_notebook
from tests.support import ROOT

#: Public names by module.
PUBLIC = [
    (module, name)
    for module in ("jobkit", "jobkit.ui", "jobkit.http", "jobkit.testing")
    for name in importlib.import_module(module).__all__
]

#: What examples of the reference name beside that: libraries, and things of the user.
BESIDE = {
    "FastAPI": fastapi.FastAPI,
    "MemoryKit": MemoryKit,
    "Role": Role,
    "busy": lambda url: False,
    "secrets": secrets,
    "cameras": {},
    "pn": panel,
    "tornado": tornado,
}


def examples(module: str, name: str) -> Document:
    """Return the examples in the docstring of a name: blocks, and what follows `>>>`."""
    found = getattr(importlib.import_module(module), name)
    document = Document("" if isinstance(found, list | tuple) else inspect.getdoc(found) or "", f"{module}.{name}")
    for parser in (CodeBlockParser("python", run), DocTestParser(doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL)):
        for region in parser(document):
            document.add(region)
    return document


def test_every_class_that_the_reference_describes_is_where_the_page_says() -> None:
    named = {
        found.rpartition(".")[::2]
        for page in (ROOT / "docs").rglob("*.md")
        for found in re.findall(r"\.\. auto(?:class|function):: ([\w.]+)", page.read_text("utf-8"))
        if found.startswith("jobkit.") and found.count(".") > 1
    }

    assert named
    assert [each for each in named if each[1] not in vars(importlib.import_module(each[0]))] == []


def test_every_public_name_has_an_example() -> None:
    pages = [code for page in (ROOT / "docs" / "reference").glob("*.md") for _, code in shown(page)]

    def is_shown(name: str) -> bool:
        return any(re.search(rf"\b{name}\b", code) for code in pages)

    assert [
        f"{module}.{name}" for module, name in PUBLIC if not any(examples(module, name)) and not is_shown(name)
    ] == []


@pytest.fixture
def names(no_tasks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The namespace of an example, in a directory with a notebook; jobs run at once."""
    monkeypatch.chdir(tmp_path)
    write_notebook()
    with jobkit.connect("sync://") as kit, default_kit(kit):
        yield granted() | BESIDE


@pytest.mark.parametrize("module", sorted({module for module, _ in PUBLIC}))
def test_the_examples_of_the_reference_run(module: str, names: dict[str, Any]) -> None:
    own = [name for each, name in PUBLIC if each == module]
    names |= {name: getattr(importlib.import_module(module), name) for name in own}
    for name in own:
        document = examples(module, name)
        document.namespace.update(names)
        for example in document:
            example.evaluate()
