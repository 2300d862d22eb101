"""Observers of a real dashboard process: windows of its pages without a browser, and a reader of the event stream.

A `Window` speaks Bokeh's protocol as a browser does (the page, its token, the document, patches) and keeps the table of
jobs by the same rules as `table.js`. An `EventReader` reads `/api/events` and resumes after each cut at the last id.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

#: Data models of the observed components; Bokeh numbers the models of each class.
_MODEL = re.compile(r"(JobTable|DrawerCard)\d*")

#: Seconds between attempts to reconnect.
_AGAIN_S = 0.3


@dataclass
class Window:
    """One window of the dashboard. Reconnects whenever the server has gone.

    Attributes:
        url: of the page, with its query (`?job=...`).
        rows: the table's rows by job id. counts: its counters. card: the JSON of the open job's card.
        is_open: the table is there.
    """

    url: str
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    is_open: bool = False
    opened: int = 0
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._number = 0
        self._asked = 0
        self._names: dict[str, str] = {}
        self._socket: WebSocketClientConnection | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._stay()), name="window")
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join(20)

    async def _stay(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError, httpx.HTTPError, ConnectionError, TimeoutError, StopAsyncIteration):
                await self._look()
            self.is_open = False
            await asyncio.sleep(_AGAIN_S)

    async def _look(self) -> None:
        async with httpx.AsyncClient(timeout=20, trust_env=False) as http:
            page = await http.get(self.url, follow_redirects=True)
        if (found := re.search(r'"token":\s*"([^"]+)"', page.text)) is None:
            return
        base, _, query = str(page.url).partition("?")
        request = HTTPRequest(
            f"ws{base.removeprefix('http')}/ws?{query}", headers={"Origin": f"http://{page.url.netloc.decode()}"}
        )
        socket = await asyncio.wait_for(websocket_connect(request, subprotocols=["bokeh", found[1]]), 20)
        self._socket = socket
        try:
            async for kind, content in self._messages(socket):
                if kind == "ACK":
                    await self._send("PULL-DOC-REQ", {})
                elif kind == "PULL-DOC-REPLY":
                    await self._open(content)
                    if not self._names:  # the page for an unreachable store, which reloads itself
                        return
                elif kind == "PATCH-DOC":
                    await self._patch(content)
        finally:
            socket.close()

    async def _messages(self, socket: WebSocketClientConnection) -> AsyncIterator[tuple[str, Any]]:
        """Yield type and content of each message until the connection ends or the window is closed."""
        fragments: list[bytes | str] = []
        while True:
            reading: Any = socket.read_message()
            while not (reading.done() or self._over.is_set()):
                await asyncio.wait([reading], timeout=0.2)
            if self._over.is_set():
                await self._part(socket, reading)
                return
            if (fragment := reading.result()) is None:
                return
            fragments.append(fragment)
            header = json.loads(fragments[0])
            if len(fragments) == 3 + 2 * header.get("num_buffers", 0):
                content, fragments = fragments[2], []
                yield header["msgtype"], json.loads(content)

    async def _part(self, socket: WebSocketClientConnection, reading: Any) -> None:
        """Close the connection, and read until the server has closed it, too."""
        socket.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                while await reading is not None:
                    reading = socket.read_message()

    async def _open(self, document: Any) -> None:
        self._number = 0
        self._names = dict(_models(document))
        ready = {"type": "event", "name": "document_ready", "values": {"type": "map"}}
        await self._change({"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": ready})
        for model in self._names:
            await self._ask(model, {"action": "hello"})
        self.opened += 1

    async def _patch(self, content: Any) -> None:
        for event in content["events"]:
            if event["kind"] != "ModelChanged" or event["model"]["id"] not in self._names:
                continue
            name, value = event["attr"], event["new"]
            is_table = self._names[event["model"]["id"]].startswith("JobTable")
            if is_table and name == "page" and value:
                self._load(json.loads(value))
            elif is_table and name == "delta" and value:
                for delta in json.loads(value):
                    if not await self._take(delta, event["model"]["id"]):
                        break
            elif not is_table and name == "snapshot" and value:
                self.card = json.loads(value)

    def _load(self, page: dict[str, Any]) -> None:
        self._number, self.is_open = page["n"], True
        self.rows = {row["id"]: row for row in page["rows"]}
        self.counts = page["counts"]

    async def _take(self, delta: dict[str, Any], model: str) -> bool:
        """Apply a change as `change()` in table.js does; return False if the page has to be requested again."""
        if delta["n"] <= self._number:
            return True
        if delta["n"] > self._number + 1:
            await self._ask(model, {"action": "hello", "at": self._number})
            return False
        self._number = delta["n"]
        for row in delta.get("rows", ()):
            if row["id"] in self.rows:
                if row["seq"] < self.rows[row["id"]]["seq"]:
                    self.problems.append(f"a row went back in time: {self.rows[row['id']]} became {row}")
                self.rows[row["id"]] = row
        for job_id in delta.get("gone", ()):
            self.rows.pop(job_id, None)
        for row in delta.get("new", ()):
            self.rows.setdefault(row["id"], row)
        self.counts = delta.get("counts", self.counts)
        return True

    async def _ask(self, model: str, request: dict[str, Any]) -> None:
        self._asked += 1
        text = json.dumps({**request, "n": f"chaos-{self._asked}"})
        await self._change({"kind": "ModelChanged", "model": {"id": model}, "attr": "request", "new": text})

    async def _change(self, event: dict[str, Any]) -> None:
        await self._send("PATCH-DOC", {"events": [event]})

    async def _send(self, kind: str, content: Any) -> None:
        assert self._socket is not None
        self._asked += 1
        for fragment in ({"msgid": f"c{self._asked}", "msgtype": kind}, {}, content):
            await self._socket.write_message(json.dumps(fragment))


def _models(document: Any) -> Iterator[tuple[str, str]]:
    if isinstance(document, dict):
        if document.get("type") == "object" and _MODEL.fullmatch(str(document.get("name"))):
            yield document["id"], document["name"]
        for each in document.values():
            yield from _models(each)
    elif isinstance(document, list):
        for each in document:
            yield from _models(each)


class EventReader:
    """Reader of `GET /api/events` from the first event on.

    `events` are (id, job, seq) in order of arrival: all of them, or the last `most`.
    """

    def __init__(self, url: str, most: int | None = None) -> None:
        self._url = url
        self.events: deque[tuple[str, str, int]] = deque(maxlen=most)
        self.problems: list[str] = []
        self.connects = 0
        self._last = "0-0"
        self._over = threading.Event()
        self._cut = threading.Event()
        self._thread = threading.Thread(target=self._read_for_ever, name="event reader")
        self._thread.start()

    def cut(self) -> None:
        """Disconnect abruptly at the next line that arrives."""
        self._cut.set()

    def close(self) -> None:
        self._over.set()
        self._thread.join(30)

    def _read_for_ever(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(httpx.HTTPError):
                self._read()
            self._over.wait(_AGAIN_S)

    def _read(self) -> None:
        with (
            httpx.Client(timeout=httpx.Timeout(10, read=4), trust_env=False) as http,
            http.stream("GET", self._url, headers={"Last-Event-ID": self._last}) as answer,
        ):
            if answer.status_code != 200:
                return
            self.connects += 1
            name = data = ""
            id = None
            for line in self._lines(answer):
                word, _, value = line.partition(": ")
                if word == "event":
                    name = value
                elif word == "id":
                    id = value
                elif word == "data":
                    data += value
                elif not line and data:
                    self._take(name, id, json.loads(data))
                    name, data, id = "", "", None

    def _lines(self, answer: httpx.Response) -> Iterator[str]:
        """Yield lines until `close`, a cut, or some seconds of silence."""
        rest = b""
        stream = answer.iter_raw()
        while not self._over.is_set():
            if self._cut.is_set():
                self._cut.clear()
                return
            try:
                chunk = next(stream)
            except (StopIteration, httpx.ReadTimeout):
                return
            *lines, rest = (rest + chunk).split(b"\n")
            yield from map(bytes.decode, lines)

    def _take(self, name: str, id: str | None, body: dict[str, Any]) -> None:
        if id is not None:
            self._last = id
        if name == "reset":
            self.problems.append(f"the stream of events was reset: {body}")
        elif id is not None:
            self.events.append((id, body["job_id"], body["seq"]))
