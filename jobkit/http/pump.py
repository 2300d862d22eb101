"""The parts of a streamed response, as long as its client is there; what both servers' adapters read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any


class ClientGone(Exception):
    """The client went away before the stream had ended."""


async def parts_until(stream: Any, gone: asyncio.Future[Any]) -> AsyncIterator[bytes]:
    """The parts of an async iterator, one after the other.

    Raises:
        ClientGone: `gone` was done while the next part was awaited; the stream has been told.
    """
    while True:
        part = asyncio.ensure_future(anext(stream, None))
        await asyncio.wait({part, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not part.done():
            part.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await part
            raise ClientGone
        data = part.result()
        if data is None:
            return
        yield data
