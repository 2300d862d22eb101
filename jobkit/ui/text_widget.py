"""`TextWidget`: what the widgets of a notebook share: synced texts that jobkit's background loop writes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import anywidget

logger = logging.getLogger("jobkit.ui")


class TextWidget(anywidget.AnyWidget):
    """An anywidget whose traits are texts. They are written by one thread at a time: a comm may be written from any
    thread, but not from two at once."""

    def __init__(self, **texts: Any) -> None:
        self._write = threading.RLock()
        super().__init__(**texts)

    def put(self, texts: Mapping[str, str]) -> None:
        """Write texts together, as one message."""
        try:
            with self._write, self.hold_sync():
                for name, text in texts.items():
                    setattr(self, name, text)
        except Exception:  # the kernel is shutting down, or the comm was closed by the page
            logger.debug("%s could not be updated", type(self).__name__, exc_info=True)
