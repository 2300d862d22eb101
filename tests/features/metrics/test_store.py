"""Lines of metrics: kept with the job, published on its channel, refused without the token."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from jobkit.features.metrics.store import lines_of
from jobkit.model import EventType, JobEvent
from jobkit.model.metrics import Curves
from jobkit.store.hub import EventHub
from jobkit.store.redis import RedisStore
from jobkit.store.values import Claimed, Ending, Kept
from tests.store.support import started


def news(claimed: Claimed, n: int, how: str, told: str = "", number: int = 0) -> Kept:
    line = msgspec.json.encode({"n": n, "whole": how == "whole", "curves": {"loss": [[[n, n, n]], [], 0]}})
    kept = Kept.of_feature(claimed.spec.id, claimed.token, "metrics", f"{how} {n}", told.encode(), line)
    return replace(kept, number=number)


async def kept_lines(store: RedisStore, job_id: str) -> list[int]:
    [lines] = await lines_of(store, [job_id])
    return [msgspec.json.decode(line)["n"] for line in lines]


async def test_lines_are_appended_replaced_or_written_anew(store: RedisStore) -> None:
    claimed = await started(store, "a")

    await store.keep([news(claimed, 1, "replace"), news(claimed, 2, "append")])
    assert await kept_lines(store, "a") == [1, 2]
    await store.keep([news(claimed, 3, "replace")])
    assert await kept_lines(store, "a") == [1, 3]
    await store.exchange([], [], None, [news(claimed, 4, "whole")])
    assert await kept_lines(store, "a") == [4]
    assert list(Curves((await lines_of(store, ["a"]))[0]).curves["loss"].points) == [(4, 4, 4)]


async def test_lines_that_are_sent_again_change_nothing(store: RedisStore) -> None:
    claimed = await started(store, "a")
    first, second = (news(claimed, n, "append", number=n) for n in (1, 2))

    for sent in ([first], [first, second], [first]):  # its reply was lost, then an older message comes late
        assert await store.keep(sent) == [True] * len(sent)

    assert await kept_lines(store, "a") == [1, 2]


async def test_an_attempt_that_was_lost_adds_nothing(store: RedisStore) -> None:
    claimed = await started(store, "a")
    await store.finish([Ending("a", claimed.token, "released")])

    await store.keep([news(claimed, 1, "append")])

    assert await kept_lines(store, "a") == []


async def test_metrics_go_with_their_job(store: RedisStore) -> None:
    claimed = await started(store, "a")
    await store.keep([news(claimed, 1, "append")])
    await store.finish([Ending("a", claimed.token, "succeeded", ttl_ms=60_000)])
    assert 0 < await store.redis.pttl(f"{store.prefix}metrics:a") <= 60_000

    await store.delete(["a"])

    assert await kept_lines(store, "a") == []


async def test_the_jobs_own_channel_gets_what_subscribers_need(store: RedisStore, hub: EventHub) -> None:
    claimed, heard = await started(store, "a"), list[JobEvent]()
    stop = hub.listen(heard.append, "a")
    await hub.ready("a")

    await store.keep([news(claimed, 1, "whole", told='{"n":1,"curves":{}}'), news(claimed, 2, "append")])
    await hub.flush()
    stop()

    assert [event.type for event in heard] == [EventType.LOGGED] * 2
    assert [event.data["metrics"]["n"] for event in heard] == [1, 2]
    assert heard[0].data == {"lines": [], "metrics": {"n": 1, "curves": {}}}
