"""The audit trail."""

from __future__ import annotations

from jobkit.model.audit import NAMED, AuditEntry

from .support import AnyStore


def entry(who: str = "ada", action: str = "cancel", targets: tuple[str, ...] = ("a",)) -> AuditEntry:
    return AuditEntry.of(who, "operate", "page", action, "job", targets, "done", "job a was cancelled")


async def test_what_was_done_is_read_back_newest_first(store: AnyStore) -> None:
    for who in ("ada", "eve", "bob"):
        await store.note(entry(who))

    found = await store.audit()

    assert [one.who for one in found] == ["bob", "eve", "ada"]
    (first, *_) = found
    assert first.at is not None
    assert first.to_json() | {"id": "", "at": ""} == {
        "id": "",
        "at": "",
        "who": "bob",
        "role": "operate",
        "via": "page",
        "action": "cancel",
        "on": "job",
        "targets": ["a"],
        "count": 1,
        "outcome": "done",
        "note": "job a was cancelled",
    }


async def test_older_entries_are_asked_for_by_the_id_of_the_last(store: AnyStore) -> None:
    for n in range(5):
        await store.note(entry(str(n)))

    page = await store.audit(2)
    rest = await store.audit(10, page[-1].id)

    assert [one.who for one in (*page, *rest)] == ["4", "3", "2", "1", "0"]


async def test_an_entry_is_small_whatever_it_is_about(store: AnyStore) -> None:
    await store.note(entry("\ud800" * 1000, "x" * 1000, tuple("y" * 1000 for _ in range(1000))))

    (found,) = await store.audit()

    assert found.count == 1000
    assert len(found.targets) == NAMED
    assert len(found.who) == 200
    assert max(map(len, found.targets)) == 200
