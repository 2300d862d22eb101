"""`TextWidget`: what the widgets of a notebook share: synced texts that jobkit's background loop writes."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import anywidget
import traitlets

from jobkit.client.loop import background

logger = logging.getLogger("jobkit.ui")

#: Seconds between two beats. The browser takes 7 s of silence for the end of the kernel (`Pulse` in common.js).
_BEAT_S = 2.0


class TextWidget(anywidget.AnyWidget):
    """An anywidget whose traits are texts. They are written by one thread at a time: a comm may be written from any
    thread, but not from two at once.

    Attributes:
        beat: a number that grows as long as the kernel lives, "" if the widget does not change any more. The background
            loop writes it, so a kernel that is busy with a cell beats as well.
        saved: id of the element that a saved notebook shows in place of the widget; hidden beside it.
    """

    beat = traitlets.Unicode("").tag(sync=True)
    saved = traitlets.Unicode("").tag(sync=True)

    def __init__(self, **texts: Any) -> None:
        self._write = threading.RLock()
        self._beating: Future[None] | None = None
        super().__init__(**texts)

    def put(self, texts: Mapping[str, str]) -> None:
        """Write texts together, as one message."""
        try:
            with self._write, self.hold_sync():
                for name, text in texts.items():
                    setattr(self, name, text)
        except Exception:  # the kernel is shutting down, or the comm was closed by the page
            logger.debug("%s could not be updated", type(self).__name__, exc_info=True)

    def start_beating(self) -> None:
        """Write a beat now and every `_BEAT_S` seconds."""
        self._beating = background.spawn(self._beat())

    def stop_beating(self) -> None:
        """End that: what is shown is final."""
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None
            self.put({"beat": ""})

    async def _beat(self) -> None:
        count = 0
        while True:
            count += 1
            self.put({"beat": str(count)})
            await asyncio.sleep(_BEAT_S)
