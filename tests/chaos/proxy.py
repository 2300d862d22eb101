"""`python -m tests.chaos.proxy LISTEN TARGET`: an unreliable proxy between two unix sockets.

Reads commands from standard input: `cut P` (each connection, with probability P), `swallow S` (for S seconds
requests pass and replies do not, then all connections are cut), `freeze S` (nothing passes for S seconds).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys


class Proxy:
    def __init__(self, listen: str, target: str) -> None:
        self._listen, self._target = listen, target
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._swallows = False

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_unix_server(self._meet, self._listen)
        commands = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        print("ready", flush=True)
        tasks = set()
        while line := await commands.readline():
            word, value = line.decode().split()
            tasks.add(asyncio.create_task(self._do(word, float(value))))
        server.close()

    async def _do(self, word: str, value: float) -> None:
        if word == "cut":
            self._cut(value)
        elif word == "swallow":
            self._swallows = True
            await asyncio.sleep(value)
            self._cut(1.0)
            self._swallows = False
        elif word == "freeze":
            self._open.clear()
            await asyncio.sleep(value)
            self._open.set()

    def _cut(self, share: float) -> None:
        for writer in list(self._writers):
            if random.random() < share:
                writer.transport.abort()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.close()
            return
        self._writers.add(writer)
        away = asyncio.create_task(self._pump(reader, far_writer, is_reply=False))
        back = asyncio.create_task(self._pump(far_reader, writer, is_reply=True))
        await asyncio.wait([away, back], return_when=asyncio.FIRST_COMPLETED)
        for task in (away, back):
            task.cancel()
        for end in (writer, far_writer):
            end.close()
        self._writers.discard(writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_reply: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._open.wait()
                if not (is_reply and self._swallows):
                    writer.write(data)
                    await writer.drain()


if __name__ == "__main__":
    asyncio.run(Proxy(*sys.argv[1:]).serve())
