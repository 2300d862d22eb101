"""Servers of pages: Panel's in the process of the tests, and `jobkit dashboard` in a separate one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from tests.store.server import Server
from tests.support import environment, free_port, listens, wait_until

#: A session ends soon after its window is closed, so that tests can wait for its end.
_SHORT = {"unused_session_lifetime_milliseconds": 3_000, "check_unused_sessions_milliseconds": 100}


class PageServer:
    """Server of what `make` makes per session, at /page, with `options` for Bokeh's server, until `close`.

    It runs in a separate thread. `make` may also be the path of a program.
    """

    def __init__(self, make: Callable[[], Any] | str, *, address: str = "127.0.0.1", **options: Any) -> None:
        self._make, self._address, self._options = make, address, options
        self._running: Any = None
        self._thread = threading.Thread(target=self._run, name="page server")
        self._thread.start()
        wait_until(lambda: self._running is not None, what="the page server")

    @property
    def port(self) -> int:
        return int(self._running[0].port)

    def _run(self) -> None:
        import panel as pn
        from tornado.ioloop import IOLoop

        asyncio.set_event_loop(asyncio.new_event_loop())
        server = pn.serve(
            {"page": self._make}, port=0, address=self._address, show=False, start=False, threaded=False,
            **{**_SHORT, **self._options},
        )  # fmt: skip
        server.start()
        loop = IOLoop.current()
        self._running = server, loop
        loop.start()
        loop.run_sync(lambda: _end_sessions(server))
        server.stop()
        loop.run_sync(_end_rest)
        loop.run_sync(lambda: _end_sessions(server))  # begun since then, by a page that connected again
        loop.run_sync(_end_rest)  # what the end of those has begun
        loop.close(all_fds=True)

    def close(self) -> None:
        _, loop = self._running
        loop.add_callback(loop.stop)
        self._thread.join(60)
        assert not self._thread.is_alive()


SECRET = "of these tests"


class DashboardProcess:
    """`jobkit dashboard` in a separate process, which can be frozen, killed and started again at its port."""

    def __init__(self, server: Server) -> None:
        self.port = free_port()
        self._environment = environment(
            JOBKIT_URL=server.url, JOBKIT_SECRET=SECRET, JOBKIT_HOME=str(server.home / "home")
        )
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jobkit", "dashboard", "--port", str(self.port)],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: listens(self.port), what="the dashboard to listen")

    def send(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)


async def _end_sessions(server: Any) -> None:
    """Remaining watchers of a page would react to changes (`pn.state.busy`) on a loop that is closed by then."""
    for connection in list(server._tornado._clients):
        connection.detach_session()
    for context in server._tornado._applications.values():
        for session in list(context.sessions):
            await context._discard_session(session, lambda _: True)


async def _end_rest() -> None:
    """Cancel what Bokeh's server leaves running on its loop."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for runner in rest:
        runner.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
