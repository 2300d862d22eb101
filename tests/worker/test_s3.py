"""Results, checkpoints, large arguments and the archive in S3: moto's server, by HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import jobkit
from jobkit.files.places import place_of
from tests.features.checkpoints.test_going_on import STEPS, steps
from tests.support import wait_until
from tests.worker import furnished, jobs, places
from tests.worker.conftest import Bench

s3fs = pytest.importorskip("s3fs")
pytest.importorskip("pyarrow")
server = pytest.importorskip("moto.server")

PLACES = {"results": "s3://jobs/results", "archive": "s3://jobs/archive"}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Set the environment for a server with a bucket, and return its URL."""
    moto = server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    moto.start()
    url = "http://{}:{}".format(*moto.get_host_and_port())
    s3fs.S3FileSystem.clear_instance_cache()  # they keep the variables of before
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    place_of("s3://jobs")._fs.makedirs("jobs", exist_ok=True)  # type: ignore[attr-defined]  # moto keeps it for all tests
    yield url
    moto.stop()


def environ(**more: str) -> dict[str, str]:
    return {f"JOBKIT_{name.upper()}": value for name, value in PLACES.items()} | more


def test_a_client_has_all_files_of_a_job_from_s3(bench: Bench, s3: str, tmp_path: Path) -> None:
    bench.worker(**environ(JOBKIT_ARCHIVE=""), JOBKIT_HOME=str(tmp_path / "one"))
    with jobkit.connect(**bench.place, results=PLACES["results"], home=str(tmp_path / "two")) as kit:
        job = places.submit(kit)
        job.wait(60)
        places.check(kit, job.id)
        for _ in range(2):
            places.check(kit, job.id)  # by now from the copies of this machine
        assert not [path for path in (tmp_path / "one" / "staging").rglob("*") if path.is_file()]
        assert job.retry().result(60) == job.result()


@pytest.mark.nightly
def test_a_killed_worker_is_resumed_from_s3_and_the_archive_there_is_whole(bench: Bench, s3: str) -> None:
    worker = bench.worker(**environ())
    with jobkit.connect(**bench.place, **PLACES) as kit:
        job = kit.submit(jobs.count, bench.file(), STEPS, stays_at=3)
        wait_until(lambda: job.snapshot.saved == "step 3", what="the checkpoint to be known")
        worker.kill()
        bench.worker(**environ())

        assert job.result(60)["sum"] == 15
        assert job.snapshot.resumed == "resumed at step 3"
        assert steps(bench) == [0, 1, 2, 3, 3, 4, 5]
        furnished.check(kit, furnished.furnished(kit))
        wait_until(lambda: len(kit.archive("task:furnish age:<1h")) >= 3, what="the archive")
        assert set(kit.archive()["left_out"]) == {""}
        found = kit.archive("task:count")
        assert list(found.index) == [job.id]

        folder = kit.connection.call(kit.verbs.store.folder, job.id)
        kit.delete([job.id])
        wait_until(lambda: not place_of(PLACES["results"]).names(folder), what="the files to go")
        assert kit.archive.reopen([job.id]) == {job.id: ""}
        assert kit.checkpoints(job.id)[-1].value()["sum"] == 15


def test_a_file_whose_writer_fails_does_not_appear(s3: str) -> None:
    place = place_of("s3://jobs/x")

    def parts() -> Iterator[bytes]:
        yield b"begin"
        raise RuntimeError("no more")

    with pytest.raises(OSError, match="no more"):
        place.write("a/b", parts())
    assert place.names("a") == []
    place.write("a/b", [b"whole"])
    place.write("a/b", [b"and", b" once more"])
    assert place.sizes("a") == {"b": 13}
    assert place.open("a/b").read() == b"and once more"


@pytest.mark.parametrize(
    ("url", "variables", "said"),
    [
        ("s3://nowhere/x", {}, "bucket"),
        ("s3://jobs/x", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "credentials"),
        pytest.param("s3://jobs/x", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "connect", marks=pytest.mark.nightly),
    ],
)
def test_a_bucket_that_cannot_be_used_is_one_sentence(
    s3: str, monkeypatch: pytest.MonkeyPatch, url: str, variables: dict[str, str], said: str
) -> None:
    for name, value in variables.items():
        if value:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/no/such/file")
    s3fs.S3FileSystem.clear_instance_cache()

    with pytest.raises(OSError, match=said) as caught:
        place_of(url).write("a", [b"x"])

    assert "\n" not in str(caught.value)
