"""Questions of jobs of `sync://` in a process without a terminal."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

import jobkit
from tests.support import environment, wait_until

PROGRAM = """
import jobkit

def go():
    try:
        return jobkit.ask(bool, "Go?", timeout="2d")
    except jobkit.Unanswered as error:
        return str(error)

with jobkit.connect("sync://") as kit:
    print(kit.submit(go).result())
    print(kit.submit(jobkit.ask, bool, "And now?").exception())
"""


@pytest.mark.parametrize("said", ["", "yes\n"])
def test_a_question_in_a_script_that_no_person_can_answer_raises_at_once(said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=said,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert "no person can answer here, without a terminal or at the end of its input: Go?" in done.stdout
    assert "Unanswered: no person can answer here, without a terminal or at the end of its input: And" in done.stdout


def test_another_thread_may_answer_a_job_that_runs_with_its_submit(capsys: pytest.CaptureFixture[str]) -> None:
    with jobkit.connect("sync://") as kit:

        def answer() -> None:
            wait_until(lambda: "waits for an answer from another thread: Go?" in capsys.readouterr().err)
            (job,) = [job for job in kit.jobs() if job.asking]
            job.answer(True)

        thread = threading.Thread(target=answer)
        thread.start()
        assert kit.submit(lambda: jobkit.ask(bool, "Go?", timeout=60)).result() is True
        thread.join()
