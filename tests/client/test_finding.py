"""Finding jobs again: by id, in lists; and running them once more."""

from __future__ import annotations

import json
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import jobkit
from jobkit.client.kit import Kit
from jobkit.model import JobSnapshot
from jobkit.tasks.registry import registry
from tests.support import wait_until


def test_a_job_is_found_with_its_history_by_another_kit(kit: Kit, place: dict[str, str]) -> None:
    job = kit.submit(len, "abc")
    job.wait(60)

    with jobkit.connect(**place) as other:
        again = other.get(job.id)

        assert again is not job
        assert (again.state, again.result(60), again.params) == ("succeeded", 3, job.params)
        assert [attempt.outcome for attempt in again.attempts] == ["succeeded"]


def test_a_handle_of_a_running_job_is_live_too(queued: Kit, place: dict[str, str]) -> None:
    job = queued.options(delay=0.5).submit(len, "abc")

    with jobkit.connect(**place) as other:
        again = other.get(job.id)

        assert again.state == "scheduled"
        assert again.result(60) == 3
        assert again.state == "succeeded"


def test_the_first_characters_of_an_id_find_the_only_job_or_batch_that_has_them(kit: Kit) -> None:
    ids = ["abcd000000000001", "abcd100000000002"]
    jobs = [kit.options(id=job_id).submit(len, "abc") for job_id in ids]
    batch = kit.map(len, ["a", "b"])

    assert kit.get("abcd1") is jobs[1]
    assert kit.batches.get(batch.id[:8]).id == batch.id
    with pytest.raises(jobkit.InvalidParams, match=r"several ids begin with 'abcd': .*; give a longer prefix"):
        kit.get("abcd")
    for missing in ("abc", "abcd2", "abcd000000000003", "nonsense"):
        with pytest.raises(jobkit.JobNotFound, match=f"no job '{missing}' is kept here"):
            kit.get(missing)
    with pytest.raises(jobkit.JobNotFound, match="no batch 'abcd1' is kept here"):
        kit.batches.get("abcd1")


def test_one_kit_has_one_handle_for_a_job(kit: Kit) -> None:
    job = kit.submit(len, "abc")

    assert kit.get(job.id) is job


def test_threads_that_find_a_job_at_once_have_one_handle(
    kit: Kit, place: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with jobkit.connect(**place) as other:
        job = other.options(delay=1000).submit(len, "abc")
        make, both = kit.connection.live._make, threading.Barrier(2)

        def make_at_once(snapshot: JobSnapshot) -> jobkit.Job:
            both.wait(20)
            return make(snapshot)

        monkeypatch.setattr(kit.connection.live, "_make", make_at_once)
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(kit.get, [job.id] * 2)

    assert first is second


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_job_that_another_thread_finds_during_its_submit_moves(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, is_kept: bool
) -> None:
    run, found = kit.connection.run_here, []

    def find_and_run(job_ids: list[str], *more: Any) -> None:
        other = kit.get(job_ids[0])
        run(job_ids, *more)
        assert other.wait(60)
        found.extend([other] * is_kept)

    monkeypatch.setattr(kit.connection, "run_here", find_and_run)
    job = kit.submit(len, "abc")

    assert job.wait(60)
    assert found == [job] * is_kept
    assert job.result() == 3


def test_lists_are_newest_first_and_filtered(kit: Kit) -> None:
    first, second = kit.submit(len, "abc"), kit.submit(int, "no number")
    first.wait(60)
    second.wait(60)

    assert kit.jobs() == [second, first]
    assert kit.jobs(state="failed") == [second]
    assert kit.jobs(state=["failed", "succeeded"], limit=1) == [second]
    assert kit.jobs(task="len") == [first]
    assert kit.jobs(search="NO NUMBER") == [second]
    assert kit.last() is second
    assert kit.jobs(where="state:failed since:2h task:int") == [second]
    assert kit.jobs(where="state:failed before:2h") == []
    with pytest.raises(jobkit.InvalidParams, match="a search is where='state:failed since:2h'"):
        kit.jobs("state:failed since:2h")
    with pytest.raises(jobkit.InvalidParams, match="there is no field ownr; did you mean owner:ada"):
        kit.jobs(where="ownr:ada")
    with pytest.raises(jobkit.InvalidParams, match="state must be one of scheduled, .*, not 'done'"):
        kit.jobs(state="done")


def test_rerun_changes_some_arguments_and_keeps_the_others(kit: Kit) -> None:
    def power(base: int, exponent: int = 2) -> int:
        return base**exponent

    job = kit.submit(power, 3)

    assert job.result(60) == 9
    assert job.rerun(exponent=3).result(60) == 27
    with pytest.raises(jobkit.InvalidParams, match="exponent must be a whole number"):
        job.rerun(exponent="x")


def test_a_removed_job_is_gone_with_everything(kit: Kit) -> None:
    job = kit.submit(len, "abc")
    job.wait(60)

    assert kit.delete([job.id, "unknown"]) == [True, False]

    with pytest.raises(jobkit.JobNotFound):
        kit.snapshot(job.id)


def test_callbacks_of_a_vanished_job_find_it_ended(queued: Kit) -> None:
    job, seen = queued.options(delay=3600).submit(len, "abc"), []

    def look() -> None:
        with pytest.raises(jobkit.JobNotFound):
            job.wait(0)
        seen.append(job)

    job.when_done(look)
    job.vanish("it was removed")

    assert seen == [job]
    queued.cancel(job.id)  # the handle has been given up, the job has not
    wait_until(lambda: queued.snapshot(job.id).is_terminal, what="its end")


def test_counts_stats_and_queues_agree(kit: Kit) -> None:
    kit.submit(len, "abc").wait(60)
    kit.options(queue="nobody", delay=3600).submit(len, "abc")

    stats = kit.stats()

    waits = kit.settings.scheme != "sync"  # it does not wait for a delay
    assert stats["jobs"]["succeeded"] == (1 if waits else 2)
    assert kit.queues()["nobody"]["scheduled"] == (1 if waits else 0)
    assert stats["jobs"] == kit.counts()


def test_a_task_has_a_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBKIT_URL", "sync://")

    @jobkit.task(name="form_of_its_own")
    def simulate(n: int = 3) -> int:
        return n

    form = simulate.form()

    try:
        wait_until(lambda: '"form_of_its_own"' in form.tasks, what="the form to be made")
        assert [task["name"] for task in json.loads(form.tasks)] == ["form_of_its_own"]
    finally:
        jobkit.connect().close()
        registry._tasks.pop("form_of_its_own")


def test_a_rerun_runs_the_same_function_even_if_another_has_its_name(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    job = kit.submit(textwrap.indent, "abc", "- ")
    assert job.result(60) == "- abc"
    monkeypatch.setattr(registry, "_tasks", dict(registry._tasks))
    jobkit.task(name="indent")(lambda n: n)

    assert job.rerun(prefix="+ ").result(60) == "+ abc"
