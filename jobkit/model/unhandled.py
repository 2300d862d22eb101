"""Errors that no caller of an event loop handles."""

from __future__ import annotations

import asyncio
from typing import Any


def log_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error as an event loop does by default, except in two cases.

    - A connection broke while a stream closed it: its user has had the error. asyncio logs that of its own future, too.
    - A thread was needed when the interpreter ended.
    """
    error, future = context.get("exception"), context.get("future")
    is_closed_stream = isinstance(error, ConnectionError) and not isinstance(future, asyncio.Task | None)
    if not is_closed_stream and not (isinstance(error, RuntimeError) and "shutdown" in str(error)):
        loop.default_exception_handler(context)
