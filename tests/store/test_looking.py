"""Reading: pages, search, counts, queues, workers, tasks and the stream of events match the records."""

from __future__ import annotations

import pytest

from jobkit.model import ErrorKind, JobState
from jobkit.model.snapshot import JobError
from jobkit.store import queues as queues_module
from jobkit.store.query import Query
from jobkit.store.queues import RunningAt
from jobkit.store.redis import RedisStore
from tests.support import until

from .support import claim, come_due, ending, job, lapse, numbers, short_lease, started, submit, worker


async def ids(store: RedisStore, **query: object) -> list[str]:
    return [found.id for found in (await store.list(Query(**query))).jobs]  # type: ignore[arg-type]


async def pages(store: RedisStore, **query: object) -> list[list[str]]:
    found, cursor = [], ""
    while True:
        page = await store.list(Query(cursor=cursor, **query))  # type: ignore[arg-type]
        found.append([one.id for one in page.jobs])
        cursor = page.next_cursor
        if not cursor:
            return found


@pytest.fixture
async def zoo(store: RedisStore) -> RedisStore:
    """One job in each state, in two queues."""
    await store.finish([ending(await started(store, "succeeded"), summary="a table")])
    error = JobError(ErrorKind.EXCEPTION, "KeyError", "no column /data/x", "Traceback of train")
    await store.finish([ending(await started(store, "failed"), "failed", error=error)])
    await submit(store, "cancelled", queue="gpu")
    await store.cancel(["cancelled"])
    running = await started(store, "running", task="train", queue="default", tags=("Nightly",))
    await store.progress([numbers(running, 1, 2, "Epoch 1")])
    await submit(store, "scheduled", delay_ms=60_000, queue="gpu", owner="Ada")
    await submit(store, "queued", queue="gpu", params={"n": 10, "opt": {"Rate": [0.25, True]}}, title="Größe Ä")
    return store


def flat(found: list[list[str]]) -> list[str]:
    return [id for page in found for id in page]


ALL = ["queued", "scheduled", "running", "cancelled", "failed", "succeeded"]


async def test_a_page_lists_all_jobs_newest_first(zoo: RedisStore) -> None:
    assert await ids(zoo) == ALL


async def test_filters_are_combined(zoo: RedisStore) -> None:
    assert await ids(zoo, states=("failed",)) == ["failed"]
    assert await ids(zoo, states=("succeeded", "queued", "running", "queued")) == ["queued", "running", "succeeded"]
    assert await ids(zoo, queue="gpu") == ["queued", "scheduled", "cancelled"]
    assert await ids(zoo, task="train") == ["running"]
    assert await ids(zoo, task="trai") == []
    assert await ids(zoo, queue="gpu", states=("queued", "failed")) == ["queued"]
    assert await ids(zoo, queue="none") == []
    assert await ids(zoo, limit=0) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("SUCCEE", ["succeeded"]),
        ("a table", ["succeeded"]),
        ("keyerror", ["failed"]),
        ("/data/x", ["failed"]),
        ("TRAIN", ["running"]),
        ("nightly", ["running"]),
        ("epoch 1", ["running"]),
        ("ada", ["scheduled"]),
        ("größe", ["queued"]),
        ("Ä", ["queued"]),
        ("rate", ["queued"]),
        ("0.25", ["queued"]),
        ("10", ["queued"]),
        ("true", ["queued"]),
        ("w1", ["running", "failed", "succeeded"]),
        ("", ALL),
        ("nothing of the kind", []),
        ('"', []),
        ("\\", []),
        ("%d", []),
    ],
)
async def test_search_covers_every_value(zoo: RedisStore, text: str, found: list[str]) -> None:
    assert await ids(zoo, search=text) == found


@pytest.mark.parametrize("text", ["params", "tags", "owner", "traceback of", '":', "kind"])
async def test_search_finds_values_and_not_how_records_are_written(zoo: RedisStore, text: str) -> None:
    """The search used to cover the record's JSON: "tags" or "task" found every job that has any."""
    assert await ids(zoo, search=text) == []


async def test_search_finds_text_that_json_escapes(store: RedisStore) -> None:
    await submit(store, "a", title='say "x" \\ /y')
    await submit(store, "b", title="else")

    for text in ('"x"', "\\ /y", 'Y "X"'[2:]):
        assert await ids(store, search=text) == ["a"]


async def test_the_text_of_a_task_is_not_its_name(store: RedisStore) -> None:
    await submit(store, "a", task="other", title="train")

    assert await ids(store, task="train") == []


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
async def test_pages_have_no_duplicates_and_no_gaps(store: RedisStore, limit: int) -> None:
    names = [f"j{n:03}" for n in range(21)]
    await submit(store, *names[:10])
    await submit(store, *names[10:])

    found = await pages(store, limit=limit)

    assert flat(found) == names[::-1]
    assert all(len(page) <= limit for page in found)


async def test_new_jobs_do_not_move_the_pages_that_follow(store: RedisStore) -> None:
    await submit(store, *(f"old{n}" for n in range(6)))
    first = await store.list(Query(limit=2))

    await submit(store, "new1", "new2", "new3")
    second = await store.list(Query(limit=2, cursor=first.next_cursor))
    third = await store.list(Query(limit=2, cursor=second.next_cursor))

    assert [found.id for page in (first, second, third) for found in page.jobs] == [f"old{5 - n}" for n in range(6)]


async def test_pages_of_several_states_have_no_duplicates_and_no_gaps(store: RedisStore) -> None:
    """Both indexes used to end before the page was full, and further matches were left out."""
    for n in range(8):
        await submit(store, f"j{n}", delay_ms=60_000 if n % 2 else 0)

    for limit in (1, 3, 4, 5, 8):
        found = await pages(store, states=("queued", "scheduled"), limit=limit)
        assert flat(found) == [f"j{7 - n}" for n in range(8)]


async def test_a_search_reads_on_until_its_page_is_full(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that found too little among the first records used to be the last."""
    monkeypatch.setattr("jobkit.store.finding._SLICE", 3)
    await store.submit([job(f"j{n:02}", title="x" if n in (2, 15, 16) else "", delay_ms=n % 2) for n in range(20)])

    assert flat(await pages(store, search="x", limit=2)) == ["j16", "j15", "j02"]
    both = {"states": ("queued", "scheduled"), "search": "x", "limit": 2}
    assert flat(await pages(store, **both)) == ["j16", "j15", "j02"]


async def test_counts_include_every_state(zoo: RedisStore) -> None:
    assert await zoo.counts() == dict.fromkeys(map(str, JobState), 1)
    await zoo.delete(["failed"])
    assert (await zoo.counts())["failed"] == 0


async def test_queues_show_waiting_and_running_jobs_and_workers(zoo: RedisStore) -> None:
    await zoo.renew("w1", {}, {"queues": "default,idle"})

    assert await zoo.queues() == {
        "default": {"queued": 0, "scheduled": 0, "running": 1, "workers": 1},
        "gpu": {"queued": 1, "scheduled": 1, "running": 0, "workers": 0},
        "idle": {"queued": 0, "scheduled": 0, "running": 0, "workers": 1},
    }


async def test_busy_slots_are_counted_by_the_records_of_jobs_and_not_by_the_last_heartbeat(store: RedisStore) -> None:
    await store.renew("w1", {}, {"queues": "default", "slots": 4, "running": 3})
    await submit(store, "a")
    [claimed] = await claim(store, by=worker("w1"))

    queues, [begun], running = await store.overview()
    await store.finish([ending(claimed, "succeeded")])
    [ended] = await store.workers()

    assert (begun.running, ended.running) == (1, 0)
    assert queues["default"]["running"] == 1
    assert running == [RunningAt("w1", "default", 1, ["a"])]


async def test_workers_of_very_many_running_jobs_cost_no_read_of_each(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues_module, "_COUNTED", 2)
    await store.renew("w1", {}, {"queues": "default", "slots": 20, "running": 7})
    for n in range(11):
        await submit(store, f"j{n:02}")
    for _ in range(11):
        await claim(store, by=worker("w1"))

    [cheap] = await store.workers()
    queues, [counted], running = await store.overview()

    assert (cheap.running, counted.running, queues["default"]["running"]) == (7, 11, 11)
    assert running == [RunningAt("w1", "default", 11, [f"j{n:02}" for n in range(8)])]


async def test_a_worker_is_listed_with_its_facts_while_it_sends_heartbeats(store: RedisStore) -> None:
    facts = {
        "host": "box",
        "pid": 4711,
        "queues": "gpu,default",
        "slots": 4,
        "running": 2,
        "started": 1_700_000_000_000,
        "version": "0.1.0",
        "python": "3.11",
        "cpu": 12.5,
        "rss": 123,
        "done": 9,
        "tasks": "a,b",
    }

    await store.renew("w1", {}, facts)

    [found] = await store.workers()
    assert (found.id, found.host, found.pid, found.queues, found.slots) == ("w1", "box", 4711, ("gpu", "default"), 4)
    assert (found.started_ms, found.version, found.python) == (1_700_000_000_000, "0.1.0", "3.11")
    assert (found.cpu_percent, found.rss_bytes, found.done, found.tasks) == (12.5, 123, 9, ("a", "b"))
    assert found.is_alive
    assert found.beat_age_s < 30


@short_lease
async def test_a_worker_without_heartbeats_is_dead_but_listed(store: RedisStore) -> None:
    await store.renew("w1", {}, {"queues": "default"})

    async def is_dead() -> bool:
        [found] = await store.workers()
        return not found.is_alive

    await until(is_dead, "the worker's lease to end")
    assert (await store.queues()).get("default", {"workers": 0})["workers"] == 0


async def test_a_worker_that_leaves_is_not_listed(store: RedisStore) -> None:
    await store.claim(worker(), 2)
    await store.renew("w1", {}, {})
    await store.leave("w1")
    await store.leave("never came")

    assert await store.workers() == []


async def test_a_worker_that_never_sent_a_heartbeat_is_not_listed(store: RedisStore) -> None:
    await store.claim(worker(), 2)

    assert await store.workers() == []


async def test_tasks_are_known_without_importing_them(store: RedisStore) -> None:
    await store.publish_tasks({"b": b"sealed B", "a": b"sealed A"})
    await store.publish_tasks({"a": b"sealed A2"})
    await store.publish_tasks({})

    found = await store.tasks()

    assert list(found.items()) == [("a", b"sealed A2"), ("b", b"sealed B")]


async def test_events_of_all_jobs_can_be_read_from_an_id_on(store: RedisStore) -> None:
    assert await store.events() == []
    assert await store.last_event_id() == "0-0"
    await submit(store, "a", "b")
    first = await store.events()
    claimed = await claim(store, 2)
    await store.finish([ending(claimed[0])])

    later = await store.events(first[-1].id)

    assert [(event.job_id, event.type) for event in first] == [("a", "submitted"), ("b", "submitted")]
    assert [(event.job_id, event.type) for event in later] == [("a", "started"), ("b", "started"), ("a", "succeeded")]
    assert await store.last_event_id() == later[-1].id
    assert await store.events(later[-1].id) == []
    assert await store.events(await store.last_event_id()) == []
    assert [event.seq for event in await store.events(limit=1)] == [1]
    assert [event.id for event in await store.events(first[0].id, limit=2)] == [first[1].id, later[0].id]


async def test_a_path_through_every_transition_leaves_all_its_events(store: RedisStore) -> None:
    """The store's fixture compares the stream, the record's history and the record that the events give."""
    await submit(store, "a", delay_ms=60_000, retries=9)
    await come_due(store, "a")
    [first] = await claim(store)
    await lapse(store, "a")
    [second] = await claim(store, by=worker("w2"))
    error = JobError(ErrorKind.TIMEOUT, "timeout", "too long", "Traceback")
    await store.finish([ending(second, "retried", error=error, delay_ms=60_000, usage={"cpu_s": 1.5})])
    await come_due(store, "a")
    [third] = await claim(store)
    await store.finish([ending(third, "released", reason="stops")])
    [fourth] = await claim(store)
    await store.cancel(["a"], "enough")
    await store.finish([ending(fourth, "cancelled", reason="killed", usage={})])

    types = [event.type for event in await store.events()]
    assert " ".join(types) == (
        "submitted queued started lost started retried queued started released started cancel_requested cancelled"
    )
    assert first.token == "w1:1"


async def test_a_page_survives_a_missing_record(store: RedisStore) -> None:
    """As after an expiry between two prunes."""
    await submit(store, "a", "b", "c")
    await store.cancel(["b"])
    await store.redis.delete(f"{store.prefix}job:b", f"{store.prefix}args:b")

    assert await ids(store, states=("cancelled",)) == []
    assert await ids(store) == ["c", "a"]


async def test_a_time_of_submit_with_many_zeros_is_read_correctly(store: RedisStore) -> None:
    """Redis writes 1700000000000000 as 1.7e+15."""
    await submit(store, "a", "b", "c")
    for n, id in enumerate("abc"):
        us = (1_700_000 + n) * 1_000_000_000
        await store.redis.hset(f"{store.prefix}job:{id}", "us", us)
        await store.redis.zadd(f"{store.prefix}jobs", {id: us})
        await store.redis.zadd(f"{store.prefix}state:queued", {id: us})

    assert flat(await pages(store, limit=1)) == ["c", "b", "a"]
    assert flat(await pages(store, limit=1, states=("queued",))) == ["c", "b", "a"]
