"""Reads of feeds: one at a time, and no event is lost at any time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from jobkit.client.loop import background
from jobkit.model import EventType, JobEvent, JobkitError, StoreUnavailable
from jobkit.runners import Runners
from jobkit.ui.live import shared_feed
from jobkit.ui.live.shared_feed import Pacer, SharedFeed, Subscriber

Read = Callable[[], Awaitable[str]]


class Hub:
    """The part of a hub that a feed uses."""

    def __init__(self) -> None:
        self.is_live = True
        self.listeners: list[Callable[[JobEvent], None]] = []
        self.on: list[Callable[[bool], None]] = []

    def listen(self, listener: Callable[[JobEvent], None], _: str | None) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def on_status(self, hook: Callable[[bool], None]) -> Callable[[], None]:
        self.on.append(hook)
        return lambda: self.on.remove(hook)

    async def ready(self, _: str | None = None) -> None: ...

    def say(self, job_id: str) -> None:
        for listener in list(self.listeners):
            listener(JobEvent(job_id, 1, EventType.SUBMITTED, 0))  # type: ignore[arg-type]  # its time is not read


class Kit:
    def __init__(self) -> None:
        self.hub = Hub()
        self.is_closed = False


class Letters(SharedFeed[Subscriber]):
    """A text that is read, and to which each event adds a letter."""

    WINDOW_S = 0.0

    def __init__(self, kit: Any, source: Read) -> None:
        super().__init__(kit)
        self.source, self.text, self.loads = source, "", 0

    async def read(self) -> None:
        self.text = await self.source()

    def loaded(self) -> None:
        self.loads += 1
        self.publish({"text": self.text})

    def take(self, event: JobEvent) -> None:
        self.text += event.job_id
        self.poke()

    def flush(self) -> None:
        self.publish({"text": self.text})

    def tell(self, subscriber: Subscriber, version: Any = None) -> None:
        if not self.is_loading and version != self.text:
            subscriber.deliver({"text": self.text}, {})


@pytest.fixture
def hub(kit: Kit) -> Hub:
    return kit.hub


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch) -> Kit:
    monkeypatch.setattr(shared_feed, "_AGAIN_S", 0.0)
    return Kit()


def screen() -> tuple[list[str], Subscriber]:
    shown: list[str] = []

    def deliver(whole: Mapping[str, str], _: Mapping[str, str]) -> None:
        shown.append(whole["text"])

    return shown, Subscriber(deliver)


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not reached():  # noqa: ASYNC110  # what is waited for sets no event
            await asyncio.sleep(0)


async def test_a_feed_rests_when_its_kit_was_closed(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook goes on showing the card, and would log a refusal every few seconds."""
    looks: list[bool] = []
    monkeypatch.setattr(Letters, "LOOK_S", 0.001)
    monkeypatch.setattr(Letters, "look", lambda _: looks.append(kit.is_closed))

    async def source() -> str:
        return ""

    feed = Letters(kit, source)
    feed.add(screen()[1])
    await until(lambda: bool(looks))
    kit.is_closed = True

    await until(lambda: not feed.runners)
    assert not any(looks)


async def test_events_during_a_read_are_applied_after_it(kit: Kit, hub: Hub) -> None:
    is_reading, go, (shown, subscriber) = asyncio.Event(), asyncio.Event(), screen()

    async def source() -> str:
        is_reading.set()
        await go.wait()
        return "read:"

    feed = Letters(kit, source)
    feed.add(subscriber)
    await is_reading.wait()
    hub.say("a")
    hub.say("b")
    assert not shown
    go.set()

    await until(lambda: len(shown) == 2)
    assert shown == ["read:ab", "read:ab"]
    hub.say("c")
    await until(lambda: shown[-1] == "read:abc")
    feed.remove(subscriber)
    assert not hub.listeners
    assert not hub.on


async def test_a_read_that_is_asked_for_during_a_read_follows_it_and_two_never_run_at_once(kit: Kit, hub: Hub) -> None:
    state, seen, most, running = ["before"], list[str](), 0, 0
    is_reading, go, (shown, subscriber) = asyncio.Event(), asyncio.Event(), screen()

    async def source() -> str:
        nonlocal most, running
        running += 1
        most = max(most, running)
        found = state[-1]
        is_reading.set()
        await go.wait()
        running -= 1
        seen.append(found)
        return found

    feed = Letters(kit, source)
    feed.add(subscriber)
    await is_reading.wait()
    state.append("after")
    for hook in hub.on:
        hook(True)
    go.set()
    await until(lambda: bool(shown))

    assert (seen, most, shown) == (["before", "after"], 1, ["after"])
    feed.remove(subscriber)


async def test_a_read_is_repeated_until_the_store_answers(kit: Kit) -> None:
    failures, (shown, subscriber) = [StoreUnavailable("cut")] * 3, screen()

    async def source() -> str:
        if failures:
            raise failures.pop()
        return "there"

    feed = Letters(kit, source)
    feed.add(subscriber)

    await until(lambda: shown == ["there"])
    feed.remove(subscriber)


async def test_after_a_failed_read_events_are_applied(kit: Kit, hub: Hub) -> None:
    answers: list[Any] = ["one", JobkitError("no such thing")]
    (shown, subscriber) = screen()

    async def source() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    feed = Letters(kit, source)
    feed.add(subscriber)
    await until(lambda: shown == ["one"])
    feed.reload()
    await until(lambda: not feed.is_loading)

    hub.say("x")

    await until(lambda: shown[-1] == "onex")
    feed.remove(subscriber)


async def test_a_second_subscriber_gets_everything_and_one_that_has_it_gets_nothing(kit: Kit) -> None:
    async def source() -> str:
        return "all"

    (first, one), (second, two) = screen(), screen()
    feed = Letters(kit, source)
    feed.add(one)
    await until(lambda: bool(first))
    feed.add(two)
    feed.tell(two, "all")

    assert (first, second, feed.loads) == (["all"], ["all"], 1)
    feed.remove(one)
    feed.remove(two)


async def test_a_feed_without_subscribers_reads_no_more(kit: Kit) -> None:
    reads, never, (_, subscriber) = list[int](), asyncio.Event(), screen()

    async def source() -> str:
        reads.append(1)
        await never.wait()
        return ""

    feed = Letters(kit, source)
    feed.add(subscriber)
    await until(lambda: bool(reads))
    feed.reload()
    feed.remove(subscriber)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert reads == [1]
    assert not feed.runners


async def test_a_session_that_cannot_be_reached_keeps_no_other_from_its_texts(kit: Kit) -> None:
    async def source() -> str:
        return "all"

    def broken(*_: object) -> None:
        raise RuntimeError("gone")

    shown, subscriber = screen()
    feed = Letters(kit, source)
    bad = Subscriber(broken)
    feed.add(bad)
    feed.add(subscriber)

    await until(lambda: shown == ["all"])
    feed.remove(bad)
    feed.remove(subscriber)


def test_a_subscriber_of_a_kit_that_was_closed_meanwhile_gets_nothing(
    kit: Kit, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    async def source() -> str:
        return "all"

    async def nothing() -> None: ...

    kit.is_closed = True
    shown, subscriber = screen()
    subscriber.start(kit, Letters, source)  # type: ignore[arg-type]  # the part that a feed uses
    background.call(nothing())

    assert (shown, subscriber.feed, hub.listeners, caplog.records) == ([], None, [], [])


async def test_a_pacer_whose_work_was_cancelled_before_its_start_works_again() -> None:
    done = asyncio.Event()

    async def work() -> None:
        done.set()

    runners = Runners()
    pacer = Pacer(0.0, work, runners)
    pacer._run()
    runners.cancel()
    await asyncio.sleep(0.01)
    assert not done.is_set()

    pacer.poke()

    await asyncio.wait_for(done.wait(), 10)


async def test_feeds_whose_news_can_wait_deliver_together_whenever_these_come() -> None:
    runners = Runners()
    early, late = (Pacer(1000.0, lambda: None, runners, is_prompt=False) for _ in range(2))

    early.poke()
    await asyncio.sleep(0.01)
    late.poke()

    assert early._handle is not None
    assert late._handle is not None
    assert early._handle.when() == late._handle.when()
    early.stop()
    late.stop()
