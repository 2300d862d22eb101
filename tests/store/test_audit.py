"""The audit trail."""

from __future__ import annotations

import pytest

from jobkit.model import InvalidParams
from jobkit.model.person import NAMED, AuditBounds, AuditEntry
from jobkit.store.redis import RedisStore


def entry(
    who: str = "ada", action: str = "cancel", targets: tuple[str, ...] = ("a",), outcome: str = "done"
) -> AuditEntry:
    return AuditEntry.of(who, "operate", "page", action, "job", targets, outcome, "job a was cancelled")


async def test_actions_are_read_back_newest_first(store: RedisStore) -> None:
    for who in ("ada", "eve", "bob"):
        await store.audit_log.note(entry(who))

    found = await store.audit_log.entries()

    assert [one.who for one in found] == ["bob", "eve", "ada"]
    (first, *_) = found
    assert first.at is not None
    assert first.since is None
    assert first.to_json() | {"id": "", "at": "", "since": ""} == {
        "id": "",
        "at": "",
        "since": "",
        "who": "bob",
        "role": "operate",
        "via": "page",
        "action": "cancel",
        "on": "job",
        "targets": ["a"],
        "count": 1,
        "outcome": "done",
        "note": "job a was cancelled",
        "times": 1,
    }


async def test_older_entries_are_read_by_the_id_of_the_last(store: RedisStore) -> None:
    for n in range(5):
        await store.audit_log.note(entry(str(n)))

    page = await store.audit_log.entries(2)
    rest = await store.audit_log.entries(10, page[-1].id)

    assert [one.who for one in (*page, *rest)] == ["4", "3", "2", "1", "0"]


async def test_an_entry_is_small_whatever_it_is_about(store: RedisStore) -> None:
    await store.audit_log.note(entry("\ud800" * 1000, "x" * 1000, tuple("y" * 1000 for _ in range(1000))))

    (found,) = await store.audit_log.entries()

    assert found.count == 1000
    assert len(found.targets) == NAMED
    assert len(found.who) == 200
    assert max(map(len, found.targets)) == 200


@pytest.mark.parametrize(
    "before", ["00-00", "x", "5", "1-x", "-", "1-01", "18446744073709551616-0", "1-0 ", "+", "١-٠"]
)
async def test_a_position_that_is_not_an_id_is_refused(store: RedisStore, before: str) -> None:
    with pytest.raises(InvalidParams, match="before must be an id"):
        await store.audit_log.entries(10, before)


async def test_before_the_first_id_there_is_nothing(store: RedisStore) -> None:
    await store.audit_log.note(entry())

    assert await store.audit_log.entries(10, "0-0") == []
    assert len(await store.audit_log.entries(10, f"{2**64 - 1}-{2**64 - 1}")) == 1


# -- floods by one user -----------------------------------------------------------------------------------------------


async def test_a_loop_of_failing_actions_is_one_entry_with_a_count(store: RedisStore) -> None:
    """It used to cost an entry each: 10,300 of them emptied the trail in 48 s."""
    await store.audit_log.note(entry("admin", "delete"))
    for n in range(1000):
        await store.audit_log.note(entry("eve", targets=(f"job{n}",), outcome="failed"))
    await store.audit_log.note(entry("eve", outcome="refused"))

    refused, failed, done = await store.audit_log.entries(10_000)

    assert (done.who, done.action, done.times) == ("admin", "delete", 1)
    assert (failed.times, failed.count, failed.targets[:2], len(failed.targets)) == (
        1000,
        1000,
        ("job0", "job1"),
        NAMED,
    )
    assert failed.since is not None
    assert failed.at is not None
    assert done.at is not None
    assert done.at <= failed.since <= failed.at
    assert (refused.outcome, refused.times) == ("refused", 1)


async def test_a_named_target_is_not_counted_again(store: RedisStore) -> None:
    for _ in range(3):
        await store.audit_log.note(entry(outcome="failed"))
        await store.audit_log.note(entry(targets=(), outcome="refused"))

    found = await store.audit_log.entries()

    assert [(one.times, one.count, one.targets) for one in found] == [(3, 0, ()), (3, 1, ("a",))]


async def test_very_many_successful_actions_are_folded(store: RedisStore) -> None:
    store.audit_log.bounds = AuditBounds(alone_done=5)
    for n in range(9):
        await store.audit_log.note(entry(targets=(f"job{n}",)))

    found = await store.audit_log.entries()

    assert [one.times for one in found] == [5, 1, 1, 1, 1]
    assert found[0].targets == tuple(f"job{n}" for n in range(4, 9))


async def test_counting_restarts_after_its_period(store: RedisStore) -> None:
    store.audit_log.bounds = AuditBounds(fold_s=0.001)
    for _ in range(3):
        await store.audit_log.note(entry(outcome="failed"))
        last = (await store.audit_log.entries(1))[0]
        assert last.at is not None
        now = last.at.timestamp()
        while (await store.now_ms()) / 1000 < now + 0.01:
            pass

    assert [one.times for one in await store.audit_log.entries()] == [1, 1, 1]


async def test_no_user_pushes_out_the_entries_of_another(store: RedisStore) -> None:
    """Neither by one flood nor under a second name: the oldest entry of the user with most entries is deleted."""
    store.audit_log.bounds = AuditBounds(kept=40, per_person=20)
    await store.audit_log.note(entry("eve", "delete"))
    for n in range(10):
        await store.audit_log.note(entry("admin", f"act{n}"))
    for n in range(500):
        await store.audit_log.note(entry("eve", f"act{n}"))
    assert sum(one.who == "eve" for one in await store.audit_log.entries(1000)) == 20
    for n in range(500):
        await store.audit_log.note(entry("mallory", f"act{n}"))

    found = await store.audit_log.entries(1000)

    assert len(found) == 40
    assert [one.action for one in found if one.who == "admin"] == [f"act{n}" for n in reversed(range(10))]
    assert {who: sum(one.who == who for one in found) for who in ("eve", "mallory")} == {"eve": 15, "mallory": 15}
    assert found[0].action == "act499"
