"""Every end of a job and its sentence, as in the table of `docs/how-a-job-ends.md`.

With a real worker and real signals. In the page's sentences `…` stands for any text.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

import jobkit
from jobkit.client.job import Job
from jobkit.client.loop import background
from jobkit.tasks.info import TaskInfo, sealed_definition
from tests.support import ROOT, by_default, wait_until

from . import jobs
from .conftest import Bench

PAGE = ROOT / "docs" / "how-a-job-ends.md"


def rows() -> list[list[str]]:
    """Return the cells of the table: case, state, error.kind, sentence, what to do."""
    table = PAGE.read_text().partition("## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def boom() -> None:
    raise ValueError("negative step")


def segfault() -> None:
    import ctypes

    ctypes.string_at(0)


def killed() -> None:
    import os

    os.kill(os.getpid(), 9)


def exits() -> None:
    import os

    os._exit(3)


def says_exit() -> None:
    import sys

    sys.exit(3)


def interrupts() -> None:
    raise KeyboardInterrupt


def generator_exits() -> None:
    raise GeneratorExit


def closes_all() -> None:
    import os

    os.closerange(0, 1000)


def undrawable() -> Any:
    class Figure:
        def _repr_html_(self) -> str:
            import os

            os._exit(3)

    return Figure()


def hungry() -> None:
    kept = bytearray(300_000_000)
    time.sleep(60)
    del kept


def unkeepable() -> Any:
    import threading

    return threading.Lock()


def sleepy() -> None:
    time.sleep(60)


def cancelled(bench: Bench, task: jobkit.Task, *args: Any, **options: Any) -> Job:
    job = bench.kit.options(**options).submit(task, bench.file(), *args)
    bench.started()
    job.cancel()
    return job


CASES: dict[str, Callable[[Bench], Job]] = {
    "it returned a value": lambda bench: bench.kit.submit(jobs.count_up, 1),
    "the code that shows its value fails": lambda bench: bench.kit.submit(undrawable),
    "its value cannot be kept": lambda bench: bench.kit.submit(unkeepable),
    "it raised": lambda bench: bench.kit.submit(boom),
    "it raised `KeyboardInterrupt`": lambda bench: bench.kit.submit(interrupts),
    "it raised what ends Python code elsewhere": lambda bench: bench.kit.submit(generator_exits),
    "it called `sys.exit`": lambda bench: bench.kit.submit(says_exit),
    "its process was killed by a signal": lambda bench: bench.kit.submit(segfault),
    "its process was killed from outside": lambda bench: bench.kit.submit(killed),
    "its process ended": lambda bench: bench.kit.submit(exits),
    "it closed the descriptors of its process": lambda bench: bench.kit.submit(closes_all),
    "timeout": lambda bench: bench.kit.options(timeout=0.3).submit(sleepy),
    "timeout, and it did not stop": lambda bench: bench.kit.options(timeout=0.3, cancel_grace=0.3).submit(
        jobs.in_c, bench.file()
    ),
    "memory limit": lambda bench: bench.kit.options(memory_limit="200MiB").submit(hungry),
    "cancelled while it waited": lambda bench: cancelled_waiting(bench),
    "cancelled": lambda bench: cancelled(bench, jobs.work, 60.0),
    "cancelled, and it did not stop": lambda bench: cancelled(bench, jobs.in_c, cancel_grace=0.3),
    "its worker was killed too often": lambda bench: lost(bench),
    'its worker was killed, and `on_lost="fail"`': lambda bench: lost_for_good(bench),
    "a job whose result it needs failed": lambda bench: bench.kit.submit(jobs.count_up, bench.kit.submit(boom)),
    "a job whose result it needs was cancelled": lambda bench: bench.kit.submit(
        jobs.count_up, cancelled_waiting(bench)
    ),
    "its module is not on the worker": lambda bench: without_module(bench),
    "its worker does not know its task": lambda bench: unknown(bench),
    "its submitter signs with another key": lambda bench: other_key(bench),
    "its payload is not ours": lambda bench: forged(bench),
}


def cancelled_waiting(bench: Bench) -> Job:
    job = bench.kit.options(delay=600).submit(jobs.count_up, 1)
    job.cancel("not needed any more")
    return job


def lost(bench: Bench) -> Job:
    job = bench.kit.options(queue="deadly").submit(jobs.work, bench.file(), 60.0)
    for turn in (1, 2):
        worker = bench.worker("-q", "deadly", JOBKIT_MAX_LOSSES="2")
        bench.started(times=turn)
        bench.kill(worker)
    bench.worker("-q", "deadly", JOBKIT_MAX_LOSSES="2")
    return job


def lost_for_good(bench: Bench) -> Job:
    job = bench.kit.options(queue="deadly", on_lost="fail").submit(jobs.work, bench.file(), 60.0)
    worker = bench.worker("-q", "deadly")
    bench.started()
    bench.kill(worker)
    return job


def without_module(bench: Bench) -> Job:
    import importlib
    import sys

    module = bench.folder / "gone_tasks.py"
    module.write_text("def gone() -> None: ...\n")
    sys.path.insert(0, str(bench.folder))
    try:
        job: Job = bench.kit.options(queue="held").submit(importlib.import_module("gone_tasks").gone)
    finally:
        sys.path.remove(str(bench.folder))
        del sys.modules["gone_tasks"]
    module.unlink()
    bench.worker("-q", "held")
    return job


def unknown(bench: Bench) -> Job:
    """Submit a task that was published by another worker, which had its module."""
    info = TaskInfo(name="elsewhere")
    sealed = sealed_definition(info.to_json(), bench.kit.codec)
    background.call(bench.kit.verbs.store.publish_tasks({"elsewhere": sealed}))
    return bench.kit.submit("elsewhere")


def other_key(bench: Bench) -> Job:
    with jobkit.connect(**bench.place | {"secret": "of another team"}) as kit:
        job_id = kit.submit(jobs.count_up, 1).id
    return bench.kit.get(job_id)


def forged(bench: Bench) -> Job:
    import redis

    job = bench.kit.options(queue="held").submit(jobs.count_up, 1)
    with redis.Redis.from_url(bench.server.url) as client:
        client.set(f"jk:{bench.kit.settings.namespace}:args:{job.id}", b"cos\nsystem\n(S'true'\ntR.")
    bench.worker("-q", "held")
    return job


def shown(job: Job) -> str:
    """Return the sentence of the card and of `jobkit show`."""
    if job.error is not None:
        return job.error.message
    if job.state == "cancelled":
        return job.attempts[-1].reason if job.attempts else list(job.events())[-1].data.get("reason", "")
    return ""


@pytest.mark.parametrize("case", by_default(CASES, 11))
def test_the_page_has_the_sentence_that_is_shown(bench: Bench, case: str) -> None:
    (row,) = [row for row in rows() if row[0] == case]
    _, state, kind, sentence, _ = row
    bench.worker(JOBKIT_MAX_LOSSES="2")

    job = CASES[case](bench)

    assert job.wait(60), job
    wait_until(lambda: job.is_terminal, what="the end")
    assert job.state == state
    assert (job.error.kind if job.error else "") == kind.strip("`")
    pattern = ".*".join(map(re.escape, sentence.split("…")))
    assert re.fullmatch(pattern, shown(job)), shown(job)


def test_a_value_that_is_not_kept_is_named_in_log_and_table(bench: Bench) -> None:
    bench.worker()

    job = bench.kit.submit(unkeepable)

    assert job.wait(60)
    (line,) = bench.kit.logs(job.id)
    assert (line.source, line.level) == ("jobkit", "WARNING")
    assert "its result could not be kept: " in line.text
    assert job.snapshot.summary.startswith("(not kept) ")
    with pytest.raises(jobkit.ResultUnavailable, match="its result could not be kept"):
        job.result()


def test_every_row_of_the_page_has_a_test() -> None:
    assert {row[0] for row in rows()} == set(CASES)


def test_a_child_has_no_secret_no_url_and_only_standard_descriptors_and_its_channel(bench: Bench) -> None:
    bench.worker()

    seen = bench.kit.submit(jobs.surroundings).result(60)

    for name in ("JOBKIT_SECRET", "JOBKIT_URL"):
        assert name not in seen["environ"]
        assert name not in seen["started_with"]
    assert "of these tests" not in seen["started_with"]
    fds = {int(fd): target for fd, target in seen["fds"].items()}
    assert fds[0] == "/dev/null"
    assert sorted(fd for fd, target in fds.items() if not target.startswith("/proc/")) == [
        0,
        1,
        2,
        3,
    ]
