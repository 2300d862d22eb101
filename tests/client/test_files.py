"""Files of jobs with real workers: their folder, access rights, refusals and deletion."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

import jobkit
from jobkit.client.kit import Kit
from jobkit.codec import FILE, Codec, Subject
from jobkit.model import InvalidParams
from tests.store.server import Server
from tests.support import environment, wait_until

from .conftest import own_place, worker_of


@pytest.fixture(scope="module")
def team(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Namespace whose workers keep files in a directory and send frequent heartbeats."""
    results = tmp_path_factory.mktemp("shared") / "results"
    arguments = own_place(server) | {"results": str(results), "heartbeat": "0.2"}
    old = os.umask(0)
    try:
        with worker_of(arguments):
            os.umask(old)
            yield arguments
    finally:
        os.umask(old)


@pytest.fixture
def kit(team: dict[str, Any]) -> Iterator[Kit]:
    with jobkit.connect(**team) as kit:
        yield kit
        kit.delete([job.id for job in kit.jobs(limit=10_000)])
        wait_until(lambda: not files_of(kit), what="all files to be gone")


def files_of(kit: Kit) -> list[Path]:
    """By `os.walk`, since directories may be deleted meanwhile."""
    return [Path(folder, name) for folder, _, names in os.walk(kit.settings.results) for name in names]


def big(size: int = 3_000_000) -> bytes:
    return bytes(size)


def test_files_are_private_and_have_opaque_names(kit: Kit) -> None:
    """The worker's umask is 000."""

    def saves() -> bytes:
        import jobkit

        jobkit.current().save("secret plan.txt", b"x" * 3_000_000)
        for n in range(1000):
            print("line", n)
        return bytes(3_000_000)

    job = kit.options(key="a-telling-key").submit(saves)
    assert job.result(60) == bytes(3_000_000)

    paths = list(Path(kit.settings.results).rglob("*"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_file()} == {0o600}
    assert stat.S_IMODE(Path(kit.settings.results).stat().st_mode) == 0o700
    assert not [path for path in paths if "telling" in path.name or "plan" in path.name or "saves" in path.name]
    assert {path.name.partition(".")[0] for path in files_of(kit)} == {"artifact", "job", "log", "result"}
    assert kit.artifact(job.id, "secret plan.txt").read() == b"x" * 3_000_000


def test_files_are_deleted_with_a_removed_job(kit: Kit) -> None:
    job = kit.submit(big)
    job.result(60)
    assert files_of(kit)

    kit.delete([job.id])

    wait_until(lambda: not files_of(kit), what="the files to go")
    with pytest.raises(jobkit.JobNotFound):
        kit.artifacts(job.id)


def test_files_are_deleted_with_an_expired_job(kit: Kit) -> None:
    job = kit.options(result_ttl=1).submit(big)
    job.result(60)
    assert files_of(kit)

    wait_until(lambda: not files_of(kit), what="the files to go")


def test_the_store_holds_a_reference_and_no_result(kit: Kit) -> None:
    job = kit.submit(big)
    job.result(60)

    with redis.Redis.from_url(kit.settings.url) as client:
        sealed = client.get(f"jk:{kit.settings.namespace}:result:{job.id}")

    assert isinstance(sealed, bytes)
    assert len(sealed) < 500


@pytest.mark.parametrize("key", ["of these tests", "of another team", ""])
def test_a_forged_reference_is_refused(kit: Kit, tmp_path: Path, key: str) -> None:
    """Signed with another team's key, unsigned, or correctly signed with a path outside the file store."""
    import msgspec

    job = kit.submit(big)
    job.result(60)
    (tmp_path / "target").write_bytes(b"JK1")
    up = "../" * 8 + str(tmp_path / "target")
    forged = Codec.from_secret(key).seal(
        FILE, msgspec.msgpack.encode([up, 3, "x"]), Subject("result", job.id, job.task)
    )
    with redis.Redis.from_url(kit.settings.url) as client:
        client.set(f"jk:{kit.settings.namespace}:result:{job.id}", forged, px=60_000)

    with pytest.raises(jobkit.SignatureError), jobkit.connect(**arguments_of(kit)) as other:
        other.get(job.id).result(60)


def arguments_of(kit: Kit) -> dict[str, Any]:
    settings = kit.settings
    return {
        "url": settings.url, "namespace": settings.namespace, "secret": settings.secret, "results": settings.results,
    }  # fmt: skip


def test_a_changed_or_replaced_file_is_refused(kit: Kit) -> None:
    first, second = kit.submit(big), kit.submit(big, 4_000_000)
    assert len(first.result(60)) + len(second.result(60)) == 7_000_000
    one, other = sorted((p for p in files_of(kit) if p.name.startswith("result")), key=lambda p: p.stat().st_size)

    content = bytearray(one.read_bytes())
    content[-1] ^= 1
    one.write_bytes(content)
    with pytest.raises(jobkit.SignatureError):
        first.result(60)
    one.write_bytes(other.read_bytes())
    with pytest.raises(jobkit.SignatureError):
        first.result(60)


def test_a_directory_that_is_not_shared_is_named(kit: Kit, tmp_path: Path) -> None:
    def saves() -> bytes:
        import jobkit

        jobkit.current().save("large", bytes(3_000_000))
        return bytes(3_000_000)

    job = kit.submit(saves)
    job.result(60)

    for results in ("", str(tmp_path)):
        with jobkit.connect(**arguments_of(kit) | {"results": results}) as elsewhere:
            found = elsewhere.get(job.id)
            with pytest.raises(jobkit.ResultUnavailable, match="3.0 MB.* JOBKIT_RESULTS|not shared with the workers"):
                found.result(60)
            with pytest.raises(jobkit.ResultUnavailable, match="the artifact of job"):
                found.artifacts()[0].read()
            assert found.log_file() is None


async def test_an_awaited_result_comes_from_its_file_too(kit: Kit) -> None:
    job = await kit.aio.submit(big)

    assert len(await job) == 3_000_000
    assert await kit.aio.artifacts(job.id) == []


def test_the_whole_of_a_long_log_is_in_its_file(kit: Kit) -> None:
    def floods() -> None:
        import subprocess
        import sys

        for n in range(200_000):
            sys.stdout.write(
                f"line {n}\n"
            )  # in one call: a half printed line may be shown in two parts on a busy machine
        subprocess.run([sys.executable, "-c", "for i in range(1, 300_001): print(i)"], check=True)

    job = kit.submit(floods)
    job.result(60)

    path = job.log_file()
    assert path is not None
    lines = path.read_text().split("\n")
    assert [line for line in lines if line.startswith("line")] == [f"line {n}" for n in range(200_000)]
    assert [line for line in lines if line and not line.startswith("line")] == [str(n) for n in range(1, 300_001)]
    assert len(job.logs()) < 100_000


def test_a_short_log_needs_no_file(kit: Kit) -> None:
    def speaks() -> None:
        print("hello")

    job = kit.submit(speaks)
    job.result(60)

    assert (job.log_file(), list(job.logs())) == (None, ["hello"])
    assert files_of(kit) == []


def test_the_log_of_several_attempts_is_one_file(kit: Kit, tmp_path: Path) -> None:
    def second_time_lucky(flag: str) -> None:
        from pathlib import Path

        if not Path(flag).exists():
            Path(flag).touch()
            print("the first attempt said little")
            raise OSError("once")
        for n in range(1000):
            print("line", n)

    job = kit.options(retries=1).submit(second_time_lucky, str(tmp_path / "flag"))
    job.result(60)

    path = job.log_file()
    assert path is not None
    assert path.read_text().splitlines() == ["the first attempt said little", *(f"line {n}" for n in range(1000))]


@pytest.mark.parametrize("isolation", ["thread", "async"])
def test_jobs_that_share_a_process_have_whole_logs_and_artifacts_too(kit: Kit, isolation: str) -> None:
    def body() -> bytes:
        import jobkit

        for n in range(20_000):
            print("line", n)
        jobkit.current().save("large", bytes(2_000_000))
        jobkit.current().save("small", b"1")
        return bytes(2_000_000)

    async def coroutine() -> bytes:
        return body()

    job = kit.options(isolation=isolation).submit(body if isolation == "thread" else coroutine)
    assert len(job.result(60)) == 2_000_000

    path = job.log_file()
    assert path is not None
    assert path.read_text() == "".join(f"line {n}\n" for n in range(20_000))
    assert [(one.name, len(one.read())) for one in job.artifacts()] == [("large", 2_000_000), ("small", 1)]


def test_too_many_and_too_large_artifacts_are_refused_without_a_directory(server: Server) -> None:
    arguments = own_place(server)

    def saves(sizes: list[int]) -> None:
        import jobkit

        for n, size in enumerate(sizes):
            jobkit.current().save(f"a{n}", bytes(size))

    with worker_of(arguments), jobkit.connect(**arguments) as kit:
        large, much, many = (kit.submit(saves, sizes) for sizes in ([300_000], [250_000] * 5, [1] * 101))
        with pytest.raises(jobkit.JobFailed, match="at most 256,000 are kept; larger ones need a directory"):
            large.result(60)
        with pytest.raises(jobkit.JobFailed, match="'a4' would make 1,250,000 bytes"):
            much.result(60)
        with pytest.raises(jobkit.JobFailed, match="one too many: a job may keep 100"):
            many.result(60)
        assert [len(one.read()) for one in much.artifacts()] == [250_000] * 4
        assert len(many.artifacts()) == 100


def test_results_may_be_stored_by_fsspec(server: Server, tmp_path: Path) -> None:
    arguments = own_place(server) | {"heartbeat": "0.2", "results": f"file://{tmp_path}/bucket"}

    def saves() -> bytes:
        import jobkit

        jobkit.current().save("large", bytes(2_000_000))
        return bytes(3_000_000)

    with worker_of(arguments), jobkit.connect(**arguments) as kit:
        job = kit.submit(saves)
        assert len(job.result(60)) == 3_000_000
        assert len(job.artifacts()[0].read()) == 2_000_000
        assert job.log_file() is None
        assert list(tmp_path.rglob("result.1"))

        kit.delete([job.id])

        wait_until(lambda: not list(tmp_path.rglob("result.1")), what="the files to go")


@pytest.mark.parametrize(
    ("results", "sentence"),
    [
        ("nothing-known://x/y", "results 'nothing-known://x/y' cannot be used"),
        ("/proc/no", "the directory for results /proc/no cannot be used"),
    ],
)
def test_a_worker_that_cannot_store_files_reports_it_at_once(server: Server, results: str, sentence: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobkit", "worker", "--burst"],
        env=environment(JOBKIT_URL=server.url, JOBKIT_RESULTS=results),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_short_logs_are_searched_also_where_the_place_of_files_cannot_be_used(kit: Kit, team: dict[str, Any]) -> None:
    """For instance where the package for its URL is not installed."""

    def prints() -> None:
        print("needle")
        print("hay")

    job = kit.submit(prints)
    job.wait(60)

    with jobkit.connect(**team | {"results": "nowhere://bucket"}) as other:
        assert [line.text for line in other.log_slice(job.id, search="needle").lines] == ["needle"]
        assert other.log_hits(job.id, search="hay", most=10).numbers == (2,)
        with pytest.raises(InvalidParams, match="nowhere"):
            _ = other.verbs.file_store


@pytest.mark.nightly
def test_a_flood_of_lines_delays_neither_heartbeats_nor_other_jobs(kit: Kit) -> None:
    def floods() -> None:
        for n in range(400_000):
            print("line", n)

    def quick() -> int:
        return 1

    flood = kit.submit(floods)
    wait_until(lambda: flood.state == "running", what="the flood")
    during, beats = 0, set()
    with redis.Redis.from_url(kit.settings.url) as client:
        while not flood.is_terminal:
            assert kit.submit(quick).result(60) == 1
            during += not flood.is_terminal
            beats.add(client.hget(f"jk:{kit.settings.namespace}:worker:{flood.worker}", "beat"))

    assert during >= 5
    assert len(beats) >= 5
    path = flood.log_file()
    assert path is not None
    # By words, not lines: a half printed line may be shown in two parts on a busy machine.
    assert path.read_text().replace("\n", "") == "".join(f"line {n}" for n in range(400_000))
