"""Completions for a shell: names and ids, read from a running server. Starts no server, and imports no task module."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from click.shell_completion import CompletionItem

from jobkit.embedded import attach
from jobkit.embedded.home import Home
from jobkit.features import modules
from jobkit.model import TERMINAL, JobState
from jobkit.settings import Settings
from jobkit.store.query import Query
from jobkit.store.redis import RedisStore

#: Seconds after which a completion gives up on the server.
_MOST_S = 2.0

#: The newest jobs whose ids are completed.
_JOBS = 100

#: States of the jobs of each kind.
_STATES: dict[str, tuple[JobState, ...]] = {
    "jobs": (),
    "ended jobs": tuple(TERMINAL),
    "open jobs": tuple(state for state in JobState if state not in TERMINAL),
}

#: Names that `settings.checked_name` accepts. Others are left out: a shell would run the commands in them.
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,200}")


def complete(kind: str, incomplete: str, options: Mapping[str, Any]) -> list[CompletionItem[str]]:
    """Return what a parameter can be, as far as that can be read.

    Args:
        kind: "tasks", "calls" (tasks, and what else a name stands for), "queues", or one of `_STATES`.
        options: those before the command: `--url` and others.
    """
    found: dict[str, str] = {}
    if kind == "calls":
        kind, found = "tasks", {name: words for each in modules("named") for name, words in each.names().items()}
    with contextlib.suppress(Exception):  # a sentence would stand in the middle of the command line
        settings = Settings.load(**options)
        if kind == "tasks":
            found |= dict.fromkeys(_in_code(settings.task_modules), "")
        if settings.is_embedded and settings.home.exists() and Home.at(settings.home).is_supervised():
            settings = attach(settings)
        if settings.scheme not in ("local", "sync"):
            found |= asyncio.run(asyncio.wait_for(_read(settings, kind), _MOST_S))
    return [
        CompletionItem(name, help=words)
        for name, words in found.items()
        if name.startswith(incomplete) and _NAME.fullmatch(name)
    ]


async def _read(settings: Settings, kind: str) -> dict[str, str]:
    store = RedisStore(settings)
    try:
        if kind == "tasks":
            return dict.fromkeys(sorted(await store.tasks()), "")
        if kind == "queues":
            return dict.fromkeys(await store.queues(), "")
        jobs = (await store.list(Query(states=_STATES[kind], limit=_JOBS))).jobs
        return {job.id: f"{job.spec.task} ({job.state})" for job in jobs if _NAME.fullmatch(job.spec.task)}
    finally:
        await store.close()


def _in_code(modules: Iterable[str]) -> Iterator[str]:
    """Yield the names of tasks in the source of modules."""
    for module in modules:
        if (path := _source(module)) is None:
            continue
        body = ast.parse(path.read_text("utf-8")).body
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from (_name(node.name, mark) for mark in node.decorator_list if _is_named(mark, "task"))
            elif isinstance(node, ast.ClassDef) and any(_is_named(base, "Task") for base in node.bases):
                yield _name(node.name, node)


def _source(module: str) -> Path | None:
    """Return the file of a module, without importing its packages as `importlib.util.find_spec` does."""
    name = module.replace(".", "/")
    files = (Path(folder, end) for folder in (os.getcwd(), *sys.path) for end in (f"{name}.py", f"{name}/__init__.py"))
    return next(filter(Path.is_file, files), None)


def _is_named(node: ast.expr, name: str) -> bool:
    """Return whether it is `name`, `jobkit.name`, or a call of either."""
    node = node.func if isinstance(node, ast.Call) else node
    return getattr(node, "attr", getattr(node, "id", "")) == name


def _name(name: str, options: ast.AST) -> str:
    given = [word.value for word in getattr(options, "keywords", ()) if word.arg == "name"]
    return str(given[0].value) if given and isinstance(given[0], ast.Constant) else name
