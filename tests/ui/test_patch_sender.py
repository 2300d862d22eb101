"""Delivery of texts to a browser: merged for slow ones, requested again after gaps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from tornado import locks

from jobkit.ui.live import bridge as bridge_module
from jobkit.ui.live.bridge import PendingUpdate, SessionBridge
from jobkit.ui.live.control import Requests
from jobkit.ui.patch import frame, literal, send
from tests.support import wait_until
from tests.ui.conftest import Serve, Window, text_of
from tests.ui.stage import Stage

PART_OF = {"log": "log_append"}


def test_of_whole_texts_the_newest_is_queued_and_of_parts_all() -> None:
    post = PendingUpdate()
    post.add({"snapshot": "a"}, {"log_append": "1"}, PART_OF)
    post.add({"snapshot": "b"}, {"log_append": "2"}, PART_OF)

    assert post.values() == {"snapshot": "b", "log_append": "[1,2]"}


def test_a_whole_text_replaces_the_parts_before_it() -> None:
    post = PendingUpdate()
    post.add({}, {"log_append": "1"}, PART_OF)
    post.add({"log": "all"}, {}, PART_OF)
    post.add({}, {"log_append": "2"}, PART_OF)

    assert post.values() == {"log": "all", "log_append": "[2]"}


def test_a_browser_that_takes_nothing_holds_a_bounded_number_of_parts() -> None:
    post = PendingUpdate()

    for n in range(10_000):
        post.add({}, {"delta": str(n)}, {})

    assert len(post.parts["delta"]) <= 40
    assert post.parts["delta"][-1] == "9999"


def test_a_text_is_written_as_json_once() -> None:
    text = '"\u2028<&\ud83d\ude00'.encode("utf-16", "surrogatepass").decode("utf-16")

    assert json.loads(literal(text)) == text
    assert literal(text) is literal(text)


class Socket:
    """A browser's websocket that notes what is written, and `is_slow` if the system takes no more."""

    def __init__(self, *, is_slow: bool = False, compressor: object = None) -> None:
        self.write_lock, self.stream, self.ws_connection = locks.Lock(), self, self
        self._compressor, self._is_slow = compressor, is_slow
        self.frames: list[bytes] = []
        self.fragments: list[str] = []
        self.written: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> asyncio.Future[None]:
        self.frames.append(data)
        if not self._is_slow:
            self.written.set_result(None)
        return self.written

    async def write_message(self, fragment: str, *, locked: bool) -> None:
        self.fragments.append(fragment)


FRAGMENTS = ['{"msgid":"jobkit","msgtype":"PATCH-DOC"}', "{}", '{"events":[1,2]}']


async def test_a_message_is_written_by_one_call_unless_the_browser_is_slow() -> None:
    quick, slow = Socket(), Socket(is_slow=True)

    assert send(quick, b"1,2") is None  # type: ignore[arg-type]
    rest = send(slow, b"1,2")  # type: ignore[arg-type]

    assert quick.frames == slow.frames == [b"".join(frame(text.encode()) for text in FRAGMENTS)]
    assert rest is not None
    waiting = asyncio.ensure_future(rest)
    await asyncio.sleep(0)
    assert not waiting.done()
    slow.written.set_result(None)
    await waiting


async def test_a_message_waits_for_one_that_is_being_written_and_is_compressed_by_tornado() -> None:
    busy, compressed = Socket(), Socket(compressor=object())
    with await busy.write_lock.acquire():
        rests = [send(each, b"1,2") for each in (busy, compressed)]  # type: ignore[arg-type]
        waiting = asyncio.gather(*filter(None, rests))
        await asyncio.sleep(0)
        assert not busy.fragments
    await waiting

    assert busy.fragments == compressed.fragments == FRAGMENTS
    assert not busy.frames
    assert not compressed.frames


async def test_a_window_that_takes_nothing_holds_up_no_other_one_and_gets_the_merged_texts_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Component:
        part_of = PART_OF

    def changes(_: object, values: Mapping[str, str]) -> list[bytes]:
        return [json.dumps(dict(values)).encode()]

    monkeypatch.setattr(bridge_module, "changes", changes)
    monkeypatch.setattr(bridge_module, "models_of", lambda _: [])
    bridge, component, dead, other = SessionBridge(), Component(), Socket(is_slow=True), Socket()
    monkeypatch.setattr(bridge_module, "sockets_of", lambda _: [dead, other])
    bridge.greeted(component)
    for n in range(3):
        bridge._box[component] = PendingUpdate()
        bridge._box[component].add({"snapshot": f"s{n}"}, {"log_append": str(n)}, PART_OF)
        other.written = asyncio.get_running_loop().create_future()
        bridge._send()
    assert texts_of(other) == [{"snapshot": f"s{n}", "log_append": f"[{n}]"} for n in range(3)]
    assert len(dead.frames) == 1

    dead.written.set_result(None)
    dead.written, dead._is_slow = asyncio.get_running_loop().create_future(), False
    for _ in range(5):
        await asyncio.sleep(0)  # callbacks of the loop
    assert texts_of(dead)[1] == {"snapshot": "s2", "log_append": "[1,2]"}


def texts_of(socket: Socket) -> list[dict[str, str]]:
    return [json.loads(data.partition(b'{"events":[')[2][:-2]) for data in socket.frames]


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_frame_says_how_long_it_is(size: int) -> None:
    made = frame(b"x" * size)

    length = made[1] if made[1] < 126 else int.from_bytes(made[2 : 4 if made[1] == 126 else 10], "big")
    assert made[0] == 0x81
    assert length == size
    assert made.endswith(b"x" * size)


def test_without_a_session_texts_arrive_at_once_and_in_order() -> None:
    class Component:
        part_of: Mapping[str, str] = PART_OF
        seen: list[dict[str, str]] = []  # noqa: RUF012
        carried: set[str] = set()  # noqa: RUF012

        class param:
            @staticmethod
            def update(**texts: str) -> None:
                Component.seen.append(texts)

    bridge, component = SessionBridge(), Component()

    bridge.put(component, {"snapshot": "a"})
    bridge.put(component, {}, {"log_append": "1"})

    assert component.seen == [{"snapshot": "a"}, {"log_append": "[1]"}]


@pytest.mark.nightly
@pytest.mark.browser
def test_a_table_that_missed_a_change_asks_for_the_page(stage: Stage, serve: Serve, window: Window) -> None:
    from jobkit.ui.jobs.job_table import JobTable

    made: list[JobTable] = []

    def page() -> JobTable:
        made.append(JobTable(stage.kit, sizing_mode="stretch_both", min_height=600))
        return made[-1]

    job = stage.submit("train", title="Train a model")
    shown = window.open(serve(page))
    shown.wait_for_selector(".row[data-face=queued]")
    table, put = made[-1], made[-1]._bridge.put
    lost: list[str] = []

    def lose(component: Any, whole: Mapping[str, str], parts: Mapping[str, str] | None = None) -> None:
        lost.append(str(parts))

    table._bridge.put = lose  # type: ignore[method-assign]
    stage.start(job)
    wait_until(lambda: any('"running"' in each for each in lost), what="a delta to be lost")
    table._bridge.put = put  # type: ignore[method-assign]
    stage.progress(job, 1, 2)

    shown.wait_for_selector(".row[data-face=running] .note:has-text('50 %')")
    wait_until(lambda: text_of(shown, ".counter[data-name=running] b") == "1", what="the counter")


@pytest.mark.nightly
@pytest.mark.browser
def test_two_windows_of_one_job_are_fed_by_one_reader(stage: Stage, serve: Serve, window: Window) -> None:
    from jobkit.ui.card.job_card import JobCard
    from jobkit.ui.card.job_feed import JobFeed
    from jobkit.ui.live.shared_feed import open_feeds

    job = stage.running("train", title="Train a model")
    url = serve(lambda: JobCard(stage.kit, job))
    one, two = window.open(url), window.open(url)
    for page in (one, two):
        page.wait_for_selector(".chip:has-text('Running')")

    assert [feed.job_id for feed in open_feeds(stage.kit, JobFeed)] == [job]
    stage.log(job, "first")
    stage.log(job, "second")
    for page in (one, two):
        page.wait_for_selector(".line:has-text('second')")
        assert page.locator(".line .text").all_inner_texts() == ["first", "second"]
    one.goto("about:blank")
    two.goto("about:blank")
    wait_until(lambda: not open_feeds(stage.kit, JobFeed), what="the reader to end")


def test_a_request_that_panel_swallowed_comes_with_the_next_and_none_comes_twice() -> None:
    requests = Requests()
    one, two = {"action": "show", "n": "1"}, {"action": "hello", "n": "2"}

    assert requests.of(json.dumps({**two, "earlier": [one]})) == [one, {**two, "earlier": [one]}]
    assert requests.of(json.dumps({"action": "log", "n": "3", "earlier": [one, two]}))[0]["action"] == "log"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '{"n": 1}', '{"action": 3}', '{"action": {}, "earlier": 1}']
)
def test_values_that_are_not_requests_are_ignored(text: str) -> None:
    assert Requests().of(text) == []
