"""Event loops: what is logged of errors that no caller handles."""

from __future__ import annotations

import asyncio
from typing import Any


def log_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Exception handler of a loop that leaves out what nobody needs.

    - A connection broke while a stream closed it: who used it has been told. asyncio forgets to ask its future.
    - A thread was needed when the interpreter ended.
    """
    error, future = context.get("exception"), context.get("future")
    is_closed_stream = isinstance(error, ConnectionError) and not isinstance(future, asyncio.Task | None)
    if not is_closed_stream and not (isinstance(error, RuntimeError) and "shutdown" in str(error)):
        loop.default_exception_handler(context)
