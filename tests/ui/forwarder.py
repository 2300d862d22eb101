"""A reverse proxy as small as one can be: HTTP and websockets under a prefix, which it strips or keeps, and TLS. It can
also stop forwarding, as a network that was cut."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading

from tests.support import wait_until


class Forwarder:
    """Listener on 127.0.0.1 that forwards requests below `/prefix` to `port`, with or without the prefix; with `tls` it
    terminates TLS and adds the header for that."""

    def __init__(self, prefix: str, *, strips: bool, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.port = self.target = 0
        self.paths: list[str] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._prefix, self._strips = f"/{prefix}" if prefix else "", strips
        self._loop = asyncio.new_event_loop()
        self._is_through = asyncio.Event()
        self._is_through.set()
        self._thread = threading.Thread(target=self._run, name="forwarder")
        self._thread.start()
        wait_until(lambda: self.port, what="the forwarder")

    def cut(self) -> None:
        """Stop forwarding in both directions; connections stay open, new ones wait."""
        self._loop.call_soon_threadsafe(self._is_through.clear)

    def mend(self) -> None:
        """Forward again, first what has come meanwhile."""
        self._loop.call_soon_threadsafe(self._is_through.set)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls))
        self.port = server.sockets[0].getsockname()[1]
        self._loop.run_forever()
        server.close()
        for each in self._writers:  # open connections end by themselves then
            each.transport.abort()
        while rest := asyncio.all_tasks(self._loop):
            self._loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection, so that nothing but its head is looked at."""
        self._writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._is_through.wait()
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *headers = head.split("\r\n")[:-2]
            method, path, version = first.split(" ")
            self.paths.append(path)
            if not path.startswith(self._prefix + "/"):
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            else:
                if self._strips:
                    path = path.removeprefix(self._prefix)
                if not any(line.lower().startswith("upgrade:") for line in headers):
                    headers = [line for line in headers if not line.lower().startswith("connection:")]
                    headers.append("Connection: close")
                if self._tls is not None:
                    headers.append("X-Forwarded-Proto: https")
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
                self._writers.append(up_writer)
                up_writer.write("\r\n".join([f"{method} {path} {version}", *headers, "", ""]).encode("latin-1"))
                await asyncio.gather(self._pipe(reader, up_writer), self._pipe(up_reader, writer))
        writer.close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._is_through.wait()
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()
