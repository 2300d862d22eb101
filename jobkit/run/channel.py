"""Frames both ways over a socket, on an event loop. Nothing here waits: what cannot be sent yet is kept."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from jobkit.run import frames

_READ_BYTES = 262_144


class Channel:
    """One end. What is sent within one turn of the loop leaves together.

    Args:
        link: a connected stream socket; owned from now on.
        on_frame: called with each frame, `(kind, content)`.
        on_closed: called once, when the other end is gone or speaks nonsense, with what it said ("" for nothing).
    """

    def __init__(
        self, link: socket.socket, on_frame: Callable[[bytes, Any], None], on_closed: Callable[[str], None]
    ) -> None:
        link.setblocking(False)
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._on_frame, self._on_closed = on_frame, on_closed
        self._frames = frames.Frames()
        self._waiting: list[bytes] = []
        self._unsent = memoryview(b"")
        self._is_asked = False
        self._is_reading = False
        self.is_open = True
        self.is_busy = False  #: nothing may raise in it: see `host.Host.on_nudge`
        self._loop.add_reader(link, self.read)

    def send(self, kind: bytes, content: Any) -> None:
        """Raises FrameError: above `frames.FRAME_LIMIT`."""
        self.send_frame(frames.frame(kind, content))

    def send_frame(self, frame: bytes) -> None:
        if not self.is_open:
            return
        self.is_busy = True
        try:
            self._waiting.append(frame)
            if not self._is_asked:
                self._is_asked = True
                self._loop.call_soon(self.flush)
        finally:
            self.is_busy = False

    def read(self) -> None:
        """Handle what has come. Harmless where it interrupts itself: see `host.Host.on_nudge`."""
        if self._is_reading or not self.is_open:
            return
        self._is_reading = True
        problem = ""
        try:
            data = self._link.recv(_READ_BYTES)
            for kind, content in self._frames.feed(data):
                try:
                    self._on_frame(kind, content)
                except (TypeError, ValueError, LookupError, AttributeError) as error:
                    raise frames.FrameError(
                        f"a frame of type {kind!r} makes no sense: {type(error).__name__}: {error}"
                    ) from error
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        except frames.FrameError as error:
            data, problem = b"", str(error)
        finally:
            self._is_reading = False
        if not data:
            self.close()
            self._on_closed(problem)

    def drain(self) -> None:
        """Handle what the other end has sent before it died."""
        while self.is_open and self._link.fileno() >= 0:
            try:
                if not self._link.recv(1, socket.MSG_PEEK):
                    return
            except OSError:
                return
            self.read()

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._loop.remove_reader(self._link)
            self._loop.remove_writer(self._link)
            self._link.close()

    def flush(self) -> None:
        """Send now what waits, as far as the other end takes it."""
        self.is_busy = True
        try:
            self._flush()
        finally:
            self.is_busy = False

    def _flush(self) -> None:
        self._is_asked = False
        if not self.is_open:
            return
        if self._waiting:
            # Copied to the end of what is still unsent: that is empty but for a slow reader.
            self._unsent = memoryview(b"".join((self._unsent, *self._waiting)))
            self._waiting.clear()
        try:
            while self._unsent:
                self._unsent = self._unsent[self._link.send(self._unsent) :]
        except (BlockingIOError, InterruptedError):
            self._loop.add_writer(self._link, self.flush)
            return
        except OSError:  # the reader sees it, and what had come before it
            self._unsent = memoryview(b"")
        self._loop.remove_writer(self._link)
