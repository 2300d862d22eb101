"""`held`: what a callback of a session changes leaves when it ends, as one message, and none of it stays behind.

Panel writes each change itself while the callback runs, and keeps those that it cannot write yet for a coroutine. One
that is kept just as the coroutine before it ends is written with the next change, and where there is none never
(`panel.io.document._dispatch_msgs` takes a mark away after an `await` that the next change has set meanwhile; measured:
6 of 450 bursts beside a busy table). A document that is held Panel leaves alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bokeh.document.events import DocumentPatchedEvent

#: What is on its way; a loop holds its tasks only weakly.
_under_way: set[asyncio.Future[Any]] = set()


@contextmanager
def held(document: Any) -> Iterator[None]:
    """Hold the changes of a session's document until the end; only in a callback of that session.

    Nothing is done for None, outside a session, and where somebody holds the document already.
    """
    context = document.session_context if document is not None else None
    session = getattr(context, "session", None)
    if session is None or document.callbacks.hold_value or not (_is_on_loop() or session._loop):
        yield
        return
    document.hold("collect")
    try:
        yield
    finally:
        callbacks = document.callbacks
        events, callbacks._held_events = list(callbacks._held_events), []
        callbacks.unhold()
        for event in events:
            if not isinstance(event, DocumentPatchedEvent):  # a callback that was added or removed
                callbacks.trigger_on_change(event)
        tell(session, [event for event in events if isinstance(event, DocumentPatchedEvent)])


def tell(session: Any, changes: list[Any]) -> None:
    """Write changes to the browsers of a session, and tell nobody else.

    Panel listens to the models on the server as well, and takes what it hears there for a browser's wish.
    """
    for connection in session._subscribed_connections if changes else ():
        message = connection.protocol.create("PATCH-DOC", changes)
        if _is_on_loop():
            _send(connection._socket, message)
        else:  # from Panel 1.10 on, callbacks run in a thread
            session._loop.add_callback(_send, connection._socket, message)


def _send(socket: Any, message: Any) -> None:
    runner = asyncio.ensure_future(socket.send_message(message))
    _under_way.add(runner)
    runner.add_done_callback(_under_way.discard)


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
