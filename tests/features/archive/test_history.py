"""`kit.archive`, with a real worker that appends to the archive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

import jobkit
from jobkit.client.kit import Kit
from jobkit.model import InvalidParams, JobNotFound
from jobkit.store.grammar import parse
from tests.support import wait_until
from tests.worker.conftest import Bench, shared_server

__all__ = ["shared_server"]


@pytest.fixture(scope="module")
def place(shared_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    bench = Bench(shared_server, folder)
    bench.worker(JOBKIT_ARCHIVE=str(folder / "archive"))
    yield bench
    bench.close()
    bench.check_keys()


@pytest.fixture
def kit(place: Bench) -> Iterator[Kit]:
    with jobkit.connect(**place.place, archive=str(place.folder / "archive")) as kit:
        yield kit


def await_archive(kit: Kit, where: str, count: int) -> None:
    wait_until(lambda: len(kit.archive(where)) >= count, what="the archive")


def test_history_is_a_table_of_all_jobs_that_match_even_after_redis_was_wiped(place: Bench, kit: Kit) -> None:
    jobs = [kit.options(tags=["first"]).submit(pow, n, exp=2) for n in (3, 4)]
    failed = kit.options(tags=["first"]).submit(len, 5)
    for job in (*jobs, failed):
        job.wait(60)
    await_archive(kit, "tag:first", 3)
    with redis.Redis.from_url(place.place["url"]) as client:
        client.delete(*[key for job in jobs for key in client.scan_iter(f"*{job.id}")])

    found = kit.archive("tag:first age:<1h", order="submitted")

    assert list(found.index) == [jobs[0].id, jobs[1].id, failed.id]
    assert list(found["task"]) == ["pow", "pow", "len"]
    assert list(found["state"]) == ["succeeded", "succeeded", "failed"]
    assert list(found["exp"][:2]) == [2, 2]
    assert "TypeError" in found["error"][failed.id]
    assert found["duration_s"].notna().all()
    assert str(found["submitted_at"].dt.tz) == "UTC"
    assert list(kit.archive("tag:first state:failed").index) == [failed.id]
    assert len(kit.archive("tag:first", limit=2)) == 2
    assert kit.archive("tag:none").empty


def test_a_job_that_redis_has_forgotten_comes_back_and_runs_again(place: Bench, kit: Kit) -> None:
    job = kit.options(tags=["again"]).submit(pow, 3, exp=2)
    assert job.result(60) == 9
    await_archive(kit, "tag:again", 1)
    kit.delete([job.id])
    with jobkit.connect(**place.place, archive=str(place.folder / "archive")) as later:
        with pytest.raises(JobNotFound, match=rf"kit\.archive\.reopen\(\['{job.id}'\]\) brings it back"):
            later.get(job.id)

        assert later.archive.reopen([job.id, "unknown"]) == {job.id: ""}

        assert later.get(job.id).result(60) == 9
        assert later.retry(job.id).result(60) == 9
    await_archive(kit, "tag:again", 2)
    assert len(kit.archive("tag:again")) == 2  # a job that came back is not archived again
    assert len(kit.page(parse("tag:again in:archive")).jobs) == 2


def test_a_value_that_is_refused_or_no_archive_is_one_sentence(place: Bench, kit: Kit) -> None:
    with pytest.raises(InvalidParams, match="age must be a length of time"):
        kit.archive("age:<soon")
    with pytest.raises(InvalidParams, match="order must be one of"):
        kit.archive(order="colour")
    with jobkit.connect(**place.place) as without, pytest.raises(InvalidParams, match="set JOBKIT_ARCHIVE"):
        without.archive()


def test_a_file_that_is_damaged_is_left_out_with_a_warning(kit: Kit, place: Bench) -> None:
    kit.options(tags=["whole"]).submit(len, "abc").wait(60)
    await_archive(kit, "tag:whole", 1)
    (damaged,) = {path.parent for path in (place.folder / "archive").rglob("*.parquet")}
    bad = damaged / "1000000000000-0_1000000000000-1.parquet"
    bad.write_bytes(b"PAR1 no more")
    try:
        with pytest.warns(UserWarning, match=f"{bad.name} .* cannot be read and is left out"):
            assert len(kit.archive("tag:whole")) == 1
    finally:
        bad.unlink()


def test_a_worker_says_what_an_archive_needs(place: Bench, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    process = place.worker(ready=False, JOBKIT_ARCHIVE=str(tmp_path / "file"))
    assert process.wait(60) == 2
    assert f"the directory for archive {tmp_path / 'file'} cannot be used" in place.said()
