"""`jobkit.testing`: support for users' own tests."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import jobkit
from jobkit.model import InvalidParams
from jobkit.testing import FrozenClock, MemoryKit
from tests.support import environment

calls: list[str] = []


@jobkit.task
def remind_testing(who: str, text: str = "hello", n: int = 1) -> str:
    calls.append(who)
    return f"{text}, {who}"


@jobkit.task
def stumble_testing() -> None:
    calls.append("stumbled")
    raise ValueError("on purpose")


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


def test_jobs_run_at_once_and_tasks_find_the_kit_of_the_test(jobkit_kit: MemoryKit) -> None:
    job = remind_testing.submit("ada")

    assert job.result() == "hello, ada"
    assert jobkit.connect() is jobkit_kit


def test_submitted_jobs_are_found_by_task_and_arguments(jobkit_kit: MemoryKit) -> None:
    remind_testing.submit("ada", n=2)
    newest = remind_testing.submit("ada", n=2, text="bye")
    remind_testing.submit("bob")

    assert jobkit_kit.assert_submitted(remind_testing, n=2) == newest
    assert jobkit_kit.assert_submitted("remind_testing", who="ada", times=2) == newest
    assert [job.params["who"] for job in jobkit_kit.submitted(remind_testing, text="hello")] == ["ada", "bob"]
    jobkit_kit.assert_not_submitted(stumble_testing)


def test_a_failed_assertion_shows_the_submitted_jobs(jobkit_kit: MemoryKit) -> None:
    remind_testing.submit("ada")

    with pytest.raises(pytest.fail.Exception, match=r"no such job was submitted: .*who='bob'.*\n.*\n.*who='ada'"):
        jobkit_kit.assert_submitted(remind_testing, who="bob")
    with pytest.raises(pytest.fail.Exception, match="1 such jobs were submitted, not 2"):
        jobkit_kit.assert_submitted(remind_testing, times=2)
    with pytest.raises(pytest.fail.Exception, match="such a job was submitted"):
        jobkit_kit.assert_not_submitted(remind_testing, who="ada")


def test_a_delayed_job_runs_when_the_clock_reaches_its_time(jobkit_queue: MemoryKit) -> None:
    late = remind_testing.options(delay=86_400).submit("late")
    soon = remind_testing.submit("soon")

    assert jobkit_queue.run() == [soon]
    assert str(late.state) == "scheduled"
    jobkit_queue.clock.tick(hours=23.9)
    assert jobkit_queue.run() == []
    jobkit_queue.clock.tick(hours=0.2)
    assert jobkit_queue.run() == [late]
    assert calls == ["soon", "late"]
    assert late.submitted_at is not None
    assert late.started_at == late.submitted_at + timedelta(hours=24.1)


def test_backoff_follows_the_clock(jobkit_queue: MemoryKit) -> None:
    job = stumble_testing.options(retries=1, backoff=60).submit()

    jobkit_queue.run()
    assert (calls, str(job.state)) == (["stumbled"], "scheduled")
    jobkit_queue.clock.tick(120)
    jobkit_queue.run()

    assert (calls, str(job.state)) == (["stumbled", "stumbled"], "failed")


def test_dependencies_run_in_one_go(jobkit_queue: MemoryKit) -> None:
    first = remind_testing.submit("ada")
    second = jobkit_queue.submit(len, first)

    assert jobkit_queue.run() == [first, second]
    assert second.result() == len("hello, ada")


def test_the_clock_stands_still_and_does_not_go_back() -> None:
    clock = FrozenClock(datetime(2026, 3, 1, tzinfo=UTC))

    assert clock.tick(minutes=5) == clock.now == datetime(2026, 3, 1, 0, 5, tzinfo=UTC)
    with pytest.raises(InvalidParams, match="cannot go back"):
        clock.move_to(datetime(2026, 2, 1, tzinfo=UTC))
    with pytest.raises(InvalidParams, match="time zone"):
        FrozenClock(datetime(2026, 3, 1))


def test_the_kit_needs_no_pytest_fixture_and_no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JOBKIT_URL", "redis://nowhere.invalid")

    with MemoryKit(max_losses=2) as kit:
        assert kit.submit(len, "abc").result() == 3


def test_tests_that_name_the_plugin_themselves_get_the_fixtures_too(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["jobkit.testing"]\n')
    (tmp_path / "test_mine.py").write_text(
        "import jobkit\n\n"
        "@jobkit.task\ndef double(n: int) -> int:\n    return 2 * n\n\n"
        "def test_it(jobkit_queue):\n"
        "    job = double.options(delay=60).submit(n=21)\n"
        "    jobkit_queue.clock.tick(60)\n"
        "    assert jobkit_queue.run() == [job]\n"
        "    assert job.result() == 42\n"
        "    jobkit_queue.assert_submitted(double, n=21, times=1)\n"
    )

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env=environment(JOBKIT_HOME=str(tmp_path / "home")),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_schedule_fires_when_the_clock_reaches_its_slots() -> None:
    clock = FrozenClock(datetime(2026, 3, 28, 22, 30, tzinfo=UTC))
    with MemoryKit(at_once=False, clock=clock) as kit:
        kit.schedule(remind_testing, {"who": "ada"}, cron="0 3 * * *", tz="Europe/Berlin")

        assert kit.run() == []
        clock.move_to(datetime(2026, 3, 29, 1, 0, tzinfo=UTC))  # three o'clock; the previous hour was skipped
        assert len(kit.run()) == 1
        clock.tick(days=1)
        assert len(kit.run()) == 1
        kit.assert_submitted(remind_testing, who="ada", times=2)


def test_expiry_follows_the_clock(jobkit_queue: MemoryKit) -> None:
    kept = jobkit_queue.options(result_ttl=3600).submit(len, "abc")
    once = remind_testing.options(unique=3600).submit("ada")
    jobkit_queue.run()

    jobkit_queue.clock.tick(minutes=59)
    assert jobkit_queue.get(kept.id).result() == 3
    assert remind_testing.options(unique=3600).submit("ada") == once

    jobkit_queue.clock.tick(minutes=2)
    assert kept.id not in [job.id for job in jobkit_queue.jobs()]
    assert remind_testing.options(unique=3600).submit("ada") != once


def test_jobs_of_the_same_time_run_in_the_order_of_their_submits(jobkit_queue: MemoryKit) -> None:
    jobs = [remind_testing.submit(str(n)) for n in range(20)]

    assert jobkit_queue.run() == jobs


def test_two_kits_do_not_see_each_others_jobs(jobkit_queue: MemoryKit) -> None:
    with MemoryKit() as other:
        other.submit(len, "abc")

        assert jobkit_queue.jobs() == []


@jobkit.task
def choose_testing() -> tuple[bool, str]:
    return jobkit.ask(bool, "Go on?"), jobkit.ask(["red", "blue"], "Colour?")


def test_questions_of_jobs_are_answered_by_the_test() -> None:
    with MemoryKit() as kit:
        kit.answer_with(True, lambda question: question.params[0].choices[1].value)
        answered = kit.submit(choose_testing)
        kit.answer_with(False)
        unanswered = kit.submit(choose_testing)

        assert answered.result() == (True, "blue")
        assert "the test has no answer, give one by answer_with(...): Colour?" in str(unanswered.exception())
