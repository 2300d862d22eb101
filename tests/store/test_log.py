"""A job's log: numbered lines, bounded, with its head and its tail."""

from __future__ import annotations

from msgspec.structs import replace

from jobkit.client.log_verbs import log_lines
from jobkit.model import LogLine, LogSlice
from jobkit.store.redis import RedisStore
from jobkit.store.values import AttemptNews, Claimed

from .support import claim, ending, lapse, snapshot, started, worker


def lines(claimed: Claimed, *texts: str) -> AttemptNews:
    return AttemptNews(claimed.spec.id, claimed.token, lines=[LogLine(text, at_ms=1_700_000_000_000) for text in texts])


def numbered(claimed: Claimed, n: int, *said: str) -> AttemptNews:
    told = lines(claimed, *(f"{each} {n}" for each in said))
    return replace(told, has_numbers=True, completed=n, number=n)


def texts(found: LogSlice) -> list[str]:
    return [line.text for line in found.lines]


async def test_lines_are_numbered_and_kept_with_all_they_carry(store: RedisStore) -> None:
    claimed = await started(store, "a")
    line = LogLine('é "x" \\ </script>', 1_700_000_000_123, "log", "ERROR", "my.module")

    await store.progress([lines(claimed, "one", "two"), AttemptNews("a", claimed.token, lines=[line])])

    found = await store.logs("a")
    assert texts(found)[:2] == ["one", "two"]
    assert found.lines[2] == LogLine(line.text, line.at_ms, "log", "ERROR", "my.module", n=3)
    assert ([line.n for line in found.lines], found.total, found.dropped) == ([1, 2, 3], 3, 0)


async def test_the_log_can_be_read_from_a_line_on_and_by_its_tail(store: RedisStore) -> None:
    claimed = await started(store, "a")
    await store.progress([lines(claimed, *(f"l{n}" for n in range(1, 4))), lines(claimed, "l4", "l5")])

    assert texts(await store.logs("a", after=2)) == ["l3", "l4", "l5"]
    assert texts(await store.logs("a", after=5)) == []
    assert texts(await store.logs("a", tail=2)) == ["l4", "l5"]
    assert texts(await store.logs("a", tail=0)) == []
    assert texts(await store.logs("a", after=3, tail=9)) == ["l4", "l5"]
    assert (await store.logs("a", tail=1)).total == 5


async def test_the_next_attempt_continues_the_log(store: RedisStore) -> None:
    first = await started(store, "a")
    await store.progress([lines(first, "first attempt")])
    await lapse(store, "a")
    [second] = await claim(store, by=worker("w2"))

    assert await store.progress([lines(first, "zombie"), lines(second, "second attempt")]) == [False, True]

    found = await store.logs("a")
    assert ([line.n for line in found.lines], texts(found)) == ([1, 2], ["first attempt", "second attempt"])


async def test_a_log_that_is_too_long_keeps_head_and_tail_and_counts_the_rest(store: RedisStore) -> None:
    claimed = await started(store, "a")
    for n in range(150):  # 1.5 MB in entries of 10 kB
        await store.progress([lines(claimed, *(f"{n}.{i} " + "x" * 940 for i in range(10)))])

    found = await store.logs("a")

    numbers = [line.n for line in found.lines]
    assert found.total == 1500
    assert len(numbers) + found.dropped == 1500
    assert 300 < found.dropped < 700
    first_gap = next(i for i, n in enumerate(numbers, 1) if n != i)
    assert 100 <= first_gap <= 121  # about 100 kB of head
    assert numbers[first_gap - 1 :] == list(range(numbers[first_gap - 1], 1501))
    assert sum(len(line.text) for line in found.lines) < 1_000_000


async def test_the_note_of_a_gap_counts_the_lines_for_which_dropped_notes_stood(store: RedisStore) -> None:
    claimed = await started(store, "a")
    for n in range(150):  # a flood that was thinned on its way
        told = [LogLine(f"{n}.{i} " + "x" * 940) for i in range(9)] + [LogLine.left_out(1_000 + n, 0)]
        await store.progress([AttemptNews("a", claimed.token, lines=told)])

    found, end = await store.logs("a"), await store.log_end("a", 1)

    assert found.dropped > 300
    assert sum(line.count for line in log_lines(found)) == 150 * 9 + sum(1_000 + n for n in range(150))
    assert end.hidden == found.hidden > 0


async def test_one_entry_that_is_too_long_by_itself_is_kept(store: RedisStore) -> None:
    claimed = await started(store, "a")

    await store.progress([lines(claimed, "x" * 1_200_000), lines(claimed, "last")])

    found = await store.logs("a")
    assert (len(found.lines), found.dropped) == (2, 0)


async def test_the_log_stays_with_the_ended_job_and_is_deleted_with_it(store: RedisStore) -> None:
    claimed = await started(store, "a")
    await store.progress([lines(claimed, "one")])
    await store.finish([ending(claimed)])

    kept = await store.logs("a")
    await store.delete(["a"])

    assert texts(kept) == ["one"]
    assert await store.logs("a") == LogSlice(())


async def test_news_that_are_sent_again_change_nothing(store: RedisStore) -> None:
    claimed = await started(store, "a")
    first, second = (numbered(claimed, n, "before", "after") for n in (1, 2))

    # The worker never saw a reply to the first message, and sends it again with what came since; then the network
    # delivers the first one late.
    for news in ([first], [first, second], [first]):
        assert await store.progress(news) == [True] * len(news)

    assert texts(await store.logs("a")) == ["before 1", "after 1", "before 2", "after 2"]
    assert (await snapshot(store, "a")).completed == 2


async def test_a_new_attempt_counts_its_news_from_one_again(store: RedisStore) -> None:
    first = await started(store, "a")
    await store.progress([numbered(first, n, "first") for n in (1, 2)])
    await lapse(store, "a")
    [second] = await claim(store, by=worker("w2"))

    await store.progress([numbered(second, 1, "second")])

    assert texts(await store.logs("a")) == ["first 1", "first 2", "second 1"]
