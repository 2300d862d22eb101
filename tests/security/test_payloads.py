"""Write access to Redis does not run code in a worker or client (the threats of SECURITY.md)."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

import jobkit
from jobkit.codec import MAGIC, PICKLE, Codec, Subject
from jobkit.tasks.call import Call, encode_call
from tests.support import wait_until
from tests.worker import jobs
from tests.worker.conftest import Bench

from .conftest import Trap

SECRET = "of these tests"  # the bench's
Forge = Callable[[bytes, str], bytes]


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "mark"


def forgeries(mark: Path) -> dict[str, Forge]:
    """Forgeries of a sealed payload, made from the sealed one and the job's id."""
    evil = pickle.dumps(Trap(mark))

    def signed_with(secret: str) -> Forge:
        return lambda sealed, id: Codec.from_secret(secret).seal(PICKLE, evil, Subject("args", id, "count_up"))

    return {
        "bare pickle": lambda sealed, id: evil,
        "unsigned": lambda sealed, id: MAGIC + bytes(36) + PICKLE + evil,
        "another key": signed_with("not yours"),
        "borrowed signature": lambda sealed, id: sealed[:39] + PICKLE + evil,
        "one bit": lambda sealed, id: sealed[:-1] + bytes([sealed[-1] ^ 1]),
        "another format": lambda sealed, id: sealed[:39] + PICKLE + sealed[40:],
        "truncated": lambda sealed, id: sealed[: len(sealed) // 2],
        "head alone": lambda sealed, id: sealed[:40],
        "longer": lambda sealed, id: sealed + b"\x00",
        "empty": lambda sealed, id: b"",
        "another version": lambda sealed, id: b"JK9" + sealed[3:],
        "another job's": lambda sealed, id: Codec.from_secret(SECRET).seal(
            PICKLE, evil, Subject("args", "other", "count_up")
        ),
        "another task's": lambda sealed, id: Codec.from_secret(SECRET).seal(PICKLE, evil, Subject("args", id, "work")),
        "a result as arguments": lambda sealed, id: Codec.from_secret(SECRET).seal(
            PICKLE, evil, Subject("result", id, "count_up")
        ),
    }


def test_no_forged_payload_runs_each_is_refused_and_counted_once_and_the_worker_lives(bench: Bench, mark: Path) -> None:
    prefix = f"jk:{bench.kit.settings.namespace}:"
    forged = {name: bench.kit.options(retries=3).submit(jobs.count_up, 1) for name in forgeries(mark)}
    with redis.Redis.from_url(bench.server.url) as client:
        for name, forge in forgeries(mark).items():
            key = f"{prefix}args:{forged[name].id}"
            client.set(key, forge(client.get(key), forged[name].id), keepttl=True)

    worker = bench.worker()

    for name, job in forged.items():
        with pytest.raises(jobkit.JobFailed):
            job.result(60)
        assert (job.error.kind, job.attempt) == ("rejected", 1), name
    assert not mark.exists()
    assert bench.kit.submit(jobs.count_up, 1).result(60) == 2
    assert worker.poll() is None
    wait_until(lambda: bench.kit.stats()["rejected"] == len(forged), what="the refusals to be counted")
    assert bench.said().count(" rejected: ") == len(forged)


@pytest.mark.nightly
def test_no_forged_result_is_unpickled_by_a_client(bench: Bench, mark: Path) -> None:
    prefix = f"jk:{bench.kit.settings.namespace}:"
    bench.worker()
    job = bench.kit.submit(jobs.count_up, 1)
    assert job.result(60) == 2
    with redis.Redis.from_url(bench.server.url) as client, jobkit.connect(**bench.place) as other:
        sealed = client.get(f"{prefix}result:{job.id}")
        for name, forge in forgeries(mark).items():
            if name == "a result as arguments":  # valid here: signed with our key
                continue
            client.set(f"{prefix}result:{job.id}", forge(sealed, job.id), keepttl=True)
            with pytest.raises((jobkit.SignatureError, jobkit.ResultUnavailable)):
                other.get(job.id).result(60)
            assert not mark.exists(), name


@pytest.mark.nightly
def test_arguments_of_an_ended_job_that_are_queued_again_do_not_run(bench: Bench) -> None:
    prefix = f"jk:{bench.kit.settings.namespace}:"
    bench.worker()
    job = bench.kit.submit(jobs.work, bench.file())
    assert job.result(60) == "done"
    with redis.Redis.from_url(bench.server.url) as client:
        for line in ("ready:default", "due:default", "leases"):
            client.zadd(f"{prefix}{line}", {job.id: 1})

    assert bench.kit.submit(jobs.count_up, 1).result(60) == 2
    wait_until(lambda: bench.kit.queues()["default"]["queued"] == 0, what="the line to be empty")
    assert bench.notes() == ["start " + bench.notes()[0].split()[1], "end"]
    assert bench.kit.get(job.id).seq == job.seq


@pytest.mark.nightly
def test_keys_are_rotated_without_losing_a_job(own_bench: Bench) -> None:
    """First both keys in every process, then the new key first, then the new key alone."""
    bench = own_bench
    old, new = SECRET, "the next key"
    places = {name: {**bench.place, "secret": secret} for name, secret in
              {"before": old, "during": f"{new},{old}", "after": new}.items()}  # fmt: skip
    kits = {name: jobkit.connect(**place) for name, place in places.items()}
    waiting = kits["before"].submit(jobs.count_up, 1)
    bench.worker(JOBKIT_SECRET=f"{old},{new}")
    assert waiting.result(60) == 2
    bench.workers[-1].terminate()
    bench.workers[-1].wait(60)
    bench.worker(JOBKIT_SECRET=f"{new},{old}")

    assert kits["during"].submit(jobs.count_up, 2).result(60) == 3
    assert kits["after"].submit(jobs.count_up, 3).result(60) == 4
    assert kits["during"].get(waiting.id).result(60) == 2  # sealed with the old one
    late = kits["before"].submit(jobs.count_up, 4)
    with pytest.raises(jobkit.SignatureError):  # it ran; with only the old key its result is unreadable
        late.result(60)
    assert kits["during"].get(late.id).result(60) == 5
    for kit in kits.values():
        kit.close()


def test_without_a_secret_a_pickle_is_refused_at_submit_with_advice(bench: Bench) -> None:
    place = {**bench.place, "secret": ""}
    with jobkit.connect(**place) as kit:
        for submit in (lambda: kit.submit(lambda: 1), lambda: kit.submit(len, [Trap(Path("x"))])):
            with pytest.raises(jobkit.InvalidParams, match="pickles need a signing key .* set JOBKIT_SECRET"):
                submit()
        assert kit.jobs() == []


@pytest.mark.nightly
def test_without_a_secret_a_pickle_that_another_program_wrote_is_refused(own_bench: Bench, mark: Path) -> None:
    bench = own_bench
    bench.worker(JOBKIT_SECRET="")
    with jobkit.connect(**{**bench.place, "secret": ""}) as kit, redis.Redis.from_url(bench.server.url) as client:
        assert kit.submit(jobs.count_up, 1).result(60) == 2
        bench.workers[-1].terminate()
        bench.workers[-1].wait(60)
        job = kit.submit(jobs.count_up, 1)
        evil = MAGIC + bytes(36) + PICKLE + pickle.dumps(Trap(mark))
        client.set(f"jk:{kit.settings.namespace}:args:{job.id}", evil, keepttl=True)
        bench.worker(JOBKIT_SECRET="")
        with pytest.raises(jobkit.JobFailed, match="has a format that is not allowed here"):
            job.result(60)
    assert not mark.exists()


@pytest.mark.nightly
def test_programs_that_only_read_never_unpickle(bench: Bench, mark: Path) -> None:
    """The command line, pages and previews do not unpickle a validly signed result."""
    import subprocess
    import sys

    from tests.support import environment

    bench.worker()
    job = bench.kit.submit(jobs.count_up, 1)
    assert job.result(60) == 2
    sealed = Codec.from_secret(SECRET).seal(PICKLE, pickle.dumps(Trap(mark)), Subject("result", job.id, "count_up"))
    args = encode_call(Codec.from_secret(SECRET), Call(None, (Trap(mark),), {}), ref="tests.worker.jobs:count_up")
    with redis.Redis.from_url(bench.server.url) as client:
        client.set(f"jk:{bench.kit.settings.namespace}:result:{job.id}", sealed, keepttl=True)
        swapped = Codec.from_secret(SECRET).seal(PICKLE, args, Subject("args", job.id, "count_up"))
        client.set(f"jk:{bench.kit.settings.namespace}:args:{job.id}", swapped, keepttl=True)
    env = environment(**{f"JOBKIT_{name.upper()}": value for name, value in bench.place.items()})
    for command in (["show", job.id], ["jobs", "--json"], ["logs", job.id], ["watch", job.id], ["tasks"], ["queues"]):
        run = subprocess.run([sys.executable, "-m", "jobkit", *command], env=env, capture_output=True, timeout=30)
        assert run.returncode == 0, run.stderr
    with jobkit.connect(**bench.place) as kit:
        found = kit.get(job.id)
        found.view()
        assert found.preview() is None  # what is shown of plain data, which this no longer is
        list(found.events())
        repr(found)

    assert not mark.exists()
