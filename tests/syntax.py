"""Syntax trees of code that tests read."""

from __future__ import annotations

import ast
import gc


def tree_of(source: str) -> ast.Module:
    """Return the syntax tree of a module.

    CPython 3.11 fails with "AST constructor recursion depth mismatch" if a garbage collection lets other code parse
    meanwhile: a task that is destroyed logs a traceback, and so parses the lines of its frames.
    """
    was_enabled = gc.isenabled()  # not while tests are collected
    gc.disable()
    try:
        return ast.parse(source)
    finally:
        if was_enabled:
            gc.enable()
