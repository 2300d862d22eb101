"""Limits, resources and weights with real workers. Jobs record what they held, and when."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable

import pytest

from jobkit.client.job import Job
from tests.support import wait_until

from . import jobs
from .conftest import Bench

Span = tuple[float, float, str, str]


def spans(lines: Iterable[str], kills: Iterable[float] = ()) -> list[Span]:
    """Return `(begin, end, user, devices)` of every attempt. Attempts without an end ended when a worker was killed."""
    found: list[Span] = []
    open_spans: dict[str, tuple[float, str, str]] = {}

    def close(name: str, at: float) -> None:
        begin, user, devices = open_spans.pop(name)
        found.append((begin, at, user, devices))

    for line in lines:
        word, name, user, at, *devices = line.split()
        if word == "begin":
            if name in open_spans:
                begin = open_spans[name][0]
                close(name, min((kill for kill in kills if kill >= begin), default=float(at)))
            open_spans[name] = float(at), user, devices[0]
        else:
            close(name, float(at))
    for name in list(open_spans):
        close(name, min(kill for kill in kills if kill >= open_spans[name][0]))
    return found


def most(found: Iterable[Span]) -> int:
    """Return the greatest number of concurrent attempts."""
    found = list(found)
    moves = sorted([(end, -1) for _, end, _, _ in found] + [(begin, 1) for begin, *_ in found])
    count = peak = 0
    for _, change in moves:
        count += change
        peak = max(peak, count)
    return peak


def all_ended(made: list[Job]) -> bool:
    return all(job.is_terminal for job in made)


@pytest.mark.nightly
def test_limits_hold_and_never_block_forever_while_workers_are_killed(bench: Bench) -> None:
    """At most three of the task, by a rule, and two for each user: both hold when workers die, and every job ends."""
    chance = random.Random(7)
    patient = {"JOBKIT_LEASE": "4"}  # a slow worker must not count as dead: its job would run twice
    workers = [bench.worker(**patient) for _ in range(3)]
    bench.kit.limits.set(task="occupy", concurrency=3)
    users = ["ada", "bob", "cleo"]
    limited = bench.kit.options(concurrency=2, limit_key=lambda user: user)
    made = [limited.submit(jobs.occupy, bench.file(), users[n % 3], chance.uniform(0.05, 0.2)) for n in range(48)]
    kills: list[float] = []
    for _ in range(3):
        seen = len(bench.notes())
        wait_until(lambda seen=seen: len(bench.notes()) >= seen + 6 or all_ended(made), what="the storm to go on")
        victim = workers.pop(0)
        bench.kill(victim)
        kills.append(time.time())
        workers.append(bench.worker(**patient))

    wait_until(lambda: all_ended(made), what="every job to end")

    found = spans(bench.notes(), kills)
    assert {job.state for job in made} == {"succeeded"}
    assert most(found) <= 3
    assert all(most(span for span in found if span[2] == user) <= 2 for user in users)
    assert most(found) == 3, "and all slots were used"
    assert len(found) >= 48


@pytest.mark.nightly
def test_a_rate_holds_across_workers(bench: Bench) -> None:
    for _ in range(2):
        bench.worker()
    limited = bench.kit.options(rate="4/s")
    made = [limited.submit(jobs.occupy, bench.file(), "ada", 0.0) for _ in range(12)]

    wait_until(lambda: all_ended(made), what="every job to end")

    starts = sorted(job.started_at for job in made)
    assert all((after - before).total_seconds() >= 0.998 for before, after in zip(starts, starts[4:], strict=False))


@pytest.mark.nightly
def test_jobs_get_separate_devices(bench: Bench) -> None:
    bench.worker("--resources", "gpu=2,mem=16", CUDA_VISIBLE_DEVICES="GPU-a,GPU-b")
    bench.worker()
    one = bench.kit.options(resources={"gpu": 1, "mem": 4})
    made = [one.submit(jobs.occupy, bench.file(), "ada", 0.1) for _ in range(6)]
    both = bench.kit.options(resources={"gpu": 2}).submit(jobs.occupy, bench.file("both"))
    nobody = bench.kit.options(resources={"gpu": 3}).submit(jobs.occupy, bench.file("never"))

    wait_until(lambda: all_ended([*made, both]), what="every job that fits to end")

    found = spans(bench.notes())
    assert {devices for *_, devices in found} == {"GPU-a", "GPU-b"}
    assert all(most(span for span in found if span[3] == device) == 1 for device in ("GPU-a", "GPU-b"))
    assert {job.result() for job in made} == {"gpu=1,mem=4"}
    assert spans(bench.notes("both"))[0][3] == "GPU-a,GPU-b"
    assert bench.kit.waits_for(nobody.id) == "no worker offers gpu=3, the most is 2; `jobkit worker --resources gpu=3`"
    nobody.cancel()


def test_two_queues_share_a_worker_by_weight(bench: Bench) -> None:
    n = 120
    made = {queue: bench.kit.options(queue=queue).map(jobs.pass_by, [{}] * n) for queue in ("fast", "slow")}
    bench.worker("-q", "fast:3", "-q", "slow:1", ready=False)

    wait_until(lambda: all(all_ended(list(batch.jobs)) for batch in made.values()), what="every job to end")

    order = sorted((job.started_at, queue) for queue, batch in made.items() for job in batch.jobs)
    both_waited = [queue for _, queue in order][: int(n * 4 / 3 * 0.9)]
    assert abs(both_waited.count("fast") / len(both_waited) - 0.75) <= 0.075
