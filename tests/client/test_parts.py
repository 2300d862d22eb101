"""Large arguments and closures: stored once per content, shared by jobs, dropped with the last of them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

import jobkit
from jobkit.client.kit import Kit
from jobkit.codec import Subject
from jobkit.tasks.call import read_head

MB = 1_000_000


@pytest.fixture
def stored(kit: Kit) -> Callable[[], list[int]]:
    """Function that returns the sizes of all contents that are stored for jobs."""

    def sizes() -> list[int]:
        store = kit.connection.store

        async def read() -> list[int]:
            keys = [key async for key in store.redis.scan_iter(f"{store.prefix}blob:*")]
            found = [await store.redis.get(key) for key in keys]
            return sorted(int(raw.split()[1]) if raw[:1] == b"f" else len(raw) - 1 for raw in found)

        return kit.connection.call(read)

    return sizes


def test_jobs_share_one_copy_of_a_large_closure_which_goes_with_the_last(
    kit: Kit, stored: Callable[[], list[int]]
) -> None:
    data = bytes(5 * MB)
    batch = kit.map(lambda n: len(data) + n, [{"n": n} for n in range(10)])

    assert batch.result(30) == [5 * MB + n for n in range(10)]
    (size,) = stored()
    assert 5 * MB < size < 5.1 * MB
    kit.delete([job.id for job in batch.jobs[1:]])
    assert stored() == [size]
    kit.delete([batch.jobs[0].id])
    assert not stored()


def test_jobs_submitted_one_by_one_share_a_large_argument(kit: Kit, stored: Callable[[], list[int]]) -> None:
    text = "x" * 3 * MB
    jobs = [kit.submit(lambda text, n: len(text) + n, text, n) for n in range(3)]

    assert [job.result(30) for job in jobs] == [3 * MB + n for n in range(3)]
    assert [round(size / MB) for size in stored()] == [3]
    assert all("x" in str(job.params["text"]) for job in jobs)


def test_many_small_arguments_may_be_large_together(kit: Kit, stored: Callable[[], list[int]]) -> None:
    job = kit.submit(lambda *texts: sum(map(len, texts)), *[f"{n}" * 20_000 for n in range(100, 150)])

    assert job.result(30) == 3 * MB
    assert len(stored()) == 1


def test_a_job_with_large_arguments_runs_again_as_it_was_or_changed(kit: Kit, stored: Callable[[], list[int]]) -> None:
    job = kit.submit(lambda data, n: (len(data), n), data=bytes(2 * MB), n=1)
    assert job.result(30) == (2 * MB, 1)

    again, changed, small = job.retry(), job.rerun(n=2), job.rerun(data=b"")
    kit.delete([job.id])

    assert again.result(30) == (2 * MB, 1)
    assert changed.result(30) == (2 * MB, 2)
    assert small.result(30) == (0, 1)
    assert len(stored()) == 1
    kit.delete([again.id, changed.id])
    assert not stored()


def test_a_schedule_keeps_its_large_arguments(kit: Kit, stored: Callable[[], list[int]]) -> None:
    schedule = kit.schedule(lambda data: len(data), {"data": bytes(2 * MB)}, every="1h", name="large")
    job = schedule.run_now()
    assert job.result(30) == 2 * MB
    kit.delete([job.id])

    assert len(stored()) == 1
    schedule.remove()
    assert not stored()


def test_a_schedule_stores_a_content_again_that_went_with_its_last_user(
    kit: Kit, stored: Callable[[], list[int]]
) -> None:
    data = bytes(2 * MB)
    schedule = kit.schedule(len, [data], every="1h", name="large")
    schedule.remove()
    assert not stored()

    again = kit.schedule(len, [data], every="1h", name="large")
    kit.schedule(len, [b""], every="1h", name="large")
    assert not stored()
    kit.schedule(len, [data], every="1h", name="large")

    assert len(stored()) == 1
    assert again.run_now().result(30) == 2 * MB
    again.remove()


def test_threads_that_submit_the_same_content_upload_it_once(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads: list[str] = []
    put = kit.connection.store.blobs.put

    async def counted(name: str, stored: bytes) -> bool:
        uploads.append(name)
        return await put(name, stored)

    monkeypatch.setattr(kit.connection.store.blobs, "put", counted)
    data = bytes(2 * MB)
    threads = [threading.Thread(target=kit.submit, args=(len, data)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(uploads) == 1
    assert all(job.wait(30) for job in kit.jobs())


def test_a_content_that_goes_before_the_submit_is_uploaded_again(kit: Kit, stored: Callable[[], list[int]]) -> None:
    """The last job that used it may be deleted between the upload of another process and its submit."""
    keep, lost = kit.verbs.parts.keep, []

    async def forgetful(blobs: object) -> None:
        await keep(blobs)  # type: ignore[arg-type]
        if not lost:
            lost.append(await kit.verbs.store.redis.delete(*await _keys(kit)))

    kit.verbs.parts.keep = forgetful  # type: ignore[method-assign]
    assert kit.submit(len, bytes(2 * MB)).result(30) == 2 * MB
    assert lost == [1]


async def _keys(kit: Kit) -> list[bytes]:
    return [key async for key in kit.verbs.store.redis.scan_iter(f"{kit.verbs.store.prefix}blob:*")]


def test_what_is_too_large_is_refused_with_the_argument_and_the_way_out(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kit.verbs.parts, "_most_bytes", 2 * MB)
    monkeypatch.setattr(kit.verbs.parts, "_file_store", lambda: None)  # as on a shared Redis without JOBKIT_RESULTS
    with pytest.raises(
        jobkit.InvalidParams, match=r"argument 1 of len takes 3.0 MB, more than the 2.0 MB that are kept"
    ):
        kit.submit(len, bytes(3 * MB))
    assert not kit.jobs()


def test_a_kit_travels_and_connects_again(kit: Kit) -> None:
    def submit_more(n: int) -> tuple[int, str]:
        job = kit.options(tags=["inner"]).submit(pow, 2, n)
        return job.result(30), job.id

    value, inner = kit.submit(submit_more, 5).result(60)

    assert value == 32
    assert list(kit.get(inner).tags) == ["inner"]
    assert kit.submit(lambda given: given.settings.namespace, kit).result(60)
    prepared = kit.submitter.prepared(lambda given: given, ("jobkit.client.kit travelled_kit",), {})
    _, body = kit.verbs.codec.verify(prepared.payload, Subject("args", prepared.spec.id, prepared.spec.task))
    assert not read_head(body).has_kit


def test_a_closed_kit_does_not_travel(place: dict[str, str]) -> None:
    with jobkit.connect(**place) as kit, jobkit.connect(**place) as other:
        other.close()
        with pytest.raises(jobkit.InvalidParams, match="is closed and cannot travel: connect again"):
            kit.submit(lambda: other)
